/* The gradient's scale, and AdamW on matrices. */
#include <math.h>

#include "optimizer.cuh"
#include "slots.h"
#include "spans.cuh"

static __global__ void clip_scale(const double *sum_squares, double max_norm, float *scale) {
    double sum = *sum_squares, factor = 1;
    if (!isfinite(sum))
        factor = NAN;
    else if (max_norm != 0)
        factor = fmin(1.0, max_norm / (sqrt(sum) + 1e-6));
    *scale = (float)factor;
}

balora_status cuda_clip_scale(backend_queue *queue, matrix_view sum_squares, double max_norm,
                              matrix_view scale) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("clip_scale", "sum_squares", sum_squares, 1, 1, IN_F64));
    CUDA_TRY(operand_check("clip_scale", "scale", scale, 1, 1, IN_F32));
    return launch(queue, "clip_scale", clip_scale, 1, 1, 0, view_data<double>(sum_squares), max_norm,
                  view_data<float>(scale));
}

/* In elements, from one row to the next. */
struct adamw_strides {
    int64_t parameter, gradient, first_moment, second_moment;
};

template <int COUNT>
static __global__ void adamw(span_grid grid, adamw_factors f, adamw_strides strides, const float *scale,
                             float *parameter, const float *gradient, float *first_moment,
                             float *second_moment) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    float factor = *scale;
    if (left <= 0 || !isfinite(factor))
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        float parameters[COUNT], gradients[COUNT], first[COUNT], second[COUNT];
        load_span(parameters, parameter + row * strides.parameter + column, left);
        load_span(gradients, gradient + row * strides.gradient + column, left);
        load_span(first, first_moment + row * strides.first_moment + column, left);
        load_span(second, second_moment + row * strides.second_moment + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            adamw_number(f, gradients[i] * factor, parameters[i], first[i], second[i]);
        store_span(parameter + row * strides.parameter + column, parameters, left);
        store_span(first_moment + row * strides.first_moment + column, first, left);
        store_span(second_moment + row * strides.second_moment + column, second, left);
    }
}

balora_status cuda_adamw(backend_queue *queue, const adamw_update *args) {
    matrix_view parameter = args->parameter, gradient = args->gradient, first = args->first_moment,
                second = args->second_moment;
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("adamw", "parameter", parameter, ANY_SIZE, ANY_SIZE, IN_F32));
    CUDA_TRY(operand_check("adamw", "gradient", gradient, parameter.rows, parameter.cols, IN_F32));
    CUDA_TRY(operand_check("adamw", "first_moment", first, parameter.rows, parameter.cols, IN_F32));
    CUDA_TRY(operand_check("adamw", "second_moment", second, parameter.rows, parameter.cols, IN_F32));
    CUDA_TRY(operand_check("adamw", "scale", args->scale, 1, 1, IN_F32));
    if (args->step < 1)
        return CUDA_INTERNAL("cuda adamw: step %lld; the first is 1", (long long)args->step);
    if (is_empty(parameter))
        return BALORA_OK;
    flatten(parameter, gradient, first, second);
    adamw_factors factors = adamw_factors_of(args->learning_rate, args->weight_decay, args->beta1,
                                             args->beta2, args->epsilon, args->step);
    adamw_strides strides = {parameter.ld, gradient.ld, first.ld, second.ld};
    constexpr int MOST = SPAN_COUNT<float>;
    DISPATCH_COUNT(are_aligned(MOST, parameter, gradient, first, second), MOST, COUNT, {
        span_grid grid = span_grid_of(parameter.rows, parameter.cols, COUNT);
        return launch(queue, "adamw", adamw<COUNT>, span_blocks(grid, COUNT), SPAN_THREADS, 0, grid, factors,
                      strides, view_data<float>(args->scale), view_data<float>(parameter),
                      view_data<float>(gradient), view_data<float>(first), view_data<float>(second));
    });
}
