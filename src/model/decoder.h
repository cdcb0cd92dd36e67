/*
 * A decoder over packed sequences: tokens in, the residual stream at needed rows out, and the way back.
 *
 * Student and teacher run as one batch of twice the sequences; see activations.h for where their rows lie.
 * The last layer goes on after its attention with the needed rows only, since nothing else is read there.
 */
#ifndef MODEL_DECODER_H
#define MODEL_DECODER_H

#include "model/activations.h"
#include "model/rope.h"

typedef struct decoder {
    const model_config *config;
    const backend_ops *ops;
    backend_queue *queue;
    const weights *student;
    const weights *teacher; /* the frozen model; its views are the student's too where nothing is trained */
    const weights
        *gradients; /* views of what is trained beside the groups, none elsewhere; NULL: nothing is */
    const trained_group *trained;   /* [layers * GROUP_COUNT], or NULL */
    int64_t lowest_layer;           /* nothing below it is trained, unless the embedding is */
    const low_rank_group *low_rank; /* [layers * GROUP_COUNT], or NULL */
    const rope_table *rope;
    float embedding_scale;
    activations *memory;
    double dropout;        /* probability, on the input of the low-rank path; 0: none */
    uint64_t dropout_seed; /* of this step */
} decoder;

/* A micro-batch as the device has it: sizes of what activations.h's batch matrices hold. */
typedef struct decoder_batch {
    int64_t tokens;    /* N */
    int64_t rows;      /* M */
    int64_t sequences; /* B */
    int64_t longest_sequence;
    int32_t copies; /* 1, or 2 with teacher */
    int32_t reserved;
} decoder_batch;

/* Fill memory->output [copies M, hidden]. */
balora_status decoder_forward(const decoder *self, const decoder_batch *batch);

/*
 * From memory->dselected [M, hidden], the gradient of the student's part of memory->output, to all parameter
 * gradients, which are added to what is there.
 */
balora_status decoder_backward(const decoder *self, const decoder_batch *batch);

/* --- for decoder.c and block.c --- */

/* The gradient of a trained weight of the decoder's own, such as the embedding; none where it is frozen. */
#define DECODER_GRADIENT(self, field) ((self)->gradients != NULL ? (self)->gradients->field : view_none())

/* The linear group of a layer as linear.h wants it. */
linear_group decoder_group(const decoder *self, int64_t layer, int group);

/* A layer's attention over the sequences of `copies` copies. */
attention_shape decoder_attention_shape(const decoder *self, const decoder_batch *batch, int64_t layer,
                                        int32_t copies);

/* One layer forward: residual slot to the next residual slot, or for the last layer to memory->output. */
balora_status block_forward(const decoder *self, const decoder_batch *batch, int64_t layer);

/* One layer backward. The last layer reads memory->dselected; all leave memory->dresidual [tokens, hidden].
 */
balora_status block_backward(const decoder *self, const decoder_batch *batch, int64_t layer);

#endif
