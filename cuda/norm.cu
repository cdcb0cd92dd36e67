/* Root-mean-square normalization, forward and backward, and the gradients of a normalization's weights. */
#include "norm_rows.cuh"
#include "slots.h"

/* --- rms_norm --- */

/* A weight for each column, or for each of groups of columns that are normed by themselves. */
static balora_status check_groups(const char *slot, matrix_view x, matrix_view weight) {
    CUDA_TRY(operand_check(slot, "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    bool divides = weight.cols > 0 && x.cols % weight.cols == 0 && x.cols / weight.cols <= INT32_MAX;
    return operand_check(slot, "weight", weight, 1, divides ? weight.cols : x.cols, IN_F32);
}

static bool are_groups_aligned(int32_t groups, int64_t cols) {
    return groups == 1 || cols % NORM_SPAN == 0;
}

template <bool VECTOR, typename X, typename Y>
static __global__ void __launch_bounds__(NORM_THREADS)
    rms_rows(const X *x, int64_t x_ld, const float *weight, float weight_offset, float epsilon, Y *y,
             int64_t y_ld, int64_t rows, int64_t cols, int32_t groups, bool warp) {
    __shared__ double pieces[NORM_WARPS];
    row_team team = team_of_row(warp);
    if (team.row >= rows)
        return;
    const X *from = x + row_start(team.row, groups, x_ld, cols);
    Y *to = y + row_start(team.row, groups, y_ld, cols);
    double squares = 0;
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], sum = 0;
        load_part<VECTOR>(value, from, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            sum = fmaf(value[i], value[i], sum);
        squares += (double)sum;
    }
    squares = team_reduce<sum_of>(team, squares, pieces);
    float inverse = (float)(1 / sqrt(squares / (double)cols + (double)epsilon));
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], factor[NORM_SPAN];
        load_part<VECTOR>(value, from, at, cols, 0);
        load_part<VECTOR>(factor, weight, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            value[i] = value[i] * inverse * (factor[i] + weight_offset);
        store_part<VECTOR>(to, value, at, cols);
    }
}

template <typename X, typename Y>
static balora_status launch_rms(backend_queue *queue, matrix_view x, matrix_view weight, float weight_offset,
                                float epsilon, matrix_view y) {
    int32_t groups = (int32_t)(x.cols / weight.cols);
    int64_t rows = x.rows * groups;
    bool vector = are_aligned_for_norm(x, weight, y) && are_groups_aligned(groups, weight.cols);
    return launch(queue, "rms_norm", vector ? rms_rows<true, X, Y> : rms_rows<false, X, Y>,
                  team_blocks(rows, weight.cols), NORM_THREADS, 0, view_data<X>(x), x.ld,
                  view_data<float>(weight), weight_offset, epsilon, view_data<Y>(y), y.ld, rows, weight.cols,
                  groups, is_short_row(weight.cols));
}

balora_status cuda_rms_norm(backend_queue *queue, matrix_view x, matrix_view weight, float weight_offset,
                            float epsilon, matrix_view y) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_groups("rms_norm", x, weight));
    CUDA_TRY(operand_check("rms_norm", "y", y, x.rows, x.cols, IN_ACTIVATION));
    if (x.cols == 0)
        return BALORA_OK;
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(y.dtype, Y,
                            { return (launch_rms<X, Y>)(queue, x, weight, weight_offset, epsilon, y); });
    });
}

/* With g = dy (weight + offset) and n = x / rms: dx += (g - n mean(g n)) / rms. `moments` nullptr: not
 * wanted. */
template <bool VECTOR, typename X, typename DY, typename DX>
static __global__ void __launch_bounds__(NORM_THREADS)
    rms_rows_backward(const X *x, int64_t x_ld, const float *weight, float weight_offset, float epsilon,
                      const DY *dy, int64_t dy_ld, DX *dx, int64_t dx_ld, row_moments *moments, int64_t rows,
                      int64_t cols, int32_t groups, bool warp) {
    __shared__ double pieces[NORM_WARPS];
    row_team team = team_of_row(warp);
    if (team.row >= rows)
        return;
    const X *x_row = x + row_start(team.row, groups, x_ld, cols);
    const DY *dy_row = dy + row_start(team.row, groups, dy_ld, cols);
    DX *dx_row = dx + row_start(team.row, groups, dx_ld, cols);
    double squares = 0, dot = 0;
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], slope[NORM_SPAN], factor[NORM_SPAN], square = 0, product = 0;
        load_part<VECTOR>(value, x_row, at, cols, 0);
        load_part<VECTOR>(slope, dy_row, at, cols, 0);
        load_part<VECTOR>(factor, weight, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++) {
            square = fmaf(value[i], value[i], square);
            product = fmaf(slope[i] * (factor[i] + weight_offset), value[i], product);
        }
        squares += (double)square;
        dot += (double)product;
    }
    squares = team_reduce<sum_of>(team, squares, pieces);
    dot = team_reduce<sum_of>(team, dot, pieces);
    double exact = 1 / sqrt(squares / (double)cols + (double)epsilon);
    float inverse = (float)exact, along = (float)(dot * exact * exact * exact / (double)cols);
    if (moments != nullptr && team.first == 0)
        moments[team.row] = {0, 0, inverse, 0};
    for (int64_t at = team.first; at < cols; at += team.step) {
        float value[NORM_SPAN], slope[NORM_SPAN], factor[NORM_SPAN], sum[NORM_SPAN];
        load_part<VECTOR>(value, x_row, at, cols, 0);
        load_part<VECTOR>(slope, dy_row, at, cols, 0);
        load_part<VECTOR>(factor, weight, at, cols, 0);
        load_part<VECTOR>(sum, dx_row, at, cols, 0);
#pragma unroll
        for (int i = 0; i < NORM_SPAN; i++)
            sum[i] += slope[i] * (factor[i] + weight_offset) * inverse - value[i] * along;
        store_part<VECTOR>(dx_row, sum, at, cols);
    }
}

template <typename X, typename DY, typename DX>
static balora_status launch_rms_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                         float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                         row_moments *moments) {
    int32_t groups = (int32_t)(x.cols / weight.cols);
    int64_t rows = x.rows * groups;
    bool vector = are_aligned_for_norm(x, weight, dy, dx) && are_groups_aligned(groups, weight.cols);
    return launch(queue, "rms_norm_backward",
                  vector ? rms_rows_backward<true, X, DY, DX> : rms_rows_backward<false, X, DY, DX>,
                  team_blocks(rows, weight.cols), NORM_THREADS, 0, view_data<X>(x), x.ld,
                  view_data<float>(weight), weight_offset, epsilon, view_data<DY>(dy), dy.ld,
                  view_data<DX>(dx), dx.ld, moments, rows, weight.cols, groups, is_short_row(weight.cols));
}

static balora_status dispatch_rms_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                           float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                           row_moments *moments) {
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(dy.dtype, DY, {
            DISPATCH_ACTIVATION(dx.dtype, DX, {
                return (launch_rms_backward<X, DY, DX>)(queue, x, weight, weight_offset, epsilon, dy, dx,
                                                        moments);
            });
        });
    });
}

balora_status cuda_rms_norm_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                     float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                     matrix_view dweight) {
    const char *slot = "rms_norm_backward";
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_groups(slot, x, weight));
    CUDA_TRY(operand_check(slot, "dy", dy, x.rows, x.cols, IN_ACTIVATION));
    CUDA_TRY(operand_check(slot, "dx", dx, x.rows, x.cols, IN_ACTIVATION));
    if (!is_none(dweight))
        CUDA_TRY(operand_check(slot, "dweight", dweight, 1, weight.cols, IN_F32));
    if (x.rows == 0 || x.cols == 0)
        return BALORA_OK;
    row_moments *moments = nullptr;
    if (!is_none(dweight))
        CUDA_TRY(norm_moments(queue, x, weight.cols, &moments));
    CUDA_TRY(dispatch_rms_backward(queue, x, weight, weight_offset, epsilon, dy, dx, moments));
    return is_none(dweight) ? BALORA_OK : norm_weights(queue, x, dy, moments, dweight, matrix_view{});
}

/* --- gradients of the weights --- */

/* The rows are cut into slices; a block sums SUM_COLUMNS columns of one, SUM_LINES rows at a time, and the
 * slices' sums are added in their order. */
enum { SUM_COLUMNS = 32, SUM_LINES = NORM_THREADS / SUM_COLUMNS, MOST_SLICES = 32, SLICE_ROWS = 256 };

static int64_t slice_count(int64_t rows) {
    return arith_min(arith_divide_up(rows, SLICE_ROWS), MOST_SLICES);
}

static int64_t weight_scratch_bytes(int64_t rows, int64_t cols) {
    return rows * (int64_t)sizeof(row_moments) + 2 * slice_count(rows) * cols * (int64_t)sizeof(double);
}

int64_t norm_scratch_bytes(const backend_queue *, const backend_limits *limits) {
    return arith_max(weight_scratch_bytes(limits->tokens, limits->gemm_columns),
                     weight_scratch_bytes(limits->tokens * limits->heads, limits->head_dim));
}

balora_status norm_moments(backend_queue *queue, matrix_view x, int64_t cols, row_moments **out) {
    void *scratch;
    CUDA_TRY(scratch_reserve(queue, weight_scratch_bytes(x.rows * (x.cols / cols), cols), &scratch));
    *out = static_cast<row_moments *>(scratch);
    return BALORA_OK;
}

/* Sums of dy n, [slices, cols], and of dy after them. */
template <typename X, typename DY>
static __global__ void __launch_bounds__(NORM_THREADS)
    sum_slices(const X *x, int64_t x_ld, const DY *dy, int64_t dy_ld, const row_moments *moments,
               double *sums, int64_t rows, int64_t cols, int32_t groups, int64_t slice_rows) {
    __shared__ double lines[2][SUM_LINES][SUM_COLUMNS];
    int line = (int)threadIdx.x / SUM_COLUMNS, lane = (int)threadIdx.x % SUM_COLUMNS;
    int64_t column = (int64_t)blockIdx.x * SUM_COLUMNS + lane, slice = blockIdx.y, slices = gridDim.y;
    int64_t end = min((long long)rows, (long long)((slice + 1) * slice_rows));
    double product = 0, sum = 0;
    if (column < cols)
#pragma unroll 4
        for (int64_t row = slice * slice_rows + line; row < end; row += SUM_LINES) {
            float slope = to_float(dy[row_start(row, groups, dy_ld, cols) + column]);
            float value = to_float(x[row_start(row, groups, x_ld, cols) + column]);
            product += (double)slope * (double)normalized(moments[row], value);
            sum += (double)slope;
        }
    lines[0][line][lane] = product;
    lines[1][line][lane] = sum;
    __syncthreads();
    if (line > 1 || column >= cols)
        return;
    double total = 0;
    for (int i = 0; i < SUM_LINES; i++)
        total += lines[line][i][lane];
    sums[(line * slices + slice) * cols + column] = total;
}

/* out += the slices' sums. */
static __global__ void __launch_bounds__(NORM_THREADS)
    add_slices(const double *sums, int64_t slices, int64_t cols, float *out) {
    int64_t column = (int64_t)blockIdx.x * NORM_THREADS + threadIdx.x;
    if (column >= cols)
        return;
    double total = 0;
    for (int64_t slice = 0; slice < slices; slice++)
        total += sums[slice * cols + column];
    out[column] += (float)total;
}

balora_status norm_weights(backend_queue *queue, matrix_view x, matrix_view dy, const row_moments *moments,
                           matrix_view dweight, matrix_view dbias) {
    int64_t cols = is_none(dweight) ? dbias.cols : dweight.cols, rows = x.rows * (x.cols / cols);
    int64_t slices = slice_count(rows), slice_rows = arith_divide_up(rows, slices);
    double *sums = reinterpret_cast<double *>(const_cast<row_moments *>(moments) + rows);
    dim3 grid(blocks_for(cols, SUM_COLUMNS), (unsigned)slices);
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(dy.dtype, DY, {
            CUDA_TRY(launch(queue, "gradients of a norm's weights", sum_slices<X, DY>, grid, NORM_THREADS, 0,
                            view_data<X>(x), x.ld, view_data<DY>(dy), dy.ld, moments, sums, rows, cols,
                            (int32_t)(x.cols / cols), slice_rows));
        });
    });
    const matrix_view outputs[2] = {dweight, dbias};
    for (int i = 0; i < 2; i++)
        if (!is_none(outputs[i]))
            CUDA_TRY(launch(queue, "gradients of a norm's weights", add_slices,
                            blocks_for(cols, NORM_THREADS), NORM_THREADS, 0, sums + i * slices * cols, slices,
                            cols, view_data<float>(outputs[i])));
    return BALORA_OK;
}
