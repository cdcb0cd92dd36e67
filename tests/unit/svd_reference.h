/* The SVD term by a full SVD of the logits in double, and its gradient. Singular values that are 0 but for rounding are
 * left out: there the term has no gradient, and 0 is the subgradient meant. */
#ifndef TESTS_SVD_REFERENCE_H
#define TESTS_SVD_REFERENCE_H

#include <lapacke.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "balora/types.h"

#define RANK_TOLERANCE 1e-6 /* of a singular value over the largest one */

static inline double *numbers(int64_t count) {
    double *out = calloc((size_t)count, sizeof *out);
    assert_non_null(out);
    return out;
}

static inline double norm_of(const double *x, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    return sqrt(sum);
}

/* a [m, n] = u diag(s) vt; a is kept. */
static inline void decompose(const double *a, int64_t m, int64_t n, double *u, double *s, double *vt) {
    int64_t p = m < n ? m : n;
    double *copy = numbers(m * n), *work = numbers(p);
    memcpy(copy, a, (size_t)(m * n) * sizeof *a);
    assert_int_equal(LAPACKE_dgesvd(LAPACK_ROW_MAJOR, 'S', 'S', (lapack_int)m, (lapack_int)n, copy,
                                    (lapack_int)n, s, u, (lapack_int)p, vt, (lapack_int)n, work),
                     0);
    free(copy);
    free(work);
}

/* dz += the gradient of the SVD term of z [m, v]; returns the term. */
static inline double reference_term(int64_t m, int64_t v, int64_t top_count, int32_t norm_kind,
                                    const double *z, double *dz) {
    int64_t p = m < v ? m : v;
    double *u = numbers(m * p), *s = numbers(p), *vt = numbers(p * v), top = 0, squares = 0, all = 0;
    decompose(z, m, v, u, s, vt);
    for (int64_t i = 0; i < p; i++) {
        top += i < top_count ? s[i] : 0;
        squares += s[i] * s[i];
        all += s[i];
    }
    bool nuclear = norm_kind == BALORA_SVD_NUCLEAR;
    double norm = nuclear ? all : sqrt(squares);
    for (int64_t l = 0; l < p && norm > 0; l++) {
        double along = (nuclear ? top / (norm * norm) : s[l] * top / (norm * norm * norm)) -
                       (l < top_count ? 1 / norm : 0);
        for (int64_t i = 0; i < m && s[l] > RANK_TOLERANCE * s[0]; i++)
            for (int64_t j = 0; j < v; j++)
                dz[i * v + j] += along * u[i * p + l] * vt[l * v + j];
    }
    free(u);
    free(s);
    free(vt);
    return norm > 0 ? -top / norm : 0;
}

#endif
