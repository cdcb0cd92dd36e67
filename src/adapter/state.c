/* An adapter's numbers as a whole: what a checkpoint keeps, and names for places in the flat arrays. */
#include <stdio.h>
#include <string.h>

#include "adapter/adapter.h"
#include "base/arith.h"
#include "base/status.h"

int32_t adapter_state(const balora_adapter *adapter, named_view out[ADAPTER_STATE_LIMIT]) {
    int32_t count = 0;
    out[count++] = (named_view){"parameters", adapter_parameters(adapter)};
    if (adapter->initial.bytes > 0)
        out[count++] = (named_view){"initial", view_make(adapter->initial.buffer, 0, BALORA_F32, 1,
                                                         adapter->initial.bytes / (int64_t)sizeof(float))};
    return count;
}

/* "NAME[row, column]" when the element at byte `offset` lies in the matrix. */
static bool locate_in(matrix_view matrix, int64_t offset, const char *module, const char *part, char *text,
                      size_t capacity) {
    int64_t place = (offset - matrix.offset) / (int64_t)sizeof(float);
    if (view_is_none(matrix) || offset < matrix.offset || place >= matrix.rows * matrix.cols)
        return false;
    snprintf(text, capacity, "%s%s[%lld, %lld]", module, part, (long long)(place / matrix.cols),
             (long long)(place % matrix.cols));
    return true;
}

void adapter_locate(const balora_adapter *adapter, int64_t element, char *text, size_t capacity) {
    int64_t offset = element * (int64_t)sizeof(float);
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        if (locate_in(module->a, offset, module->name, ".lora_A", text, capacity) ||
            locate_in(module->b, offset, module->name, ".lora_B", text, capacity) ||
            locate_in(module->magnitude, offset, module->name, ".lora_magnitude_vector", text, capacity))
            return;
    }
    for (int64_t i = 0; i < adapter->trained_count; i++)
        if (locate_in(adapter->trained[i].value, offset, adapter->trained[i].tensor->name, "", text,
                      capacity))
            return;
    snprintf(text, capacity, "trained number %lld", (long long)element);
}

balora_status adapter_find_non_finite(const balora_adapter *adapter, backend_queue *queue, matrix_view flat,
                                      int64_t *element) {
    const backend_ops *ops = adapter->model->device.ops;
    float piece[4096]; /* no allocation: a step may ask */
    *element = -1;
    for (int64_t at = 0, count; at < flat.cols; at += count) {
        count = arith_min(flat.cols - at, (int64_t)(sizeof piece / sizeof piece[0]));
        matrix_view part = view_columns(flat, at, count);
        STATUS_TRY(ops->download(queue, piece, part.buffer, part.offset, view_bytes(part)));
        STATUS_TRY(ops->synchronize(queue));
        int64_t found = dtype_find_non_finite(BALORA_F32, piece, count);
        if (found >= 0) {
            *element = at + found;
            return BALORA_OK;
        }
    }
    return BALORA_OK;
}
