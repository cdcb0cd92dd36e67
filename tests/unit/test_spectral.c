/*
 * The SVD term against a full SVD of the logits Z = H W^T in double precision: value, gradient of H, gradient
 * of W.
 *
 * The reference gradient of Z leaves singular values out that are 0 but for rounding: there the term has no
 * gradient, and 0 is the subgradient that both sides mean. dH and dW come back in F32.
 */
#include "scratch.h"

#include <math.h>

#include "../device.h"
#include "base/parallel.h"
#include "base/random.h"
#include "regularizer/spectral.h"
#include "svd_reference.h"

#define VALUE_TOLERANCE    1e-6
#define GRADIENT_TOLERANCE 1e-5
#define ROWS_BEYOND        3 /* planned for, not used */

typedef struct problem {
    const char *name;
    int64_t rows, hidden, vocabulary, top; /* M, d, V, k */
    int64_t distinct_rows;                 /* the others repeat them; 0: all */
    double decay; /* sigma of row i over that of row i + 1; 0: rows as they are drawn */
    int32_t norm;
    int32_t head_dtype; /* 0: F32 */
    bool head_trained;
} problem;

/* Everything of a problem: host numbers in double as the device holds them, device memory, the term. */
typedef struct bench {
    scratch *base;
    const problem *problem;
    backend device;
    backend_queue *queue;
    arena memory;
    spectral_term term;
    matrix_view head, dhead; /* [V, d] */
    matrix_view wide;        /* F32 [max(M, V), d]: between host and device */
    matrix_view hidden;      /* F32 [M, d] */
    matrix_view value;       /* F64 [1, 1] */
    double *h, *w;           /* [M, d], [V, d] */
    double *dh, *dw;         /* the reference's */
    double expected;
} bench;

/* c = op(a) op(b) for row-major a [m, k], b [k, n], or their transposes. */
static void multiply(int transpose_a, int transpose_b, int64_t m, int64_t n, int64_t k, const double *a,
                     const double *b, double *c) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum +=
                    (transpose_a ? a[l * m + i] : a[i * k + l]) * (transpose_b ? b[j * k + l] : b[l * n + j]);
            c[i * n + j] = sum;
        }
}

static void compute_reference(bench *self) {
    int64_t m = self->problem->rows, d = self->problem->hidden, v = self->problem->vocabulary;
    double *z = numbers(m * v), *dz = numbers(m * v);
    multiply(0, 1, m, v, d, self->h, self->w, z);
    self->expected = reference_term(m, v, self->problem->top, self->problem->norm, z, dz);
    multiply(0, 0, m, d, v, dz, self->w, self->dh);
    multiply(1, 0, v, d, m, dz, self->h, self->dw);
    free(z);
    free(dz);
}

/* Give H the singular values decay^-i in random directions; with an orthonormal head they are those of Z. */
static void shape_spectrum(bench *self) {
    int64_t m = self->problem->rows, d = self->problem->hidden, v = self->problem->vocabulary;
    int64_t p = m < d ? m : d;
    double *u = numbers(m * p), *s = numbers(v), *vt = numbers(p * d);
    decompose(self->h, m, d, u, s, vt);
    for (int64_t i = 0; i < p; i++)
        for (int64_t j = 0; j < d; j++)
            vt[i * d + j] *= 10 * pow(self->problem->decay, -(double)i);
    multiply(0, 0, m, d, p, u, vt, self->h);
    double *rotation = numbers(d * d), *orthonormal = numbers(v * d);
    decompose(self->w, v, d, orthonormal, s, rotation);
    memcpy(self->w, orthonormal, (size_t)(v * d) * sizeof *orthonormal);
    free(u);
    free(s);
    free(vt);
    free(rotation);
    free(orthonormal);
}

static void draw(bench *self) {
    int64_t m = self->problem->rows, d = self->problem->hidden, v = self->problem->vocabulary;
    int64_t distinct = self->problem->distinct_rows;
    for (int64_t i = 0; i < v * d; i++)
        self->w[i] = 0.5 * random_normal(3, 0, (uint64_t)i);
    for (int64_t i = 0; i < m * d; i++)
        self->h[i] = random_normal(4, 0, (uint64_t)(distinct > 0 ? i % (distinct * d) : i));
    if (self->problem->decay > 0)
        shape_spectrum(self);
}

static void place(bench *self) {
    const problem *one = self->problem;
    int64_t m = one->rows, d = one->hidden, v = one->vocabulary;
    self->head = arena_place(&self->memory, one->head_dtype != 0 ? one->head_dtype : BALORA_F32, v, d);
    self->dhead = one->head_trained ? arena_place(&self->memory, BALORA_F32, v, d) : view_none();
    self->wide = arena_place(&self->memory, BALORA_F32, m > v ? m : v, d);
    self->hidden = arena_place(&self->memory, BALORA_F32, m, d);
    self->value = arena_place(&self->memory, BALORA_F64, 1, 1);
}

/* Round the numbers as the device stores them, and send them there. */
static void send(bench *self, matrix_view target, double *x) {
    const backend_ops *ops = self->device.ops;
    int64_t count = target.rows * target.cols;
    matrix_view wide = view_rows(self->wide, 0, target.rows);
    float *host = calloc((size_t)count, sizeof *host);
    assert_non_null(host);
    for (int64_t i = 0; i < count; i++)
        host[i] = (float)x[i];
    expect_ok(ops->upload(self->queue, wide.buffer, wide.offset, host, view_bytes(wide)));
    expect_ok(ops->copy(self->queue, target, wide));
    expect_ok(ops->copy(self->queue, wide, target));
    expect_ok(ops->download(self->queue, host, wide.buffer, wide.offset, view_bytes(wide)));
    expect_ok(ops->synchronize(self->queue));
    for (int64_t i = 0; i < count; i++)
        x[i] = (double)host[i];
    free(host);
}

/* A contiguous F32 view. */
static double *receive(const bench *self, matrix_view source) {
    const backend_ops *ops = self->device.ops;
    int64_t count = source.rows * source.cols;
    float *host = calloc((size_t)count, sizeof *host);
    double *out = numbers(count);
    assert_non_null(host);
    expect_ok(ops->download(self->queue, host, source.buffer, source.offset, view_bytes(source)));
    expect_ok(ops->synchronize(self->queue));
    for (int64_t i = 0; i < count; i++)
        out[i] = (double)host[i];
    free(host);
    return out;
}

static double read_value(const bench *self) {
    double value;
    expect_ok(self->device.ops->download(self->queue, &value, self->value.buffer, self->value.offset,
                                         sizeof value));
    expect_ok(self->device.ops->synchronize(self->queue));
    return value;
}

static void create_term(bench *self) {
    const problem *one = self->problem;
    spectral_options options = {.hidden = one->hidden,
                                .rows = one->rows + ROWS_BEYOND,
                                .top = one->top,
                                .norm = one->norm,
                                .head_trained = one->head_trained};
    backend_limits limits = {.eigh_size = spectral_problem_size(&options)};
    expect_ok(self->device.ops->prepare(self->queue, &limits));
    expect_ok(
        spectral_create(&self->term, &self->base->memory, &self->device, self->queue, self->head, &options));
}

static void open_bench(bench *self, scratch *base, const problem *one) {
    *self = (bench){.base = base, .problem = one};
    expect_ok(backend_open(&self->device, &base->memory, test_device(), NULL, 1));
    expect_ok(self->device.ops->queue_open(&self->queue, self->device.device));
    place(self);
    expect_ok(arena_allocate(&self->memory, &self->device));
    place(self);
    self->h = numbers(one->rows * one->hidden);
    self->w = numbers(one->vocabulary * one->hidden);
    self->dh = numbers(one->rows * one->hidden);
    self->dw = numbers(one->vocabulary * one->hidden);
    draw(self);
    send(self, self->hidden, self->h);
    send(self, self->head, self->w);
    create_term(self);
    expect_ok(self->device.ops->fill_zero(self->queue, self->value));
    if (one->head_trained)
        expect_ok(self->device.ops->fill_zero(self->queue, self->dhead));
}

static void close_bench(bench *self) {
    spectral_free(&self->term);
    arena_free(&self->memory);
    self->device.ops->queue_close(self->queue);
    backend_close(&self->device);
    free(self->h);
    free(self->w);
    free(self->dh);
    free(self->dw);
}

static void evaluate(bench *self, double scale) {
    expect_ok(spectral_evaluate(&self->term, self->hidden, scale, self->value, self->head, self->dhead));
}

/* found = scale expected, in the Euclidean norm. */
static void expect_gradient(const bench *self, const char *what, const double *found, const double *expected,
                            double scale, int64_t count) {
    double difference = 0, size = scale * norm_of(expected, count);
    for (int64_t i = 0; i < count; i++)
        difference += (found[i] - scale * expected[i]) * (found[i] - scale * expected[i]);
    if (!(size > 0) || !(sqrt(difference) <= GRADIENT_TOLERANCE * size))
        fail_msg("%s: the gradient of %s is off by %.3g of its norm %.6g", self->problem->name, what,
                 sqrt(difference) / size, size);
}

/* The term does not change with the scale of Z:  <Z, dZ> = <H, dH> = 0. */
static void expect_orthogonal(const bench *self, const double *dh) {
    int64_t count = self->problem->rows * self->problem->hidden;
    double inner = 0;
    for (int64_t i = 0; i < count; i++)
        inner += self->h[i] * dh[i];
    if (!(fabs(inner) <= 1e-6 * norm_of(self->h, count) * norm_of(dh, count)))
        fail_msg("%s: <Z, dZ> is %.3g of the product of the norms", self->problem->name,
                 inner / norm_of(self->h, count) / norm_of(dh, count));
}

static void expect_reference(bench *self, double scale, double values) {
    const problem *one = self->problem;
    double found = read_value(self);
    compute_reference(self);
    if (!(fabs(found - values * self->expected) <= VALUE_TOLERANCE * fabs(values * self->expected)))
        fail_msg("%s: the term is %.9g, expected %.9g", one->name, found, values * self->expected);
    double *dh = receive(self, view_rows(self->term.narrow, 0, one->rows));
    expect_gradient(self, "H", dh, self->dh, scale, one->rows * one->hidden);
    expect_orthogonal(self, dh);
    free(dh);
}

static void check_head(bench *self, double scale) {
    const problem *one = self->problem;
    double *dw = receive(self, self->dhead);
    expect_gradient(self, "W", dw, self->dw, scale, one->vocabulary * one->hidden);
    free(dw);
}

static void check(scratch *base, const problem *one) {
    static const int32_t norms[] = {BALORA_SVD_FROBENIUS, BALORA_SVD_NUCLEAR};
    for (int i = 0; i < 2; i++) {
        problem under_norm = *one;
        bench self;
        under_norm.norm = norms[i];
        open_bench(&self, base, &under_norm);
        evaluate(&self, 0.3);
        expect_reference(&self, 0.3, 1);
        if (one->head_trained)
            check_head(&self, 0.3);
        close_bench(&self);
    }
}

static void every_route_agrees(void **state) {
    static const problem problems[] = {
        {.name = "M < d", .rows = 5, .hidden = 12, .vocabulary = 40, .top = 3},
        {.name = "M = d - 3", .rows = 9, .hidden = 12, .vocabulary = 40, .top = 3},
        {.name = "M = d", .rows = 12, .hidden = 12, .vocabulary = 40, .top = 3},
        {.name = "M > d", .rows = 30, .hidden = 12, .vocabulary = 40, .top = 3},
        {.name = "M = 2", .rows = 2, .hidden = 12, .vocabulary = 40, .top = 1},
        {.name = "V < d, M < d", .rows = 9, .hidden = 12, .vocabulary = 5, .top = 3},
        {.name = "V < d, M > d", .rows = 30, .hidden = 12, .vocabulary = 5, .top = 3},
        {.name = "a head of two pieces", .rows = 6, .hidden = 8, .vocabulary = 1500, .top = 3},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

/* Frobenius: the sum then runs over all singular values. */
static void more_values_are_asked_for_than_there_are(void **state) {
    static const problem problems[] = {
        {.name = "k > M", .rows = 3, .hidden = 12, .vocabulary = 40, .top = 10, .norm = BALORA_SVD_FROBENIUS},
        {.name = "k > d", .rows = 30, .hidden = 6, .vocabulary = 40, .top = 10, .norm = BALORA_SVD_FROBENIUS},
        {.name = "k = M", .rows = 4, .hidden = 12, .vocabulary = 40, .top = 4, .norm = BALORA_SVD_FROBENIUS},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        bench self;
        open_bench(&self, *state, &problems[i]);
        evaluate(&self, 0.3);
        expect_reference(&self, 0.3, 1);
        close_bench(&self);
    }
}

/* The nuclear term is then the constant -1. */
static void the_nuclear_term_of_all_values_is_constant(void **state) {
    static const problem one = {.name = "all values",
                                .rows = 4,
                                .hidden = 12,
                                .vocabulary = 40,
                                .top = 10,
                                .norm = BALORA_SVD_NUCLEAR};
    bench self;
    open_bench(&self, *state, &one);
    evaluate(&self, 1);
    assert_true(fabs(read_value(&self) + 1) <= 1e-12);
    double *dh = receive(&self, view_rows(self.term.narrow, 0, one.rows));
    assert_true(norm_of(dh, one.rows * one.hidden) <= 1e-7);
    free(dh);
    close_bench(&self);
}

static void equal_rows_leave_singular_values_out(void **state) {
    static const problem problems[] = {
        {.name = "rank 4, M < d", .rows = 9, .hidden = 12, .vocabulary = 40, .top = 3, .distinct_rows = 4},
        {.name = "rank 4, M > d", .rows = 30, .hidden = 12, .vocabulary = 40, .top = 3, .distinct_rows = 4},
    };
    static const problem beyond[] = {
        {.name = "rank 4, k 6, M < d",
         .rows = 9,
         .hidden = 12,
         .vocabulary = 40,
         .top = 6,
         .distinct_rows = 4,
         .norm = BALORA_SVD_FROBENIUS},
        {.name = "rank 4, k 6, M > d",
         .rows = 30,
         .hidden = 12,
         .vocabulary = 40,
         .top = 6,
         .distinct_rows = 4,
         .norm = BALORA_SVD_FROBENIUS},
    };
    for (size_t i = 0; i < 2; i++) {
        bench self;
        check(*state, &problems[i]);
        open_bench(&self, *state, &beyond[i]);
        evaluate(&self, 0.3);
        expect_reference(&self, 0.3, 1);
        close_bench(&self);
    }
}

/* sigma_1 / sigma_10 = 300: in single precision the gradient would be off by some 1e-2. */
static void small_singular_values_do_not_drown(void **state) {
    double decay = pow(300, 1.0 / 9);
    const problem problems[] = {
        {.name = "steep, M < d", .rows = 20, .hidden = 32, .vocabulary = 80, .top = 10, .decay = decay},
        {.name = "steep, M > d", .rows = 60, .hidden = 32, .vocabulary = 80, .top = 10, .decay = decay},
    };
    for (size_t i = 0; i < 2; i++) {
        bench self;
        problem one = problems[i];
        one.norm = BALORA_SVD_FROBENIUS;
        open_bench(&self, *state, &one);
        evaluate(&self, 0.3);
        expect_reference(&self, 0.3, 1);
        close_bench(&self);
    }
}

static void a_head_of_16_bits_counts_as_it_is_stored(void **state) {
    static const problem problems[] = {
        {.name = "bf16", .rows = 9, .hidden = 12, .vocabulary = 40, .top = 3, .head_dtype = BALORA_BF16},
        {.name = "f16", .rows = 30, .hidden = 12, .vocabulary = 40, .top = 3, .head_dtype = BALORA_F16},
    };
    for (size_t i = 0; i < 2; i++)
        check(*state, &problems[i]);
}

static void a_trained_head_gets_its_gradient(void **state) {
    static const problem problems[] = {
        {.name = "trained, M < d", .rows = 9, .hidden = 12, .vocabulary = 40, .top = 3, .head_trained = true},
        {.name = "trained, M > d",
         .rows = 30,
         .hidden = 12,
         .vocabulary = 40,
         .top = 3,
         .head_trained = true},
        {.name = "trained, rank 4",
         .rows = 30,
         .hidden = 12,
         .vocabulary = 40,
         .top = 3,
         .distinct_rows = 4,
         .head_trained = true},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

/* The gradient of H is that of the last evaluation; the value and the head's gradient are sums. */
static void evaluations_add_up(void **state) {
    static const problem one = {.name = "twice",
                                .rows = 9,
                                .hidden = 12,
                                .vocabulary = 40,
                                .top = 3,
                                .norm = BALORA_SVD_FROBENIUS,
                                .head_trained = true};
    bench self;
    open_bench(&self, *state, &one);
    evaluate(&self, 0.3);
    evaluate(&self, 2);
    expect_reference(&self, 2, 2);
    check_head(&self, 2.3);
    close_bench(&self);
}

static void check_update(scratch *base, const problem *one) {
    bench self;
    open_bench(&self, base, one);
    for (int64_t i = 0; i < one->vocabulary * one->hidden; i++)
        self.w[i] = random_normal(5, 0, (uint64_t)i);
    send(&self, self.head, self.w);
    expect_ok(spectral_update_head(&self.term, self.head));
    evaluate(&self, 0.3);
    expect_reference(&self, 0.3, 1);
    close_bench(&self);
}

static void a_changed_head_is_taken_up(void **state) {
    static const problem problems[] = {
        {.name = "update, M < d", .rows = 9, .hidden = 12, .vocabulary = 40, .top = 3, .head_trained = true},
        {.name = "update, M > d", .rows = 30, .hidden = 12, .vocabulary = 40, .top = 3},
    };
    for (size_t i = 0; i < 2; i++)
        check_update(*state, &problems[i]);
}

static void check_zero(scratch *base, const problem *one) {
    bench self;
    open_bench(&self, base, one);
    memset(self.h, 0, (size_t)(one->rows * one->hidden) * sizeof *self.h);
    send(&self, self.hidden, self.h);
    evaluate(&self, 0.3);
    assert_true(read_value(&self) == 0);
    double *dh = receive(&self, view_rows(self.term.narrow, 0, one->rows));
    for (int64_t i = 0; i < one->rows * one->hidden; i++)
        assert_true(dh[i] == 0);
    double *dw = one->head_trained ? receive(&self, self.dhead) : numbers(1);
    for (int64_t i = 0; i < (one->head_trained ? one->vocabulary * one->hidden : 1); i++)
        assert_true(dw[i] == 0);
    free(dh);
    free(dw);
    close_bench(&self);
}

static void no_hidden_state_no_term(void **state) {
    static const int32_t norms[] = {BALORA_SVD_FROBENIUS, BALORA_SVD_NUCLEAR};
    for (int i = 0; i < 2; i++)
        for (int64_t rows = 9; rows <= 30; rows += 21)
            for (int trained = 0; trained < 2; trained++) {
                const problem one = {.name = "zero",
                                     .rows = rows,
                                     .hidden = 12,
                                     .vocabulary = 40,
                                     .top = 10,
                                     .norm = norms[i],
                                     .head_trained = trained != 0};
                check_zero(*state, &one);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(every_route_agrees),
        SCRATCH_TEST(more_values_are_asked_for_than_there_are),
        SCRATCH_TEST(the_nuclear_term_of_all_values_is_constant),
        SCRATCH_TEST(equal_rows_leave_singular_values_out),
        SCRATCH_TEST(small_singular_values_do_not_drown),
        SCRATCH_TEST(a_head_of_16_bits_counts_as_it_is_stored),
        SCRATCH_TEST(a_trained_head_gets_its_gradient),
        SCRATCH_TEST(evaluations_add_up),
        SCRATCH_TEST(a_changed_head_is_taken_up),
        SCRATCH_TEST(no_hidden_state_no_term),
    };
    parallel_enter(1);
    return cmocka_run_group_tests_name("spectral", tests, NULL, NULL);
}
