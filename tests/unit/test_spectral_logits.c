/* The SVD term of logits that are there themselves, against a full SVD in double: every route, parts, chosen rows. */
#include "scratch.h"

#include <math.h>

#include "../device.h"
#include "base/parallel.h"
#include "base/random.h"
#include "regularizer/spectral_logits.h"
#include "svd_reference.h"

#define VALUE_TOLERANCE    1e-6 /* the logits are F32, the sums F64 */
#define GRADIENT_TOLERANCE 1e-5
#define SCALE              0.3

typedef struct problem {
    const char *name;
    int64_t held, rows, columns, top; /* rows of the logits that are held, those of the term, V, k */
    int64_t distinct;                 /* the others repeat them; 0: all */
    int64_t beyond;                   /* rows planned for, not used */
    int32_t norm;
    bool chosen; /* the term's rows are named: every other one from the end */
} problem;

typedef struct bench {
    scratch *base;
    const problem *problem;
    backend device;
    backend_queue *queue;
    arena memory;
    spectral_logits term;
    matrix_view logits, gradient; /* F32 [held, V] */
    matrix_view rows;             /* I32 [1, rows] */
    matrix_view value;            /* F64 [1, 1] */
    float *z, *start;             /* [held, V]: the logits, and the gradient before */
    int32_t *names;               /* [rows] */
} bench;

static void place(bench *self) {
    const problem *one = self->problem;
    self->logits = arena_place(&self->memory, BALORA_F32, one->held, one->columns);
    self->gradient = arena_place(&self->memory, BALORA_F32, one->held, one->columns);
    self->rows = arena_place(&self->memory, BALORA_I32, 1, one->rows);
    self->value = arena_place(&self->memory, BALORA_F64, 1, 1);
}

static void send(bench *self, matrix_view to, const void *from) {
    expect_ok(self->device.ops->upload(self->queue, to.buffer, to.offset, from, view_bytes(to)));
}

static void receive(bench *self, void *to, matrix_view from) {
    expect_ok(self->device.ops->download(self->queue, to, from.buffer, from.offset, view_bytes(from)));
    expect_ok(self->device.ops->synchronize(self->queue));
}

static void draw(bench *self) {
    const problem *one = self->problem;
    int64_t distinct = one->distinct > 0 ? one->distinct : one->held;
    for (int64_t i = 0; i < one->held; i++)
        for (int64_t j = 0; j < one->columns; j++) {
            uint64_t at = (uint64_t)(i % distinct * one->columns + j);
            self->z[i * one->columns + j] = (float)(1 + 2 * random_normal(7, 0, at));
            self->start[i * one->columns + j] = (float)random_normal(7, 1, (uint64_t)(i * one->columns + j));
        }
    for (int64_t i = 0; i < one->rows; i++)
        self->names[i] = (int32_t)(one->chosen ? one->held - 1 - 2 * i : i);
}

static void open_bench(bench *self, scratch *base, const problem *one) {
    size_t count = (size_t)(one->held * one->columns);
    *self = (bench){.base = base, .problem = one};
    spectral_logits_options options = {
        .rows = one->rows + one->beyond, .columns = one->columns, .top = one->top, .norm = one->norm};
    backend_limits limits = {.eigh_size = spectral_logits_problem_size(&options),
                             .eigh_count = spectral_logits_pair_count(&options)};
    expect_ok(backend_open(&self->device, &base->memory, test_device(), NULL, 1));
    expect_ok(self->device.ops->queue_open(&self->queue, self->device.device));
    expect_ok(self->device.ops->prepare(self->queue, &limits));
    place(self);
    expect_ok(arena_allocate(&self->memory, &self->device));
    place(self);
    expect_ok(spectral_logits_create(&self->term, &self->device, self->queue, &options));
    self->z = calloc(count, sizeof *self->z);
    self->start = calloc(count, sizeof *self->start);
    self->names = calloc((size_t)one->rows, sizeof *self->names);
    assert_true(self->z != NULL && self->start != NULL && self->names != NULL);
    draw(self);
    send(self, self->logits, self->z);
    send(self, self->gradient, self->start);
    send(self, self->rows, self->names);
    expect_ok(self->device.ops->fill_zero(self->queue, self->value));
}

static void close_bench(bench *self) {
    spectral_logits_free(&self->term);
    arena_free(&self->memory);
    self->device.ops->queue_close(self->queue);
    backend_close(&self->device);
    free(self->z);
    free(self->start);
    free(self->names);
}

static matrix_view rows_of(const bench *self) {
    return self->problem->chosen ? self->rows : view_none();
}

/* The gradient that was added, in the order of the term's rows; the other rows must be as they were. */
static double *added(bench *self) {
    const problem *one = self->problem;
    int64_t v = one->columns, count = one->held * v;
    float *found = calloc((size_t)count, sizeof *found);
    double *out = numbers(one->rows * v);
    assert_non_null(found);
    receive(self, found, self->gradient);
    for (int64_t i = 0; i < one->rows; i++)
        for (int64_t j = 0; j < v; j++) {
            int64_t at = self->names[i] * v + j;
            out[i * v + j] = (double)found[at] - (double)self->start[at];
            found[at] = self->start[at];
        }
    assert_memory_equal(found, self->start, (size_t)count * sizeof *found);
    free(found);
    return out;
}

static void expect_reference(bench *self) {
    const problem *one = self->problem;
    int64_t v = one->columns, count = one->rows * v;
    double *z = numbers(count), *expected = numbers(count), *found = added(self), value;
    double difference = 0, inner = 0, start = 0;
    for (int64_t i = 0; i < count; i++) {
        z[i] = (double)self->z[self->names[i / v] * v + i % v];
        start += pow((double)self->start[self->names[i / v] * v + i % v], 2);
    }
    double term = reference_term(one->rows, v, one->top, one->norm, z, expected);
    receive(self, &value, self->value);
    if (!(fabs(value - term) <= VALUE_TOLERANCE * fabs(term)))
        fail_msg("%s: the term is %.9g, expected %.9g", one->name, value, term);
    for (int64_t i = 0; i < count; i++) {
        difference += pow(found[i] - SCALE * expected[i], 2);
        inner += z[i] * found[i];
    }
    /* The sum with what was there before is rounded to F32. */
    double rounding = 1e-7 * sqrt(start), size = SCALE * norm_of(expected, count);
    if (!(sqrt(difference) <= GRADIENT_TOLERANCE * size + rounding))
        fail_msg("%s: the gradient is off by %.3g of its norm %.6g", one->name, sqrt(difference) / size,
                 size);
    /* The term does not change with the scale of Z. */
    if (!(fabs(inner) <= norm_of(z, count) * (1e-6 * norm_of(found, count) + rounding)))
        fail_msg("%s: <Z, dZ> is %.3g", one->name, inner);
    free(z);
    free(expected);
    free(found);
}

static void evaluate(bench *self) {
    expect_ok(spectral_logits_evaluate(&self->term, self->logits, rows_of(self), SCALE, self->value));
}

static void check_whole(scratch *base, const problem *one) {
    bench self;
    open_bench(&self, base, one);
    evaluate(&self);
    expect_ok(spectral_logits_add_gradient(&self.term, self.logits, rows_of(&self), 0, 0, self.gradient));
    expect_reference(&self);
    close_bench(&self);
}

/* The columns in parts of 7, or the rows; the gradient in chunks of 3 rows. */
static void check_parts(scratch *base, const problem *one) {
    bench self;
    matrix_view rows;
    open_bench(&self, base, one);
    expect_ok(spectral_logits_begin(&self.term, one->rows));
    bool by_rows = spectral_logits_by_rows(&self.term);
    assert_int_equal(by_rows, one->rows <= one->columns);
    int64_t length = by_rows ? one->columns : one->rows;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t first = 0; first < length; first += 7) {
            int64_t count = length - first < 7 ? length - first : 7;
            matrix_view part = by_rows ? view_columns(self.logits, first, count) : self.logits;
            rows = by_rows ? self.rows : view_columns(self.rows, first, count);
            expect_ok(pass == 0 ? spectral_logits_accumulate(&self.term, part, rows)
                                : spectral_logits_project(&self.term, part, rows, by_rows ? first : 0));
        }
        if (pass == 0)
            expect_ok(spectral_logits_solve(&self.term, SCALE, self.value));
    }
    for (int64_t first = 0; first < one->rows; first += 3) {
        rows = view_columns(self.rows, first, one->rows - first < 3 ? one->rows - first : 3);
        expect_ok(spectral_logits_add_gradient(&self.term, self.logits, rows, first, 0, self.gradient));
    }
    expect_reference(&self);
    close_bench(&self);
}

static void check(scratch *base, problem one) {
    static const int32_t norms[] = {BALORA_SVD_FROBENIUS, BALORA_SVD_NUCLEAR};
    for (int i = 0; i < 2; i++) {
        one.norm = norms[i];
        check_whole(base, &one);
        check_parts(base, &one);
    }
}

static void every_route_agrees(void **state) {
    static const problem problems[] = {
        {.name = "M < V", .held = 9, .rows = 9, .columns = 40, .top = 3},
        {.name = "M < V, chosen", .held = 20, .rows = 9, .columns = 40, .top = 3, .chosen = true},
        {.name = "M = V", .held = 12, .rows = 12, .columns = 12, .top = 3},
        {.name = "M = V + 1", .held = 13, .rows = 13, .columns = 12, .top = 3},
        {.name = "M > V", .held = 30, .rows = 30, .columns = 6, .top = 2},
        {.name = "M > V, chosen", .held = 61, .rows = 30, .columns = 6, .top = 2, .chosen = true},
        {.name = "M = 2", .held = 2, .rows = 2, .columns = 40, .top = 1},
        {.name = "planned M > V, M < V", .held = 5, .rows = 5, .columns = 12, .top = 3, .beyond = 20},
        {.name = "planned for more", .held = 5, .rows = 5, .columns = 40, .top = 3, .beyond = 9},
        {.name = "rank 4, M < V", .held = 9, .rows = 9, .columns = 40, .top = 3, .distinct = 4},
        {.name = "rank 4, M > V", .held = 40, .rows = 40, .columns = 12, .top = 3, .distinct = 4},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, problems[i]);
}

/* Tiles hold 2^21 numbers: 40 rows with 52,428 columns, or 69,905 rows of 30 columns. */
static void logits_of_several_tiles(void **state) {
    static const problem problems[] = {
        {.name = "wide", .held = 40, .rows = 40, .columns = 60000, .top = 4},
        {.name = "tall", .held = 71000, .rows = 71000, .columns = 30, .top = 4},
    };
    for (size_t i = 0; i < 2; i++)
        check_whole(*state, &problems[i]);
}

/* Frobenius: the sum then runs over all singular values. */
static void more_values_are_asked_for_than_there_are(void **state) {
    static const problem problems[] = {
        {.name = "k > M", .held = 3, .rows = 3, .columns = 40, .top = 10},
        {.name = "k > V", .held = 30, .rows = 30, .columns = 6, .top = 10},
    };
    for (size_t i = 0; i < 2; i++)
        check_whole(*state, &problems[i]);
}

static void no_logits_no_term(void **state) {
    static const int32_t norms[] = {BALORA_SVD_FROBENIUS, BALORA_SVD_NUCLEAR};
    for (int i = 0; i < 4; i++) {
        problem one = {
            .name = "zero", .held = i < 2 ? 5 : 20, .rows = i < 2 ? 5 : 20, .columns = 9, .top = 3};
        one.norm = norms[i % 2];
        bench self;
        open_bench(&self, *state, &one);
        expect_ok(self.device.ops->fill_zero(self.queue, self.logits));
        evaluate(&self);
        expect_ok(spectral_logits_add_gradient(&self.term, self.logits, view_none(), 0, 0, self.gradient));
        double value, *found = added(&self);
        receive(&self, &value, self.value);
        assert_true(value == 0 && norm_of(found, one.rows * one.columns) == 0);
        free(found);
        close_bench(&self);
    }
}

static void parts_that_do_not_fit_are_refused(void **state) {
    static const problem one = {.name = "refused", .held = 9, .rows = 9, .columns = 40, .top = 3};
    bench self;
    open_bench(&self, *state, &one);
    expect_failure(spectral_logits_begin(&self.term, 10), BALORA_ERROR_INTERNAL, "10 rows");
    expect_ok(spectral_logits_begin(&self.term, 9));
    expect_failure(spectral_logits_accumulate(&self.term, view_rows(self.logits, 0, 8), view_none()),
                   BALORA_ERROR_INTERNAL, "a part [8, 40]");
    expect_failure(spectral_logits_project(&self.term, self.logits, view_none(), 1), BALORA_ERROR_INTERNAL,
                   "column 1");
    expect_failure(spectral_logits_add_gradient(&self.term, self.logits, view_none(), 1, 0, self.gradient),
                   BALORA_ERROR_INTERNAL, "row 1");
    close_bench(&self);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(every_route_agrees),
        SCRATCH_TEST(logits_of_several_tiles),
        SCRATCH_TEST(more_values_are_asked_for_than_there_are),
        SCRATCH_TEST(no_logits_no_term),
        SCRATCH_TEST(parts_that_do_not_fit_are_refused),
    };
    parallel_enter(1);
    return cmocka_run_group_tests_name("spectral_logits", tests, NULL, NULL);
}
