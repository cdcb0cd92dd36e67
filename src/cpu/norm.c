/* Root-mean-square and layer normalization, forward and backward. */
#include <math.h>
#include <string.h>

#include "cpu/internal.h"

typedef struct norm_call {
    const cpu_kernels *kernels;
    matrix_view x, weight, bias, y, dy, dx;
    float weight_offset, epsilon;
    double *sums; /* of dweight, dbias after it: `sums_stride` a thread; NULL: neither is wanted */
    int64_t sums_stride, padded_cols;
} norm_call;

/* Zeroed sums of `kinds` gradients of one row each, for every thread. */
static balora_status open_sums(backend_queue *queue, norm_call *call, int64_t kinds) {
    call->padded_cols = arith_divide_up(call->x.cols, 8) * 8;
    call->sums_stride = call->padded_cols * kinds;
    size_t bytes = (size_t)(call->sums_stride * parallel_threads()) * sizeof(double);
    STATUS_TRY(scratch_reserve(queue, (int64_t)bytes, &call->sums));
    memset(call->sums, 0, bytes);
    return BALORA_OK;
}

/* out += the threads' sums of one kind, in the order of the threads. */
static void close_sums(const norm_call *call, int64_t kind, matrix_view out) {
    if (is_none(out))
        return;
    for (int64_t j = 0; j < out.cols; j++) {
        double sum = 0;
        for (int thread = 0; thread < parallel_threads(); thread++)
            sum += call->sums[thread * call->sums_stride + kind * call->padded_cols + j];
        view_f32(out)[j] += (float)sum;
    }
}

/* --- rms_norm --- */

static void norm_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const norm_call *call = user;
    int64_t size = call->weight.cols;
    for (int64_t i = begin; i < end; i++) {
        const float *x = view_row(call->x, i);
        float *y = view_row(call->y, i);
        for (int64_t first = 0; first < call->x.cols; first += size)
            call->kernels->rms_norm(x + first, view_data(call->weight), call->weight_offset, call->epsilon,
                                    y + first, size);
    }
}

/* A weight for each column, or for each of groups of columns that are normed by themselves. */
static balora_status check_groups(const char *slot, matrix_view x, matrix_view weight) {
    STATUS_TRY(operand_check(slot, "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    bool divides = weight.cols > 0 && x.cols % weight.cols == 0;
    return operand_check(slot, "weight", weight, 1, divides ? weight.cols : x.cols, IN_F32);
}

balora_status cpu_rms_norm(backend_queue *queue, matrix_view x, matrix_view weight, float weight_offset,
                           float epsilon, matrix_view y) {
    STATUS_TRY(check_groups("rms_norm", x, weight));
    STATUS_TRY(operand_check("rms_norm", "y", y, x.rows, x.cols, IN_F32));
    norm_call call = {.kernels = queue->kernels,
                      .x = x,
                      .weight = weight,
                      .y = y,
                      .weight_offset = weight_offset,
                      .epsilon = epsilon};
    parallel_for(x.rows, row_grain(x.cols), norm_rows, &call);
    return BALORA_OK;
}

static void norm_backward_rows(int64_t begin, int64_t end, int thread, void *user) {
    const norm_call *call = user;
    double *dweight = call->sums != NULL ? call->sums + thread * call->sums_stride : NULL;
    int64_t size = call->weight.cols;
    for (int64_t i = begin; i < end; i++) {
        const float *x = view_row(call->x, i), *dy = view_row(call->dy, i);
        float *dx = view_row(call->dx, i);
        for (int64_t first = 0; first < call->x.cols; first += size)
            call->kernels->rms_norm_backward(x + first, view_data(call->weight), call->weight_offset,
                                             call->epsilon, dy + first, dx + first, dweight, size);
    }
}

balora_status cpu_rms_norm_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                    float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                    matrix_view dweight) {
    STATUS_TRY(check_groups("rms_norm_backward", x, weight));
    STATUS_TRY(operand_check("rms_norm_backward", "dy", dy, x.rows, x.cols, IN_F32));
    STATUS_TRY(operand_check("rms_norm_backward", "dx", dx, x.rows, x.cols, IN_F32));
    norm_call call = {.kernels = queue->kernels,
                      .x = x,
                      .weight = weight,
                      .dy = dy,
                      .dx = dx,
                      .weight_offset = weight_offset,
                      .epsilon = epsilon};
    if (!is_none(dweight)) {
        STATUS_TRY(operand_check("rms_norm_backward", "dweight", dweight, 1, weight.cols, IN_F32));
        STATUS_TRY(open_sums(queue, &call, 1));
    }
    parallel_for(x.rows, row_grain(x.cols), norm_backward_rows, &call);
    close_sums(&call, 0, dweight);
    return BALORA_OK;
}

/* --- layer_norm --- */

typedef struct row_moments {
    float mean, inverse; /* 1 / sqrt(variance + epsilon) */
} row_moments;

static row_moments moments_of(const float *x, float epsilon, int64_t count) {
    double sum = 0, squares = 0;
    for (int64_t j = 0; j < count; j++)
        sum += (double)x[j];
    double mean = sum / (double)count;
    for (int64_t j = 0; j < count; j++)
        squares += ((double)x[j] - mean) * ((double)x[j] - mean);
    return (row_moments){(float)mean, (float)(1 / sqrt(squares / (double)count + (double)epsilon))};
}

static void layer_norm_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const norm_call *call = user;
    const float *weight = view_data(call->weight), *bias = view_data(call->bias);
    for (int64_t i = begin; i < end; i++) {
        const float *x = view_row(call->x, i);
        float *y = view_row(call->y, i);
        row_moments m = moments_of(x, call->epsilon, call->x.cols);
        for (int64_t j = 0; j < call->x.cols; j++)
            y[j] = (x[j] - m.mean) * m.inverse * weight[j] + bias[j];
    }
}

balora_status cpu_layer_norm(backend_queue *queue, matrix_view x, matrix_view weight, matrix_view bias,
                             float epsilon, matrix_view y) {
    STATUS_TRY(operand_check("layer_norm", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("layer_norm", "weight", weight, 1, x.cols, IN_F32));
    STATUS_TRY(operand_check("layer_norm", "bias", bias, 1, x.cols, IN_F32));
    STATUS_TRY(operand_check("layer_norm", "y", y, x.rows, x.cols, IN_F32));
    norm_call call = {
        .kernels = queue->kernels, .x = x, .weight = weight, .bias = bias, .y = y, .epsilon = epsilon};
    parallel_for(x.rows, row_grain(x.cols), layer_norm_rows, &call);
    return BALORA_OK;
}

/* With n = (x - mean) inverse and g = dy weight: dx += (g - mean(g) - n mean(g n)) inverse. */
static void layer_norm_backward_rows(int64_t begin, int64_t end, int thread, void *user) {
    const norm_call *call = user;
    int64_t count = call->x.cols;
    const float *weight = view_data(call->weight);
    double *dweight = call->sums != NULL ? call->sums + thread * call->sums_stride : NULL;
    for (int64_t i = begin; i < end; i++) {
        const float *x = view_row(call->x, i), *dy = view_row(call->dy, i);
        float *dx = view_row(call->dx, i);
        row_moments m = moments_of(x, call->epsilon, count);
        double sum = 0, along = 0;
        for (int64_t j = 0; j < count; j++) {
            double g = (double)dy[j] * (double)weight[j];
            sum += g;
            along += g * (double)((x[j] - m.mean) * m.inverse);
        }
        float mean_g = (float)(sum / (double)count), mean_along = (float)(along / (double)count);
        for (int64_t j = 0; j < count; j++)
            dx[j] += (dy[j] * weight[j] - mean_g - (x[j] - m.mean) * m.inverse * mean_along) * m.inverse;
        for (int64_t j = 0; dweight != NULL && j < count; j++) {
            dweight[j] += (double)dy[j] * (double)((x[j] - m.mean) * m.inverse);
            dweight[call->padded_cols + j] += (double)dy[j];
        }
    }
}

balora_status cpu_layer_norm_backward(backend_queue *queue, matrix_view x, matrix_view weight, float epsilon,
                                      matrix_view dy, matrix_view dx, matrix_view dweight,
                                      matrix_view dbias) {
    const char *slot = "layer_norm_backward";
    STATUS_TRY(operand_check(slot, "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check(slot, "weight", weight, 1, x.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "dy", dy, x.rows, x.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "dx", dx, x.rows, x.cols, IN_F32));
    if (!is_none(dweight))
        STATUS_TRY(operand_check(slot, "dweight", dweight, 1, x.cols, IN_F32));
    if (!is_none(dbias))
        STATUS_TRY(operand_check(slot, "dbias", dbias, 1, x.cols, IN_F32));
    norm_call call = {
        .kernels = queue->kernels, .x = x, .weight = weight, .dy = dy, .dx = dx, .epsilon = epsilon};
    if (!is_none(dweight) || !is_none(dbias))
        STATUS_TRY(open_sums(queue, &call, 2));
    parallel_for(x.rows, row_grain(x.cols), layer_norm_backward_rows, &call);
    close_sums(&call, 0, dweight);
    close_sums(&call, 1, dbias);
    return BALORA_OK;
}
