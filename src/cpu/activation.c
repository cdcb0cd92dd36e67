/* Gated activations, forward and backward. */
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
