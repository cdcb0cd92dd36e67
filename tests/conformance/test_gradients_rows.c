/* The gradients of normalizations, softmax and soft-caps against central differences: gradients.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gradients.h"
#include "reference.h"
#include "tests.h"

/* --- rms_norm: the point is [x, weight] --- */

typedef struct norm_parameters {
    int64_t rows, cols;
    float offset, epsilon;
} norm_parameters;

static double norm_value(bench *b, const differentiable *self, const double *point, bool through_slot) {
    const norm_parameters *p = self->parameters;
    int64_t count = p->rows * p->cols;
    case_begin(b, self->slot, "%s, forward", self->name);
    double *y = case_array(b, count);
    if (through_slot) {
        operand *x = operand_of(b, "x", BALORA_F32, p->rows, p->cols, point);
        operand *weight = operand_of(b, "weight", BALORA_F32, 1, p->cols, point + count);
        operand *out = operand_filled(b, "y", BALORA_F32, p->rows, p->cols, (double)NAN);
        CALL_OK(b, rms_norm, b->queue, x->view, weight->view, p->offset, p->epsilon, out->view);
        memcpy(y, operand_fetch(b, out), sizeof *y * (size_t)count);
    } else {
        reference_rms_norm(p->rows, p->cols, point, point + count, (double)p->offset, (double)p->epsilon, y);
    }
    double value = array_dot(y, self->cotangent, count);
    case_end(b);
    return value;
}

static void norm_gradient(bench *b, const differentiable *self, const double *point, double *out,
                          bool through_slot) {
    const norm_parameters *p = self->parameters;
    int64_t count = p->rows * p->cols;
    memset(out, 0, sizeof *out * (size_t)self->size);
    if (!through_slot) {
        reference_norm_gradient gradient = {.dx = out, .dweight = out + count};
        reference_rms_norm_backward(p->rows, p->cols, point, point + count, (double)p->offset,
                                    (double)p->epsilon, self->cotangent, &gradient);
        return;
    }
    case_begin(b, self->slot, "%s, backward", self->name);
    operand *x = operand_of(b, "x", BALORA_F32, p->rows, p->cols, point);
    operand *weight = operand_of(b, "weight", BALORA_F32, 1, p->cols, point + count);
    operand *dy = operand_of(b, "dy", BALORA_F32, p->rows, p->cols, self->cotangent);
    operand *dx = operand_filled(b, "dx", BALORA_F32, p->rows, p->cols, 0.0);
    operand *dweight = operand_filled(b, "dweight", BALORA_F32, 1, p->cols, 0.0);
    CALL_OK(b, rms_norm_backward, b->queue, x->view, weight->view, p->offset, p->epsilon, dy->view, dx->view,
            dweight->view);
    memcpy(out, operand_fetch(b, dx), sizeof *out * (size_t)count);
    memcpy(out + count, operand_fetch(b, dweight), sizeof *out * (size_t)p->cols);
    case_end(b);
}

void test_gradients_rms_norm(bench *b) {
    static const norm_parameters shapes[] = {{3, 5, 0.0F, 1e-5F}, {2, 33, 1.0F, 1e-6F}, {7, 64, 0.0F, 0.5F}};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
        int64_t count = shapes[s].rows * shapes[s].cols;
        double *cotangent = doubles_new(b, count, 1.0), *point = doubles_new(b, count + shapes[s].cols, 1.0);
        differentiable f = {SLOT_rms_norm_backward,
                            "rms_norm",
                            count + shapes[s].cols,
                            3e-3,
                            norm_value,
                            norm_gradient,
                            &shapes[s],
                            cotangent};
        check_gradient(b, &f, point);
        free(cotangent);
        free(point);
    }
}

/* --- layer_norm: the point is [x, weight, bias] --- */

enum { LAYER_ROWS = 4, LAYER_COLS = 21, LAYER_COUNT = LAYER_ROWS * LAYER_COLS };

static const float layer_epsilon = 1e-3F;

static double layer_value(bench *b, const differentiable *self, const double *point, bool through_slot) {
    const double *weight = point + LAYER_COUNT, *bias = weight + LAYER_COLS;
    case_begin(b, self->slot, "%s, forward", self->name);
    double *y = case_array(b, LAYER_COUNT);
    if (through_slot) {
        operand *x = operand_of(b, "x", BALORA_F32, LAYER_ROWS, LAYER_COLS, point);
        operand *scales = operand_of(b, "weight", BALORA_F32, 1, LAYER_COLS, weight);
        operand *shifts = operand_of(b, "bias", BALORA_F32, 1, LAYER_COLS, bias);
        operand *out = operand_filled(b, "y", BALORA_F32, LAYER_ROWS, LAYER_COLS, (double)NAN);
        CALL_OK(b, layer_norm, b->queue, x->view, scales->view, shifts->view, layer_epsilon, out->view);
        memcpy(y, operand_fetch(b, out), sizeof *y * LAYER_COUNT);
    } else {
        reference_layer_norm(LAYER_ROWS, LAYER_COLS, point, weight, bias, (double)layer_epsilon, y, NULL);
    }
    double value = array_dot(y, self->cotangent, LAYER_COUNT);
    case_end(b);
    return value;
}

static void layer_gradient(bench *b, const differentiable *self, const double *point, double *out,
                           bool through_slot) {
    const double *weight = point + LAYER_COUNT;
    double *dweight = out + LAYER_COUNT, *dbias = dweight + LAYER_COLS;
    memset(out, 0, sizeof *out * (size_t)self->size);
    if (!through_slot) {
        reference_norm_gradient gradient = {.dx = out, .dweight = dweight, .dbias = dbias};
        reference_layer_norm_backward(LAYER_ROWS, LAYER_COLS, point, weight, (double)layer_epsilon,
                                      self->cotangent, &gradient);
        return;
    }
    case_begin(b, self->slot, "%s, backward", self->name);
    operand *x = operand_of(b, "x", BALORA_F32, LAYER_ROWS, LAYER_COLS, point);
    operand *scales = operand_of(b, "weight", BALORA_F32, 1, LAYER_COLS, weight);
    operand *dy = operand_of(b, "dy", BALORA_F32, LAYER_ROWS, LAYER_COLS, self->cotangent);
    operand *dx = operand_filled(b, "dx", BALORA_F32, LAYER_ROWS, LAYER_COLS, 0.0);
    operand *scale_slopes = operand_filled(b, "dweight", BALORA_F32, 1, LAYER_COLS, 0.0);
    operand *shift_slopes = operand_filled(b, "dbias", BALORA_F32, 1, LAYER_COLS, 0.0);
    CALL_OK(b, layer_norm_backward, b->queue, x->view, scales->view, layer_epsilon, dy->view, dx->view,
            scale_slopes->view, shift_slopes->view);
    memcpy(out, operand_fetch(b, dx), sizeof *out * LAYER_COUNT);
    memcpy(dweight, operand_fetch(b, scale_slopes), sizeof *out * LAYER_COLS);
    memcpy(dbias, operand_fetch(b, shift_slopes), sizeof *out * LAYER_COLS);
    case_end(b);
}

void test_gradients_layer_norm(bench *b) {
    int64_t size = LAYER_COUNT + 2 * LAYER_COLS;
    double *cotangent = doubles_new(b, LAYER_COUNT, 1.0), *point = doubles_new(b, size, 1.0);
    differentiable f = {SLOT_layer_norm_backward, "layer_norm", size,     3e-3, layer_value,
                        layer_gradient,           NULL,         cotangent};
    check_gradient(b, &f, point);
    free(cotangent);
    free(point);
}

/* --- softmax_rows: the point is x --- */

enum { SOFTMAX_ROWS = 5, SOFTMAX_COLS = 19, SOFTMAX_COUNT = SOFTMAX_ROWS * SOFTMAX_COLS };

static const float softmax_scale = 0.7F;

static void softmax(bench *b, const differentiable *self, const double *x, double *y, bool through_slot) {
    if (!through_slot) {
        reference_softmax(SOFTMAX_ROWS, SOFTMAX_COLS, (double)softmax_scale, x, y, NULL);
        return;
    }
    case_begin(b, self->slot, "%s, forward", self->name);
    operand *in = operand_of(b, "x", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, x);
    operand *out = operand_filled(b, "y", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, (double)NAN);
    CALL_OK(b, softmax_rows, b->queue, softmax_scale, in->view, out->view);
    memcpy(y, operand_fetch(b, out), sizeof *y * SOFTMAX_COUNT);
    case_end(b);
}

static double softmax_value(bench *b, const differentiable *self, const double *point, bool through_slot) {
    double y[SOFTMAX_COUNT];
    softmax(b, self, point, y, through_slot);
    return array_dot(y, self->cotangent, SOFTMAX_COUNT);
}

static void softmax_gradient(bench *b, const differentiable *self, const double *point, double *out,
                             bool through_slot) {
    double y[SOFTMAX_COUNT];
    softmax(b, self, point, y, through_slot);
    if (!through_slot) {
        reference_softmax_backward(SOFTMAX_ROWS, SOFTMAX_COLS, (double)softmax_scale, y, self->cotangent, out,
                                   NULL);
        return;
    }
    case_begin(b, self->slot, "%s, backward", self->name);
    operand *weights = operand_of(b, "y", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, y);
    operand *dy = operand_of(b, "dy", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, self->cotangent);
    operand *dx = operand_filled(b, "dx", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, (double)NAN);
    CALL_OK(b, softmax_rows_backward, b->queue, softmax_scale, weights->view, dy->view, dx->view);
    memcpy(out, operand_fetch(b, dx), sizeof *out * SOFTMAX_COUNT);
    case_end(b);
}

void test_gradients_softmax(bench *b) {
    double *cotangent = doubles_new(b, SOFTMAX_COUNT, 1.0), *point = doubles_new(b, SOFTMAX_COUNT, 1.5);
    differentiable f = {SLOT_softmax_rows_backward, "softmax_rows", SOFTMAX_COUNT, 1e-2, softmax_value,
                        softmax_gradient,           NULL,           cotangent};
    check_gradient(b, &f, point);
    free(cotangent);
    free(point);
}

/* --- soft_cap: the point is x --- */

static const float cap = 2.0F;

static void soft_capped(bench *b, const differentiable *self, const double *x, double *y, bool through_slot) {
    for (int64_t i = 0; i < SOFTMAX_COUNT; i++)
        y[i] = (double)cap * tanh(x[i] / (double)cap);
    if (!through_slot)
        return;
    case_begin(b, self->slot, "%s, forward", self->name);
    operand *in = operand_of(b, "x", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, x);
    operand *out = operand_filled(b, "y", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, (double)NAN);
    CALL_OK(b, soft_cap, b->queue, cap, in->view, out->view);
    memcpy(y, operand_fetch(b, out), sizeof *y * SOFTMAX_COUNT);
    case_end(b);
}

static double soft_cap_value(bench *b, const differentiable *self, const double *point, bool through_slot) {
    double y[SOFTMAX_COUNT];
    soft_capped(b, self, point, y, through_slot);
    return array_dot(y, self->cotangent, SOFTMAX_COUNT);
}

static void soft_cap_gradient(bench *b, const differentiable *self, const double *point, double *out,
                              bool through_slot) {
    double y[SOFTMAX_COUNT];
    soft_capped(b, self, point, y, through_slot);
    for (int64_t i = 0; i < SOFTMAX_COUNT; i++)
        out[i] = self->cotangent[i] * (1 - y[i] * y[i] / (double)(cap * cap));
    if (!through_slot)
        return;
    case_begin(b, self->slot, "%s, backward", self->name);
    operand *capped = operand_of(b, "y", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, y);
    operand *dy = operand_of(b, "dy", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, self->cotangent);
    operand *dx = operand_filled(b, "dx", BALORA_F32, SOFTMAX_ROWS, SOFTMAX_COLS, (double)NAN);
    CALL_OK(b, soft_cap_backward, b->queue, cap, capped->view, dy->view, dx->view);
    memcpy(out, operand_fetch(b, dx), sizeof *out * SOFTMAX_COUNT);
    case_end(b);
}

void test_gradients_soft_cap(bench *b) {
    double *cotangent = doubles_new(b, SOFTMAX_COUNT, 1.0), *point = doubles_new(b, SOFTMAX_COUNT, 2.0);
    differentiable f = {SLOT_soft_cap_backward, "soft_cap",        SOFTMAX_COUNT, 1e-2,
                        soft_cap_value,         soft_cap_gradient, NULL,          cotangent};
    check_gradient(b, &f, point);
    free(cotangent);
    free(point);
}
