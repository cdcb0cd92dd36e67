/*
 * The SVD term  -(sum of the first k singular values of Z) / N  of logits Z = H W^T, without the logits.
 *
 * With K = W^T W [hidden, hidden] the singular values of Z are the roots of the eigenvalues of S = H K H^T (M
 * x M), or, where there are more rows than hidden units, of L^T H^T H L with K = L L^T. With P = H K and unit
 * eigenvectors u_i of S the gradient is  dH = gamma P + sum_i c_i u_i (u_i^T P);  with eigenvectors v_i of
 * the other matrix it is gamma P + sum_i c_i (H L v_i) (L v_i)^T. All in F64: in F32 the gradient of small
 * singular values drowns.
 */
#ifndef REGULARIZER_SPECTRAL_H
#define REGULARIZER_SPECTRAL_H

#include "tensor/arena.h"

typedef struct spectral_term {
    allocator *memory;
    const backend *device;
    backend_queue *queue;
    arena arena;
    int64_t hidden, rows; /* d, and the most rows M of a micro-batch */
    int64_t top;          /* k */
    int32_t norm;         /* BALORA_SVD_... */
    int32_t head_trained; /* 1: W changes, and gets a gradient */
    matrix_view gram;     /* K, F64 [hidden, hidden] */
    matrix_view root;     /* L^T, F64 [hidden, hidden]; none where rows <= hidden or the head is trained */
    /* F64 workspaces, by the largest micro-batch */
    matrix_view h, p, result;    /* [rows, hidden] */
    matrix_view products;        /* [n, n], n = eigenproblem's size */
    matrix_view square;          /* [hidden, hidden] */
    matrix_view values, weights; /* [1, n] */
    matrix_view vectors;         /* [pairs, n] */
    matrix_view images;          /* [pairs, hidden] */
    matrix_view coordinates;     /* [rows, pairs] */
    matrix_view trace, gamma;    /* [1, 1] */
    matrix_view piece;           /* [rows of a piece of W, hidden] */
    matrix_view narrow;          /* F32 [rows, hidden] */
    matrix_view narrow_square;   /* F32 [hidden, hidden] */
} spectral_term;

typedef struct spectral_options {
    int64_t hidden, rows, top;
    int32_t norm;
    int32_t head_trained;
} spectral_options;

/* Take memory and prepare K from the head W [vocabulary, hidden]. */
balora_status spectral_create(spectral_term *out, allocator *memory, const backend *device,
                              backend_queue *queue, matrix_view head, const spectral_options *options);
void spectral_free(spectral_term *self); /* also on a zeroed one */

/* K again, after the head has changed. */
balora_status spectral_update_head(spectral_term *self, matrix_view head);

/*
 * For the M >= 2 rows `hidden` F32 [M, hidden]: *value (F64 [1, 1]) += the term; the gradient of scale times
 * the term with respect to hidden rows is left in self->narrow [M, hidden]. With a trained head, dhead
 * [vocabulary, hidden] gets its gradient added, else it is none.
 */
balora_status spectral_evaluate(spectral_term *self, matrix_view hidden, double scale, matrix_view value,
                                matrix_view head, matrix_view dhead);

/* Size of the largest eigenproblem, for backend_limits. */
int64_t spectral_problem_size(const spectral_options *options);

/* Eigenpairs that it asks for in a step. */
int64_t spectral_pair_count(const spectral_options *options);

#endif
