/*
 * A decoder's weights in device memory. Projections that read the same input lie behind each other, so that
 * one GEMM serves them: q, k, v in one matrix, gate and up in another.
 */
#ifndef MODEL_WEIGHTS_H
#define MODEL_WEIGHTS_H

#include "model/config.h"
#include "tensor/arena.h"

/* The fused matrices of a block, by the input that they read. */
enum { GROUP_QKV, GROUP_OUTPUT, GROUP_GATE_UP, GROUP_DOWN, GROUP_COUNT };

#define GROUP_MEMBERS_LIMIT 3
#define PROJECTION_COUNT    7

/* One projection of a block, and where it lies in its group. */
typedef struct projection {
    const char *name;   /* "q_proj" */
    const char *module; /* "self_attn.q_proj" */
    int32_t group;
    int32_t member; /* place among the group's members */
    int64_t first;  /* its first row in the group's matrix */
    int64_t out, in;
    bool bias;
} projection;

/* One group of a layer. */
typedef struct linear_weights {
    matrix_view weight; /* [out of all members, in] */
    matrix_view bias;   /* F32 [1, out of all members], or none */
} linear_weights;

/* Nothing but views: see weights_share. */
typedef struct layer_weights {
    matrix_view attention_norm, mlp_norm;               /* F32 [1, hidden]: before attention and MLP */
    matrix_view attention_output_norm, mlp_output_norm; /* F32 [1, hidden]: after them; none without */
    matrix_view query_norm, key_norm;                   /* F32 [1, head_dim]; none without */
    linear_weights groups[GROUP_COUNT];
} layer_weights;

/* A tensor as checkpoints name it. */
typedef struct named_tensor {
    char name[96];
    int32_t rank;
    bool wide;          /* always F32: norms and biases */
    matrix_view view;   /* a vector is [1, n] */
    matrix_view *field; /* of the weights: what it is, or a fused matrix or vector that it is a part of */
    int64_t first;      /* where in there: a row of a matrix, a column of a vector */
} named_tensor;

/* Tensors point into it: it must stay where it was made. */
typedef struct weights {
    allocator *memory;
    const backend *device;
    arena arena;
    int64_t parameters;
    int32_t dtype;         /* of the large matrices */
    matrix_view embedding; /* [vocabulary, hidden] */
    matrix_view head;      /* [vocabulary, hidden]; the embedding itself when tied */
    matrix_view final_norm;
    layer_weights *layers;
    named_tensor *tensors; /* every stored one, once */
    int64_t tensor_count;
} weights;

/* The projections of a block, in the order of their names' table. */
void weights_projections(const model_config *config, projection out[PROJECTION_COUNT]);

/* Names, shapes and the bytes that they will take, without memory for the weights themselves. */
balora_status weights_plan(weights *out, allocator *memory, const backend *device, const model_config *config,
                           int32_t dtype);

/* Lay out and take memory for all weights, large matrices in `dtype`. Contents are unspecified. */
balora_status weights_create(weights *out, allocator *memory, const backend *device,
                             const model_config *config, int32_t dtype);
void weights_free(weights *self); /* also on a zeroed one */

/* Read every tensor from a model folder; dtype AUTO keeps the files' storage where it is uniform and widens
 * else. */
balora_status weights_load(weights *out, allocator *memory, const backend *device, backend_queue *queue,
                           const model_config *config, const char *folder, int32_t dtype);

/*
 * Weights without memory of their own: every field shows what `base` has there. `config` may untie the head, which is
 * a tensor of its own then.
 */
balora_status weights_share(weights *out, allocator *memory, const weights *base, const model_config *config);

/* A tensor's place in a matrix or vector that is laid out as its field. */
static inline matrix_view weights_part(const named_tensor *tensor, matrix_view field) {
    return tensor->rank == 1 ? view_columns(field, tensor->first, tensor->view.cols)
                             : view_rows(field, tensor->first, tensor->view.rows);
}

#endif
