/* Root-mean-square normalization, forward and backward. */
#include <string.h>

#include "cpu/internal.h"

typedef struct norm_call {
    const cpu_kernels *kernels;
    matrix_view x, weight, y, dy, dx;
    float weight_offset, epsilon;
    double *dweight; /* one row a thread; NULL: not wanted */
    int64_t dweight_stride;
} norm_call;

static void norm_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const norm_call *call = user;
    for (int64_t i = begin; i < end; i++)
        call->kernels->rms_norm(view_row(call->x, i), view_data(call->weight), call->weight_offset,
                                call->epsilon, view_row(call->y, i), call->x.cols);
}

balora_status cpu_rms_norm(backend_queue *queue, matrix_view x, matrix_view weight, float weight_offset,
                           float epsilon, matrix_view y) {
    STATUS_TRY(operand_check("rms_norm", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("rms_norm", "weight", weight, 1, x.cols, IN_F32));
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
    double *dweight = call->dweight != NULL ? call->dweight + thread * call->dweight_stride : NULL;
    for (int64_t i = begin; i < end; i++)
        call->kernels->rms_norm_backward(view_row(call->x, i), view_data(call->weight), call->weight_offset,
                                         call->epsilon, view_row(call->dy, i), view_row(call->dx, i), dweight,
                                         call->x.cols);
}

balora_status cpu_rms_norm_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                    float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                    matrix_view dweight) {
    STATUS_TRY(operand_check("rms_norm_backward", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("rms_norm_backward", "weight", weight, 1, x.cols, IN_F32));
    STATUS_TRY(operand_check("rms_norm_backward", "dy", dy, x.rows, x.cols, IN_F32));
    STATUS_TRY(operand_check("rms_norm_backward", "dx", dx, x.rows, x.cols, IN_F32));
    norm_call call = {.kernels = queue->kernels,
                      .x = x,
                      .weight = weight,
                      .dy = dy,
                      .dx = dx,
                      .weight_offset = weight_offset,
                      .epsilon = epsilon};
    int threads = parallel_threads();
    if (!is_none(dweight)) {
        STATUS_TRY(operand_check("rms_norm_backward", "dweight", dweight, 1, x.cols, IN_F32));
        call.dweight_stride = arith_divide_up(x.cols, 8) * 8;
        size_t bytes = (size_t)(call.dweight_stride * threads) * sizeof(double);
        STATUS_TRY(scratch_reserve(queue, (int64_t)bytes, &call.dweight));
        memset(call.dweight, 0, bytes);
    }
    parallel_for(x.rows, row_grain(x.cols), norm_backward_rows, &call);
    if (is_none(dweight))
        return BALORA_OK;
    for (int64_t j = 0; j < x.cols; j++) {
        double sum = 0;
        for (int thread = 0; thread < threads; thread++)
            sum += call.dweight[thread * call.dweight_stride + j];
        view_f32(dweight)[j] += (float)sum;
    }
    return BALORA_OK;
}
