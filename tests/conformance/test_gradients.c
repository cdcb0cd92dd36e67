/* The gradients of activations, rotations, attention and the loss head against central differences: gradients.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gradients.h"
#include "reference.h"
#include "tests.h"

/* --- gated activations: the point is [gate, up] --- */

enum { GATE_ROWS = 5, GATE_COLS = 33, GATE_COUNT = GATE_ROWS * GATE_COLS };

static double activation_value(bench *b, const differentiable *self, const double *point, bool through_slot) {
    const int32_t *kind = self->parameters;
    double value = 0.0;
    case_begin(b, self->slot, "%s, forward", self->name);
    if (through_slot) {
        operand *gate = operand_of(b, "gate", BALORA_F32, GATE_ROWS, GATE_COLS, point);
        operand *up = operand_of(b, "up", BALORA_F32, GATE_ROWS, GATE_COLS, point + GATE_COUNT);
        operand *out = operand_filled(b, "out", BALORA_F32, GATE_ROWS, GATE_COLS, (double)NAN);
        CALL_OK(b, gated_activation, b->queue, *kind, gate->view, up->view, out->view);
        value = array_dot(operand_fetch(b, out), self->cotangent, GATE_COUNT);
    } else {
        for (int64_t i = 0; i < GATE_COUNT; i++)
            value += self->cotangent[i] * reference_activation(*kind, point[i]) * point[GATE_COUNT + i];
    }
    case_end(b);
    return value;
}

static void activation_gradient(bench *b, const differentiable *self, const double *point, double *out,
                                bool through_slot) {
    const int32_t *kind = self->parameters;
    if (!through_slot) {
        for (int64_t i = 0; i < GATE_COUNT; i++) {
            out[i] = self->cotangent[i] * point[GATE_COUNT + i] * reference_activation_slope(*kind, point[i]);
            out[GATE_COUNT + i] = self->cotangent[i] * reference_activation(*kind, point[i]);
        }
        return;
    }
    case_begin(b, self->slot, "%s, backward", self->name);
    operand *gate = operand_of(b, "gate", BALORA_F32, GATE_ROWS, GATE_COLS, point);
    operand *up = operand_of(b, "up", BALORA_F32, GATE_ROWS, GATE_COLS, point + GATE_COUNT);
    operand *dout = operand_of(b, "dout", BALORA_F32, GATE_ROWS, GATE_COLS, self->cotangent);
    operand *dgate = operand_filled(b, "dgate", BALORA_F32, GATE_ROWS, GATE_COLS, (double)NAN);
    operand *dup = operand_filled(b, "dup", BALORA_F32, GATE_ROWS, GATE_COLS, (double)NAN);
    CALL_OK(b, gated_activation_backward, b->queue, *kind, gate->view, up->view, dout->view, dgate->view,
            dup->view);
    memcpy(out, operand_fetch(b, dgate), sizeof *out * GATE_COUNT);
    memcpy(out + GATE_COUNT, operand_fetch(b, dup), sizeof *out * GATE_COUNT);
    case_end(b);
}

void test_gradients_gated_activation(bench *b) {
    static const int32_t kinds[] = {ACTIVATION_SILU, ACTIVATION_GELU_TANH};
    for (int64_t k = 0; k < COUNT_OF(kinds); k++) {
        double *cotangent = doubles_new(b, GATE_COUNT, 1.0), *point = doubles_new(b, 2L * GATE_COUNT, 2.0);
        differentiable f = {SLOT_gated_activation_backward,
                            "gated activation",
                            2L * GATE_COUNT,
                            1e-2,
                            activation_value,
                            activation_gradient,
                            &kinds[k],
                            cotangent};
        check_gradient(b, &f, point);
        free(cotangent);
        free(point);
    }
}

/* --- rope: linear, so that rotating the cotangent back must be the gradient --- */

enum {
    ROPE_TOKENS = 6,
    ROPE_HEADS = 3,
    ROPE_DIM = 10,
    ROPE_COLS = ROPE_HEADS * ROPE_DIM,
    ROPE_COUNT = ROPE_TOKENS * ROPE_COLS
};

static void rotate(bench *b, const differentiable *self, const double *x, double *out, int inverse,
                   bool through_slot) {
    double positions[ROPE_TOKENS], table[ROPE_TOKENS * ROPE_DIM];
    for (int64_t t = 0; t < ROPE_TOKENS; t++) {
        positions[t] = (double)(ROPE_TOKENS - 1 - t);
        for (int64_t j = 0; j < ROPE_DIM / 2; j++) {
            table[t * ROPE_DIM + j] = (double)cosf(0.37F * (float)(t * (j + 1)));
            table[t * ROPE_DIM + ROPE_DIM / 2 + j] = (double)sinf(0.37F * (float)(t * (j + 1)));
        }
    }
    memcpy(out, x, sizeof *out * ROPE_COUNT);
    if (!through_slot) {
        reference_rope(ROPE_TOKENS, ROPE_HEADS, ROPE_DIM, positions, table, inverse, out, NULL);
        return;
    }
    case_begin(b, self->slot, "%s, inverse %d", self->name, inverse);
    operand *rotated = operand_of(b, "x", BALORA_F32, ROPE_TOKENS, ROPE_COLS, x);
    operand *rows = operand_of(b, "positions", BALORA_I32, 1, ROPE_TOKENS, positions);
    operand *angles = operand_of(b, "table", BALORA_F32, ROPE_TOKENS, ROPE_DIM, table);
    CALL_OK(b, rope, b->queue, rotated->view, ROPE_DIM, rows->view, angles->view, inverse);
    memcpy(out, operand_fetch(b, rotated), sizeof *out * ROPE_COUNT);
    case_end(b);
}

static double rope_value(bench *b, const differentiable *self, const double *point, bool through_slot) {
    double rotated[ROPE_COUNT];
    rotate(b, self, point, rotated, 0, through_slot);
    return array_dot(rotated, self->cotangent, ROPE_COUNT);
}

static void rope_gradient(bench *b, const differentiable *self, const double *point, double *out,
                          bool through_slot) {
    (void)point;
    rotate(b, self, self->cotangent, out, 1, through_slot);
}

void test_gradients_rope(bench *b) {
    double *cotangent = doubles_new(b, ROPE_COUNT, 1.0), *point = doubles_new(b, ROPE_COUNT, 1.0);
    differentiable f = {SLOT_rope, "rope", ROPE_COUNT, 0.1, rope_value, rope_gradient, NULL, cotangent};
    check_gradient(b, &f, point);
    double there[ROPE_COUNT], back[ROPE_COUNT], worst = 0.0;
    rotate(b, &f, point, there, 0, true);
    rotate(b, &f, there, back, 1, true);
    for (int64_t i = 0; i < ROPE_COUNT; i++)
        worst = fmax(worst, fabs(back[i] - point[i]));
    case_begin(b, SLOT_rope, "there and back");
    expect_near(b, "largest change", worst, 0.0, 1e-6 * array_largest(point, ROPE_COUNT));
    case_end(b);
    free(cotangent);
    free(point);
}

/* --- attention: the point is [q, k, v] --- */

typedef struct attention_parameters {
    attention_shape shape;
    int32_t offsets[5];
} attention_parameters;

typedef struct attention_sizes {
    int64_t tokens, q_cols, k_cols, q_count, k_count;
} attention_sizes;

static attention_sizes sizes_of(const attention_parameters *p) {
    attention_sizes s = {.tokens = p->offsets[p->shape.sequences]};
    s.q_cols = p->shape.heads * p->shape.head_dim;
    s.k_cols = p->shape.key_heads * p->shape.head_dim;
    s.q_count = s.tokens * s.q_cols;
    s.k_count = s.tokens * s.k_cols;
    return s;
}

/* Operands of a point, with the output of forward in `out` and `sums`. */
typedef struct attention_operands {
    operand *offsets, *q, *k, *v, *out, *sums;
} attention_operands;

static attention_operands attend(bench *b, const attention_parameters *p, const double *point) {
    attention_sizes s = sizes_of(p);
    double offsets[COUNT_OF(p->offsets)];
    for (int64_t i = 0; i <= p->shape.sequences; i++)
        offsets[i] = p->offsets[i];
    attention_operands o = {
        operand_of(b, "offsets", BALORA_I32, 1, p->shape.sequences + 1, offsets),
        operand_of(b, "q", BALORA_F32, s.tokens, s.q_cols, point),
        operand_of(b, "k", BALORA_F32, s.tokens, s.k_cols, point + s.q_count),
        operand_of(b, "v", BALORA_F32, s.tokens, s.k_cols, point + s.q_count + s.k_count),
        operand_filled(b, "out", BALORA_F32, s.tokens, s.q_cols, (double)NAN),
        operand_filled(b, "logsumexp", BALORA_F32, s.tokens, p->shape.heads, (double)NAN)};
    attention_forward arguments = {p->shape,  o.offsets->view, o.q->view,   o.k->view,
                                   o.v->view, o.out->view,     o.sums->view};
    CALL_OK(b, attention, b->queue, &arguments);
    operand_may_change(o.sums);
    operand_may_change(o.out);
    return o;
}

static double attention_value(bench *b, const differentiable *self, const double *point, bool through_slot) {
    const attention_parameters *p = self->parameters;
    attention_sizes s = sizes_of(p);
    double value;
    case_begin(b, self->slot, "%s, forward", self->name);
    if (through_slot) {
        attention_operands o = attend(b, p, point);
        value = array_dot(operand_fetch(b, o.out), self->cotangent, s.q_count);
    } else {
        int64_t sums = s.tokens * p->shape.heads;
        reference_attention problem = {&p->shape, p->offsets, point, point + s.q_count,
                                       point + s.q_count + s.k_count};
        reference_attention_result result = {case_array(b, s.q_count), case_array(b, sums),
                                             case_array(b, s.q_count), case_array(b, sums)};
        reference_attention_forward(&problem, &result);
        value = array_dot(result.out, self->cotangent, s.q_count);
    }
    case_end(b);
    return value;
}

static void attention_gradient(bench *b, const differentiable *self, const double *point, double *out,
                               bool through_slot) {
    const attention_parameters *p = self->parameters;
    attention_sizes s = sizes_of(p);
    double *dq = out, *dk = out + s.q_count, *dv = out + s.q_count + s.k_count;
    case_begin(b, self->slot, "%s, backward", self->name);
    if (through_slot) {
        attention_operands o = attend(b, p, point);
        operand *dout = operand_of(b, "dout", BALORA_F32, s.tokens, s.q_cols, self->cotangent);
        operand *dq_out = operand_filled(b, "dq", BALORA_F32, s.tokens, s.q_cols, (double)NAN);
        operand *dk_out = operand_filled(b, "dk", BALORA_F32, s.tokens, s.k_cols, (double)NAN);
        operand *dv_out = operand_filled(b, "dv", BALORA_F32, s.tokens, s.k_cols, (double)NAN);
        attention_backward arguments = {p->shape,     o.offsets->view, o.q->view,    o.k->view,
                                        o.v->view,    o.out->view,     o.sums->view, dout->view,
                                        dq_out->view, dk_out->view,    dv_out->view};
        CALL_OK(b, attention_backward, b->queue, &arguments);
        memcpy(dq, operand_fetch(b, dq_out), sizeof *out * (size_t)s.q_count);
        memcpy(dk, operand_fetch(b, dk_out), sizeof *out * (size_t)s.k_count);
        memcpy(dv, operand_fetch(b, dv_out), sizeof *out * (size_t)s.k_count);
    } else {
        reference_attention problem = {&p->shape, p->offsets, point, point + s.q_count,
                                       point + s.q_count + s.k_count};
        reference_attention_gradient gradient = {
            dq, dk, dv, case_array(b, s.q_count), case_array(b, s.k_count), case_array(b, s.k_count)};
        reference_attention_backward(&problem, self->cotangent, &gradient);
    }
    case_end(b);
}

void test_gradients_attention(bench *b) {
    static const attention_parameters problems[] = {
        {{1, 6, 2, 2, 3, 0, 0.6F, 0}, {0, 6}},         {{4, 7, 4, 2, 5, 0, 0.4F, 0}, {0, 7, 8, 11, 12}},
        {{3, 9, 6, 2, 4, 3, 0.5F, 0}, {0, 9, 10, 14}}, {{2, 8, 3, 1, 8, 20, 0.35F, 0}, {0, 8, 10}},
        {{2, 6, 4, 2, 4, 0, 0.7F, 1.5F}, {0, 6, 8}},
    };
    for (int64_t i = 0; i < COUNT_OF(problems); i++) {
        attention_sizes s = sizes_of(&problems[i]);
        int64_t size = s.q_count + 2 * s.k_count;
        double *cotangent = doubles_new(b, s.q_count, 1.0), *point = doubles_new(b, size, 1.0);
        differentiable f = {SLOT_attention_backward, "attention",        size,         5e-3,
                            attention_value,         attention_gradient, &problems[i], cotangent};
        check_gradient(b, &f, point);
        free(cotangent);
        free(point);
    }
}

/* --- loss_head: the point is the student's logits --- */

typedef struct loss_parameters {
    int64_t rows, vocabulary, top_k;
    double task, consistency, diversity, temperature;
    double *teacher;
} loss_parameters;

static int32_t target_of(const loss_parameters *p, int64_t row) {
    return row % 3 == 2 ? -1 : (int32_t)((row * 7 + 3) % p->vocabulary);
}

static int32_t regularized_of(int64_t row) {
    return row % 4 != 1;
}

/* Terms into `terms` and the gradient of their weighted sum into `gradient`, unless that is NULL. */
static void run_loss(bench *b, const differentiable *self, const double *point, double *terms,
                     double *gradient) {
    const loss_parameters *p = self->parameters;
    double targets[16], regularized[16];
    for (int64_t i = 0; i < p->rows; i++) {
        targets[i] = target_of(p, i);
        regularized[i] = regularized_of(i);
    }
    case_begin(b, self->slot, "%s", self->name);
    operand *logits = operand_of(b, "logits", BALORA_F32, p->rows, p->vocabulary, point);
    operand *teacher = operand_of(b, "teacher", BALORA_F32, p->rows, p->vocabulary, p->teacher);
    operand *target = operand_of(b, "targets", BALORA_I32, 1, p->rows, targets);
    operand *acts = operand_of(b, "regularized", BALORA_I32, 1, p->rows, regularized);
    operand *out = operand_filled(b, "terms", BALORA_F64, p->rows, LOSS_COLUMNS, (double)NAN);
    loss_head_rows arguments = {.logits = logits->view,
                                .teacher = teacher->view,
                                .targets = target->view,
                                .regularized = acts->view,
                                .terms = out->view,
                                .task_weight = (float)p->task,
                                .consistency_weight = (float)p->consistency,
                                .diversity_weight = (float)p->diversity,
                                .temperature = (float)p->temperature,
                                .top_k = p->top_k,
                                .gradient = gradient != NULL};
    CALL_OK(b, loss_head, b->queue, &arguments);
    memcpy(terms, operand_fetch(b, out), sizeof *terms * (size_t)(p->rows * LOSS_COLUMNS));
    if (gradient != NULL)
        memcpy(gradient, operand_fetch(b, logits), sizeof *gradient * (size_t)self->size);
    case_end(b);
}

static void reference_loss(const loss_parameters *p, const double *point, double *terms, double *gradient) {
    for (int64_t i = 0; i < p->rows; i++) {
        reference_loss_row row = {p->vocabulary,
                                  point + i * p->vocabulary,
                                  p->teacher + i * p->vocabulary,
                                  target_of(p, i),
                                  regularized_of(i),
                                  p->task,
                                  p->consistency,
                                  p->diversity,
                                  p->temperature,
                                  p->top_k};
        reference_loss_head(&row, terms + i * LOSS_COLUMNS,
                            gradient == NULL ? NULL : gradient + i * p->vocabulary, NULL);
    }
}

static double loss_value(bench *b, const differentiable *self, const double *point, bool through_slot) {
    const loss_parameters *p = self->parameters;
    double terms[16 * LOSS_COLUMNS], value = 0.0;
    if (through_slot)
        run_loss(b, self, point, terms, NULL);
    else
        reference_loss(p, point, terms, NULL);
    for (int64_t i = 0; i < p->rows; i++) {
        const double *row = terms + i * LOSS_COLUMNS;
        value += p->task * row[LOSS_TASK] + p->consistency * row[LOSS_CONSISTENCY] +
                 p->diversity * row[LOSS_DIVERSITY];
    }
    return value;
}

static void loss_gradient(bench *b, const differentiable *self, const double *point, double *out,
                          bool through_slot) {
    double terms[16 * LOSS_COLUMNS];
    if (through_slot)
        run_loss(b, self, point, terms, out);
    else
        reference_loss(self->parameters, point, terms, out);
}

static int descending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a < b) - (a > b);
}

/* Lift the top K logits of every row away from the others, so that no step changes which they are. */
static void part_top(const loss_parameters *p, double *point) {
    double sorted[256];
    if (p->top_k == 0 || p->top_k >= p->vocabulary)
        return;
    for (int64_t i = 0; i < p->rows; i++) {
        double *row = point + i * p->vocabulary;
        memcpy(sorted, row, sizeof *row * (size_t)p->vocabulary);
        qsort(sorted, (size_t)p->vocabulary, sizeof *sorted, descending);
        for (int64_t j = 0; j < p->vocabulary; j++)
            row[j] += row[j] >= sorted[p->top_k - 1] ? 0.5 : 0.0;
    }
}

void test_gradients_loss_head(bench *b) {
    static const double weights[][3] = {{1.0, 0.0, 0.0}, {0.0, 1.0, 0.0}, {0.0, 0.0, 1.0}, {0.5, 0.25, 0.75}};
    static const int64_t shapes[][3] = {{8, 1, 0},  {6, 2, 1},   {7, 17, 0}, {7, 33, 20},
                                        {5, 40, 5}, {5, 17, 20}, {3, 100, 1}};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t w = 0; w < COUNT_OF(weights); w++)
            for (double temperature = 1.0; temperature <= 2.0; temperature += 1.0) {
                int64_t size = shapes[s][0] * shapes[s][1];
                loss_parameters p = {shapes[s][0],  shapes[s][1],  shapes[s][2], weights[w][0],
                                     weights[w][1], weights[w][2], temperature,  doubles_new(b, size, 2.0)};
                double *point = doubles_new(b, size, 2.0);
                part_top(&p, point);
                differentiable f = {SLOT_loss_head, "loss_head",   size, 5e-3,
                                    loss_value,     loss_gradient, &p,   NULL};
                snprintf(f.name, sizeof f.name,
                         "loss_head [%lld, %lld] top_k %lld, weights %g %g %g, temperature %g",
                         (long long)p.rows, (long long)p.vocabulary, (long long)p.top_k, p.task,
                         p.consistency, p.diversity, temperature);
                check_gradient(b, &f, point);
                free(p.teacher);
                free(point);
            }
}
