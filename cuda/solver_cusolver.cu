/* Factorizations by cuSOLVER, which reads columns where we have rows: each works on the transposed matrix. */
#include "eigen.h"
#include "libraries.h"
#include "library_handles.h"

static const char *status_name(cusolverStatus_t status) {
    switch (status) {
    case CUSOLVER_STATUS_NOT_INITIALIZED:
        return "CUSOLVER_STATUS_NOT_INITIALIZED";
    case CUSOLVER_STATUS_ALLOC_FAILED:
        return "CUSOLVER_STATUS_ALLOC_FAILED";
    case CUSOLVER_STATUS_INVALID_VALUE:
        return "CUSOLVER_STATUS_INVALID_VALUE";
    case CUSOLVER_STATUS_ARCH_MISMATCH:
        return "CUSOLVER_STATUS_ARCH_MISMATCH";
    case CUSOLVER_STATUS_EXECUTION_FAILED:
        return "CUSOLVER_STATUS_EXECUTION_FAILED";
    case CUSOLVER_STATUS_INTERNAL_ERROR:
        return "CUSOLVER_STATUS_INTERNAL_ERROR";
    case CUSOLVER_STATUS_NOT_SUPPORTED:
        return "CUSOLVER_STATUS_NOT_SUPPORTED";
    default:
        return "a cuSOLVER failure";
    }
}

static balora_status solver_check(const backend_queue *queue, const char *what, cusolverStatus_t status) {
    if (status == CUSOLVER_STATUS_SUCCESS)
        return BALORA_OK;
    return cuda_fail(status == CUSOLVER_STATUS_ALLOC_FAILED ? BALORA_ERROR_MEMORY : BALORA_ERROR_BACKEND,
                     BALORA_ORIGIN_CUSOLVER, status, "cuda:%d (%s): %s: %s", queue->device->index,
                     queue->device->name, what, status_name(status));
}

#define SOLVER_TRY(queue, what, expression) CUDA_TRY(solver_check(queue, what, expression))

/* --- life --- */

balora_status solver_open(backend_queue *queue) {
    cuda_libraries *own = queue->libraries;
    const char *what = "opening cuSOLVER";
    SOLVER_TRY(queue, what, cusolverDnCreate(&own->solver));
    SOLVER_TRY(queue, what, cusolverDnCreateParams(&own->solver_params));
    SOLVER_TRY(queue, what, cusolverDnSetStream(own->solver, queue->stream));
    return solver_check(queue, what,
                        cusolverDnSetDeterministicMode(own->solver, CUSOLVER_DETERMINISTIC_RESULTS));
}

void solver_close(backend_queue *queue) {
    cuda_libraries *own = queue->libraries;
    if (own->solver_params != nullptr)
        cusolverDnDestroyParams(own->solver_params);
    if (own->solver != nullptr)
        cusolverDnDestroy(own->solver);
    device_give(queue->device, queue->stream, own->solver_device, own->solver_device_bytes);
    if (own->solver_host != nullptr)
        cuda_host->release(queue->device->memory, own->solver_host);
}

/* --- workspaces --- */

static balora_status provide(backend_queue *queue, size_t device_bytes, size_t host_bytes) {
    cuda_libraries *own = queue->libraries;
    if ((int64_t)device_bytes > own->solver_device_bytes || (int64_t)host_bytes > own->solver_host_bytes)
        CUDA_TRY(check_not_capturing(queue, "workspace of a factorization"));
    if ((int64_t)device_bytes > own->solver_device_bytes) {
        device_give(queue->device, queue->stream, own->solver_device, own->solver_device_bytes);
        own->solver_device = nullptr;
        own->solver_device_bytes = 0;
        CUDA_TRY(device_take(queue->device, queue->stream, (int64_t)device_bytes,
                             "workspace of a factorization", &own->solver_device));
        own->solver_device_bytes = (int64_t)device_bytes;
    }
    if ((int64_t)host_bytes > own->solver_host_bytes) {
        /* A factorization under way may still use the old one. */
        CUDA_TRY(
            cuda_check(queue->device, "workspace of a factorization", cudaStreamSynchronize(queue->stream)));
        if (own->solver_host != nullptr)
            cuda_host->release(queue->device->memory, own->solver_host);
        own->solver_host = nullptr;
        own->solver_host_bytes = 0;
        CUDA_TRY(cuda_host->allocate(queue->device->memory, &own->solver_host, 1, host_bytes,
                                     "workspace of a factorization"));
        own->solver_host_bytes = (int64_t)host_bytes;
    }
    return BALORA_OK;
}

/* Only sizes are asked for; addresses of device memory stand for the matrices. */
static balora_status eigh_sizes(backend_queue *queue, int64_t n, int64_t ld, size_t *device_bytes,
                                size_t *host_bytes) {
    cuda_libraries *own = queue->libraries;
    CUDA_TRY(solver_check(queue, "an eigenvalue problem",
                          cusolverDnXsyevd_bufferSize(own->solver, own->solver_params,
                                                      CUSOLVER_EIG_MODE_VECTOR, CUBLAS_FILL_MODE_LOWER, n,
                                                      CUDA_R_64F, own->workspace, ld, CUDA_R_64F,
                                                      own->workspace, CUDA_R_64F, device_bytes, host_bytes)));
    return provide(queue, *device_bytes, *host_bytes);
}

balora_status libraries_prepare(backend_queue *queue, const backend_limits *limits) {
    size_t device_bytes = 0, host_bytes = 0;
    int64_t count = limits->eigh_count > 0 ? limits->eigh_count : limits->eigh_size;
    int64_t n = eigh_library_size(queue, limits->eigh_size, count);
    return n > 0 ? eigh_sizes(queue, n, n, &device_bytes, &host_bytes) : BALORA_OK;
}

/* Of the solver's workspace, which begins with `front` bytes of the caller's. */
static void *workspace_behind(const backend_queue *queue, size_t front) {
    return static_cast<unsigned char *>(queue->libraries->solver_device) + front;
}

/* --- factorizations --- */

balora_status library_cholesky(backend_queue *queue, library_matrix a, int32_t *info) {
    const char *what = "a Cholesky factorization";
    cuda_libraries *own = queue->libraries;
    size_t device_bytes = 0, host_bytes = 0;
    /* Our L is the library's U = L^T. */
    SOLVER_TRY(queue, what,
               cusolverDnXpotrf_bufferSize(own->solver, own->solver_params, CUBLAS_FILL_MODE_UPPER, a.rows,
                                           CUDA_R_64F, a.data, a.ld, CUDA_R_64F, &device_bytes, &host_bytes));
    CUDA_TRY(provide(queue, device_bytes, host_bytes));
    return solver_check(queue, what,
                        cusolverDnXpotrf(own->solver, own->solver_params, CUBLAS_FILL_MODE_UPPER, a.rows,
                                         CUDA_R_64F, a.data, a.ld, CUDA_R_64F, own->solver_device,
                                         device_bytes, own->solver_host, host_bytes, info));
}

balora_status library_eigh(backend_queue *queue, library_matrix a, double *values, int32_t *info) {
    cuda_libraries *own = queue->libraries;
    size_t device_bytes = 0, host_bytes = 0;
    CUDA_TRY(eigh_sizes(queue, a.rows, a.ld, &device_bytes, &host_bytes));
    return solver_check(queue, "an eigenvalue problem",
                        cusolverDnXsyevd(own->solver, own->solver_params, CUSOLVER_EIG_MODE_VECTOR,
                                         CUBLAS_FILL_MODE_LOWER, a.rows, CUDA_R_64F, a.data, a.ld, CUDA_R_64F,
                                         values, CUDA_R_64F, own->solver_device, device_bytes,
                                         own->solver_host, host_bytes, info));
}

/* The reflections of geqrf, turned into the matrix by orgqr, which has 32-bit sizes only. */
static balora_status form_q(backend_queue *queue, library_matrix x, const void *tau, size_t front,
                            int32_t *info) {
    const char *what = "an orthonormal basis";
    cuda_libraries *own = queue->libraries;
    int rows = (int)x.cols, cols = (int)x.rows, ld = (int)x.ld, size = 0;
    if (x.dtype == BALORA_F64) {
        double *a = static_cast<double *>(x.data);
        const double *reflections = static_cast<const double *>(tau);
        SOLVER_TRY(queue, what,
                   cusolverDnDorgqr_bufferSize(own->solver, rows, cols, cols, a, ld, reflections, &size));
        return solver_check(queue, what,
                            cusolverDnDorgqr(own->solver, rows, cols, cols, a, ld, reflections,
                                             static_cast<double *>(workspace_behind(queue, front)), size,
                                             info));
    }
    float *a = static_cast<float *>(x.data);
    const float *reflections = static_cast<const float *>(tau);
    SOLVER_TRY(queue, what,
               cusolverDnSorgqr_bufferSize(own->solver, rows, cols, cols, a, ld, reflections, &size));
    return solver_check(queue, what,
                        cusolverDnSorgqr(own->solver, rows, cols, cols, a, ld, reflections,
                                         static_cast<float *>(workspace_behind(queue, front)), size, info));
}

static balora_status form_q_bytes(backend_queue *queue, library_matrix x, size_t *out) {
    int rows = (int)x.cols, cols = (int)x.rows, ld = (int)x.ld, size = 0;
    cusolverStatus_t status = x.dtype == BALORA_F64
                                  ? cusolverDnDorgqr_bufferSize(queue->libraries->solver, rows, cols, cols,
                                                                static_cast<double *>(x.data), ld,
                                                                static_cast<const double *>(x.data), &size)
                                  : cusolverDnSorgqr_bufferSize(queue->libraries->solver, rows, cols, cols,
                                                                static_cast<float *>(x.data), ld,
                                                                static_cast<const float *>(x.data), &size);
    *out = (size_t)size * (size_t)element_size(x.dtype);
    return solver_check(queue, "an orthonormal basis", status);
}

balora_status library_householder_rows(backend_queue *queue, library_matrix x, int32_t *info) {
    const char *what = "an orthonormal basis";
    cuda_libraries *own = queue->libraries;
    if (x.cols > INT32_MAX || x.ld > INT32_MAX)
        return cuda_fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUSOLVER, 0,
                         "cuda:%d: a matrix [%lld, %lld] is too large for cuSOLVER", queue->device->index,
                         (long long)x.rows, (long long)x.cols);
    cudaDataType type = x.dtype == BALORA_F64 ? CUDA_R_64F : CUDA_R_32F;
    size_t device_bytes = 0, host_bytes = 0, q_bytes = 0;
    size_t front = (size_t)arith_divide_up(x.rows * element_size(x.dtype), 256) * 256; /* tau */
    SOLVER_TRY(queue, what,
               cusolverDnXgeqrf_bufferSize(own->solver, own->solver_params, x.cols, x.rows, type, x.data,
                                           x.ld, type, x.data, type, &device_bytes, &host_bytes));
    CUDA_TRY(form_q_bytes(queue, x, &q_bytes));
    CUDA_TRY(provide(queue, front + (device_bytes > q_bytes ? device_bytes : q_bytes), host_bytes));
    SOLVER_TRY(queue, what,
               cusolverDnXgeqrf(own->solver, own->solver_params, x.cols, x.rows, type, x.data, x.ld, type,
                                own->solver_device, type, workspace_behind(queue, front), device_bytes,
                                own->solver_host, host_bytes, info));
    return form_q(queue, x, own->solver_device, front, info);
}

balora_status library_svd(backend_queue *queue, library_matrix a, library_matrix u, float *s,
                          library_matrix vt, int32_t *info) {
    const char *what = "a singular value decomposition";
    cuda_libraries *own = queue->libraries;
    size_t device_bytes = 0, host_bytes = 0;
    /* a^T = vt^T diag(s) u^T: the library's left vectors are our vt, its right ones our u. */
    SOLVER_TRY(queue, what,
               cusolverDnXgesvd_bufferSize(own->solver, own->solver_params, 'S', 'S', a.cols, a.rows,
                                           CUDA_R_32F, a.data, a.ld, CUDA_R_32F, s, CUDA_R_32F, vt.data,
                                           vt.ld, CUDA_R_32F, u.data, u.ld, CUDA_R_32F, &device_bytes,
                                           &host_bytes));
    CUDA_TRY(provide(queue, device_bytes, host_bytes));
    return solver_check(queue, what,
                        cusolverDnXgesvd(own->solver, own->solver_params, 'S', 'S', a.cols, a.rows,
                                         CUDA_R_32F, a.data, a.ld, CUDA_R_32F, s, CUDA_R_32F, vt.data, vt.ld,
                                         CUDA_R_32F, u.data, u.ld, CUDA_R_32F, own->solver_device,
                                         device_bytes, own->solver_host, host_bytes, info));
}
