/* Checks of a slot's operands. */
#include "internal.h"

int64_t element_size(int32_t dtype) {
    switch (dtype) {
    case BALORA_F64:
        return 8;
    case BALORA_F32:
    case BALORA_I32:
        return 4;
    case BALORA_F16:
    case BALORA_BF16:
        return 2;
    case BALORA_U8:
        return 1;
    default:
        return 0;
    }
}

int dtype_bit(int32_t dtype) {
    switch (dtype) {
    case BALORA_F32:
        return IN_F32;
    case BALORA_BF16:
        return IN_BF16;
    case BALORA_F16:
        return IN_F16;
    case BALORA_F64:
        return IN_F64;
    case BALORA_I32:
        return IN_I32;
    case BALORA_U8:
        return IN_U8;
    default:
        return 0;
    }
}

/* The bytes that the view spans lie in its buffer, on addresses fit for its elements. */
static bool is_inside(matrix_view view) {
    int64_t size = element_size(view.dtype), span, bytes, end;
    if (view.rows < 0 || view.cols < 0 || view.ld < view.cols || view.offset < 0 || view.offset % size != 0)
        return false;
    if (view.rows == 0 || view.cols == 0)
        return view.offset <= view.buffer->bytes;
    return arith_multiply_i64(view.rows - 1, view.ld, &span) && arith_add_i64(span, view.cols, &span) &&
           arith_multiply_i64(span, size, &bytes) && arith_add_i64(bytes, view.offset, &end) &&
           end <= view.buffer->bytes;
}

balora_status operand_check(const char *slot, const char *name, matrix_view view, int64_t rows, int64_t cols,
                            int dtypes) {
    if (view.buffer == nullptr)
        return CUDA_INTERNAL("cuda %s: %s has no buffer", slot, name);
    if ((dtype_bit(view.dtype) & dtypes) == 0)
        return CUDA_INTERNAL("cuda %s: %s has dtype %d, which this operand cannot have", slot, name,
                             view.dtype);
    if ((rows != ANY_SIZE && view.rows != rows) || (cols != ANY_SIZE && view.cols != cols))
        return CUDA_INTERNAL(
            "cuda %s: %s is [%lld, %lld]; expected [%lld, %lld], where -1 stands for any size", slot, name,
            (long long)view.rows, (long long)view.cols, (long long)rows, (long long)cols);
    if (!is_inside(view))
        return CUDA_INTERNAL(
            "cuda %s: %s [%lld, %lld], ld %lld, dtype %d at byte %lld does not fit its buffer of %lld "
            "bytes",
            slot, name, (long long)view.rows, (long long)view.cols, (long long)view.ld, view.dtype,
            (long long)view.offset, (long long)view.buffer->bytes);
    return BALORA_OK;
}
