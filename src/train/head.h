/*
 * From the residual stream at needed rows to the loss: final norm, logits in chunks, the fused loss head, and
 * back. Memory is bounded by a chunk, whatever the number of tokens.
 */
#ifndef TRAIN_HEAD_H
#define TRAIN_HEAD_H

#include "data/batch.h"
#include "model/decoder.h"

typedef struct head_sizes {
    int64_t rows;  /* M: the most rows of a micro-batch */
    int64_t chunk; /* rows of logits at once */
    int32_t copies;
    bool backward;
} head_sizes;

typedef struct loss_head {
    const decoder *decoder;
    head_sizes sizes;
    matrix_view hidden;  /* activations [M, hidden]: the student's rows after the final norm */
    matrix_view dhidden; /* F32 [M, hidden]: their gradient */
    matrix_view chunk;   /* activations [copies chunk, hidden]: student's, then teacher's rows */
    matrix_view logits;  /* F32 [copies chunk, vocabulary] */
    matrix_view dlogits; /* activations [chunk, vocabulary]; none where they are F32: in place of logits */
    matrix_view terms;   /* F64 [M, LOSS_COLUMNS] */
    matrix_view entropy; /* F64 [M, 1] */
    matrix_view targets; /* I32 [1, M] */
    matrix_view regularized; /* I32 [1, M] */
} loss_head;

/* Weights of the terms in the gradient, and the shape of the terms. */
typedef struct head_objective {
    double task, consistency, diversity;
    double temperature;
    int64_t top_k;
} head_objective;

void head_place(loss_head *out, arena *plan, const decoder *body, const head_sizes *sizes);

/* Rows of logits at once; `wish` 0: as many as `budget` bytes of F32 logits hold. */
int64_t head_chunk_rows(int64_t budget, int64_t vocabulary, int64_t wish, int64_t rows, int32_t copies);

/* Upload targets and flags; call with every micro-batch. */
balora_status head_load(const loss_head *self, const token_batch *batch);

/* hidden = final norm of the student's rows in memory->output. */
balora_status head_normalize(const loss_head *self, int64_t rows);

/* Logits of rows [first, first + count): student's in rows [0, count) of *out, the teacher's behind them. */
balora_status head_logits(const loss_head *self, int64_t rows, int64_t first, int64_t count,
                          matrix_view *out);

/* terms of the rows whose logits head_logits gave; with backward those become the gradient. */
balora_status head_chunk_loss(const loss_head *self, int64_t first, int64_t count, matrix_view logits,
                              const head_objective *objective);

/* terms of all rows; with backward also dhidden, and the head's weight gradient where it is trained. */
balora_status head_forward_backward(const loss_head *self, int64_t rows, const head_objective *objective);

/* From dhidden through the final norm to memory->dselected. */
balora_status head_finish_backward(const loss_head *self, int64_t rows);

/* entropy = the teacher's entropy at temperature T for every row. */
balora_status head_teacher_entropy(const loss_head *self, int64_t rows, double temperature);

#endif
