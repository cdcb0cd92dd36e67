#include "gradients.h"

#include <math.h>
#include <stdlib.h>

double *doubles_new(bench *b, int64_t count, double deviation) {
    double *array = malloc(sizeof *array * (size_t)(count + 1));
    for (int64_t i = 0; array != NULL && i < count; i++)
        array[i] = (double)(float)(deviation * draw_normal(b));
    return array;
}

static double derivative_along(bench *b, const differentiable *f, const double *point,
                               const double *direction, double step, bool through_slot) {
    double *moved = doubles_new(b, f->size, 0.0), values[2];
    for (int side = 0; side < 2; side++) {
        for (int64_t i = 0; i < f->size; i++)
            moved[i] = point[i] + (side == 0 ? step : -step) * direction[i];
        values[side] = f->value(b, f, moved, through_slot);
    }
    free(moved);
    return (values[0] - values[1]) / (2.0 * step);
}

/* The evaluations run cases of their own: reports come after them, under a case of this test. */
static void compare_derivative(bench *b, const differentiable *f, const char *what, double got, double want,
                               double allowed) {
    case_begin(b, f->slot, "%s, %s", f->name, what);
    expect_near(b, "gradient against central difference", got, want, allowed);
    case_end(b);
}

static void check_reference(bench *b, const differentiable *f, const double *point) {
    const double step = 1e-5, allowed = 2e-7;
    double *gradient = doubles_new(b, f->size, 0.0), *unit = doubles_new(b, f->size, 0.0);
    f->gradient(b, f, point, gradient, false);
    double norm = 1.0 + array_largest(gradient, f->size);
    for (int64_t i = 0; i < f->size; i++) {
        unit[i] = 1.0;
        double want = derivative_along(b, f, point, unit, step, false);
        unit[i] = 0.0;
        if (!(fabs(gradient[i] - want) <= allowed * norm))
            compare_derivative(b, f, "reference", gradient[i], want, allowed * norm);
    }
    free(gradient);
    free(unit);
}

static void check_slot(bench *b, const differentiable *f, const double *point) {
    enum { DIRECTIONS = 6 };
    const double allowed = 1e-3;
    double *gradient = doubles_new(b, f->size, 0.0);
    f->gradient(b, f, point, gradient, true);
    double norm = array_norm(gradient, f->size);
    for (int d = 0; d < DIRECTIONS; d++) {
        double *direction = doubles_new(b, f->size, 1.0);
        for (int64_t i = 0; d > 1 && i < f->size; i++) /* some directions move a few coordinates only */
            direction[i] = draw_below(b, 4) == 0 ? 2.0 * direction[i] : 0.0;
        double want = derivative_along(b, f, point, direction, f->step, true);
        compare_derivative(b, f, "slot", array_dot(gradient, direction, f->size), want, allowed * norm);
        free(direction);
    }
    free(gradient);
}

void check_gradient(bench *b, const differentiable *f, const double *point) {
    check_reference(b, f, point);
    check_slot(b, f, point);
}
