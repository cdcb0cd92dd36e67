/*
 * From the residual stream at needed rows to the loss: final norm, logits in chunks, the fused loss head, and
 * back. Memory is bounded by a chunk, whatever the number of tokens.
 */
#ifndef TRAIN_HEAD_H
#define TRAIN_HEAD_H

#include "data/batch.h"
#include "model/decoder.h"
#include "regularizer/spectral_logits.h"

typedef struct head_sizes {
    int64_t rows;  /* M: the most rows of a micro-batch */
    int64_t chunk; /* rows of logits at once */
    int32_t copies;
    bool backward;
    bool kept; /* the student's logits of all rows stay for the SVD term under a soft-cap, see head_svd.h */
} head_sizes;

typedef struct loss_head {
    const decoder *decoder;
    head_sizes sizes;
    matrix_view hidden;  /* activations [M, hidden]: the student's rows after the final norm */
    matrix_view dhidden; /* F32 [M, hidden]: their gradient */
    matrix_view chunk;   /* activations [copies chunk, hidden]: student's, then teacher's rows */
    matrix_view
        logits; /* F32 [copies chunk, vocabulary]: student's, then teacher's; the teacher's alone with kept */
    matrix_view kept; /* F32 [M, vocabulary]: the student's logits of all rows, capped; or none */
    matrix_view
        dlogits;       /* activations [chunk, vocabulary]; none where the gradient takes the logits' place */
    matrix_view terms; /* F64 [M, LOSS_COLUMNS] */
    matrix_view entropy;     /* F64 [M, 1] */
    matrix_view targets;     /* I32 [1, M] */
    matrix_view regularized; /* I32 [1, M] */
} loss_head;

/* Logits of a chunk of rows, capped where the model caps them. */
typedef struct head_chunk {
    matrix_view student, teacher; /* F32 [count, vocabulary]; no teacher: none */
} head_chunk;

/* The SVD term under a soft-cap: the rows of a micro-batch on which it acts. */
typedef struct head_svd {
    spectral_logits *term;
    int64_t count;            /* of rows, at least 2 */
    const int32_t *host_rows; /* [count], ascending, among the needed rows */
    matrix_view rows;         /* I32 [1, count]: the same on the device */
    matrix_view chunk_rows;   /* I32 [1, count]: each within its own chunk */
    matrix_view value;        /* F64 [1, 1]: += the term */
    double scale;             /* of its gradient */
} head_svd;

/* Weights of the terms in the gradient, and the shape of the terms. */
typedef struct head_objective {
    double task, consistency, diversity;
    double temperature;
    int64_t top_k;
    const head_svd *svd; /* NULL: no such term, or one that goes by hidden states */
} head_objective;

void head_place(loss_head *out, arena *plan, const decoder *body, const head_sizes *sizes);

/* Rows of logits at once; `wish` 0: as many as `budget` bytes hold, with `planes` F32 numbers for each row and token. */
int64_t head_chunk_rows(int64_t budget, int64_t vocabulary, int64_t wish, int64_t rows, int64_t planes);

/* F32 numbers that a chunk holds for each row and token. */
int64_t head_planes(const decoder *body, const head_sizes *sizes);

/* Upload targets and flags; call with every micro-batch. */
balora_status head_load(const loss_head *self, const token_batch *batch);

/* hidden = final norm of the student's rows in memory->output. */
balora_status head_normalize(const loss_head *self, int64_t rows);

/* Logits of rows [first, first + count). Where the student's are kept they must be there. */
balora_status head_logits(const loss_head *self, int64_t rows, int64_t first, int64_t count, head_chunk *out);

/* terms of the rows whose logits head_logits gave; with backward their gradient, in dlogits or in their place. */
balora_status head_chunk_loss(const loss_head *self, int64_t first, int64_t count, const head_chunk *logits,
                              const head_objective *objective);

/* x = capped x, where the model caps its logits. */
balora_status head_cap(const loss_head *self, matrix_view x);

/* terms of all rows; with backward also dhidden, and the head's weight gradient where it is trained. */
balora_status head_forward_backward(const loss_head *self, int64_t rows, const head_objective *objective);

/* From dhidden through the final norm to memory->dselected. */
balora_status head_finish_backward(const loss_head *self, int64_t rows);

/* entropy = the teacher's entropy at temperature T for every row. */
balora_status head_teacher_entropy(const loss_head *self, int64_t rows, double temperature);

#endif
