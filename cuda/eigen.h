/* Symmetric eigenvalue problems that our own kernels solve without a word from the host. All is F64. */
#ifndef CUDA_EIGEN_H
#define CUDA_EIGEN_H

#include "internal.h"

/* --- eigen_jacobi.cu: in the shared memory of one block --- */

/* The largest n of it. */
int64_t jacobi_limit(const backend_queue *queue);

/* The k largest eigenvalues, descending, of the symmetric a [n, n], and their unit vectors as rows. Only the lower
 * triangle is read. Numbers that are not finite make all of them NaN. */
struct eigen_problem {
    const double *a;
    int64_t ld, n, k;
    double *values;
    double *vectors;
    int64_t vectors_ld;
};

balora_status jacobi_top(backend_queue *queue, const eigen_problem *problem);

/*
 * A Rayleigh-Ritz step in the basis that thick-restart Lanczos left: `kept` Ritz vectors whose values are in
 * problem.values, then blocks of `block` vectors. The residual of Ritz vector i lies in the first block, so column i of
 * the projected matrix there is its norm. Once the first `wanted` are below tolerance times the largest value, *done
 * is set: the values stay, and the vectors become rows of the identity.
 */
struct ritz_step {
    eigen_problem problem;
    int64_t kept, block, wanted;
    double tolerance;
    int32_t *done; /* written when kept is 0, else read and written */
};

balora_status jacobi_ritz(backend_queue *queue, const ritz_step *step);

/* --- eigen_krylov.cu: few eigenvalues of a large matrix --- */

/* Whether the k largest of n are found so. */
bool krylov_fits(const backend_queue *queue, int64_t n, int64_t k);

int64_t krylov_scratch_bytes(const backend_queue *queue, int64_t n, int64_t k);

/* *values [k] descending and *vectors [k, n], rows n apart, in the scratch. */
balora_status krylov_top(backend_queue *queue, const double *a, int64_t ld, int64_t n, int64_t k,
                         void *scratch, const double **values, const double **vectors);

/* --- factors.cu --- */

/* The largest n <= size for which eigh_top needs library_eigh for some k <= count; 0: none. */
int64_t eigh_library_size(const backend_queue *queue, int64_t size, int64_t count);

#endif
