#include "model/fingerprint.h"

#include <string.h>

#include "base/arith.h"
#include "base/checksum.h"
#include "base/status.h"

enum { SAMPLED_ROWS = 16, SAMPLED_BYTES = 4096 };

static uint32_t add_description(uint32_t sum, const named_tensor *tensor) {
    int64_t shape[4] = {tensor->rank, tensor->view.rows, tensor->view.cols, tensor->view.dtype};
    sum = checksum_add(sum, tensor->name, strlen(tensor->name));
    return checksum_add(sum, shape, sizeof shape);
}

/* Rows spread evenly over the matrix; of long ones the front and the end in turn. */
static balora_status add_sample(uint32_t *sum, const backend_ops *ops, backend_queue *queue,
                                matrix_view matrix) {
    unsigned char piece[SAMPLED_BYTES];
    int64_t size = dtype_size(matrix.dtype), rows = arith_min(matrix.rows, SAMPLED_ROWS);
    int64_t columns = arith_min(matrix.cols, SAMPLED_BYTES / size);
    for (int64_t i = 0; i < rows; i++) {
        int64_t row = rows > 1 ? i * (matrix.rows - 1) / (rows - 1) : 0;
        int64_t column = i % 2 == 0 ? 0 : matrix.cols - columns;
        matrix_view part = view_columns(view_rows(matrix, row, 1), column, columns);
        STATUS_TRY(ops->download(queue, piece, part.buffer, part.offset, view_bytes(part)));
        STATUS_TRY(ops->synchronize(queue));
        *sum = checksum_add(*sum, piece, (uint64_t)view_bytes(part));
    }
    return BALORA_OK;
}

balora_status model_fingerprint(uint32_t *out, const balora_model *model, backend_queue *queue) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < model->weights.tensor_count; i++) {
        const named_tensor *tensor = &model->weights.tensors[i];
        sum = add_description(sum, tensor);
        STATUS_TRY(add_sample(&sum, model->device.ops, queue, tensor->view));
    }
    *out = sum;
    return BALORA_OK;
}
