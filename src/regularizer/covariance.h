/*
 * The diversity term of understanding on logits Z [N, D]:  1/D sum over i != j of C_ij^2,  C = Zc^T Zc / (N - 1), Zc
 * centred over the rows. Its gradient is  dZ = 4 / (D (N - 1)) Zc (C without its diagonal);  the centring adds nothing,
 * since the columns of Zc sum to 0. All of it in F64, for D classes up to COVARIANCE_COLUMNS: C is [D, D].
 */
#ifndef REGULARIZER_COVARIANCE_H
#define REGULARIZER_COVARIANCE_H

#include "tensor/arena.h"

#define COVARIANCE_COLUMNS INT64_C(4096)

typedef struct covariance_term {
    const backend *device;
    backend_queue *queue;
    arena arena;
    int64_t columns;
    int64_t active;            /* N of the evaluation under way */
    int64_t tile_rows;         /* of a tile at most */
    matrix_view mean, sums;    /* F64 [1, D] */
    matrix_view products, off; /* F64 [D, D]: Zc^T Zc, and C without its diagonal */
    matrix_view ones;          /* F64 [tile_rows, 1] */
    matrix_view tile, image;   /* F64 [tile_rows, D] */
    matrix_view narrow;        /* F32 [tile_rows, D] */
} covariance_term;

balora_status covariance_create(covariance_term *out, allocator *memory, const backend *device,
                                backend_queue *queue, int64_t rows, int64_t columns);
void covariance_free(covariance_term *self); /* also on a zeroed one */

/*
 * In steps: begin with N >= 2; `add_mean` of parts that cover the N rows once, operands as spectral_logits.h has them;
 * `add_products` of the same parts; then `finish`, which sets *value (F64 [1, 1]) to the term times D.
 */
balora_status covariance_begin(covariance_term *self, int64_t rows);
balora_status covariance_add_mean(covariance_term *self, matrix_view logits, matrix_view rows);
balora_status covariance_add_products(covariance_term *self, matrix_view logits, matrix_view rows);
balora_status covariance_finish(covariance_term *self, matrix_view value);

/* The rows' gradient += that of `scale` times the term. */
balora_status covariance_add_gradient(covariance_term *self, matrix_view logits, matrix_view rows,
                                      double scale, matrix_view gradient);

#endif
