#include "regularizer/selection.h"

#include <string.h>

#include "base/status.h"
#include "tensor/host_tensor.h"

static int64_t read_integer(const balora_tensor *tensor, int64_t index) {
    const void *place = tensor_element(tensor, index);
    int64_t wide;
    int32_t narrow;
    switch (tensor->dtype) {
    case BALORA_I64:
        memcpy(&wide, place, sizeof wide);
        return wide;
    case BALORA_I32:
        memcpy(&narrow, place, sizeof narrow);
        return narrow;
    default:
        return *(const unsigned char *)place;
    }
}

static balora_status check_list(const balora_tensor *tensor, const char *name, bool bytes) {
    bool fits =
        tensor->dtype == BALORA_I32 || tensor->dtype == BALORA_I64 || (bytes && tensor->dtype == BALORA_U8);
    if (!fits)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: dtype is %s; expected %sint32 or int64", name,
                           dtype_name(tensor->dtype), bytes ? "bool or uint8, " : "");
    if (tensor->device != BALORA_DEVICE_CPU)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "%s: expected on the CPU, wherever the logits are",
                           name);
    return BALORA_OK;
}

static balora_status mark_mask(unsigned char *marks, int64_t all, const balora_tensor *mask) {
    STATUS_TRY(check_list(mask, "mask", true));
    if (host_tensor_count(mask) != all)
        return status_fail(BALORA_ERROR_ARGUMENT, "mask: %lld elements; expected one a row, %lld",
                           (long long)host_tensor_count(mask), (long long)all);
    for (int64_t i = 0; i < all; i++)
        marks[i] = read_integer(mask, i) != 0;
    return BALORA_OK;
}

static balora_status mark_indices(unsigned char *marks, int64_t all, const balora_tensor *indices) {
    STATUS_TRY(check_list(indices, "indices", false));
    for (int64_t i = 0; i < host_tensor_count(indices); i++) {
        int64_t row = read_integer(indices, i);
        if (row < 0 || row >= all)
            return status_fail(BALORA_ERROR_ARGUMENT, "indices: entry %lld is %lld; expected 0 to %lld",
                               (long long)i, (long long)row, (long long)all - 1);
        if (marks[row])
            return status_fail(BALORA_ERROR_ARGUMENT, "indices: row %lld is named twice", (long long)row);
        marks[row] = 1;
    }
    return BALORA_OK;
}

balora_status selection_make(selection *out, allocator *memory, int64_t all, const balora_tensor *mask,
                             const balora_tensor *indices) {
    unsigned char *marks = NULL;
    balora_status status;
    *out = (selection){.all = all};
    if (all > INT32_MAX)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "student: %lld rows; expected at most %d",
                           (long long)all, INT32_MAX);
    if (mask != NULL && indices != NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "mask and indices are both given; expected one of them");
    STATUS_TRY(memory_new(memory, &out->rows, (size_t)all, sizeof *out->rows, "valid rows"));
    STATUS_GOTO(memory_zeroed(memory, &marks, (size_t)all, 1, "marks of valid rows"));
    if (mask != NULL)
        STATUS_GOTO(mark_mask(marks, all, mask));
    else if (indices != NULL)
        STATUS_GOTO(mark_indices(marks, all, indices));
    else
        memset(marks, 1, (size_t)all);
    for (int64_t i = 0; i < all; i++)
        if (marks[i])
            out->rows[out->count++] = (int32_t)i;
    memory_free(memory, marks);
    return BALORA_OK;
fail:
    memory_free(memory, marks);
    selection_free(out, memory);
    return status;
}

void selection_free(selection *self, allocator *memory) {
    memory_free(memory, self->rows);
    memset(self, 0, sizeof *self);
}

int64_t selection_find(const selection *self, int64_t row) {
    int64_t low = 0, high = self->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (self->rows[middle] < row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
