/*
 * The SVD term  -(sum of the first k singular values of Z) / N  of logits Z [M, V] that are there themselves: of a
 * host's model, or behind a soft-cap, where spectral.h's way round them does not hold.
 *
 * With S = Z Z^T = U diag(sigma^2) U^T [M, M] the gradient is  dZ = gamma Z + U diag(c) (U^T Z);  where there are more
 * rows than columns, with S = Z^T Z = V diag(sigma^2) V^T,  dZ = gamma Z + (Z V) diag(c) V^T. All of it in F64, part
 * by part of the logits, so that no F64 copy of them is made: one symmetric product M min(M, V) V, and products with k
 * vectors (all of them under the nuclear norm).
 *
 * Nothing is allocated after spectral_logits_create.
 */
#ifndef REGULARIZER_SPECTRAL_LOGITS_H
#define REGULARIZER_SPECTRAL_LOGITS_H

#include "regularizer/spectral_solve.h"

typedef struct spectral_logits_options {
    int64_t rows, columns; /* the most rows M of an evaluation, and V */
    int64_t top;           /* k */
    int32_t norm;          /* BALORA_SVD_... */
    int32_t reserved;
} spectral_logits_options;

typedef struct spectral_logits {
    const backend *device;
    backend_queue *queue;
    arena arena;
    spectral_logits_options options;
    int64_t active;       /* M of the evaluation under way */
    int64_t tile_numbers; /* that fit a tile */
    /* F64 workspaces; n = min(rows, columns), pairs as spectral_logits_pair_count says */
    matrix_view gram, part;      /* [n, n] */
    matrix_view values, weights; /* [1, pairs] */
    matrix_view vectors;         /* [pairs, n] */
    matrix_view images;          /* [pairs, columns]: diag(c) U^T Z, or diag(c) V^T */
    matrix_view coordinates;     /* [rows of a tile, pairs]; none where rows <= columns */
    matrix_view trace, gamma;    /* [1, 1] */
    matrix_view tile;            /* [1, tile_numbers] */
    matrix_view narrow;          /* F32 [1, tile_numbers] */
} spectral_logits;

balora_status spectral_logits_create(spectral_logits *out, const backend *device, backend_queue *queue,
                                     const spectral_logits_options *options);
void spectral_logits_free(spectral_logits *self); /* also on a zeroed one */

/* Size of the largest eigenproblem and pairs asked for, for backend_limits. */
int64_t spectral_logits_problem_size(const spectral_logits_options *options);
int64_t spectral_logits_pair_count(const spectral_logits_options *options);

/*
 * The term of M >= 2 rows of `logits` F32 or BF16 [.., V]: those that `rows` (I32 [1, M]) names, or all where `rows`
 * is none. *value (F64 [1, 1]) += the term; the pairs and images stay for spectral_logits_add_gradient, whose gradient
 * is that of `scale` times the term. NUMERIC: a logit is not finite, where the device can tell at once.
 */
balora_status spectral_logits_evaluate(spectral_logits *self, matrix_view logits, matrix_view rows,
                                       double scale, matrix_view value);

/*
 * The same in steps, for a caller that never holds all logits:
 *   spectral_logits_begin(M);
 *   spectral_logits_accumulate of parts that cover [M, V] once: where spectral_logits_by_rows (M <= V), any columns of
 *     all M rows; else any rows with all V columns. Operands as above;
 *   spectral_logits_solve;
 *   spectral_logits_project of the same parts once more, with their first column; not needed where M > V.
 */
balora_status spectral_logits_begin(spectral_logits *self, int64_t rows);
bool spectral_logits_by_rows(const spectral_logits *self);
balora_status spectral_logits_accumulate(spectral_logits *self, matrix_view logits, matrix_view rows);
balora_status spectral_logits_solve(spectral_logits *self, double scale, matrix_view value);
balora_status spectral_logits_project(spectral_logits *self, matrix_view logits, matrix_view rows,
                                      int64_t first_column);

/*
 * gradient += dZ for a part of the logits: `count` rows of the term from `first_row` on (in the order of the
 * evaluation), with columns from `first_column` on (all V of them where M > V). They lie in the rows of `logits` and
 * `gradient` (same shape; F32, or BF16 where the device computes with it) that `rows` (I32 [1, count]) names, or are
 * all rows of them where `rows` is none. The views may not overlap.
 */
balora_status spectral_logits_add_gradient(spectral_logits *self, matrix_view logits, matrix_view rows,
                                           int64_t first_row, int64_t first_column, matrix_view gradient);

#endif
