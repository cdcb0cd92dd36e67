/* Rotary position embedding. */
#include "cpu/internal.h"

typedef struct rope_call {
    const cpu_kernels *kernels;
    matrix_view x, table;
    const int32_t *positions;
    int64_t head_dim;
    int inverse;
} rope_call;

static void rotate_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const rope_call *call = user;
    for (int64_t i = begin; i < end; i++)
        call->kernels->rope(view_row(call->x, i), view_row(call->table, call->positions[i]),
                            call->x.cols / call->head_dim, call->head_dim, call->inverse);
}

balora_status cpu_rope(backend_queue *queue, matrix_view x, int64_t head_dim, matrix_view positions,
                       matrix_view table, int inverse) {
    STATUS_TRY(operand_check("rope", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("rope", "positions", positions, 1, x.rows, IN_I32));
    STATUS_TRY(operand_check("rope", "table", table, ANY_SIZE, head_dim, IN_F32));
    if (head_dim < 2 || head_dim % 2 != 0 || x.cols % head_dim != 0)
        return status_fail(BALORA_ERROR_INTERNAL,
                           "cpu rope: head_dim %lld must be even and divide %lld columns",
                           (long long)head_dim, (long long)x.cols);
    STATUS_TRY(indices_check("rope", "positions", positions, 0, table.rows));
    rope_call call = {queue->kernels, x, table, view_i32(positions), head_dim, inverse};
    parallel_for(x.rows, row_grain(x.cols), rotate_rows, &call);
    return BALORA_OK;
}
