/*
 * The numerical libraries behind the slots: one thin file each on the device (blas_cublas.cu, solver_cusolver.cu), one
 * for the emulation (emulation/libraries.cpp, on OpenBLAS and LAPACKE). Matrices here are row-major as everywhere; the
 * files turn them into the libraries' column order.
 */
#ifndef CUDA_LIBRARIES_H
#define CUDA_LIBRARIES_H

#include "internal.h"

/* Handles and workspaces of a queue; they work on its stream. */
balora_status libraries_open(backend_queue *queue);
void libraries_close(backend_queue *queue);

/* Take the workspaces that the sizes to come need, so that no call within them does. */
balora_status libraries_prepare(backend_queue *queue, const backend_limits *limits);

/* "cublas=13.0,cusolver=12.0": as device features list them. */
void libraries_describe(char *out, size_t bytes);

/* Pointers are to device memory; ld in elements. */
struct library_matrix {
    void *data;
    int64_t rows, cols, ld;
    int32_t dtype;
};

static inline library_matrix library_view(matrix_view view) {
    return {view.buffer->data + view.offset, view.rows, view.cols, view.ld, view.dtype};
}

struct library_gemm {
    int transpose_a, transpose_b;
    double alpha, beta;
    library_matrix a, b, c;                      /* a and b of one dtype; c as they, or F32 for 16-bit ones */
    const float *bias;                           /* F32 [c.cols] added to every row; NULL: none */
    int64_t count, stride_a, stride_b, stride_c; /* count 1 and strides 0: a single product */
    int32_t tf32;                                /* F32 operands may be rounded to TF32 */
};

/*
 * c = alpha op(a) op(b) + beta c (+ bias); no size is 0. c is not read when beta is 0. BALORA_ERROR_UNSUPPORTED,
 * without a message, where the library has no algorithm for a bias with these operands.
 */
balora_status library_multiply(backend_queue *queue, const library_gemm *call);

/* The upper triangle (row-major) of c = a a^T, or a^T a; F32 or F64; no size is 0. */
balora_status library_syrk(backend_queue *queue, int transpose, library_matrix a, library_matrix c);

/* x := L^-1 x for the lower triangle L of a [n, n], x [n, m]; F64. */
balora_status library_solve_lower(backend_queue *queue, library_matrix a, library_matrix x);

/* Factorizations. *info, in device memory, as LAPACK: 0 is success. */

/* The lower triangle L of a = L L^T over that of a [n, n], F64. */
balora_status library_cholesky(backend_queue *queue, library_matrix a, int32_t *info);

/* All eigenvalues, ascending, of the symmetric a [n, n] F64, and unit eigenvectors in its rows. */
balora_status library_eigh(backend_queue *queue, library_matrix a, double *values, int32_t *info);

/* Orthonormal rows spanning those of x [l, n], l <= n, F32 or F64, by Householder reflections. */
balora_status library_householder_rows(backend_queue *queue, library_matrix x, int32_t *info);

/* Thin SVD of a [m, n] F32, m <= n, which is destroyed: u [m, m], s [m] descending, vt [m, n]. */
balora_status library_svd(backend_queue *queue, library_matrix a, library_matrix u, float *s,
                          library_matrix vt, int32_t *info);

#endif
