/* Rotary positions, gated activations and soft-caps. */
#include <math.h>

#include "reference.h"
#include "tests.h"

static const struct {
    int64_t rows, cols;
} shapes[] = {{1, 1},   {1, 257}, {2, 3},  {3, 2},     {5, 7},    {7, 5}, {17, 31}, {31, 17},
              {33, 64}, {64, 33}, {65, 1}, {257, 100}, {3, 2000}, {0, 5}, {600, 65}};

/* Shapes that are worth another dtype. */
static bool is_small(int64_t rows, int64_t cols) {
    return rows * cols <= 10000;
}

/* --- rope --- */

static void rope_case(bench *b, int32_t type, int64_t tokens, int64_t heads, int64_t head_dim, int inverse) {
    enum { POSITIONS = 37 };
    case_begin(b, SLOT_rope, "%s, %lld tokens, %lld heads of %lld, inverse %d", dtype_name(type),
               (long long)tokens, (long long)heads, (long long)head_dim, inverse);
    int64_t cols = heads * head_dim;
    double *table = case_array(b, POSITIONS * head_dim), *index = case_array(b, tokens);
    for (int64_t p = 0; p < POSITIONS; p++)
        for (int64_t j = 0; j < head_dim / 2; j++) {
            double angle = (double)p * pow(1e4, -2.0 * (double)j / (double)head_dim);
            table[p * head_dim + j] = cos(angle);
            table[p * head_dim + head_dim / 2 + j] = sin(angle);
        }
    for (int64_t t = 0; t < tokens; t++)
        index[t] = (double)draw_below(b, POSITIONS);
    operand *x = operand_random(b, "x", type, tokens, cols, 1.0);
    operand *positions = operand_of(b, "positions", BALORA_I32, 1, tokens, index);
    operand *angles = operand_of(b, "table", BALORA_F32, POSITIONS, head_dim, table);
    CALL_OK(b, rope, b->queue, x->view, head_dim, positions->view, angles->view, inverse);
    double *want = case_array(b, tokens * cols), *magnitude = case_array(b, tokens * cols);
    for (int64_t i = 0; i < tokens * cols; i++)
        want[i] = x->value[i];
    reference_rope(tokens, heads, head_dim, index, angles->value, inverse, want, magnitude);
    expect_close(b, x, want, magnitude);
    case_end(b);
}

void test_transformer_rope(bench *b) {
    static const int64_t shapes_of[][3] = {{1, 1, 2},    {2, 3, 4},    {5, 1, 6},   {7, 2, 10},
                                           {31, 3, 16},  {33, 5, 34},  {65, 9, 64}, {100, 2, 80},
                                           {257, 3, 32}, {17, 4, 128}, {3, 7, 66},  {0, 2, 8}};
    for (int t = 0; t < b->activation_count; t++)
        for (int64_t s = 0; s < COUNT_OF(shapes_of); s++)
            for (int inverse = 0; inverse < 2; inverse++)
                rope_case(b, activation_types[t], shapes_of[s][0], shapes_of[s][1], shapes_of[s][2], inverse);
}

/* --- gated activations --- */

static const int32_t activations[] = {ACTIVATION_SILU, ACTIVATION_GELU_TANH};

/* Gates from deep saturation to deep saturation. */
static operand *operand_gate(bench *b, int32_t type, int64_t rows, int64_t cols) {
    static const double extremes[] = {0.0,  -0.0,  1e-20, -1e-20, 20.0, -20.0,
                                      87.0, -87.0, 89.0,  -89.0,  1e4,  -1e4};
    operand *gate = operand_random(b, "gate", type, rows, cols, 3.0);
    for (int64_t i = 0; i < rows * cols; i++)
        if (i % 9 == 8)
            gate->result[i] = extremes[i / 9 % COUNT_OF(extremes)];
    operand_set(b, gate, gate->result);
    return gate;
}

/*
 * In the negative tail f is an exponential of a rounded argument u: its relative error grows with |u|, at
 * most |x| for SiLU and |x| (2 + x^2) for the tanh form of GELU.
 */
static double tail(int32_t activation, double x) {
    if (x >= 0.0)
        return 1.0;
    return 1.0 + fabs(x) * (activation == ACTIVATION_SILU ? 1.0 : 2.0 + x * x);
}

static void activation_case(bench *b, int32_t type, int32_t activation, int64_t rows, int64_t cols,
                            bool in_place) {
    case_begin(b, SLOT_gated_activation, "%s kind %d [%lld, %lld]%s", dtype_name(type), (int)activation,
               (long long)rows, (long long)cols, in_place ? ", out is gate" : "");
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *gate = operand_gate(b, type, rows, cols);
    operand *up = operand_random(b, "up", type, rows, cols, 1.0);
    operand *out = in_place ? gate : operand_filled(b, "out", type, rows, cols, (double)NAN);
    CALL_OK(b, gated_activation, b->queue, activation, gate->view, up->view, out->view);
    for (int64_t i = 0; i < rows * cols; i++) {
        want[i] = reference_activation(activation, gate->value[i]) * up->value[i];
        magnitude[i] = fabs(want[i]) * tail(activation, gate->value[i]);
    }
    expect_close(b, out, want, magnitude);
    case_end(b);
}

void test_transformer_gated_activation(bench *b) {
    for (int t = 0; t < b->activation_count; t++)
        for (int64_t a = 0; a < COUNT_OF(activations); a++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                for (int in_place = 0; in_place < 2; in_place++)
                    if (t == 0 || is_small(shapes[s].rows, shapes[s].cols))
                        activation_case(b, activation_types[t], activations[a], shapes[s].rows,
                                        shapes[s].cols, in_place != 0);
}

/* `aliases`: bit 0, dgate is the view gate; bit 1, dup is the view up. */
static void activation_backward_case(bench *b, int32_t type, int32_t activation, int64_t rows, int64_t cols,
                                     int aliases) {
    case_begin(b, SLOT_gated_activation_backward, "%s kind %d [%lld, %lld]%s%s", dtype_name(type),
               (int)activation, (long long)rows, (long long)cols, aliases & 1 ? ", dgate is gate" : "",
               aliases & 2 ? ", dup is up" : "");
    int64_t count = rows * cols;
    double *want_dgate = case_array(b, count), *want_dup = case_array(b, count);
    double *dgate_magnitude = case_array(b, count), *dup_magnitude = case_array(b, count);
    operand *gate = operand_gate(b, type, rows, cols);
    operand *up = operand_random(b, "up", type, rows, cols, 1.0);
    operand *dout = operand_random(b, "dout", type, rows, cols, 1.0);
    operand *dgate = aliases & 1 ? gate : operand_filled(b, "dgate", type, rows, cols, (double)NAN);
    operand *dup = aliases & 2 ? up : operand_filled(b, "dup", type, rows, cols, (double)NAN);
    CALL_OK(b, gated_activation_backward, b->queue, activation, gate->view, up->view, dout->view, dgate->view,
            dup->view);
    for (int64_t i = 0; i < count; i++) {
        double x = gate->value[i], value = reference_activation(activation, x);
        double slope = reference_activation_slope(activation, x);
        want_dgate[i] = dout->value[i] * up->value[i] * slope;
        want_dup[i] = dout->value[i] * value;
        /* The slope f / x + f (1 - logistic) u' is a difference where x < 0, with u' as steep as the tail. */
        double part = x == 0.0 ? 0.5 : fabs(value / x), steepness = tail(activation, x);
        dgate_magnitude[i] = fabs(dout->value[i] * up->value[i]) * part * steepness * steepness;
        dup_magnitude[i] = fabs(want_dup[i]) * steepness;
    }
    expect_close(b, dgate, want_dgate, dgate_magnitude);
    expect_close(b, dup, want_dup, dup_magnitude);
    case_end(b);
}

void test_transformer_gated_activation_backward(bench *b) {
    for (int t = 0; t < b->activation_count; t++)
        for (int64_t a = 0; a < COUNT_OF(activations); a++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                for (int aliases = 0; aliases < 4; aliases++)
                    if (t == 0 || is_small(shapes[s].rows, shapes[s].cols))
                        activation_backward_case(b, activation_types[t], activations[a], shapes[s].rows,
                                                 shapes[s].cols, aliases);
}

/* --- soft caps --- */

/* From far below the cap to far above it, with cap = 3. */
static const double cap_sizes[] = {1e-3, 1.0, 40.0};

static void soft_cap_case(bench *b, float cap, int64_t rows, int64_t cols, double size, bool in_place) {
    case_begin(b, SLOT_soft_cap, "[%lld, %lld] of size %g under %g%s", (long long)rows, (long long)cols, size,
               (double)cap, in_place ? ", y is x" : "");
    double *want = case_array(b, rows * cols);
    operand *x = operand_random(b, "x", BALORA_F32, rows, cols, size);
    operand *y = in_place ? x : operand_filled(b, "y", BALORA_F32, rows, cols, (double)NAN);
    CALL_OK(b, soft_cap, b->queue, cap, x->view, y->view);
    for (int64_t i = 0; i < rows * cols; i++)
        want[i] = (double)cap * tanh(x->value[i] / (double)cap);
    expect_close(b, y, want, NULL);
    case_end(b);
}

void test_transformer_soft_cap(bench *b) {
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t k = 0; k < COUNT_OF(cap_sizes); k++)
            for (int in_place = 0; in_place < 2; in_place++)
                soft_cap_case(b, 3.0F, shapes[s].rows, shapes[s].cols, cap_sizes[k], in_place != 0);
    soft_cap_case(b, 30.0F, 7, 333, 20.0, true);
}

static void soft_cap_backward_case(bench *b, int32_t type, int64_t rows, int64_t cols, double size,
                                   bool in_place) {
    const float cap = 3.0F;
    case_begin(b, SLOT_soft_cap_backward, "%s [%lld, %lld] of size %g%s", dtype_name(type), (long long)rows,
               (long long)cols, size, in_place ? ", dx is dy" : "");
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *y = operand_random(b, "y", BALORA_F32, rows, cols, size);
    for (int64_t i = 0; i < rows * cols; i++)
        y->result[i] = (double)cap * tanh(y->value[i] / (double)cap);
    operand_set(b, y, y->result);
    operand *dy = operand_random(b, "dy", type, rows, cols, 1.0);
    operand *dx = in_place ? dy : operand_filled(b, "dx", type, rows, cols, (double)NAN);
    CALL_OK(b, soft_cap_backward, b->queue, cap, y->view, dy->view, dx->view);
    for (int64_t i = 0; i < rows * cols; i++) {
        double share = y->value[i] / (double)cap;
        want[i] = dy->value[i] * (1 - share * share);
        magnitude[i] =
            fabs(dy->value[i]); /* 1 - share^2 is a difference of numbers near 1 where the cap is met */
    }
    expect_close(b, dx, want, magnitude);
    case_end(b);
}

void test_transformer_soft_cap_backward(bench *b) {
    for (int t = 0; t < b->activation_count; t++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++)
            for (int64_t k = 0; k < COUNT_OF(cap_sizes); k++)
                for (int in_place = 0; in_place < 2; in_place++)
                    if (t == 0 || is_small(shapes[s].rows, shapes[s].cols))
                        soft_cap_backward_case(b, activation_types[t], shapes[s].rows, shapes[s].cols,
                                               cap_sizes[k], in_place != 0);
}
