/* What the SVD term asks of a Gram matrix, wherever that came from: see spectral.h and spectral_logits.h. */
#ifndef REGULARIZER_SPECTRAL_SOLVE_H
#define REGULARIZER_SPECTRAL_SOLVE_H

#include <stdbool.h>

#include "tensor/arena.h"

/* The leading eigenpairs of an [n, n] Gram matrix, and the coefficients of the term's gradient along them. */
typedef struct spectral_pairs {
    matrix_view values, weights; /* F64 [1, pairs]: sigma^2, and c */
    matrix_view vectors;         /* F64 [pairs, n] */
    matrix_view trace, gamma;    /* F64 [1, 1] */
    int64_t top;                 /* k */
    int32_t norm;                /* BALORA_SVD_... */
} spectral_pairs;

/* Pairs of an eigenproblem of that size which the term reads. */
int64_t spectral_pairs_of(int32_t norm, int64_t top, int64_t size);

/*
 * All of `pairs` from the Gram matrix, which is destroyed; *value (F64 [1, 1]) += the term. `scale` is in the
 * coefficients, not in the value. NUMERIC where the matrix is not finite and the device can tell at once.
 */
balora_status spectral_solve(const backend_ops *ops, backend_queue *queue, matrix_view gram,
                             const spectral_pairs *pairs, double scale, matrix_view value);

#endif
