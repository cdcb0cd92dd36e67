/* Norms, rotary positions and gated activations. */
#include <math.h>

#include "reference.h"
#include "tests.h"

static const struct {
    int64_t rows, cols;
} shapes[] = {{1, 1},   {1, 257}, {2, 3},  {3, 2},     {5, 7},    {7, 5}, {17, 31}, {31, 17},
              {33, 64}, {64, 33}, {65, 1}, {257, 100}, {3, 2000}, {0, 5}, {600, 65}};

/* Weight offsets and epsilons as LLaMA and Gemma have them. */
static const struct { float offset, epsilon; } norms[] = {{0.0F, 1e-5F}, {1.0F, 1e-6F}};

void test_transformer_rms_norm(bench *b) {
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t v = 0; v < COUNT_OF(norms); v++)
            for (double size = 1e-4; size < 1e5; size *= 1e4) {
                int64_t rows = shapes[s].rows, cols = shapes[s].cols;
                case_begin(b, SLOT_rms_norm, "[%lld, %lld] of size %g, weight offset %g", (long long)rows,
                           (long long)cols, size, (double)norms[v].offset);
                double *want = case_array(b, rows * cols);
                operand *x = operand_random(b, "x", BALORA_F32, rows, cols, size);
                operand *weight = operand_random(b, "weight", BALORA_F32, 1, cols, 0.5);
                operand *y = operand_filled(b, "y", BALORA_F32, rows, cols, (double)NAN);
                CALL_OK(b, rms_norm, b->queue, x->view, weight->view, norms[v].offset, norms[v].epsilon,
                        y->view);
                reference_rms_norm(rows, cols, x->value, weight->value, (double)norms[v].offset,
                                   (double)norms[v].epsilon, want);
                expect_close(b, y, want, NULL);
                case_end(b);
            }

    case_begin(b, SLOT_rms_norm, "a row of zeros");
    operand *x = operand_filled(b, "x", BALORA_F32, 3, 33, 0.0);
    operand *weight = operand_random(b, "weight", BALORA_F32, 1, 33, 1.0);
    operand *y = operand_filled(b, "y", BALORA_F32, 3, 33, (double)NAN);
    CALL_OK(b, rms_norm, b->queue, x->view, weight->view, 0.0F, 1e-5F, y->view);
    expect_close(b, y, case_array(b, 3 * 33), NULL);
    case_end(b);
}

static void rms_norm_backward_case(bench *b, int64_t rows, int64_t cols, float offset, float epsilon,
                                   bool wants_weight) {
    case_begin(b, SLOT_rms_norm_backward, "[%lld, %lld], weight offset %g, %s dweight", (long long)rows,
               (long long)cols, (double)offset, wants_weight ? "with" : "without");
    operand *x = operand_random(b, "x", BALORA_F32, rows, cols, 1.5);
    operand *weight = operand_random(b, "weight", BALORA_F32, 1, cols, 0.5);
    operand *dy = operand_random(b, "dy", BALORA_F32, rows, cols, 1.0);
    operand *dx = operand_random(b, "dx", BALORA_F32, rows, cols, 1.0);
    operand *dweight = operand_random(b, "dweight", BALORA_F32, 1, cols, 1.0);
    CALL_OK(b, rms_norm_backward, b->queue, x->view, weight->view, offset, epsilon, dy->view, dx->view,
            wants_weight ? dweight->view : view_none());
    reference_norm_gradient want = {case_array(b, rows * cols), case_array(b, cols),
                                    case_array(b, rows * cols), case_array(b, cols)};
    for (int64_t i = 0; i < rows * cols; i++) {
        want.dx[i] = dx->value[i];
        want.dx_magnitude[i] = fabs(dx->value[i]);
    }
    for (int64_t j = 0; j < cols; j++) {
        want.dweight[j] = dweight->value[j];
        want.dweight_magnitude[j] = fabs(dweight->value[j]);
    }
    reference_rms_norm_backward(rows, cols, x->value, weight->value, (double)offset, (double)epsilon,
                                dy->value, &want);
    expect_close(b, dx, want.dx, want.dx_magnitude);
    if (wants_weight)
        expect_close(b, dweight, want.dweight, want.dweight_magnitude);
    case_end(b);
}

void test_transformer_rms_norm_backward(bench *b) {
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t v = 0; v < COUNT_OF(norms); v++)
            for (int wants_weight = 0; wants_weight < 2; wants_weight++)
                rms_norm_backward_case(b, shapes[s].rows, shapes[s].cols, norms[v].offset, norms[v].epsilon,
                                       wants_weight != 0);
}

/* --- rope --- */

static void rope_case(bench *b, int64_t tokens, int64_t heads, int64_t head_dim, int inverse) {
    enum { POSITIONS = 37 };
    case_begin(b, SLOT_rope, "%lld tokens, %lld heads of %lld, inverse %d", (long long)tokens,
               (long long)heads, (long long)head_dim, inverse);
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
    operand *x = operand_random(b, "x", BALORA_F32, tokens, cols, 1.0);
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
    for (int64_t s = 0; s < COUNT_OF(shapes_of); s++)
        for (int inverse = 0; inverse < 2; inverse++)
            rope_case(b, shapes_of[s][0], shapes_of[s][1], shapes_of[s][2], inverse);
}

/* --- gated activations --- */

static const int32_t activations[] = {ACTIVATION_SILU, ACTIVATION_GELU_TANH};

/* Gates from deep saturation to deep saturation. */
static operand *operand_gate(bench *b, int64_t rows, int64_t cols) {
    static const double extremes[] = {0.0,  -0.0,  1e-20, -1e-20, 20.0, -20.0,
                                      87.0, -87.0, 89.0,  -89.0,  1e4,  -1e4};
    operand *gate = operand_random(b, "gate", BALORA_F32, rows, cols, 3.0);
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

static void activation_case(bench *b, int32_t activation, int64_t rows, int64_t cols, bool in_place) {
    case_begin(b, SLOT_gated_activation, "kind %d [%lld, %lld]%s", (int)activation, (long long)rows,
               (long long)cols, in_place ? ", out is gate" : "");
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *gate = operand_gate(b, rows, cols);
    operand *up = operand_random(b, "up", BALORA_F32, rows, cols, 1.0);
    operand *out = in_place ? gate : operand_filled(b, "out", BALORA_F32, rows, cols, (double)NAN);
    CALL_OK(b, gated_activation, b->queue, activation, gate->view, up->view, out->view);
    for (int64_t i = 0; i < rows * cols; i++) {
        want[i] = reference_activation(activation, gate->value[i]) * up->value[i];
        magnitude[i] = fabs(want[i]) * tail(activation, gate->value[i]);
    }
    expect_close(b, out, want, magnitude);
    case_end(b);
}

void test_transformer_gated_activation(bench *b) {
    for (int64_t a = 0; a < COUNT_OF(activations); a++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++)
            for (int in_place = 0; in_place < 2; in_place++)
                activation_case(b, activations[a], shapes[s].rows, shapes[s].cols, in_place != 0);
}

/* `aliases`: bit 0, dgate is the view gate; bit 1, dup is the view up. */
static void activation_backward_case(bench *b, int32_t activation, int64_t rows, int64_t cols, int aliases) {
    case_begin(b, SLOT_gated_activation_backward, "kind %d [%lld, %lld]%s%s", (int)activation,
               (long long)rows, (long long)cols, aliases & 1 ? ", dgate is gate" : "",
               aliases & 2 ? ", dup is up" : "");
    int64_t count = rows * cols;
    double *want_dgate = case_array(b, count), *want_dup = case_array(b, count);
    double *dgate_magnitude = case_array(b, count), *dup_magnitude = case_array(b, count);
    operand *gate = operand_gate(b, rows, cols);
    operand *up = operand_random(b, "up", BALORA_F32, rows, cols, 1.0);
    operand *dout = operand_random(b, "dout", BALORA_F32, rows, cols, 1.0);
    operand *dgate = aliases & 1 ? gate : operand_filled(b, "dgate", BALORA_F32, rows, cols, (double)NAN);
    operand *dup = aliases & 2 ? up : operand_filled(b, "dup", BALORA_F32, rows, cols, (double)NAN);
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
    for (int64_t a = 0; a < COUNT_OF(activations); a++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++)
            for (int aliases = 0; aliases < 4; aliases++)
                activation_backward_case(b, activations[a], shapes[s].rows, shapes[s].cols, aliases);
}
