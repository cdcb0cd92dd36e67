#include "regularizer/spectral_solve.h"

#include "base/arith.h"
#include "base/status.h"

int64_t spectral_pairs_of(int32_t norm, int64_t top, int64_t size) {
    return norm == BALORA_SVD_NUCLEAR ? size : arith_min(top, size);
}

balora_status spectral_solve(const backend_ops *ops, backend_queue *queue, matrix_view gram,
                             const spectral_pairs *pairs, double scale, matrix_view value) {
    spectral_coefficients args = {.eigenvalues = pairs->values,
                                  .trace = pairs->trace,
                                  .weights = pairs->weights,
                                  .gamma = pairs->gamma,
                                  .value = value,
                                  .scale = scale,
                                  .value_scale = 1,
                                  .top = arith_min(pairs->top, pairs->values.cols),
                                  .norm = pairs->norm};
    STATUS_TRY(ops->trace(queue, gram, pairs->trace));
    STATUS_TRY(ops->eigh_top(queue, gram, pairs->values, pairs->vectors));
    return ops->spectral_coefficients(queue, &args);
}
