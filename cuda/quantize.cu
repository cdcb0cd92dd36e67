/* Matrices held in 4 or 8 bits, and their codes. */
#include <math.h>

#include "internal.h"
#include "reduce.cuh"
#include "slots.h"
#include "spans.cuh"

enum { LEVELS = 16, TOGETHER = 8 }; /* numbers of the map; codes that one thread reads at once */

static balora_status check_quantized(const char *slot, const quantized_matrix *args) {
    matrix_view values = args->values;
    CUDA_TRY(operand_check(slot, "values", values, ANY_SIZE, ANY_SIZE, IN_FLOAT));
    if (args->kind == QUANTIZED_INT8_ROWS) {
        CUDA_TRY(operand_check(slot, "codes", args->codes, values.rows, values.cols, IN_U8));
        return operand_check(slot, "scales", args->scales, 1, values.rows, IN_F32);
    }
    if (args->kind != QUANTIZED_4BIT)
        return CUDA_INTERNAL("cuda %s: unknown kind %d", slot, args->kind);
    int64_t count = values.rows * values.cols;
    CUDA_TRY(operand_check(slot, "codes", args->codes, 1, arith_divide_up(count, 2), IN_U8));
    CUDA_TRY(operand_check(slot, "scales", args->scales, 1, arith_divide_up(count, QUANTIZED_BLOCK), IN_F32));
    return operand_check(slot, "map", args->map, 1, LEVELS, IN_F32);
}

/* The map in shared memory, where its 16 numbers lie in different banks. */
static __device__ __forceinline__ void share_levels(float *levels, const float *map) {
    if (threadIdx.x < LEVELS)
        levels[threadIdx.x] = map[threadIdx.x];
    __syncthreads();
}

/* --- codes to numbers --- */

/* COUNT 8: every span starts at a whole word of codes. */
template <typename T, int COUNT>
static __global__ void dequantize_4bit(span_grid grid, T *values, int64_t ld, const uint8_t *codes,
                                       const float *scales, const float *map) {
    __shared__ float levels[LEVELS];
    share_levels(levels, map);
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        int64_t first = row * grid.cols + column;
        float scale = scales[first / QUANTIZED_BLOCK], numbers[COUNT];
        uint8_t bytes[COUNT > 1 ? COUNT / 2 : 1];
        load_span(bytes, codes + first / 2, (left + 1) / 2);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            bool is_low = COUNT > 1 ? i % 2 != 0 : first % 2 != 0;
            numbers[i] = levels[is_low ? bytes[i / 2] & 15 : bytes[i / 2] >> 4] * scale;
        }
        store_span(values + row * ld + column, numbers, left);
    }
}

template <typename T, int COUNT>
static __global__ void dequantize_rows(span_grid grid, T *values, int64_t ld, const int8_t *codes,
                                       int64_t codes_ld, const float *scales) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        int8_t signed_codes[COUNT];
        float scale = scales[row] / 127.0f, numbers[COUNT];
        load_span(signed_codes, codes + row * codes_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            numbers[i] = (float)signed_codes[i] * scale;
        store_span(values + row * ld + column, numbers, left);
    }
}

template <typename T>
static balora_status launch_dequantize_4bit(backend_queue *queue, const quantized_matrix *args) {
    matrix_view values = args->values;
    flatten(values);
    bool aligned = are_aligned(TOGETHER, values) && are_aligned(TOGETHER / 2, args->codes) &&
                   (values.rows == 1 || values.cols % TOGETHER == 0);
    DISPATCH_COUNT(aligned, TOGETHER, COUNT, {
        span_grid grid = span_grid_of(values.rows, values.cols, COUNT);
        return launch(queue, "dequantize", dequantize_4bit<T, COUNT>, span_blocks(grid, COUNT), SPAN_THREADS,
                      0, grid, view_data<T>(values), values.ld, view_data<uint8_t>(args->codes),
                      view_data<float>(args->scales), view_data<float>(args->map));
    });
}

template <typename T>
static balora_status launch_dequantize_rows(backend_queue *queue, const quantized_matrix *args) {
    matrix_view values = args->values, codes = args->codes;
    DISPATCH_COUNT(are_aligned(TOGETHER, values, codes), TOGETHER, COUNT, {
        span_grid grid = span_grid_of(values.rows, values.cols, COUNT);
        return launch(queue, "dequantize", dequantize_rows<T, COUNT>, span_blocks(grid, COUNT), SPAN_THREADS,
                      0, grid, view_data<T>(values), values.ld, view_data<int8_t>(codes), codes.ld,
                      view_data<float>(args->scales));
    });
}

balora_status cuda_dequantize(backend_queue *queue, const quantized_matrix *args) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_quantized("dequantize", args));
    if (is_empty(args->values))
        return BALORA_OK;
    DISPATCH_FLOAT(args->values.dtype, T, {
        return args->kind == QUANTIZED_4BIT ? launch_dequantize_4bit<T>(queue, args)
                                            : launch_dequantize_rows<T>(queue, args);
    });
}

/* --- numbers to codes --- */

/* The first of the codes nearest to `x`; products are exact, so that equally near ones are seen as such. A
 * block of zeros, or with a number that is not finite, gets the code nearest to 0 all over. */
static __device__ __forceinline__ unsigned nearest_code(const float *levels, float scale, float x) {
    bool usable = scale > 0 && isfinite(scale);
    double unit = usable ? scale : 1, wanted = usable ? x : 0, least = INFINITY;
    unsigned nearest = 0;
    for (unsigned code = 0; code < LEVELS; code++) {
        double distance = fabs(wanted - levels[code] * unit);
        if (distance < least) {
            least = distance;
            nearest = code;
        }
    }
    return nearest;
}

/* A warp has the numbers of one scale, a thread the two of a byte. */
template <typename T>
static __global__ void quantize_4bit(int64_t count, int64_t cols, const T *values, int64_t ld,
                                     const float *map, uint8_t *codes, float *scales) {
    __shared__ float levels[LEVELS];
    share_levels(levels, map);
    int64_t block = (int64_t)blockIdx.x * (SPAN_THREADS / 32) + threadIdx.x / 32;
    if (block * QUANTIZED_BLOCK >= count)
        return;
    int64_t first = block * QUANTIZED_BLOCK + threadIdx.x % 32 * 2, second = first + 1;
    float x = first < count ? to_float(values[first / cols * ld + first % cols]) : 0.0f;
    float y = second < count ? to_float(values[second / cols * ld + second % cols]) : 0.0f;
    float scale = warp_reduce<max_of>(max_of<float>::join(fabsf(x), fabsf(y)));
    if (threadIdx.x % 32 == 0)
        scales[block] = scale;
    if (first >= count)
        return;
    codes[first / 2] = (uint8_t)(nearest_code(levels, scale, x) << 4 | nearest_code(levels, scale, y));
}

/* A block has a row. */
template <typename T>
static __global__ void quantize_rows(int64_t cols, const T *values, int64_t ld, int8_t *codes,
                                     int64_t codes_ld, float *scales) {
    __shared__ float pieces[SPAN_THREADS / 32];
    int64_t row = blockIdx.x;
    float largest = 0;
    for (int64_t column = threadIdx.x; column < cols; column += SPAN_THREADS)
        largest = max_of<float>::join(largest, fabsf(to_float(values[row * ld + column])));
    largest = block_reduce<max_of>(largest, pieces);
    if (threadIdx.x == 0)
        scales[row] = largest;
    for (int64_t column = threadIdx.x; column < cols; column += SPAN_THREADS) {
        double code = (double)to_float(values[row * ld + column]) * 127.0 / (double)largest;
        /* Not a number: all of the row is 0, or its scale is not finite. */
        codes[row * codes_ld + column] = code == code ? (int8_t)(int)rint(code) : (int8_t)0;
    }
}

balora_status cuda_quantize(backend_queue *queue, const quantized_matrix *args) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_quantized("quantize", args));
    matrix_view values = args->values;
    int64_t count = values.rows * values.cols;
    if (args->kind == QUANTIZED_INT8_ROWS)
        DISPATCH_FLOAT(values.dtype, T, {
            return launch(queue, "quantize", quantize_rows<T>, dim3((unsigned)values.rows), SPAN_THREADS, 0,
                          values.cols, view_data<T>(values), values.ld, view_data<int8_t>(args->codes),
                          args->codes.ld, view_data<float>(args->scales));
        });
    DISPATCH_FLOAT(values.dtype, T, {
        return launch(queue, "quantize", quantize_4bit<T>,
                      blocks_for(count, SPAN_THREADS / 32 * QUANTIZED_BLOCK), SPAN_THREADS, 0, count,
                      values.cols, view_data<T>(values), values.ld, view_data<float>(args->map),
                      view_data<uint8_t>(args->codes), view_data<float>(args->scales));
    });
}
