/* Optional slots of the table, or what other slots make of them where a backend has none. */
#ifndef BACKEND_COMPOSED_H
#define BACKEND_COMPOSED_H

#include "backend/ops.h"

/* ops->gemm_bias, or gemm and add_row. */
balora_status composed_gemm_bias(const backend_ops *ops, backend_queue *queue, int transpose_a,
                                 int transpose_b, double alpha, matrix_view a, matrix_view b, double beta,
                                 matrix_view c, matrix_view bias);

#endif
