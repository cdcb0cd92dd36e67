/* Gated activations and soft-caps, forward and backward. */
#include "cpu/internal.h"

typedef struct activation_call {
    const cpu_kernels *kernels;
    int32_t activation;
    matrix_view gate, up, out, dout, dgate, dup;
} activation_call;

static float *place(matrix_view view, int64_t row, int64_t column) {
    return (float *)view_row(view, row) + column;
}

static balora_status check_activation(const char *slot, int32_t activation, matrix_view gate,
                                      matrix_view up) {
    if (activation != ACTIVATION_SILU && activation != ACTIVATION_GELU_TANH)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: unknown activation %d", slot, activation);
    STATUS_TRY(operand_check(slot, "gate", gate, ANY_SIZE, ANY_SIZE, IN_F32));
    return operand_check(slot, "up", up, gate.rows, gate.cols, IN_F32);
}

static void activate_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const activation_call *call = user;
    call->kernels->gated_activation(call->activation, place(call->gate, row, column),
                                    place(call->up, row, column), place(call->out, row, column), count);
}

balora_status cpu_gated_activation(backend_queue *queue, int32_t activation, matrix_view gate, matrix_view up,
                                   matrix_view out) {
    STATUS_TRY(check_activation("gated_activation", activation, gate, up));
    STATUS_TRY(operand_check("gated_activation", "out", out, gate.rows, gate.cols, IN_F32));
    activation_call call = {
        .kernels = queue->kernels, .activation = activation, .gate = gate, .up = up, .out = out};
    parallel_spans(gate.rows, gate.cols, is_joined(gate) && is_joined(up) && is_joined(out), activate_span,
                   &call);
    return BALORA_OK;
}

static void activate_backward_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const activation_call *call = user;
    call->kernels->gated_activation_backward(call->activation, place(call->gate, row, column),
                                             place(call->up, row, column), place(call->dout, row, column),
                                             place(call->dgate, row, column), place(call->dup, row, column),
                                             count);
}

balora_status cpu_gated_activation_backward(backend_queue *queue, int32_t activation, matrix_view gate,
                                            matrix_view up, matrix_view dout, matrix_view dgate,
                                            matrix_view dup) {
    const char *slot = "gated_activation_backward";
    STATUS_TRY(check_activation(slot, activation, gate, up));
    STATUS_TRY(operand_check(slot, "dout", dout, gate.rows, gate.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "dgate", dgate, gate.rows, gate.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "dup", dup, gate.rows, gate.cols, IN_F32));
    activation_call call = {.kernels = queue->kernels,
                            .activation = activation,
                            .gate = gate,
                            .up = up,
                            .dout = dout,
                            .dgate = dgate,
                            .dup = dup};
    int joined = is_joined(gate) && is_joined(up) && is_joined(dout) && is_joined(dgate) && is_joined(dup);
    parallel_spans(gate.rows, gate.cols, joined, activate_backward_span, &call);
    return BALORA_OK;
}

/* --- soft_cap --- */

typedef struct cap_call {
    const cpu_kernels *kernels;
    float cap;
    matrix_view x, y, dy, dx;
} cap_call;

static void cap_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const cap_call *call = user;
    call->kernels->soft_cap(call->cap, place(call->x, row, column), place(call->y, row, column), count);
}

static void cap_backward_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const cap_call *call = user;
    call->kernels->soft_cap_backward(call->cap, place(call->y, row, column), place(call->dy, row, column),
                                     place(call->dx, row, column), count);
}

static balora_status check_cap(const char *slot, float cap) {
    if (cap > 0)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: cap %g", slot, (double)cap);
}

balora_status cpu_soft_cap(backend_queue *queue, float cap, matrix_view x, matrix_view y) {
    STATUS_TRY(check_cap("soft_cap", cap));
    STATUS_TRY(operand_check("soft_cap", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("soft_cap", "y", y, x.rows, x.cols, IN_F32));
    cap_call call = {.kernels = queue->kernels, .cap = cap, .x = x, .y = y};
    parallel_spans(x.rows, x.cols, is_joined(x) && is_joined(y), cap_span, &call);
    return BALORA_OK;
}

balora_status cpu_soft_cap_backward(backend_queue *queue, float cap, matrix_view y, matrix_view dy,
                                    matrix_view dx) {
    const char *slot = "soft_cap_backward";
    STATUS_TRY(check_cap(slot, cap));
    STATUS_TRY(operand_check(slot, "y", y, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check(slot, "dy", dy, y.rows, y.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "dx", dx, y.rows, y.cols, IN_F32));
    cap_call call = {.kernels = queue->kernels, .cap = cap, .y = y, .dy = dy, .dx = dx};
    parallel_spans(y.rows, y.cols, is_joined(y) && is_joined(dy) && is_joined(dx), cap_backward_span, &call);
    return BALORA_OK;
}
