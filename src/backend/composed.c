#include "backend/composed.h"

#include "base/status.h"

balora_status composed_gemm_bias(const backend_ops *ops, backend_queue *queue, int transpose_a,
                                 int transpose_b, double alpha, matrix_view a, matrix_view b, double beta,
                                 matrix_view c, matrix_view bias) {
    if (ops->gemm_bias != NULL)
        return ops->gemm_bias(queue, transpose_a, transpose_b, alpha, a, b, beta, c, bias);
    STATUS_TRY(ops->gemm(queue, transpose_a, transpose_b, alpha, a, b, beta, c));
    return ops->add_row(queue, c, bias);
}
