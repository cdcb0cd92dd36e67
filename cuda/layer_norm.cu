/* Layer normalization, forward and backward. */
#include "norm_rows.cuh"
#include "slots.h"

/* Mean and inverse deviation of a row, in every thread of the team. Squares are of the distances from the
 * mean: their difference from the mean's square would have no digits left where rows lie far from 0. */
template <bool VECTOR, typename X>
__device__ __forceinline__ row_moments moments_of_row(const row_team &team, const X *row, int64_t cols,
                                                      float epsilon, double *pieces) {
    double sum = 0, squares = 0;
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], part = 0;
        load_part<VECTOR>(value, row, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            part += value[i];
        sum += (double)part;
    }
    double mean = team_reduce<sum_of>(team, sum, pieces) / (double)cols;
    row_moments moments = {(float)mean, (float)(mean - (double)(float)mean), 1, 0};
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], part = 0;
        load_part<VECTOR>(value, row, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++) {
            float distance = normalized(moments, value[i]);
            part = at + i < cols ? fmaf(distance, distance, part) : part;
        }
        squares += (double)part;
    }
    squares = team_reduce<sum_of>(team, squares, pieces);
    moments.inverse = (float)(1 / sqrt(squares / (double)cols + (double)epsilon));
    return moments;
}

template <bool VECTOR, typename X, typename Y>
static __global__ void __launch_bounds__(NORM_THREADS)
    layer_rows(const X *x, int64_t x_ld, const float *weight, const float *bias, float epsilon, Y *y,
               int64_t y_ld, int64_t rows, int64_t cols, bool warp) {
    __shared__ double pieces[NORM_WARPS];
    row_team team = team_of_row(warp);
    if (team.row >= rows)
        return;
    const X *from = x + team.row * x_ld;
    Y *to = y + team.row * y_ld;
    row_moments moments = moments_of_row<VECTOR>(team, from, cols, epsilon, pieces);
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], factor[NORM_SPAN], shift[NORM_SPAN];
        load_part<VECTOR>(value, from, at, cols, 0);
        load_part<VECTOR>(factor, weight, at, cols, 0);
        load_part<VECTOR>(shift, bias, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            value[i] = fmaf(normalized(moments, value[i]), factor[i], shift[i]);
        store_part<VECTOR>(to, value, at, cols);
    }
}

template <typename X, typename Y>
static balora_status launch_layer(backend_queue *queue, matrix_view x, matrix_view weight, matrix_view bias,
                                  float epsilon, matrix_view y) {
    bool vector = are_aligned_for_norm(x, weight, bias, y);
    return launch(queue, "layer_norm", vector ? layer_rows<true, X, Y> : layer_rows<false, X, Y>,
                  team_blocks(x.rows, x.cols), NORM_THREADS, 0, view_data<X>(x), x.ld,
                  view_data<float>(weight), view_data<float>(bias), epsilon, view_data<Y>(y), y.ld, x.rows,
                  x.cols, is_short_row(x.cols));
}

balora_status cuda_layer_norm(backend_queue *queue, matrix_view x, matrix_view weight, matrix_view bias,
                              float epsilon, matrix_view y) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("layer_norm", "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("layer_norm", "weight", weight, 1, x.cols, IN_F32));
    CUDA_TRY(operand_check("layer_norm", "bias", bias, 1, x.cols, IN_F32));
    CUDA_TRY(operand_check("layer_norm", "y", y, x.rows, x.cols, IN_ACTIVATION));
    if (x.cols == 0)
        return BALORA_OK;
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(y.dtype, Y, { return (launch_layer<X, Y>)(queue, x, weight, bias, epsilon, y); });
    });
}

/* With g = dy weight and n = (x - mean) inverse: dx += (g - mean(g) - n mean(g n)) inverse. `moments`
 * nullptr: not wanted. */
template <bool VECTOR, typename X, typename DY, typename DX>
static __global__ void __launch_bounds__(NORM_THREADS)
    layer_rows_backward(const X *x, int64_t x_ld, const float *weight, float epsilon, const DY *dy,
                        int64_t dy_ld, DX *dx, int64_t dx_ld, row_moments *moments, int64_t rows,
                        int64_t cols, bool warp) {
    __shared__ double pieces[NORM_WARPS];
    row_team team = team_of_row(warp);
    if (team.row >= rows)
        return;
    const X *x_row = x + team.row * x_ld;
    const DY *dy_row = dy + team.row * dy_ld;
    DX *dx_row = dx + team.row * dx_ld;
    row_moments own = moments_of_row<VECTOR>(team, x_row, cols, epsilon, pieces);
    if (moments != nullptr && team.first == 0)
        moments[team.row] = own;
    double sum = 0, dot = 0;
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], slope[NORM_SPAN], factor[NORM_SPAN], part = 0, product = 0;
        load_part<VECTOR>(value, x_row, at, cols, 0);
        load_part<VECTOR>(slope, dy_row, at, cols, 0);
        load_part<VECTOR>(factor, weight, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++) {
            float g = slope[i] * factor[i];
            part += g;
            product = fmaf(g, normalized(own, value[i]), product);
        }
        sum += (double)part;
        dot += (double)product;
    }
    float mean = (float)(team_reduce<sum_of>(team, sum, pieces) / (double)cols);
    float along = (float)(team_reduce<sum_of>(team, dot, pieces) / (double)cols);
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], slope[NORM_SPAN], factor[NORM_SPAN], total[NORM_SPAN];
        load_part<VECTOR>(value, x_row, at, cols, 0);
        load_part<VECTOR>(slope, dy_row, at, cols, 0);
        load_part<VECTOR>(factor, weight, at, cols, 0);
        load_part<VECTOR>(total, dx_row, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            total[i] += (slope[i] * factor[i] - mean - normalized(own, value[i]) * along) * own.inverse;
        store_part<VECTOR>(dx_row, total, at, cols);
    }
}

template <typename X, typename DY, typename DX>
static balora_status launch_layer_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                           float epsilon, matrix_view dy, matrix_view dx,
                                           row_moments *moments) {
    bool vector = are_aligned_for_norm(x, weight, dy, dx);
    return launch(queue, "layer_norm_backward",
                  vector ? layer_rows_backward<true, X, DY, DX> : layer_rows_backward<false, X, DY, DX>,
                  team_blocks(x.rows, x.cols), NORM_THREADS, 0, view_data<X>(x), x.ld,
                  view_data<float>(weight), epsilon, view_data<DY>(dy), dy.ld, view_data<DX>(dx), dx.ld,
                  moments, x.rows, x.cols, is_short_row(x.cols));
}

static balora_status dispatch_layer_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                             float epsilon, matrix_view dy, matrix_view dx,
                                             row_moments *moments) {
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(dy.dtype, DY, {
            DISPATCH_ACTIVATION(dx.dtype, DX, {
                return (launch_layer_backward<X, DY, DX>)(queue, x, weight, epsilon, dy, dx, moments);
            });
        });
    });
}

balora_status cuda_layer_norm_backward(backend_queue *queue, matrix_view x, matrix_view weight, float epsilon,
                                       matrix_view dy, matrix_view dx, matrix_view dweight,
                                       matrix_view dbias) {
    const char *slot = "layer_norm_backward";
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check(slot, "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check(slot, "weight", weight, 1, x.cols, IN_F32));
    CUDA_TRY(operand_check(slot, "dy", dy, x.rows, x.cols, IN_ACTIVATION));
    CUDA_TRY(operand_check(slot, "dx", dx, x.rows, x.cols, IN_ACTIVATION));
    if (!is_none(dweight))
        CUDA_TRY(operand_check(slot, "dweight", dweight, 1, x.cols, IN_F32));
    if (!is_none(dbias))
        CUDA_TRY(operand_check(slot, "dbias", dbias, 1, x.cols, IN_F32));
    if (x.rows == 0 || x.cols == 0)
        return BALORA_OK;
    bool wanted = !is_none(dweight) || !is_none(dbias);
    row_moments *moments = nullptr;
    if (wanted)
        CUDA_TRY(norm_moments(queue, x, x.cols, &moments));
    CUDA_TRY(dispatch_layer_backward(queue, x, weight, epsilon, dy, dx, moments));
    return wanted ? norm_weights(queue, x, dy, moments, dweight, dbias) : BALORA_OK;
}
