/* Copies with conversion, and rows by index. */
#include <math.h>
#include <string.h>

#include "cpu/internal.h"

#define CHUNK 512 /* floats that a conversion through F32 holds */

typedef struct row_copy {
    const cpu_kernels *kernels;
    matrix_view dst, src;
    const int32_t *indices;
} row_copy;

/* The float that keeps enough of `x` for a second rounding to be the right one: rounded towards zero, with
 * the last bit set when anything was lost ("round to odd"). */
static float narrow_to_odd(double x) {
    float rounded = (float)x;
    if ((double)rounded == x || x != x)
        return rounded;
    if (fabs((double)rounded) > fabs(x))
        rounded = nextafterf(rounded, 0);
    uint32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    bits |= 1;
    memcpy(&rounded, &bits, sizeof rounded);
    return rounded;
}

static void copy_from_double(const row_copy *copy, void *to, const double *from, int64_t count) {
    float chunk[CHUNK];
    if (copy->dst.dtype == BALORA_F64) {
        memcpy(to, from, (size_t)count * sizeof *from);
    } else if (copy->dst.dtype == BALORA_F32) {
        float *out = to;
        for (int64_t i = 0; i < count; i++)
            out[i] = (float)from[i];
    } else {
        for (int64_t start = 0; start < count; start += CHUNK) {
            int64_t filled = arith_min(CHUNK, count - start);
            for (int64_t i = 0; i < filled; i++)
                chunk[i] = narrow_to_odd(from[start + i]);
            copy->kernels->narrow((uint16_t *)to + start, copy->dst.dtype, chunk, filled);
        }
    }
}

static void copy_from_float(const row_copy *copy, void *to, const void *from, int64_t count) {
    float chunk[CHUNK];
    if (copy->dst.dtype == BALORA_F32) {
        copy->kernels->widen(to, from, copy->src.dtype, count);
        return;
    }
    if (copy->src.dtype == BALORA_F32 && copy->dst.dtype != BALORA_F64) {
        copy->kernels->narrow(to, copy->dst.dtype, from, count);
        return;
    }
    int64_t from_size = element_size(copy->src.dtype);
    for (int64_t start = 0; start < count; start += CHUNK) {
        int64_t filled = arith_min(CHUNK, count - start);
        copy->kernels->widen(chunk, (const unsigned char *)from + start * from_size, copy->src.dtype, filled);
        if (copy->dst.dtype == BALORA_F64)
            for (int64_t i = 0; i < filled; i++)
                ((double *)to)[start + i] = (double)chunk[i];
        else
            copy->kernels->narrow((uint16_t *)to + start, copy->dst.dtype, chunk, filled);
    }
}

static void copy_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const row_copy *copy = user;
    int64_t to_size = element_size(copy->dst.dtype), from_size = element_size(copy->src.dtype);
    void *to = (unsigned char *)view_row(copy->dst, row) + column * to_size;
    const void *from = (const unsigned char *)view_row(copy->src, row) + column * from_size;
    if (copy->dst.dtype == copy->src.dtype)
        memcpy(to, from, (size_t)(count * to_size));
    else if (copy->src.dtype == BALORA_F64)
        copy_from_double(copy, to, from, count);
    else
        copy_from_float(copy, to, from, count);
}

balora_status cpu_copy(backend_queue *queue, matrix_view dst, matrix_view src) {
    STATUS_TRY(operand_check("copy", "src", src, ANY_SIZE, ANY_SIZE, IN_FLOAT | IN_F64));
    STATUS_TRY(operand_check("copy", "dst", dst, src.rows, src.cols, IN_FLOAT | IN_F64));
    row_copy copy = {queue->kernels, dst, src, NULL};
    parallel_spans(dst.rows, dst.cols, is_joined(dst) && is_joined(src), copy_span, &copy);
    return BALORA_OK;
}

static void gather(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const row_copy *copy = user;
    for (int64_t i = begin; i < end; i++)
        copy->kernels->widen(view_row(copy->dst, i), view_row(copy->src, copy->indices[i]), copy->src.dtype,
                             copy->dst.cols);
}

balora_status cpu_gather_rows(backend_queue *queue, matrix_view dst, matrix_view src, matrix_view indices) {
    STATUS_TRY(operand_check("gather_rows", "dst", dst, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("gather_rows", "src", src, ANY_SIZE, dst.cols, IN_FLOAT));
    STATUS_TRY(operand_check("gather_rows", "indices", indices, 1, dst.rows, IN_I32));
    STATUS_TRY(indices_check("gather_rows", "indices", indices, 0, src.rows));
    row_copy copy = {queue->kernels, dst, src, view_i32(indices)};
    parallel_for(dst.rows, row_grain(dst.cols), gather, &copy);
    return BALORA_OK;
}

/* Columns are split, so that equal indices add up in order. */
static void scatter(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const row_copy *copy = user;
    for (int64_t i = 0; i < copy->src.rows; i++)
        copy->kernels->scale_add(1, (const float *)view_row(copy->src, i) + begin, 1,
                                 (float *)view_row(copy->dst, copy->indices[i]) + begin, end - begin);
}

balora_status cpu_scatter_add_rows(backend_queue *queue, matrix_view dst, matrix_view src,
                                   matrix_view indices) {
    STATUS_TRY(operand_check("scatter_add_rows", "src", src, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("scatter_add_rows", "dst", dst, ANY_SIZE, src.cols, IN_F32));
    STATUS_TRY(operand_check("scatter_add_rows", "indices", indices, 1, src.rows, IN_I32));
    STATUS_TRY(indices_check("scatter_add_rows", "indices", indices, 0, dst.rows));
    row_copy copy = {queue->kernels, dst, src, view_i32(indices)};
    parallel_for(src.cols, row_grain(src.rows), scatter, &copy);
    return BALORA_OK;
}
