/* Scalings of elements and rows, and random numbers. */
#include <math.h>

#include "internal.h"
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

/* --- random numbers --- */

/* Uniform in [0, 1), 53 bits. */
static __device__ __forceinline__ double unit_of(uint32_t low, uint32_t high) {
    return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

/* base/random.h's random_normal: Philox 4x32-10, then Box and Muller's cosine. */
static __device__ double normal_of(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return sqrt(-2.0 * log1p(-unit_of(c0, c1))) * cospi(2.0 * unit_of(c2, c3));
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
