/* Gated activations and soft-caps, forward and backward. */
#include "internal.h"
#include "slots.h"
#include "spans.cuh"

/*
 * Both activations are g sigmoid(u(g)): u = g for SiLU; for GELU in its tanh form, tanh being a shifted
 * sigmoid, u = 2 sqrt(2 / pi) (g + 0.044715 g^3). Their derivative is s + g s (1 - s) u'.
 */
static constexpr float GELU_LINEAR = 1.5957691216057308f, GELU_CUBIC = GELU_LINEAR * 0.044715f;

template <int ACTIVATION> static __device__ __forceinline__ float argument_of(float gate) {
    return ACTIVATION == ACTIVATION_SILU ? gate : gate * (GELU_LINEAR + GELU_CUBIC * (gate * gate));
}

template <int ACTIVATION> static __device__ __forceinline__ float slope_of(float gate) {
    return ACTIVATION == ACTIVATION_SILU ? 1.0f : GELU_LINEAR + 3.0f * GELU_CUBIC * (gate * gate);
}

/* s = sigmoid(u) and s (1 - s), both without cancellation: the exponential is of a negative number. */
static __device__ __forceinline__ void sigmoid_of(float u, float *sigmoid, float *tail) {
    float small = expf(-fabsf(u)), inverse = __fdividef(1.0f, 1.0f + small);
    *sigmoid = u < 0 ? small * inverse : inverse;
    *tail = small * inverse * inverse;
}

template <int ACTIVATION, typename T, int COUNT>
static __global__ void activate(span_grid grid, const T *gate, int64_t gate_ld, const T *up, int64_t up_ld,
                                T *out, int64_t out_ld) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        float gates[COUNT], ups[COUNT];
        load_span(gates, gate + row * gate_ld + column, left);
        load_span(ups, up + row * up_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            float sigmoid, tail;
            sigmoid_of(argument_of<ACTIVATION>(gates[i]), &sigmoid, &tail);
            gates[i] *= sigmoid * ups[i];
        }
        store_span(out + row * out_ld + column, gates, left);
    }
}

struct activation_gradient {
    int64_t gate_ld, up_ld, dout_ld, dgate_ld, dup_ld;
};

template <int ACTIVATION, typename T, int COUNT>
static __global__ void activate_backward(span_grid grid, activation_gradient of, const T *gate, const T *up,
                                         const T *dout, T *dgate, T *dup) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        float gates[COUNT], ups[COUNT], douts[COUNT];
        load_span(gates, gate + row * of.gate_ld + column, left);
        load_span(ups, up + row * of.up_ld + column, left);
        load_span(douts, dout + row * of.dout_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            float g = gates[i], sigmoid, tail;
            sigmoid_of(argument_of<ACTIVATION>(g), &sigmoid, &tail);
            /* The slope of GELU may overflow, long after the tail has become 0. */
            float bend = tail == 0 ? 0 : g * tail * slope_of<ACTIVATION>(g);
            gates[i] = douts[i] * ups[i] * (sigmoid + bend);
            ups[i] = douts[i] * g * sigmoid;
        }
        store_span(dgate + row * of.dgate_ld + column, gates, left);
        store_span(dup + row * of.dup_ld + column, ups, left);
    }
}

static balora_status check_activation(const char *slot, int32_t activation, matrix_view gate,
                                      matrix_view up) {
    if (activation != ACTIVATION_SILU && activation != ACTIVATION_GELU_TANH)
        return CUDA_INTERNAL("cuda %s: unknown activation %d", slot, activation);
    CUDA_TRY(operand_check(slot, "gate", gate, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    return operand_check(slot, "up", up, gate.rows, gate.cols, dtype_bit(gate.dtype));
}

balora_status cuda_gated_activation(backend_queue *queue, int32_t activation, matrix_view gate,
                                    matrix_view up, matrix_view out) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_activation("gated_activation", activation, gate, up));
    CUDA_TRY(operand_check("gated_activation", "out", out, gate.rows, gate.cols, dtype_bit(gate.dtype)));
    if (is_empty(gate))
        return BALORA_OK;
    flatten(gate, up, out);
    DISPATCH_ACTIVATION(gate.dtype, T, {
        DISPATCH_COUNT(are_aligned(SPAN_COUNT<T>, gate, up, out), SPAN_COUNT<T>, COUNT, {
            span_grid grid = span_grid_of(gate.rows, gate.cols, COUNT);
            auto kernel = activation == ACTIVATION_SILU ? activate<ACTIVATION_SILU, T, COUNT>
                                                        : activate<ACTIVATION_GELU_TANH, T, COUNT>;
            return launch(queue, "gated_activation", kernel, span_blocks(grid, COUNT), SPAN_THREADS, 0, grid,
                          view_data<T>(gate), gate.ld, view_data<T>(up), up.ld, view_data<T>(out), out.ld);
        });
    });
}

balora_status cuda_gated_activation_backward(backend_queue *queue, int32_t activation, matrix_view gate,
                                             matrix_view up, matrix_view dout, matrix_view dgate,
                                             matrix_view dup) {
    const char *slot = "gated_activation_backward";
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_activation(slot, activation, gate, up));
    int dtype = dtype_bit(gate.dtype);
    CUDA_TRY(operand_check(slot, "dout", dout, gate.rows, gate.cols, dtype));
    CUDA_TRY(operand_check(slot, "dgate", dgate, gate.rows, gate.cols, dtype));
    CUDA_TRY(operand_check(slot, "dup", dup, gate.rows, gate.cols, dtype));
    if (is_empty(gate))
        return BALORA_OK;
    flatten(gate, up, dout, dgate, dup);
    activation_gradient of = {gate.ld, up.ld, dout.ld, dgate.ld, dup.ld};
    DISPATCH_ACTIVATION(gate.dtype, T, {
        DISPATCH_COUNT(are_aligned(SPAN_COUNT<T>, gate, up, dout, dgate, dup), SPAN_COUNT<T>, COUNT, {
            span_grid grid = span_grid_of(gate.rows, gate.cols, COUNT);
            auto kernel = activation == ACTIVATION_SILU ? activate_backward<ACTIVATION_SILU, T, COUNT>
                                                        : activate_backward<ACTIVATION_GELU_TANH, T, COUNT>;
            return launch(queue, slot, kernel, span_blocks(grid, COUNT), SPAN_THREADS, 0, grid, of,
                          view_data<T>(gate), view_data<T>(up), view_data<T>(dout), view_data<T>(dgate),
                          view_data<T>(dup));
        });
    });
}

/* --- soft_cap --- */

template <int COUNT>
static __global__ void cap_elements(span_grid grid, float cap, const float *x, int64_t x_ld, float *y,
                                    int64_t y_ld) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        float values[COUNT];
        load_span(values, x + row * x_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            values[i] = cap * tanhf(values[i] / cap);
        store_span(y + row * y_ld + column, values, left);
    }
}

template <typename T, int COUNT>
static __global__ void cap_elements_backward(span_grid grid, float cap, const float *y, int64_t y_ld,
                                             const T *dy, int64_t dy_ld, T *dx, int64_t dx_ld) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        float values[COUNT], slopes[COUNT];
        load_span(values, y + row * y_ld + column, left);
        load_span(slopes, dy + row * dy_ld + column, left);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            slopes[i] *= 1.0f - values[i] / cap * (values[i] / cap);
        store_span(dx + row * dx_ld + column, slopes, left);
    }
}

static balora_status check_cap(const char *slot, float cap) {
    return cap > 0 ? BALORA_OK : CUDA_INTERNAL("cuda %s: cap %g", slot, (double)cap);
}

balora_status cuda_soft_cap(backend_queue *queue, float cap, matrix_view x, matrix_view y) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_cap("soft_cap", cap));
    CUDA_TRY(operand_check("soft_cap", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    CUDA_TRY(operand_check("soft_cap", "y", y, x.rows, x.cols, IN_F32));
    if (is_empty(x))
        return BALORA_OK;
    flatten(x, y);
    DISPATCH_COUNT(are_aligned(SPAN_COUNT<float>, x, y), SPAN_COUNT<float>, COUNT, {
        span_grid grid = span_grid_of(x.rows, x.cols, COUNT);
        return launch(queue, "soft_cap", cap_elements<COUNT>, span_blocks(grid, COUNT), SPAN_THREADS, 0, grid,
                      cap, view_data<float>(x), x.ld, view_data<float>(y), y.ld);
    });
}

balora_status cuda_soft_cap_backward(backend_queue *queue, float cap, matrix_view y, matrix_view dy,
                                     matrix_view dx) {
    const char *slot = "soft_cap_backward";
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_cap(slot, cap));
    CUDA_TRY(operand_check(slot, "y", y, ANY_SIZE, ANY_SIZE, IN_F32));
    CUDA_TRY(operand_check(slot, "dy", dy, y.rows, y.cols, IN_ACTIVATION));
    CUDA_TRY(operand_check(slot, "dx", dx, y.rows, y.cols, dtype_bit(dy.dtype)));
    if (is_empty(y))
        return BALORA_OK;
    flatten(y, dy, dx);
    DISPATCH_ACTIVATION(dy.dtype, T, {
        constexpr int MOST = SPAN_COUNT<float, T>;
        DISPATCH_COUNT(are_aligned(MOST, y, dy, dx), MOST, COUNT, {
            span_grid grid = span_grid_of(y.rows, y.cols, COUNT);
            auto kernel = cap_elements_backward<T, COUNT>;
            return launch(queue, slot, kernel, span_blocks(grid, COUNT), SPAN_THREADS, 0, grid, cap,
                          view_data<float>(y), y.ld, view_data<T>(dy), dy.ld, view_data<T>(dx), dx.ld);
        });
    });
}
