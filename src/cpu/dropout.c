/* Dropout by a mask of counter-based random numbers. */
#include "cpu/internal.h"

typedef struct dropout_call {
    const cpu_kernels *kernels;
    const dropout_rows *args;
    uint32_t threshold;
    float scale;
} dropout_call;

static void dropout_part(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const dropout_call *call = user;
    const dropout_rows *args = call->args;
    const int32_t *keys = view_i32(args->keys);
    uint64_t stream = (uint64_t)(uint32_t)keys[row] << 32 | (uint32_t)keys[args->keys.ld + row];
    dropout_span span = {.x = (const float *)view_row(args->x, row) + column,
                         .y = (float *)view_row(args->y, row) + column,
                         .count = count,
                         .seed = args->seed,
                         .stream = stream,
                         .index = (uint64_t)args->site << 32 | (uint64_t)column / 4,
                         .threshold = call->threshold,
                         .scale = call->scale,
                         .beta = args->beta};
    call->kernels->dropout(&span);
}

balora_status cpu_dropout(backend_queue *queue, const dropout_rows *args) {
    matrix_view x = args->x;
    STATUS_TRY(operand_check("dropout", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("dropout", "y", args->y, x.rows, x.cols, IN_F32));
    STATUS_TRY(operand_check("dropout", "keys", args->keys, 2, x.rows, IN_I32));
    if (!(args->probability >= 0 && args->probability < 1))
        return status_fail(BALORA_ERROR_INTERNAL, "cpu dropout: probability is %g; expected 0 to below 1",
                           args->probability);
    dropout_call call = {queue->kernels, args, dropout_threshold(args->probability),
                         (float)(1 / (1 - args->probability))};
    parallel_spans(x.rows, x.cols, 0, dropout_part, &call); /* spans begin at multiples of 4 */
    return BALORA_OK;
}
