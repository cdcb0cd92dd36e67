#include "tensor/host_tensor.h"

#include "base/arith.h"
#include "base/status.h"

/* --- checks --- */

static balora_status check_fields(const balora_tensor *tensor, const char *name) {
    bool cuda = tensor->device == BALORA_DEVICE_CUDA;
    if (dtype_size(tensor->dtype) == 0)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s: dtype is %d; expected one of BALORA_F32, BALORA_BF16, ...", name,
                           tensor->dtype);
    if (tensor->rank < 0 || tensor->rank > BALORA_TENSOR_RANK)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: rank is %d; expected 0 to %d", name, tensor->rank,
                           BALORA_TENSOR_RANK);
    if (!cuda && tensor->device != BALORA_DEVICE_CPU)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s: device is %d; expected BALORA_DEVICE_CPU or BALORA_DEVICE_CUDA", name,
                           tensor->device);
    if (tensor->device_index < 0 || (!cuda && tensor->device_index != 0))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: device_index is %d; expected %s", name,
                           tensor->device_index, cuda ? "0 or more" : "0 on the CPU");
    if (tensor->read_only != 0 && tensor->read_only != 1)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: read_only is %d; expected 0 or 1", name,
                           tensor->read_only);
    if (tensor->reserved != 0)
        return status_fail(BALORA_ERROR_ABI, "%s: reserved is %d; it must be 0", name, tensor->reserved);
    return BALORA_OK;
}

/* Bytes from the lowest element to behind the highest one, and how far the lowest lies before `data`. */
typedef struct byte_span {
    int64_t before, bytes;
} byte_span;

/* false: more than 63 bits. An empty tensor spans nothing. */
static bool find_span(const balora_tensor *tensor, byte_span *out) {
    int64_t low = 0, high = 0, count = 1, size = dtype_size(tensor->dtype);
    bool empty = false;
    *out = (byte_span){0, 0};
    for (int32_t i = 0; i < tensor->rank; i++)
        empty = empty || tensor->shape[i] == 0;
    for (int32_t i = 0; i < tensor->rank; i++) {
        int64_t reach;
        if (!empty && (!arith_multiply_i64(count, tensor->shape[i], &count) ||
                       !arith_multiply_i64(tensor->shape[i] - 1, tensor->strides[i], &reach) ||
                       !(reach < 0 ? arith_add_i64(low, reach, &low) : arith_add_i64(high, reach, &high))))
            return false;
    }
    int64_t distance, bytes;
    if (!arith_multiply_i64(count, size, &bytes) || __builtin_sub_overflow(high, low, &distance) ||
        !arith_add_i64(distance, 1, &distance) || !arith_multiply_i64(distance, size, &out->bytes))
        return false;
    out->before = -low * size; /* no more than out->bytes */
    if (empty)
        *out = (byte_span){0, 0};
    return true;
}

balora_status host_tensor_check(const balora_tensor *tensor, const char *name) {
    byte_span span;
    STATUS_TRY(check_fields(tensor, name));
    for (int32_t i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] < 0)
            return status_fail(BALORA_ERROR_ARGUMENT, "%s: shape[%d] is %lld; expected 0 or more", name, i,
                               (long long)tensor->shape[i]);
    if (!find_span(tensor, &span))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s: shape and strides span more bytes than 63 bits can count", name);
    if (span.bytes == 0)
        return BALORA_OK;
    uintptr_t address = (uintptr_t)tensor->data;
    if (tensor->data == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: data is NULL; expected %lld elements", name,
                           (long long)host_tensor_count(tensor));
    if (address % (uintptr_t)dtype_size(tensor->dtype) != 0)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s: data is %p; expected a multiple of the %lld bytes of a %s", name,
                           tensor->data, (long long)dtype_size(tensor->dtype), dtype_name(tensor->dtype));
    if (address < (uintptr_t)span.before ||
        UINTPTR_MAX - (address - (uintptr_t)span.before) < (uintptr_t)span.bytes)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: shape and strides leave the address space", name);
    return BALORA_OK;
}

balora_status host_tensor_compact_strides(balora_tensor *tensor, const char *name) {
    int64_t stride = 1;
    for (int32_t i = tensor->rank - 1; i >= 0; i--) {
        tensor->strides[i] = stride;
        if (tensor->shape[i] < 0)
            return status_fail(BALORA_ERROR_ARGUMENT, "%s: shape[%d] is %lld; expected 0 or more", name, i,
                               (long long)tensor->shape[i]);
        if (!arith_multiply_i64(stride, arith_max(1, tensor->shape[i]), &stride))
            return status_fail(BALORA_ERROR_ARGUMENT,
                               "%s: the shape has more elements than 63 bits can count", name);
    }
    return BALORA_OK;
}

/* --- questions --- */

int64_t host_tensor_count(const balora_tensor *tensor) {
    int64_t count = 1;
    for (int32_t i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] == 0)
            return 0;
    for (int32_t i = 0; i < tensor->rank; i++)
        count *= tensor->shape[i];
    return count;
}

bool host_tensor_overlaps(const balora_tensor *a, const balora_tensor *b) {
    byte_span first, second;
    bool same_place = a->device == b->device && a->device_index == b->device_index;
    if (!same_place || !find_span(a, &first) || !find_span(b, &second) || first.bytes == 0 ||
        second.bytes == 0)
        return false;
    uintptr_t left = (uintptr_t)a->data - (uintptr_t)first.before;
    uintptr_t right = (uintptr_t)b->data - (uintptr_t)second.before;
    return left < right + (uintptr_t)second.bytes && right < left + (uintptr_t)first.bytes;
}

static int64_t distance(int64_t stride) {
    return stride < 0 ? -stride : stride;
}

/* From the smallest stride on, each must step beyond all that the smaller ones reach. */
bool host_tensor_shares_elements(const balora_tensor *tensor) {
    bool counted[BALORA_TENSOR_RANK] = {false};
    int64_t reach = 0;
    if (host_tensor_count(tensor) == 0)
        return false;
    for (int32_t round = 0; round < tensor->rank; round++) {
        int32_t least = -1;
        for (int32_t i = 0; i < tensor->rank; i++)
            if (!counted[i] && (least < 0 || distance(tensor->strides[i]) < distance(tensor->strides[least])))
                least = i;
        counted[least] = true;
        if (tensor->shape[least] == 1)
            continue;
        if (distance(tensor->strides[least]) <= reach)
            return true;
        reach += (tensor->shape[least] - 1) * distance(tensor->strides[least]);
    }
    return false;
}

bool host_tensor_rows(const balora_tensor *tensor, matrix_view *out) {
    *out = (matrix_view){.rows = 1, .cols = 1, .dtype = tensor->dtype};
    if (host_tensor_count(tensor) == 0)
        out->cols = 0;
    for (int32_t i = tensor->rank - 1; i >= 0 && out->cols > 0; i--) {
        int64_t length = tensor->shape[i], stride = tensor->strides[i];
        if (length == 1)
            continue;
        if (out->rows == 1 && stride == out->cols)
            out->cols *= length;
        else if (out->rows == 1 && stride > out->cols) {
            out->rows = length;
            out->ld = stride;
        } else if (out->rows > 1 && stride == out->rows * out->ld)
            out->rows *= length;
        else
            return false;
    }
    if (out->rows == 1)
        out->ld = out->cols;
    return true;
}
