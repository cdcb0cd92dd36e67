/* optimizer_step: its kinds over blocks and groups, the rules for codes, and what leaves everything untouched. */
#include <math.h>
#include <string.h>

#include "tests.h"

enum { CODES = 256, STEPS = 4 };

/* How a case cuts its array: blocks of random lengths between borders that no block holds, or none at all. */
typedef struct step_case {
    int32_t kind;
    int64_t count;
    bool cut;
    int32_t groups;
    double clip;
    int64_t first_step;
} step_case;

/* The operands of a case and what they should hold, in double. */
typedef struct step_bench {
    bench *b;
    const step_case *spec;
    optimizer_update update;
    int64_t blocks;
    double *starts, *members;                   /* [blocks + 1], [blocks] */
    double first_map[CODES], second_map[CODES]; /* as F32 holds them */
    operand *parameter, *gradient, *first, *second, *first_scales, *second_scales;
    double *want, *want_first, *want_second, *magnitude, *first_magnitude;
} step_bench;

/* Seven decades, each cut into twice as many parts as the one below it, and the parts' means (dynamic tree). */
static void dynamic_map(bool is_signed, double out[CODES]) {
    int count = 0;
    out[count++] = 0;
    out[count++] = 1;
    for (int decade = 0; decade < 7; decade++) {
        int parts = (is_signed ? 1 : 2) << decade;
        for (int i = 0; i < parts; i++) {
            double mean = (0.1 + 0.9 * (i + 0.5) / parts) * pow(10, decade - 6);
            out[count++] = mean;
            if (is_signed)
                out[count++] = -mean;
        }
    }
    for (int i = 1; i < CODES; i++)
        for (int j = i; j > 0 && out[j] < out[j - 1]; j--) {
            double larger = out[j - 1];
            out[j - 1] = out[j];
            out[j] = larger;
        }
    for (int i = 0; i < CODES; i++)
        out[i] = (double)(float)out[i];
}

static void cut_blocks(step_bench *s) {
    bench *b = s->b;
    int64_t count = s->spec->count, at = s->spec->cut ? draw_below(b, 1 + count / 3) : 0;
    s->starts = case_array(b, count + 2);
    s->members = case_array(b, count + 1);
    while (at < count) {
        int64_t length = s->spec->cut ? 1 + draw_below(b, OPTIMIZER_BLOCK) : OPTIMIZER_BLOCK;
        if (at + length > count && s->spec->cut)
            break;
        s->members[s->blocks] = s->spec->groups > 1 ? (double)draw_below(b, s->spec->groups) : 0;
        s->starts[s->blocks++] = (double)at;
        at = at + length < count ? at + length : count;
    }
    s->starts[s->blocks] = (double)at;
}

static void make_codes(step_bench *s) {
    bench *b = s->b;
    double *codes = case_array(b, s->spec->count), zero = 0;
    dynamic_map(true, s->first_map);
    dynamic_map(false, s->second_map);
    while (s->first_map[(int)zero] < 0)
        zero++;
    for (int64_t i = 0; i < s->spec->count; i++)
        codes[i] = s->spec->first_step > 1 ? (double)draw_below(b, CODES) : zero;
    s->first = operand_of(b, "first_moment", BALORA_U8, 1, s->spec->count, codes);
    for (int64_t i = 0; i < s->spec->count; i++)
        codes[i] = s->spec->first_step > 1 ? (double)draw_below(b, CODES) : 0;
    s->second = operand_of(b, "second_moment", BALORA_U8, 1, s->spec->count, codes);
    double scale = s->spec->first_step > 1 ? 1e-3 : 0;
    s->first_scales = operand_filled(b, "first_scales", BALORA_F32, 1, s->blocks, scale);
    s->second_scales = operand_filled(b, "second_scales", BALORA_F32, 1, s->blocks, scale * scale);
    s->update.first_scales = s->first_scales->view;
    s->update.second_scales = s->second_scales->view;
    s->update.first_map = operand_of(b, "first_map", BALORA_F32, 1, CODES, s->first_map)->view;
    s->update.second_map = operand_of(b, "second_map", BALORA_F32, 1, CODES, s->second_map)->view;
}

static void make_moments(step_bench *s) {
    bench *b = s->b;
    double size = s->spec->first_step > 1 ? 1e-3 : 0;
    s->first = operand_random(b, "first_moment", BALORA_F32, 1, s->spec->count, size);
    if (s->spec->kind == OPTIMIZER_LION)
        return;
    s->second = operand_random(b, "second_moment", BALORA_F32, 1, s->spec->count, size);
    for (int64_t i = 0; i < s->spec->count; i++)
        s->second->result[i] = s->second->value[i] * s->second->value[i];
    operand_set(b, s->second, s->second->result);
}

static void step_begin(step_bench *s, bench *b, const step_case *spec) {
    memset(s, 0, sizeof *s);
    s->b = b;
    s->spec = spec;
    cut_blocks(s);
    s->update = (optimizer_update){.kind = spec->kind,
                                   .group_count = spec->groups,
                                   .beta1 = 0.9,
                                   .beta2 = spec->kind == OPTIMIZER_LION ? 0.99 : 0.999,
                                   .epsilon = 1e-8,
                                   .step = spec->first_step};
    for (int i = 0; i < spec->groups; i++)
        s->update.groups[i] = (optimizer_group){2e-4 * (1 + i), 0.05 * (i % 3)};
    s->parameter = operand_random(b, "parameter", BALORA_F32, 1, spec->count, 0.05);
    s->gradient = operand_random(b, "gradient", BALORA_F32, 1, spec->count, 1e-3);
    if (spec->kind == OPTIMIZER_ADAMW_8BIT)
        make_codes(s);
    else
        make_moments(s);
    s->update.parameter = s->parameter->view;
    s->update.gradient = s->gradient->view;
    s->update.first_moment = s->first->view;
    if (s->second != NULL)
        s->update.second_moment = s->second->view;
    s->update.scale = operand_of(b, "scale", BALORA_F32, 1, 1, &spec->clip)->view;
    if (spec->cut)
        s->update.block_starts = operand_of(b, "block_starts", BALORA_I64, 1, s->blocks + 1, s->starts)->view;
    if (spec->groups > 1)
        s->update.block_groups = operand_of(b, "block_groups", BALORA_U8, 1, s->blocks, s->members)->view;
    s->want = case_array(b, spec->count);
    s->want_first = case_array(b, spec->count);
    s->want_second = case_array(b, spec->count);
    s->magnitude = case_array(b, spec->count);
    s->first_magnitude = case_array(b, spec->count);
    memcpy(s->want, s->parameter->value, sizeof(double) * (size_t)spec->count);
    if (spec->kind == OPTIMIZER_ADAMW_8BIT)
        return;
    memcpy(s->want_first, s->first->value, sizeof(double) * (size_t)spec->count);
    for (int64_t i = 0; i < spec->count; i++)
        s->first_magnitude[i] = fabs(s->first->value[i]);
    if (s->second != NULL)
        memcpy(s->want_second, s->second->value, sizeof(double) * (size_t)spec->count);
}

static void reference_number(step_bench *s, const optimizer_group *group, int64_t i) {
    const optimizer_update *u = &s->update;
    double g = s->gradient->value[i] * (double)(float)s->spec->clip, *p = &s->want[i], *m = &s->want_first[i],
           *v = &s->want_second[i];
    double change, change_magnitude;
    if (u->kind == OPTIMIZER_LION) {
        double direction = u->beta1 * *m + (1 - u->beta1) * g;
        change = change_magnitude = group->learning_rate * ((direction > 0) - (direction < 0));
        *m = u->beta2 * *m + (1 - u->beta2) * g;
        s->first_magnitude[i] = u->beta2 * s->first_magnitude[i] + (1 - u->beta2) * fabs(g);
    } else {
        *m = u->beta1 * *m + (1 - u->beta1) * g;
        s->first_magnitude[i] = u->beta1 * s->first_magnitude[i] + (1 - u->beta1) * fabs(g);
        *v = u->beta2 * *v + (1 - u->beta2) * g * g;
        double root = sqrt(*v / (1 - pow(u->beta2, (double)u->step))) + u->epsilon;
        double factor = group->learning_rate / (1 - pow(u->beta1, (double)u->step)) / root;
        change = *m * factor;
        change_magnitude = s->first_magnitude[i] * factor;
    }
    *p -= group->learning_rate * group->weight_decay * *p;
    *p -= change;
    s->magnitude[i] += fabs(*p) + fabs(change_magnitude);
}

static void reference_step(step_bench *s) {
    for (int64_t block = 0; block < s->blocks; block++)
        for (int64_t i = (int64_t)s->starts[block]; i < (int64_t)s->starts[block + 1]; i++)
            reference_number(s, &s->update.groups[(int)s->members[block]], i);
}

/* --- codes --- */

/* The moments as the device will read them. */
static void decode(step_bench *s) {
    const double *first = operand_fetch(s->b, s->first), *second = operand_fetch(s->b, s->second);
    const double *first_scales = operand_fetch(s->b, s->first_scales),
                 *second_scales = operand_fetch(s->b, s->second_scales);
    for (int64_t block = 0; block < s->blocks; block++)
        for (int64_t i = (int64_t)s->starts[block]; i < (int64_t)s->starts[block + 1]; i++) {
            s->want_first[i] = s->first_map[(int)first[i]] * first_scales[block];
            s->want_second[i] = s->second_map[(int)second[i]] * second_scales[block];
            s->first_magnitude[i] = fabs(s->want_first[i]);
        }
}

/* `code` is nearest to x / scale, or as near as roundings of both can tell. */
static void expect_code(bench *b, const char *what, const double *map, double code, double x, double scale,
                        double slack) {
    double wanted = scale > 0 ? x / scale : 0, least = INFINITY;
    for (int i = 0; i < CODES; i++)
        least = fmin(least, fabs(map[i] - wanted));
    double found = fabs(map[(int)code] - wanted);
    if (!(found <= least + slack))
        bench_report(b, "%s %.9g of %.9g has code %g, %.3g away; the nearest is %.3g away", what, x, scale,
                     code, found, least);
}

static void expect_codes(step_bench *s) {
    bench *b = s->b;
    const double *first = operand_fetch(b, s->first), *second = operand_fetch(b, s->second);
    const double *first_scales = operand_fetch(b, s->first_scales),
                 *second_scales = operand_fetch(b, s->second_scales);
    for (int64_t block = 0; block < s->blocks; block++) {
        int64_t begin = (int64_t)s->starts[block], count = (int64_t)s->starts[block + 1] - begin;
        double largest = array_largest(s->want_first + begin, count);
        expect_near(b, "first scale", first_scales[block], largest,
                    2e-6 * array_largest(s->first_magnitude + begin, count));
        double largest_second = array_largest(s->want_second + begin, count);
        expect_near(b, "second scale", second_scales[block], largest_second, 2e-6 * largest_second);
        for (int64_t i = begin; i < begin + count; i++) {
            double slack = largest > 0 ? 4e-6 * s->first_magnitude[i] / largest + 4e-6 : 0;
            expect_code(b, "first moment", s->first_map, first[i], s->want_first[i], largest, slack);
            if (s->want_second[i] > 0 && second[i] < 1)
                bench_report(b, "a second moment of %g became 0", s->want_second[i]);
            if (second[i] != 1)
                expect_code(b, "second moment", s->second_map, second[i], s->want_second[i], largest_second,
                            4e-6 * s->want_second[i] / fmax(largest_second, 1e-300));
            else if (s->want_second[i] > (s->second_map[1] + s->second_map[2]) / 2 * largest_second * 1.00001)
                bench_report(b, "a second moment of %g is too large for code 1", s->want_second[i]);
        }
    }
}

/* Numbers that no block holds keep every bit. */
static void expect_untouched(step_bench *s) {
    const double *found = operand_fetch(s->b, s->parameter);
    for (int64_t i = 0; i < s->spec->count; i++)
        if ((i < (int64_t)s->starts[0] || i >= (int64_t)s->starts[s->blocks]) &&
            found[i] != s->parameter->value[i])
            bench_report(s->b, "number %lld is of no block and has changed", (long long)i);
}

static void run_case(bench *b, const step_case *spec) {
    step_bench s;
    case_begin(b, SLOT_optimizer_step, "kind %d, %lld numbers, %s, %d groups, scale %g, from step %lld",
               spec->kind, (long long)spec->count, spec->cut ? "cut at random" : "whole", spec->groups,
               spec->clip, (long long)spec->first_step);
    step_begin(&s, b, spec);
    for (int step = 0; step < STEPS; step++, s.update.step++) {
        for (int64_t i = 0; i < spec->count; i++) /* some have no gradient */
            s.gradient->result[i] = i % 11 == 10 ? 0.0 : 1e-3 * draw_normal(b);
        operand_set(b, s.gradient, s.gradient->result);
        if (spec->kind == OPTIMIZER_ADAMW_8BIT)
            decode(&s);
        CALL_OK(b, optimizer_step, b->queue, &s.update);
        reference_step(&s);
        if (spec->kind == OPTIMIZER_ADAMW_8BIT)
            expect_codes(&s);
    }
    expect_untouched(&s);
    expect_close(b, s.parameter, s.want, s.magnitude);
    if (spec->kind != OPTIMIZER_ADAMW_8BIT)
        expect_close(b, s.first, s.want_first, s.first_magnitude);
    if (spec->kind == OPTIMIZER_ADAMW)
        expect_close(b, s.second, s.want_second, NULL);
    case_end(b);
}

static void run_kind(bench *b, int32_t kind) {
    static const int64_t counts[] = {0, 1, 7, 255, 256, 257, 1000, 20011};
    for (int64_t i = 0; i < COUNT_OF(counts); i++) {
        step_case spec = {kind, counts[i], false, 1, 1.0, 1};
        run_case(b, &spec);
        spec = (step_case){kind, counts[i], true, 3, 0.37, 1};
        run_case(b, &spec);
        spec = (step_case){kind, counts[i], true, OPTIMIZER_GROUPS, 1.0, 1000};
        run_case(b, &spec);
        spec = (step_case){kind, counts[i], false, 2, 1.0, 50};
        run_case(b, &spec);
    }
}

void test_optimizer_step_adamw(bench *b) {
    run_kind(b, OPTIMIZER_ADAMW);
}

void test_optimizer_step_lion(bench *b) {
    run_kind(b, OPTIMIZER_LION);
}

void test_optimizer_step_8bit(bench *b) {
    run_kind(b, OPTIMIZER_ADAMW_8BIT);
}

/* Gradients over 12 orders of magnitude in one block: what is too small beside the largest keeps a second moment above
 * 0, so that no step is the first moment over epsilon. And a block without any gradient stays at 0. */
void test_optimizer_step_8bit_small_moments(bench *b) {
    step_case spec = {OPTIMIZER_ADAMW_8BIT, 2 * OPTIMIZER_BLOCK, false, 1, 1.0, 1};
    step_bench s;
    case_begin(b, SLOT_optimizer_step, "gradients from 1e-9 to 1e3");
    step_begin(&s, b, &spec);
    for (int step = 0; step < STEPS; step++, s.update.step++) {
        for (int64_t i = 0; i < spec.count; i++)
            s.gradient->result[i] =
                i >= OPTIMIZER_BLOCK || step == STEPS - 1 ? 0.0 : pow(10, (double)(i % 13) - 9);
        operand_set(b, s.gradient, s.gradient->result);
        decode(&s);
        CALL_OK(b, optimizer_step, b->queue, &s.update);
        reference_step(&s);
        expect_codes(&s);
    }
    expect_close(b, s.parameter, s.want, s.magnitude);
    const double *found = operand_fetch(b, s.parameter), *second = operand_fetch(b, s.second);
    for (int64_t i = 0; i < spec.count; i++) {
        if (i >= OPTIMIZER_BLOCK && (found[i] != s.parameter->value[i] || second[i] != 0))
            bench_report(b, "number %lld has changed without a gradient", (long long)i);
        if (fabs(found[i] - s.parameter->value[i]) > STEPS * 4 * 2e-4)
            bench_report(b, "number %lld went by %g", (long long)i, found[i] - s.parameter->value[i]);
    }
    case_end(b);
}

/* case_end holds every bit of all operands to what it was. */
void test_optimizer_step_skips(bench *b) {
    static const double scales[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (int32_t kind = OPTIMIZER_ADAMW; kind <= OPTIMIZER_ADAMW_8BIT; kind++)
        for (int64_t i = 0; i < COUNT_OF(scales); i++) {
            step_case spec = {kind, 1500, i == 1, 2, scales[i], 3};
            step_bench s;
            case_begin(b, SLOT_optimizer_step, "kind %d, scale %g", kind, scales[i]);
            step_begin(&s, b, &spec);
            CALL_OK(b, optimizer_step, b->queue, &s.update);
            case_end(b);
        }
}

static matrix_view as_columns(matrix_view view, int64_t cols) {
    view.cols = view.ld = cols;
    return view;
}

static matrix_view as_dtype(matrix_view view, int32_t dtype) {
    view.dtype = dtype;
    return view;
}

void test_optimizer_step_refusals(bench *b) {
    step_case spec = {OPTIMIZER_ADAMW_8BIT, 1000, true, 3, 1.0, 3};
    step_bench s;
    case_begin(b, SLOT_optimizer_step, "operands that do not fit");
    step_begin(&s, b, &spec);
#define BREAK(field, value)                                                                                  \
    do {                                                                                                     \
        optimizer_update broken = s.update;                                                                  \
        broken.field = (value);                                                                              \
        CALL_FAILS(b, optimizer_step, b->queue, &broken);                                                    \
    } while (0)
    BREAK(kind, 0);
    BREAK(kind, 4);
    BREAK(step, 0);
    BREAK(group_count, 0);
    BREAK(group_count, OPTIMIZER_GROUPS + 1);
    BREAK(parameter, as_dtype(s.update.parameter, BALORA_BF16));
    BREAK(gradient, as_columns(s.update.gradient, 999));
    BREAK(first_moment, as_dtype(s.update.first_moment, BALORA_I32));
    BREAK(second_moment, view_none());
    BREAK(first_scales, as_columns(s.update.first_scales, s.blocks - 1));
    BREAK(second_scales, as_dtype(s.update.second_scales, BALORA_I32));
    BREAK(first_map, as_columns(s.update.first_map, 255));
    BREAK(second_map, view_none());
    BREAK(block_starts, as_columns(s.update.block_starts, s.blocks));
    BREAK(block_starts, as_dtype(s.update.block_starts, BALORA_F64));
    BREAK(block_groups, as_columns(s.update.block_groups, s.blocks - 1));
    BREAK(scale, as_dtype(s.update.scale, BALORA_F64));
    BREAK(kind, OPTIMIZER_ADAMW); /* whose moments are no codes */
#undef BREAK
    case_end(b);
}
