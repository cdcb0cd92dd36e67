/* clip_scale and adamw. */
#include <math.h>

#include "tests.h"

void test_optimizer_clip_scale(bench *b) {
    static const double infinity = (double)INFINITY, nan = (double)NAN;
    const struct {
        double sum_squares, max_norm;
    } cases[] = {{0.0, 1.0},      {0.25, 1.0}, {1.0, 1.0}, {4.0, 1.0},       {1e10, 1.0},  {1e300, 0.5},
                 {1e-20, 1e-12},  {9.0, 3.0},  {9.0, 2.9}, {7.0, 0.0},       {0.0, 0.0},   {infinity, 1.0},
                 {infinity, 0.0}, {nan, 1.0},  {nan, 0.0}, {-infinity, 1.0}, {1e-300, 1.0}};
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        case_begin(b, SLOT_clip_scale, "sum of squares %g, max_norm %g", cases[i].sum_squares,
                   cases[i].max_norm);
        operand *sum = operand_of(b, "sum_squares", BALORA_F64, 1, 1, &cases[i].sum_squares);
        operand *scale = operand_filled(b, "scale", BALORA_F32, 1, 1, -5.0);
        CALL_OK(b, clip_scale, b->queue, sum->view, cases[i].max_norm, scale->view);
        double want = 1.0;
        if (cases[i].max_norm != 0.0)
            want = fmin(1.0, cases[i].max_norm / (sqrt(cases[i].sum_squares) + 1e-6));
        if (!isfinite(cases[i].sum_squares))
            want = nan;
        expect_close(b, scale, &want, NULL);
        case_end(b);
    }
}

/* Parameter and moments in double, with the sums of absolute values that rounding errors scale with. */
typedef struct adamw_state {
    double *parameter, *first, *second, *parameter_magnitude, *first_magnitude;
} adamw_state;

static void reference_adamw(const adamw_update *u, int64_t count, double scale, const double *gradient,
                            adamw_state *s) {
    double correction1 = 1.0 - pow(u->beta1, (double)u->step),
           correction2 = 1.0 - pow(u->beta2, (double)u->step);
    for (int64_t i = 0; i < count; i++) {
        double g = gradient[i] * scale;
        s->first[i] = u->beta1 * s->first[i] + (1.0 - u->beta1) * g;
        s->first_magnitude[i] = u->beta1 * s->first_magnitude[i] + (1.0 - u->beta1) * fabs(g);
        s->second[i] = u->beta2 * s->second[i] + (1.0 - u->beta2) * g * g;
        double root = sqrt(s->second[i] / correction2) + u->epsilon;
        s->parameter[i] -= u->learning_rate * u->weight_decay * s->parameter[i];
        s->parameter[i] -= u->learning_rate * s->first[i] / correction1 / root;
        s->parameter_magnitude[i] +=
            fabs(s->parameter[i]) + u->learning_rate * s->first_magnitude[i] / correction1 / root;
    }
}

static void adamw_case(bench *b, int64_t rows, int64_t cols, double weight_decay, int64_t first_step,
                       double clip) {
    enum { STEPS = 5 };
    case_begin(b, SLOT_adamw, "[%lld, %lld], weight decay %g, %d steps from %lld, scale %g", (long long)rows,
               (long long)cols, weight_decay, STEPS, (long long)first_step, clip);
    int64_t count = rows * cols;
    operand *parameter = operand_random(b, "parameter", BALORA_F32, rows, cols, 0.05);
    operand *gradient = operand_random(b, "gradient", BALORA_F32, rows, cols, 1e-3);
    operand *first = operand_random(b, "first_moment", BALORA_F32, rows, cols, first_step > 1 ? 1e-3 : 0.0);
    operand *second = operand_random(b, "second_moment", BALORA_F32, rows, cols, first_step > 1 ? 1e-3 : 0.0);
    operand *scale = operand_of(b, "scale", BALORA_F32, 1, 1, &clip);
    adamw_state want = {case_array(b, count), case_array(b, count), case_array(b, count),
                        case_array(b, count), case_array(b, count)};
    for (int64_t i = 0; i < count; i++)
        second->result[i] = second->value[i] * second->value[i];
    operand_set(b, second, second->result);
    for (int64_t i = 0; i < count; i++) {
        want.parameter[i] = parameter->value[i];
        want.first[i] = first->value[i];
        want.second[i] = second->value[i];
        want.first_magnitude[i] = fabs(first->value[i]);
    }
    for (int64_t step = first_step; step < first_step + STEPS; step++) {
        for (int64_t i = 0; i < count;
             i++) /* some elements have no gradient: rows of an embedding not seen */
            gradient->result[i] = i % 11 == 10 ? 0.0 : 1e-3 * draw_normal(b);
        operand_set(b, gradient, gradient->result);
        adamw_update update = {
            parameter->view, gradient->view, first->view,  second->view, scale->view, 2e-4, 0.9,
            0.999,           1e-8,           weight_decay, step};
        CALL_OK(b, adamw, b->queue, &update);
        reference_adamw(&update, count, scale->value[0], gradient->value, &want);
    }
    expect_close(b, parameter, want.parameter, want.parameter_magnitude);
    expect_close(b, first, want.first, want.first_magnitude);
    expect_close(b, second, want.second, NULL);
    case_end(b);
}

void test_optimizer_adamw(bench *b) {
    static const int64_t shapes[][2] = {{1, 1},   {1, 7},   {3, 5},     {17, 31}, {33, 65},
                                        {64, 64}, {1, 257}, {100, 257}, {0, 3},   {1, 20011}};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
        adamw_case(b, shapes[s][0], shapes[s][1], 0.0, 1, 1.0);
        adamw_case(b, shapes[s][0], shapes[s][1], 0.1, 1, 0.37);
        adamw_case(b, shapes[s][0], shapes[s][1], 0.01, 1000, 1.0);
    }
}

/* A scale that is not finite: case_end holds every bit of the four arrays to what it was. */
void test_optimizer_adamw_skips(bench *b) {
    static const double scales[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int64_t i = 0; i < COUNT_OF(scales); i++)
        for (int64_t rows = 1; rows <= 101; rows += 50) {
            case_begin(b, SLOT_adamw, "%lld rows, scale %g", (long long)rows, scales[i]);
            operand *parameter = operand_random(b, "parameter", BALORA_F32, rows, 65, 0.05);
            operand *gradient = operand_random(b, "gradient", BALORA_F32, rows, 65, 1e-3);
            operand *first = operand_random(b, "first_moment", BALORA_F32, rows, 65, 1e-3);
            operand *second = operand_filled(b, "second_moment", BALORA_F32, rows, 65, 1e-6);
            operand *scale = operand_of(b, "scale", BALORA_F32, 1, 1, &scales[i]);
            adamw_update update = {parameter->view,
                                   gradient->view,
                                   first->view,
                                   second->view,
                                   scale->view,
                                   2e-4,
                                   0.9,
                                   0.999,
                                   1e-8,
                                   0.1,
                                   3};
            CALL_OK(b, adamw, b->queue, &update);
            case_end(b);
        }
}
