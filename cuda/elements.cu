/* Scalings of elements and rows, and random numbers. */
#include <math.h>

#include "internal.h"
#include "philox.cuh"
#include "slots.h"
#include "spans.cuh"

/* --- scale_add --- */

template <typename X, typename Y, int COUNT>
static __global__ void scale_add(span_grid grid, typename arithmetic_of<X>::type alpha, const X *x,
                                 int64_t x_ld, typename arithmetic_of<X>::type beta, Y *y, int64_t y_ld) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        typename arithmetic_of<X>::type added[COUNT], sums[COUNT] = {};
        load_span(added, x + row * x_ld + column, left);
        if (beta != 0)
            load_span(sums, y + row * y_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            sums[i] = alpha * added[i] + beta * sums[i];
        store_span(y + row * y_ld + column, sums, left);
    }
}

template <typename X, typename Y>
static balora_status launch_scale_add(backend_queue *queue, double alpha, matrix_view x, double beta,
                                      matrix_view y) {
    constexpr int MOST = SPAN_COUNT<X, Y>;
    DISPATCH_COUNT(are_aligned(MOST, x, y), MOST, COUNT, {
        span_grid grid = span_grid_of(x.rows, x.cols, COUNT);
        return launch(queue, "scale_add", scale_add<X, Y, COUNT>, span_blocks(grid, COUNT), SPAN_THREADS, 0,
                      grid, alpha, view_data<X>(x), x.ld, beta, view_data<Y>(y), y.ld);
    });
}

balora_status cuda_scale_add(backend_queue *queue, double alpha, matrix_view x, double beta, matrix_view y) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("scale_add", "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION | IN_F64));
    CUDA_TRY(
        operand_check("scale_add", "y", y, x.rows, x.cols, x.dtype == BALORA_F64 ? IN_F64 : IN_ACTIVATION));
    if (is_empty(x))
        return BALORA_OK;
    flatten(x, y);
    if (x.dtype == BALORA_F64)
        return launch_scale_add<double, double>(queue, alpha, x, beta, y);
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(y.dtype, Y, { return launch_scale_add<X, Y>(queue, alpha, x, beta, y); });
    });
}

/* --- rows --- */

template <typename Y, typename Row, int COUNT>
static __global__ void add_row(span_grid grid, Y *y, int64_t y_ld, const Row *row_values) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    float added[COUNT];
    load_span(added, row_values + column, left);
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        float sums[COUNT];
        load_span(sums, y + row * y_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            sums[i] += added[i];
        store_span(y + row * y_ld + column, sums, left);
    }
}

template <typename Y, typename Row>
static balora_status launch_add_row(backend_queue *queue, matrix_view y, matrix_view row) {
    constexpr int MOST = SPAN_COUNT<Y, Row>;
    DISPATCH_COUNT(are_aligned(MOST, y, row), MOST, COUNT, {
        span_grid grid = span_grid_of(y.rows, y.cols, COUNT);
        return launch(queue, "add_row", add_row<Y, Row, COUNT>, span_blocks(grid, COUNT), SPAN_THREADS, 0,
                      grid, view_data<Y>(y), y.ld, view_data<Row>(row));
    });
}

balora_status cuda_add_row(backend_queue *queue, matrix_view y, matrix_view row) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("add_row", "y", y, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("add_row", "row", row, 1, y.cols, IN_FLOAT));
    if (is_empty(y))
        return BALORA_OK;
    DISPATCH_ACTIVATION(
        y.dtype, Y, { DISPATCH_FLOAT(row.dtype, Row, { return launch_add_row<Y, Row>(queue, y, row); }); });
}

template <int COUNT>
static __global__ void scale_rows(span_grid grid, double *x, int64_t x_ld, const double *weights) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        double weight = weights[row], values[COUNT];
        load_span(values, x + row * x_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            values[i] *= weight;
        store_span(x + row * x_ld + column, values, left);
    }
}

balora_status cuda_scale_rows(backend_queue *queue, matrix_view x, matrix_view weights) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("scale_rows", "x", x, ANY_SIZE, ANY_SIZE, IN_F64));
    CUDA_TRY(operand_check("scale_rows", "weights", weights, 1, x.rows, IN_F64));
    if (is_empty(x))
        return BALORA_OK;
    DISPATCH_COUNT(are_aligned(SPAN_COUNT<double>, x), SPAN_COUNT<double>, COUNT, {
        span_grid grid = span_grid_of(x.rows, x.cols, COUNT);
        return launch(queue, "scale_rows", scale_rows<COUNT>, span_blocks(grid, COUNT), SPAN_THREADS, 0, grid,
                      view_data<double>(x), x.ld, view_data<double>(weights));
    });
}

template <typename X, typename Y, int COUNT>
static __global__ void scale_columns(span_grid grid, const X *x, int64_t x_ld, const float *scale, float beta,
                                     Y *y, int64_t y_ld) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    float factors[COUNT];
    load_loose(factors, scale + column, left);
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        float values[COUNT], kept[COUNT] = {};
        load_span(values, x + row * x_ld + column, left);
        if (beta != 0)
            load_span(kept, y + row * y_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            kept[i] = factors[i] * values[i] + beta * kept[i];
        store_span(y + row * y_ld + column, kept, left);
    }
}

template <typename X, typename Y>
static balora_status launch_scale_columns(backend_queue *queue, matrix_view x, matrix_view scale, double beta,
                                          matrix_view y) {
    constexpr int MOST = SPAN_COUNT<X, Y>;
    DISPATCH_COUNT(are_aligned(MOST, x, y), MOST, COUNT, {
        span_grid grid = span_grid_of(x.rows, x.cols, COUNT);
        return launch(queue, "scale_columns", scale_columns<X, Y, COUNT>, span_blocks(grid, COUNT),
                      SPAN_THREADS, 0, grid, view_data<X>(x), x.ld, view_data<float>(scale), beta,
                      view_data<Y>(y), y.ld);
    });
}

balora_status cuda_scale_columns(backend_queue *queue, matrix_view x, matrix_view scale, double beta,
                                 matrix_view y) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("scale_columns", "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("scale_columns", "scale", scale, 1, x.cols, IN_F32));
    CUDA_TRY(operand_check("scale_columns", "y", y, x.rows, x.cols, IN_ACTIVATION));
    if (is_empty(x))
        return BALORA_OK;
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(y.dtype, Y, { return launch_scale_columns<X, Y>(queue, x, scale, beta, y); });
    });
}

/* --- divide --- */

template <typename T>
static __global__ void divide(span_grid grid, const T *x, int64_t x_ld, const T *y, int64_t y_ld, T *out,
                              int64_t out_ld) {
    int64_t column = span_column(grid, 1);
    if (column >= grid.cols)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        T divisor = y[row * y_ld + column];
        out[row * out_ld + column] = divisor != 0 ? x[row * x_ld + column] / divisor : 0;
    }
}

template <typename T>
static balora_status launch_divide(backend_queue *queue, matrix_view x, matrix_view y, matrix_view out) {
    span_grid grid = span_grid_of(x.rows, x.cols, 1);
    return launch(queue, "divide", divide<T>, span_blocks(grid, 1), SPAN_THREADS, 0, grid, view_data<T>(x),
                  x.ld, view_data<T>(y), y.ld, view_data<T>(out), out.ld);
}

balora_status cuda_divide(backend_queue *queue, matrix_view x, matrix_view y, matrix_view out) {
    CUDA_TRY(enter(queue));
    int same = x.dtype == BALORA_F32 ? IN_F32 : IN_F64;
    CUDA_TRY(operand_check("divide", "x", x, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    CUDA_TRY(operand_check("divide", "y", y, x.rows, x.cols, same));
    CUDA_TRY(operand_check("divide", "out", out, x.rows, x.cols, same));
    if (is_empty(x))
        return BALORA_OK;
    flatten(x, y, out);
    return x.dtype == BALORA_F32 ? launch_divide<float>(queue, x, y, out)
                                 : launch_divide<double>(queue, x, y, out);
}

/* --- random numbers --- */

/* Uniform in [0, 1), 53 bits. */
static __device__ __forceinline__ double unit_of(uint32_t low, uint32_t high) {
    return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

/* base/random.h's random_normal: Box and Muller's cosine of a block. */
static __device__ double normal_of(uint64_t seed, uint64_t stream, uint64_t index) {
    uint4 block = philox(seed, stream, index);
    return sqrt(-2.0 * log1p(-unit_of(block.x, block.y))) * cospi(2.0 * unit_of(block.z, block.w));
}

template <typename T>
static __global__ void fill_normal(span_grid grid, T *x, int64_t ld, uint64_t seed, uint64_t stream,
                                   double deviation) {
    int64_t column = span_column(grid, 1);
    if (column >= grid.cols)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid))
        x[row * ld + column] =
            converted<T>(deviation * normal_of(seed, stream, (uint64_t)(row * grid.cols + column)));
}

balora_status cuda_fill_normal(backend_queue *queue, matrix_view x, uint64_t seed, uint64_t stream,
                               double deviation) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("fill_normal", "x", x, ANY_SIZE, ANY_SIZE, IN_FLOAT));
    if (is_empty(x))
        return BALORA_OK;
    flatten(x);
    span_grid grid = span_grid_of(x.rows, x.cols, 1);
    DISPATCH_FLOAT(x.dtype, T, {
        return launch(queue, "fill_normal", fill_normal<T>, span_blocks(grid, 1), SPAN_THREADS, 0, grid,
                      view_data<T>(x), x.ld, seed, stream, deviation);
    });
}
