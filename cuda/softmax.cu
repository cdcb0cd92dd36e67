/* Softmax of rows, forward and backward. */
#include <float.h>

#include "norm_rows.cuh"
#include "slots.h"

/* Largest scaled element so far and the sum of exponentials relative to it. */
struct softmax_sum {
    float highest;
    double total;
};

/* Columns [at, at + NORM_SPAN) of `cols`. */
static __device__ __forceinline__ void add_span(softmax_sum *sum, const float (&x)[NORM_SPAN], float scale,
                                                int64_t at, int64_t cols) {
    float highest = sum->highest, part = 0;
#pragma unroll
    for (int i = 0; i < NORM_SPAN; i++)
        highest = at + i < cols ? fmaxf(highest, x[i] * scale) : highest;
    if (highest > sum->highest) {
        sum->total *= (double)expf(sum->highest - highest);
        sum->highest = highest;
    }
#pragma unroll
    for (int i = 0; i < NORM_SPAN; i++)
        part += at + i < cols ? expf(fmaf(x[i], scale, -highest)) : 0;
    sum->total += (double)part;
}

template <bool VECTOR, typename X, typename Y>
static __global__ void __launch_bounds__(NORM_THREADS)
    softmax(float scale, const X *x, int64_t x_ld, Y *y, int64_t y_ld, int64_t rows, int64_t cols,
            bool warp) {
    __shared__ double pieces[NORM_WARPS];
    __shared__ float peaks[NORM_WARPS];
    row_team team = team_of_row(warp);
    if (team.row >= rows)
        return;
    const X *from = x + team.row * x_ld;
    Y *to = y + team.row * y_ld;
    softmax_sum own = {-FLT_MAX, 0};
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN];
        load_part<VECTOR>(value, from, at, cols, 0);
        add_span(&own, value, scale, at, cols);
    }
    float highest = team_reduce<max_of>(team, own.highest, peaks);
    double total = own.total * exp((double)own.highest - (double)highest);
    float share = (float)(1 / team_reduce<sum_of>(team, total, pieces));
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN];
        load_part<VECTOR>(value, from, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            value[i] = expf(fmaf(value[i], scale, -highest)) * share;
        store_part<VECTOR>(to, value, at, cols);
    }
}

template <typename X, typename Y>
static balora_status launch_softmax(backend_queue *queue, float scale, matrix_view x, matrix_view y) {
    bool vector = are_aligned_for_norm(x, y);
    return launch(queue, "softmax_rows", vector ? softmax<true, X, Y> : softmax<false, X, Y>,
                  team_blocks(x.rows, x.cols), NORM_THREADS, 0, scale, view_data<X>(x), x.ld, view_data<Y>(y),
                  y.ld, x.rows, x.cols, is_short_row(x.cols));
}

balora_status cuda_softmax_rows(backend_queue *queue, float scale, matrix_view x, matrix_view y) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("softmax_rows", "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("softmax_rows", "y", y, x.rows, x.cols, IN_ACTIVATION));
    if (x.cols == 0)
        return BALORA_OK;
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(y.dtype, Y, { return (launch_softmax<X, Y>)(queue, scale, x, y); });
    });
}

/* dx = scale y (dy - sum(y dy)). */
template <bool VECTOR, typename T>
static __global__ void __launch_bounds__(NORM_THREADS)
    softmax_backward(float scale, const T *y, int64_t y_ld, const T *dy, int64_t dy_ld, T *dx, int64_t dx_ld,
                     int64_t rows, int64_t cols, bool warp) {
    __shared__ double pieces[NORM_WARPS];
    row_team team = team_of_row(warp);
    if (team.row >= rows)
        return;
    const T *y_row = y + team.row * y_ld, *dy_row = dy + team.row * dy_ld;
    T *dx_row = dx + team.row * dx_ld;
    double dot = 0;
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], slope[NORM_SPAN], part = 0;
        load_part<VECTOR>(value, y_row, at, cols, 0);
        load_part<VECTOR>(slope, dy_row, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            part = fmaf(value[i], slope[i], part);
        dot += (double)part;
    }
    float mean = (float)team_reduce<sum_of>(team, dot, pieces);
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], slope[NORM_SPAN];
        load_part<VECTOR>(value, y_row, at, cols, 0);
        load_part<VECTOR>(slope, dy_row, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            slope[i] = scale * value[i] * (slope[i] - mean);
        store_part<VECTOR>(dx_row, slope, at, cols);
    }
}

balora_status cuda_softmax_rows_backward(backend_queue *queue, float scale, matrix_view y, matrix_view dy,
                                         matrix_view dx) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("softmax_rows_backward", "y", y, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("softmax_rows_backward", "dy", dy, y.rows, y.cols, dtype_bit(y.dtype)));
    CUDA_TRY(operand_check("softmax_rows_backward", "dx", dx, y.rows, y.cols, dtype_bit(y.dtype)));
    if (y.cols == 0)
        return BALORA_OK;
    bool vector = are_aligned_for_norm(y, dy, dx);
    DISPATCH_ACTIVATION(y.dtype, T, {
        return launch(queue, "softmax_rows_backward",
                      vector ? softmax_backward<true, T> : softmax_backward<false, T>,
                      team_blocks(y.rows, y.cols), NORM_THREADS, 0, scale, view_data<T>(y), y.ld,
                      view_data<T>(dy), dy.ld, view_data<T>(dx), dx.ld, y.rows, y.cols, is_short_row(y.cols));
    });
}
