/*
 * The memory of a pass over packed tokens, planned once.
 *
 * The student's rows of layer l are kept for backward in slot l. The teacher's rows follow them directly, in
 * what will be slot l + 1: they are dead when the student of layer l + 1 is written there, so the teacher
 * costs one slot in all, and student and teacher form one matrix for every GEMM on a frozen weight. Without
 * backward all layers share slot 0.
 */
#ifndef MODEL_ACTIVATIONS_H
#define MODEL_ACTIVATIONS_H

#include "model/linear.h"

typedef struct activation_sizes {
    int64_t tokens;    /* N: the most tokens of a micro-batch */
    int64_t rows;      /* M: the most rows whose logits are needed */
    int64_t sequences; /* B: the most sequences */
    int32_t copies;    /* 1: student only; 2: teacher beside it */
    int32_t dtype;     /* of activations: F32, or BF16 where the device computes so */
    bool backward;
    int32_t low_rank_dtype;
    int64_t low_rank_rows[GROUP_COUNT]; /* the most of any layer */
    int64_t low_rank_scratch;           /* the most of any group: linear_scratch_columns */
    bool magnitudes[GROUP_COUNT];       /* in any layer */
    bool dropout;
} activation_sizes;

typedef struct activations {
    activation_sizes sizes;
    /* slots of [tokens, ...]. The residual stream and its gradient are F32 always: they sum up over the layers.
     * What layers compute in between has sizes.dtype. */
    matrix_view residual; /* F32 hidden: residual stream at the input of the layer */
    matrix_view qkv;      /* (heads + 2 key_heads) head_dim; q and k rotated, unless `rotated` has them */
    matrix_view
        rotated; /* (heads + key_heads) head_dim: q and k, normed and rotated; none where they are not normed */
    matrix_view attention; /* heads head_dim */
    matrix_view logsumexp; /* F32 heads */
    matrix_view middle;    /* F32 hidden: residual stream between attention and MLP */
    matrix_view gate_up;   /* 2 intermediate */
    matrix_view attention_output,
        mlp_output;                     /* hidden: of the layer's parts before their own norms, or none */
    matrix_view projected[GROUP_COUNT]; /* low_rank_dtype low_rank_rows; student rows only */
    matrix_view kept[GROUP_COUNT];      /* out of the group: see linear_group; none without magnitudes */
    /* of one layer */
    matrix_view normed;             /* [copies N, hidden] */
    matrix_view activated;          /* [copies N, intermediate] */
    matrix_view selected_attention; /* [copies M, heads head_dim]: the last layer's needed rows */
    matrix_view
        output; /* F32 [copies M, hidden]: the last layer's output at needed rows, before the final norm */
    /* backward */
    matrix_view dresidual; /* F32 [N, hidden] */
    matrix_view dselected; /* F32 [M, hidden]: gradient of the last layer's residual stream at needed rows */
    matrix_view
        doutput; /* [N, hidden]: either of them behind a norm, or in the dtype that a product reads; or none */
    matrix_view dnormed;             /* [N, hidden] */
    matrix_view dactivated;          /* [N, intermediate] */
    matrix_view dqkv;                /* [N, (heads + 2 key_heads) head_dim] */
    matrix_view drotated;            /* [N, (heads + key_heads) head_dim], or none */
    matrix_view dattention;          /* [N, heads head_dim] */
    matrix_view dselected_attention; /* [M, heads head_dim] */
    matrix_view scratch;             /* low_rank_dtype [N, low_rank_scratch] */
    matrix_view scaled;              /* [N, widest group with magnitudes] */
    matrix_view dropped;             /* low_rank_dtype [N, widest input]; none without dropout */
    /* the batch */
    matrix_view tokens;    /* I32 [1, copies N] */
    matrix_view positions; /* I32 [1, copies N]: rows of the rotary table */
    matrix_view offsets;   /* I32 [1, copies B + 1] */
    matrix_view needed;    /* I32 [1, copies M]: needed rows among copies N, the student's first */
    matrix_view
        dropout_keys; /* I32 [2, N]: what tells a token from all others of a step; none without dropout */
    matrix_view needed_dropout_keys; /* I32 [2, M]: the same of the needed rows */
} activations;

/* Place everything in the arena; called twice, see tensor/arena.h. */
void activations_place(activations *out, arena *plan, const model_config *config,
                       const activation_sizes *sizes);

/* The rows of layer `layer` in a slotted matrix: `rows` rows for a micro-batch of `tokens` tokens. */
static inline matrix_view activations_slot(const activations *self, matrix_view slots, int64_t layer,
                                           int64_t tokens, int64_t rows) {
    return view_rows(slots, self->sizes.backward ? layer * tokens : 0, rows);
}

#endif
