/*
 * What the slots must compute, written plainly in double: loops from the definitions, no blocking, no tricks.
 *
 * Arrays are dense and row-major. A `magnitude` output, where there is one, is what the rounding errors of a
 * result scale with (tolerance.h).
 */
#ifndef CONFORMANCE_REFERENCE_H
#define CONFORMANCE_REFERENCE_H

#include <stdint.h>

#include "backend/ops.h"

/* --- products (reference_factor.c) --- */

/* out = alpha op(a) op(b) + beta c; op(a) [m, k], op(b) [k, n]; c is not read when beta is 0. */
typedef struct reference_product {
    int transpose_a, transpose_b;
    int64_t m, n, k;
    double alpha, beta;
    const double *a, *b, *c;
} reference_product;

void reference_gemm(const reference_product *product, double *out, double *magnitude);

/* All eigenvalues, descending, and unit eigenvectors as rows of a symmetric matrix (Jacobi). */
void reference_eigh(int64_t n, const double *a, double *values, double *vectors);

/* --- rows (reference_rows.c) --- */

void reference_rms_norm(int64_t rows, int64_t cols, const double *x, const double *weight,
                        double weight_offset, double epsilon, double *y);

/* Adds to dx, dweight and, for layer_norm, dbias; the magnitudes do too and may be NULL together. */
typedef struct reference_norm_gradient {
    double *dx, *dweight, *dx_magnitude, *dweight_magnitude;
    double *dbias, *dbias_magnitude;
} reference_norm_gradient;

void reference_rms_norm_backward(int64_t rows, int64_t cols, const double *x, const double *weight,
                                 double weight_offset, double epsilon, const double *dy,
                                 const reference_norm_gradient *out);

/* The magnitude may be NULL in these four. */
void reference_layer_norm(int64_t rows, int64_t cols, const double *x, const double *weight,
                          const double *bias, double epsilon, double *y, double *magnitude);
void reference_layer_norm_backward(int64_t rows, int64_t cols, const double *x, const double *weight,
                                   double epsilon, const double *dy, const reference_norm_gradient *out);
void reference_softmax(int64_t rows, int64_t cols, double scale, const double *x, double *y,
                       double *magnitude);
void reference_softmax_backward(int64_t rows, int64_t cols, double scale, const double *y, const double *dy,
                                double *dx, double *magnitude);

void reference_rope(int64_t tokens, int64_t heads, int64_t head_dim, const double *positions,
                    const double *table, int inverse, double *x, double *magnitude);

/* activation(x) and its derivative. */
double reference_activation(int32_t activation, double x);
double reference_activation_slope(int32_t activation, double x);

/* --- attention (reference_attention.c) --- */

typedef struct reference_attention {
    const attention_shape *shape;
    const int32_t *offsets;
    const double *q, *k, *v;
} reference_attention;

typedef struct reference_attention_result {
    double *out, *logsumexp;
    double *out_magnitude, *logsumexp_magnitude;
} reference_attention_result;

void reference_attention_forward(const reference_attention *problem,
                                 const reference_attention_result *result);

typedef struct reference_attention_gradient {
    double *dq, *dk, *dv;
    double *dq_magnitude, *dk_magnitude, *dv_magnitude;
} reference_attention_gradient;

/* Overwrites all six. */
void reference_attention_backward(const reference_attention *problem, const double *dout,
                                  const reference_attention_gradient *out);

/* --- objective (reference_objective.c) --- */

typedef struct reference_loss_row {
    int64_t vocabulary;
    const double *logits, *teacher; /* teacher may be NULL */
    int32_t target, regularized;
    double task_weight, consistency_weight, diversity_weight, temperature;
    int64_t top_k;
} reference_loss_row;

/* terms [LOSS_COLUMNS]; gradient and its magnitude [vocabulary], either may be NULL. */
void reference_loss_head(const reference_loss_row *row, double *terms, double *gradient, double *magnitude);

double reference_entropy(int64_t vocabulary, const double *logits, double temperature);

/* value = -(sum of the first `top` singular values) / (Frobenius or nuclear norm) of y [m, n]. */
double reference_spectral_value(int64_t m, int64_t n, const double *y, int64_t top, int32_t norm);

#endif
