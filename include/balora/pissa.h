/*
 * PiSSA's start (Meng et al., arXiv 2404.02948) for a host's own matrices: the leading singular triples of a weight
 * W [out, in] = U S V^T become the factors of an adapter, and what they leave of W is its frozen part.
 */
#ifndef BALORA_PISSA_H
#define BALORA_PISSA_H

#include "balora/tensor.h"

BALORA_BEGIN_DECLS

typedef struct balora_pissa_options {
    uint64_t struct_size;
    int64_t rank;     /* r: 1 to the smaller side of the weight */
    double scale;     /* s of the adapter, greater than 0: alpha / rank, or alpha / sqrt(rank) */
    uint64_t seed;    /* of the start of the iteration */
    int32_t full_svd; /* 1: a full SVD instead of subspace iteration */
    int32_t reserved;
} balora_pissa_options;

#define BALORA_PISSA_OPTIONS_INIT                                                                            \
    { sizeof(balora_pissa_options), 16, 1.0, 0, 0, 0 }

/*
 * A = sqrt(S / s) V^T [rank, in] and B = U sqrt(S / s) [out, rank] of the first `rank` triples, so that s B A is the best
 * part of that rank of the weight, and residual = weight - s B A, computed in F32 and rounded once.
 *
 * a, b: F32. weight, residual: F32, BF16 or F16; residual may be NULL, or the weight itself, which is then overwritten.
 * All are matrices with rows in row-major order, which may lie apart, on one device, where the work is done; on a GPU no
 * other work on them may be under way. `options` may be NULL. Singular values are within 1e-4 of their own size; where
 * they are well apart, or with full_svd, s B A is right to F32's rounding. Signs of the vectors are whatever comes.
 *
 * Nothing is written before all is computed. Errors: ARGUMENT (rank, shapes, types, overlaps), NUMERIC (the weight holds
 * a value that is not finite), UNSUPPORTED (the device), MEMORY, CANCELLED, ABI. Since 0.1.
 */
BALORA_API balora_status balora_pissa(const balora_tensor *a, const balora_tensor *b,
                                      const balora_tensor *residual, balora_context *context,
                                      const balora_tensor *weight, const balora_pissa_options *options);

BALORA_END_DECLS

#endif
