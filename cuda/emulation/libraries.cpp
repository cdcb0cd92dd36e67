/*
 * The numerical libraries of libraries.h on OpenBLAS and LAPACKE. Each call is work of the queue's stream, so that a
 * graph records it; operands are read when it runs.
 */
#include <cblas.h>
#include <lapacke.h>
#include <stdio.h>

#include <vector>

#include "libraries.h"
#include "numbers.cuh"
#include "recording.h"

balora_status libraries_open(backend_queue *) {
    return BALORA_OK;
}
void libraries_close(backend_queue *) {
}
balora_status libraries_prepare(backend_queue *, const backend_limits *) {
    return BALORA_OK;
}
void libraries_describe(char *out, size_t bytes) {
    snprintf(out, bytes, "emulated-libraries");
}

template <typename Work> static balora_status enqueue(backend_queue *queue, const char *what, Work work) {
    return cuda_check(queue->device, what, emulation_enqueue(queue->stream, [work]() {
                          work();
                          return cudaSuccess;
                      }));
}

template <typename T> static T *data_of(const library_matrix &x) {
    return static_cast<T *>(x.data);
}

/* --- BLAS --- */

static CBLAS_TRANSPOSE flag(int transpose) {
    return transpose ? CblasTrans : CblasNoTrans;
}

static int64_t inner_size(const library_gemm &call) {
    return call.transpose_a ? call.a.rows : call.a.cols;
}

static library_matrix moved(library_matrix x, int64_t elements) {
    x.data = static_cast<unsigned char *>(x.data) + elements * element_size(x.dtype);
    return x;
}

static void multiply_doubles(const library_gemm &call) {
    cblas_dgemm(CblasRowMajor, flag(call.transpose_a), flag(call.transpose_b), (blasint)call.c.rows,
                (blasint)call.c.cols, (blasint)inner_size(call), call.alpha, data_of<double>(call.a),
                (blasint)call.a.ld, data_of<double>(call.b), (blasint)call.b.ld, call.beta,
                data_of<double>(call.c), (blasint)call.c.ld);
}

/* The operand as F32: itself, or widened into `space`. */
static library_matrix widened(const library_matrix &x, std::vector<float> *space) {
    if (x.dtype == BALORA_F32)
        return x;
    space->resize((size_t)(x.rows * x.cols));
    for (int64_t i = 0; i < x.rows; i++)
        for (int64_t j = 0; j < x.cols; j++)
            (*space)[(size_t)(i * x.cols + j)] = x.dtype == BALORA_BF16
                                                     ? to_float(data_of<bf16>(x)[i * x.ld + j])
                                                     : to_float(data_of<f16>(x)[i * x.ld + j]);
    return {space->data(), x.rows, x.cols, x.cols, BALORA_F32};
}

static void multiply_floats(const library_gemm &call) {
    std::vector<float> space_a, space_b, space_c;
    bool narrow = call.c.dtype == BALORA_BF16;
    library_matrix a = widened(call.a, &space_a), b = widened(call.b, &space_b), c = call.c;
    if (narrow && call.beta != 0)
        c = widened(call.c, &space_c);
    else if (narrow) {
        space_c.resize((size_t)(c.rows * c.cols));
        c = {space_c.data(), c.rows, c.cols, c.cols, BALORA_F32};
    }
    cblas_sgemm(CblasRowMajor, flag(call.transpose_a), flag(call.transpose_b), (blasint)c.rows,
                (blasint)c.cols, (blasint)inner_size(call), (float)call.alpha, data_of<float>(a),
                (blasint)a.ld, data_of<float>(b), (blasint)b.ld, (float)call.beta, data_of<float>(c),
                (blasint)c.ld);
    for (int64_t i = 0; i < c.rows; i++)
        for (int64_t j = 0; j < c.cols; j++) {
            float *at = data_of<float>(c) + i * c.ld + j;
            *at += call.bias != nullptr ? call.bias[j] : 0.0f;
            if (narrow)
                data_of<bf16>(call.c)[i * call.c.ld + j] = to_bf16(*at);
        }
}

balora_status library_multiply(backend_queue *queue, const library_gemm *call) {
    /* As cuBLASLt, which takes a bias of the result's own type only. */
    if (call->bias != nullptr && call->c.dtype != BALORA_F32)
        return BALORA_ERROR_UNSUPPORTED;
    library_gemm kept = *call;
    return enqueue(queue, "a product", [kept]() {
        for (int64_t i = 0; i < kept.count; i++) {
            library_gemm one = kept;
            one.a = moved(kept.a, i * kept.stride_a);
            one.b = moved(kept.b, i * kept.stride_b);
            one.c = moved(kept.c, i * kept.stride_c);
            if (kept.c.dtype == BALORA_F64)
                multiply_doubles(one);
            else
                multiply_floats(one);
        }
    });
}

balora_status library_syrk(backend_queue *queue, int transpose, library_matrix a, library_matrix c) {
    blasint inner = (blasint)(transpose ? a.rows : a.cols);
    return enqueue(queue, "a Gram matrix", [=]() {
        if (c.dtype == BALORA_F64)
            cblas_dsyrk(CblasRowMajor, CblasUpper, flag(transpose), (blasint)c.rows, inner, 1,
                        data_of<double>(a), (blasint)a.ld, 0, data_of<double>(c), (blasint)c.ld);
        else
            cblas_ssyrk(CblasRowMajor, CblasUpper, flag(transpose), (blasint)c.rows, inner, 1,
                        data_of<float>(a), (blasint)a.ld, 0, data_of<float>(c), (blasint)c.ld);
    });
}

balora_status library_solve_lower(backend_queue *queue, library_matrix a, library_matrix x) {
    return enqueue(queue, "a triangular solve", [=]() {
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, (blasint)x.rows,
                    (blasint)x.cols, 1, data_of<double>(a), (blasint)a.ld, data_of<double>(x), (blasint)x.ld);
    });
}

/* --- LAPACK, on the transposed matrices --- */

balora_status library_cholesky(backend_queue *queue, library_matrix a, int32_t *info) {
    return enqueue(queue, "a Cholesky factorization", [=]() {
        *info =
            LAPACKE_dpotrf(LAPACK_COL_MAJOR, 'U', (lapack_int)a.rows, data_of<double>(a), (lapack_int)a.ld);
    });
}

balora_status library_eigh(backend_queue *queue, library_matrix a, double *values, int32_t *info) {
    return enqueue(queue, "an eigenvalue problem", [=]() {
        *info = LAPACKE_dsyevd(LAPACK_COL_MAJOR, 'V', 'L', (lapack_int)a.rows, data_of<double>(a),
                               (lapack_int)a.ld, values);
    });
}

balora_status library_householder_rows(backend_queue *queue, library_matrix x, int32_t *info) {
    lapack_int rows = (lapack_int)x.cols, cols = (lapack_int)x.rows, ld = (lapack_int)x.ld;
    return enqueue(queue, "an orthonormal basis", [=]() {
        if (x.dtype == BALORA_F64) {
            std::vector<double> tau((size_t)cols);
            *info = LAPACKE_dgeqrf(LAPACK_COL_MAJOR, rows, cols, data_of<double>(x), ld, tau.data());
            if (*info == 0)
                *info =
                    LAPACKE_dorgqr(LAPACK_COL_MAJOR, rows, cols, cols, data_of<double>(x), ld, tau.data());
        } else {
            std::vector<float> tau((size_t)cols);
            *info = LAPACKE_sgeqrf(LAPACK_COL_MAJOR, rows, cols, data_of<float>(x), ld, tau.data());
            if (*info == 0)
                *info = LAPACKE_sorgqr(LAPACK_COL_MAJOR, rows, cols, cols, data_of<float>(x), ld, tau.data());
        }
    });
}

balora_status library_svd(backend_queue *queue, library_matrix a, library_matrix u, float *s,
                          library_matrix vt, int32_t *info) {
    return enqueue(queue, "a singular value decomposition", [=]() {
        *info = LAPACKE_sgesdd(LAPACK_COL_MAJOR, 'S', (lapack_int)a.cols, (lapack_int)a.rows,
                               data_of<float>(a), (lapack_int)a.ld, s, data_of<float>(vt), (lapack_int)vt.ld,
                               data_of<float>(u), (lapack_int)u.ld);
    });
}
