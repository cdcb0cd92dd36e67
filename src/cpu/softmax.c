/* Softmax of rows, forward and backward. Sums are kept in double, so that long rows are as exact as short ones. */
#include <math.h>

#include "cpu/internal.h"

typedef struct softmax_call {
    float scale;
    matrix_view x, y, dy, dx;
} softmax_call;

static void softmax_row(float scale, const float *x, float *y, int64_t count) {
    float highest = -INFINITY;
    for (int64_t j = 0; j < count; j++)
        highest = fmaxf(highest, scale * x[j]);
    double total = 0;
    for (int64_t j = 0; j < count; j++) {
        y[j] = expf(scale * x[j] - highest);
        total += (double)y[j];
    }
    float share = (float)(1 / total);
    for (int64_t j = 0; j < count; j++)
        y[j] *= share;
}

static void softmax_part(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const softmax_call *call = user;
    for (int64_t i = begin; i < end; i++)
        softmax_row(call->scale, view_row(call->x, i), view_row(call->y, i), call->x.cols);
}

balora_status cpu_softmax_rows(backend_queue *queue, float scale, matrix_view x, matrix_view y) {
    (void)queue;
    STATUS_TRY(operand_check("softmax_rows", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("softmax_rows", "y", y, x.rows, x.cols, IN_F32));
    softmax_call call = {.scale = scale, .x = x, .y = y};
    parallel_for(x.rows, row_grain(x.cols), softmax_part, &call);
    return BALORA_OK;
}

static void softmax_backward_part(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const softmax_call *call = user;
    for (int64_t i = begin; i < end; i++) {
        const float *y = view_row(call->y, i), *dy = view_row(call->dy, i);
        float *dx = view_row(call->dx, i);
        double mean = 0; /* of dy, weighted by y */
        for (int64_t j = 0; j < call->y.cols; j++)
            mean += (double)y[j] * (double)dy[j];
        for (int64_t j = 0; j < call->y.cols; j++)
            dx[j] = call->scale * y[j] * (dy[j] - (float)mean);
    }
}

balora_status cpu_softmax_rows_backward(backend_queue *queue, float scale, matrix_view y, matrix_view dy,
                                        matrix_view dx) {
    (void)queue;
    STATUS_TRY(operand_check("softmax_rows_backward", "y", y, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("softmax_rows_backward", "dy", dy, y.rows, y.cols, IN_F32));
    STATUS_TRY(operand_check("softmax_rows_backward", "dx", dx, y.rows, y.cols, IN_F32));
    softmax_call call = {.scale = scale, .y = y, .dy = dy, .dx = dx};
    parallel_for(y.rows, row_grain(y.cols), softmax_backward_part, &call);
    return BALORA_OK;
}
