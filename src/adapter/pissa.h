/*
 * PiSSA's factors (Meng et al., arXiv 2404.02948): the r leading singular triples of W [out, in] as
 *   A0 = sqrt(S / s) V^T [r, in],   B0 = U sqrt(S / s) [out, r],   so that s B0 A0 is the best rank-r part of
 * W.
 *
 * Gram matrix, subspace iteration with oversampling until the error bound of every kept singular value is
 * met, and a Rayleigh-Ritz step on W itself, which frees the result from the Gram matrix's squared condition.
 */
#ifndef ADAPTER_PISSA_H
#define ADAPTER_PISSA_H

#include "base/memory.h"
#include "tensor/arena.h"

/* Relative error of a singular value that the iteration promises. */
#define PISSA_TOLERANCE 1e-4

typedef struct pissa_request {
    const backend *device;
    backend_queue *queue;
    allocator *memory;
    const char *name;   /* of the weight, for messages */
    matrix_view weight; /* float [out, in] */
    int64_t rank;
    double scale;  /* s */
    uint64_t seed; /* of the first subspace */
    int32_t full_svd;
    matrix_view a, b; /* F32 [rank, in], [out, rank]: overwritten */
} pissa_request;

/* NUMERIC: the weight holds a value that is not finite. */
balora_status pissa_factors(const pissa_request *request);

#endif
