/* What a block's forward and backward share. */
#ifndef MODEL_BLOCK_H
#define MODEL_BLOCK_H

#include "model/decoder.h"

/* Views of one layer for this micro-batch. `rows` counts student and teacher. */
typedef struct layer_views {
    int64_t layer;
    bool last;
    int64_t students; /* rows of the student from the residual stream after attention on: M in the last layer,
                         else N */
    int64_t rows;     /* copies * students */
    const layer_weights *weights, *teacher, *gradients;
    matrix_view residual, normed, qkv, v, attention, logsumexp; /* [copies N, ...] */
    matrix_view q, k;                                           /* [copies N, ...]: as attention reads them */
    matrix_view plain_q,
        plain_k; /* as the projections left them: q and k themselves where they are not normed */
    matrix_view middle, gate_up, gate, up, activated; /* [rows, ...] */
    matrix_view attention_output, mlp_output;         /* [rows, hidden], or none */
    matrix_view rotary;                               /* the table of this layer's positions */
    matrix_view projected[GROUP_COUNT];
} layer_views;

layer_views block_views(const decoder *self, const decoder_batch *batch, int64_t layer);

/* Columns of a [tokens, (heads + 2 key_heads) head_dim] matrix, of which the last may be missing. */
void block_split_heads(const model_config *config, matrix_view qkv, matrix_view *q, matrix_view *k,
                       matrix_view *v);

/*
 * y = norm(x), every `weight` many columns by themselves; the teacher's rows, behind `students` of the student,
 * use its own weights where every weight is trained.
 */
balora_status block_normalize(const decoder *self, int64_t students, matrix_view student_weight,
                              matrix_view teacher_weight, matrix_view x, matrix_view y);

#endif
