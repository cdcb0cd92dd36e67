/* Scalings, products and norms along rows and columns, as weight-decomposed adapters (DoRA) take them. */
#include <math.h>

#include "cpu/internal.h"

typedef struct columns_call {
    matrix_view x, y, scale, out;
    float beta;
} columns_call;

static void scale_columns_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const columns_call *call = user;
    const float *x = (const float *)view_row(call->x, row) + column, *scale = view_f32(call->scale) + column;
    float *y = (float *)view_row(call->y, row) + column;
    if (call->beta == 0)
        for (int64_t j = 0; j < count; j++)
            y[j] = scale[j] * x[j];
    else
        for (int64_t j = 0; j < count; j++)
            y[j] = scale[j] * x[j] + call->beta * y[j];
}

balora_status cpu_scale_columns(backend_queue *queue, matrix_view x, matrix_view scale, double beta,
                                matrix_view y) {
    (void)queue;
    STATUS_TRY(operand_check("scale_columns", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("scale_columns", "scale", scale, 1, x.cols, IN_F32));
    STATUS_TRY(operand_check("scale_columns", "y", y, x.rows, x.cols, IN_F32));
    columns_call call = {.x = x, .y = y, .scale = scale, .beta = (float)beta};
    parallel_spans(x.rows, x.cols, 0, scale_columns_span, &call);
    return BALORA_OK;
}

enum { DOT_COLUMNS = 256 }; /* whose sums are under way at a time */

static void dot_some(const columns_call *call, int64_t column, int64_t count) {
    double total[DOT_COLUMNS] = {0};
    for (int64_t row = 0; row < call->x.rows; row++) {
        const float *x = (const float *)view_row(call->x, row) + column;
        const float *y = (const float *)view_row(call->y, row) + column;
        for (int64_t j = 0; j < count; j++)
            total[j] += (double)x[j] * (double)y[j];
    }
    const float *divisor = view_f32(call->scale) + column;
    float *out = view_f32(call->out) + column;
    for (int64_t j = 0; j < count; j++)
        if (divisor[j] != 0)
            out[j] = (float)((double)out[j] + total[j] / (double)divisor[j]);
}

static void dot_part(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    for (int64_t column = begin; column < end; column += DOT_COLUMNS)
        dot_some(user, column, arith_min(DOT_COLUMNS, end - column));
}

balora_status cpu_dot_columns(backend_queue *queue, matrix_view x, matrix_view y, matrix_view divisor,
                              matrix_view out) {
    (void)queue;
    STATUS_TRY(operand_check("dot_columns", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("dot_columns", "y", y, x.rows, x.cols, IN_F32));
    STATUS_TRY(operand_check("dot_columns", "divisor", divisor, 1, x.cols, IN_F32));
    STATUS_TRY(operand_check("dot_columns", "out", out, 1, x.cols, IN_F32));
    columns_call call = {.x = x, .y = y, .scale = divisor, .out = out};
    parallel_for(x.cols, arith_max(16, row_grain(x.rows)), dot_part, &call);
    return BALORA_OK;
}

typedef struct norms_call {
    const cpu_kernels *kernels;
    matrix_view x, out;
} norms_call;

static void row_norms_part(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const norms_call *call = user;
    for (int64_t row = begin; row < end; row++) {
        if (call->x.dtype == BALORA_F32) {
            const float *x = view_row(call->x, row);
            view_f32(call->out)[row] = (float)sqrt(call->kernels->sum_squares(x, call->x.cols));
            continue;
        }
        const double *x = view_row(call->x, row);
        double sum = 0;
        for (int64_t j = 0; j < call->x.cols; j++)
            sum += x[j] * x[j];
        view_f64(call->out)[row] = sqrt(sum);
    }
}

balora_status cpu_row_norms(backend_queue *queue, matrix_view x, matrix_view out) {
    STATUS_TRY(operand_check("row_norms", "x", x, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    STATUS_TRY(operand_check("row_norms", "out", out, 1, x.rows, x.dtype == BALORA_F32 ? IN_F32 : IN_F64));
    norms_call call = {queue->kernels, x, out};
    parallel_for(x.rows, row_grain(x.cols), row_norms_part, &call);
    return BALORA_OK;
}

static void divide_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const columns_call *call = user;
    if (call->x.dtype == BALORA_F32) {
        const float *x = (const float *)view_row(call->x, row) + column;
        const float *y = (const float *)view_row(call->y, row) + column;
        float *out = (float *)view_row(call->out, row) + column;
        for (int64_t j = 0; j < count; j++)
            out[j] = y[j] != 0 ? x[j] / y[j] : 0;
        return;
    }
    const double *x = (const double *)view_row(call->x, row) + column;
    const double *y = (const double *)view_row(call->y, row) + column;
    double *out = (double *)view_row(call->out, row) + column;
    for (int64_t j = 0; j < count; j++)
        out[j] = y[j] != 0 ? x[j] / y[j] : 0;
}

balora_status cpu_divide(backend_queue *queue, matrix_view x, matrix_view y, matrix_view out) {
    (void)queue;
    int same = x.dtype == BALORA_F32 ? IN_F32 : IN_F64;
    STATUS_TRY(operand_check("divide", "x", x, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    STATUS_TRY(operand_check("divide", "y", y, x.rows, x.cols, same));
    STATUS_TRY(operand_check("divide", "out", out, x.rows, x.cols, same));
    columns_call call = {.x = x, .y = y, .out = out};
    parallel_spans(x.rows, x.cols, is_joined(x) && is_joined(y) && is_joined(out), divide_span, &call);
    return BALORA_OK;
}
