/* AdamW and the gradient's scale. */
#include <math.h>

#include "cpu/internal.h"

balora_status cpu_clip_scale(backend_queue *queue, matrix_view sum_squares, double max_norm,
                             matrix_view scale) {
    (void)queue;
    STATUS_TRY(operand_check("clip_scale", "sum_squares", sum_squares, 1, 1, IN_F64));
    STATUS_TRY(operand_check("clip_scale", "scale", scale, 1, 1, IN_F32));
    double sum = *view_f64(sum_squares), factor = 1;
    if (!isfinite(sum))
        factor = NAN;
    else if (max_norm != 0)
        factor = fmin(1, max_norm / (sqrt(sum) + 1e-6));
    *view_f32(scale) = (float)factor;
    return BALORA_OK;
}

typedef struct adamw_call {
    const cpu_kernels *kernels;
    const adamw_update *args;
    adamw_factors factors;
} adamw_call;

static void adamw_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const adamw_call *call = user;
    const adamw_update *args = call->args;
    call->kernels->adamw(&call->factors, (float *)view_row(args->parameter, row) + column,
                         (const float *)view_row(args->gradient, row) + column,
                         (float *)view_row(args->first_moment, row) + column,
                         (float *)view_row(args->second_moment, row) + column, count);
}

balora_status cpu_adamw(backend_queue *queue, const adamw_update *args) {
    matrix_view parameter = args->parameter;
    STATUS_TRY(operand_check("adamw", "parameter", parameter, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("adamw", "gradient", args->gradient, parameter.rows, parameter.cols, IN_F32));
    STATUS_TRY(
        operand_check("adamw", "first_moment", args->first_moment, parameter.rows, parameter.cols, IN_F32));
    STATUS_TRY(
        operand_check("adamw", "second_moment", args->second_moment, parameter.rows, parameter.cols, IN_F32));
    STATUS_TRY(operand_check("adamw", "scale", args->scale, 1, 1, IN_F32));
    if (args->step < 1)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu adamw: step %lld; the first is 1",
                           (long long)args->step);
    float scale = *view_f32(args->scale);
    if (!isfinite(scale))
        return BALORA_OK;
    double step = (double)args->step;
    adamw_call call = {
        .kernels = queue->kernels,
        .args = args,
        .factors =
            {
                .keep = (float)(1 - args->learning_rate * args->weight_decay),
                .first = (float)(1 - args->beta1),
                .second = (float)(1 - args->beta2),
                .beta2 = (float)args->beta2,
                .step_size = (float)(args->learning_rate / (1 - pow(args->beta1, step))),
                .root_correction = (float)sqrt(1 - pow(args->beta2, step)),
                .epsilon = (float)args->epsilon,
                .scale = scale,
            },
    };
    int joined = is_joined(parameter) && is_joined(args->gradient) && is_joined(args->first_moment) &&
                 is_joined(args->second_moment);
    parallel_spans(parameter.rows, parameter.cols, joined, adamw_span, &call);
    return BALORA_OK;
}
