/* What blas_cublas.cu and solver_cusolver.cu keep with a queue. */
#ifndef CUDA_LIBRARY_HANDLES_H
#define CUDA_LIBRARY_HANDLES_H

#include <cublasLt.h>
#include <cublas_v2.h>
#include <cusolverDn.h>

#include "internal.h"

/* All that an algorithm's choice depends on; compared as bytes. */
struct product_key {
    int64_t m, n, k;
    int64_t lda, ldb, ldc;
    int64_t count, stride_a, stride_b, stride_c;
    int32_t type_ab, type_c, compute;
    uint8_t transposes, bias;
    uint8_t align_a, align_b, align_c, align_bias; /* logarithms of what the addresses are multiples of */
    uint8_t padding[6];
};
static_assert(sizeof(product_key) == 104, "no bytes between the members");

struct kept_algorithm {
    product_key key;
    cublasLtMatmulAlgo_t algorithm;
    int32_t used, found; /* `found` 0: the library has none */
};

/* A product is looked up in the set that its key hashes to; a full set loses its oldest entry. */
enum { ALGORITHM_SETS = 256, ALGORITHM_WAYS = 4 };

struct cuda_libraries {
    cublasLtHandle_t lt;
    cublasHandle_t blas;
    void *workspace; /* of both: calls of a queue follow each other */
    int64_t workspace_bytes;

    cusolverDnHandle_t solver;
    cusolverDnParams_t solver_params;
    void *solver_device, *solver_host; /* workspaces, grown to what was asked for */
    int64_t solver_device_bytes, solver_host_bytes;

    kept_algorithm algorithms[ALGORITHM_SETS][ALGORITHM_WAYS];
    int32_t oldest[ALGORITHM_SETS];
};

balora_status blas_check(const backend_queue *queue, const char *what, cublasStatus_t status);

/* solver_cusolver.cu, on the queue's libraries. */
balora_status solver_open(backend_queue *queue);
void solver_close(backend_queue *queue);

#endif
