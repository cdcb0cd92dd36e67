/*
 * PiSSA's factors against a full SVD in double precision of the weight as it is stored.
 *
 * Singular vectors have a sign and may rotate inside equal singular values: compared are the singular values,
 * the product s B0 A0, and how much of the weight it leaves.
 */
#include "scratch.h"

#include <lapacke.h>
#include <math.h>

#include "../device.h"
#include "adapter/pissa.h"
#include "base/parallel.h"
#include "base/random.h"

#define VALUE_TOLERANCE   1e-4
#define PRODUCT_TOLERANCE 1e-3

typedef struct problem {
    const char *name;
    int64_t out, in, rank;
    double (*singular_value)(int64_t index, int64_t rank);
    double scale;
    int32_t dtype;
    int32_t full_svd;
    bool no_gap; /* the best part of that rank is not unique: its product is not compared */
} problem;

typedef struct bench {
    scratch *base;
    const problem *problem;
    backend device;
    backend_queue *queue;
    arena memory;
    matrix_view wide;   /* F32 [out, in] */
    matrix_view weight; /* of the problem's type */
    matrix_view a, b;   /* F32 [rank, in], [out, rank] */
    double *w;          /* [out, in], as stored */
    double *u, *s, *vt; /* [out, p], [p], [p, in] */
    double *host_a, *host_b;
} bench;

/* --- spectra --- */

static double geometric(int64_t index, int64_t rank) {
    (void)rank;
    return pow(0.9, (double)index);
}

/* Like the weights of a language model: a few large values, then a long tail. */
static double long_tail(int64_t index, int64_t rank) {
    (void)rank;
    return 4 / (1 + 0.3 * (double)index) + 1;
}

/* Neighbours differ by half a percent. */
static double slow(int64_t index, int64_t rank) {
    (void)rank;
    return pow(0.995, (double)index);
}

static double flat(int64_t index, int64_t rank) {
    (void)index;
    (void)rank;
    return 0.7;
}

static double half_rank(int64_t index, int64_t rank) {
    return index < rank / 2 ? 3 - (double)index / (double)rank : 0;
}

/* 1 to 1/1000 over the rank, on a floor of 1/2000. */
static double steep(int64_t index, int64_t rank) {
    return index < rank ? pow(1000, -(double)index / (double)(rank - 1)) : 5e-4;
}

/* 1 to 1/1000 over the rank, and on at that pace. */
static double steep_tail(int64_t index, int64_t rank) {
    return pow(1000, -(double)index / (double)(rank - 1));
}

static double nothing(int64_t index, int64_t rank) {
    (void)index;
    (void)rank;
    return 0;
}

/* --- the bench --- */

static double *numbers(int64_t count) {
    double *out = calloc((size_t)count, sizeof *out);
    assert_non_null(out);
    return out;
}

/* Orthonormal columns [rows, cols] in random directions. */
static double *random_basis(int64_t rows, int64_t cols, uint64_t seed) {
    double *q = numbers(rows * cols), *tau = numbers(cols);
    lapack_int m = (lapack_int)rows, n = (lapack_int)cols;
    for (int64_t i = 0; i < rows * cols; i++)
        q[i] = random_normal(seed, 0, (uint64_t)i);
    assert_int_equal(LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, m, n, q, n, tau), 0);
    assert_int_equal(LAPACKE_dorgqr(LAPACK_ROW_MAJOR, m, n, n, q, n, tau), 0);
    free(tau);
    return q;
}

/* out += sum over k < count of values[k] u[:, k] vt[k, :] for u [rows, ld], vt [*, cols]. */
static void add_triples(double *out, int64_t rows, int64_t cols, int64_t count, const double *u, int64_t ld,
                        const double *values, const double *vt) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = 0; k < count; k++) {
            double along = u[i * ld + k] * values[k];
            for (int64_t j = 0; j < cols; j++)
                out[i * cols + j] += along * vt[k * cols + j];
        }
}

static void draw(bench *self) {
    const problem *one = self->problem;
    int64_t p = one->out < one->in ? one->out : one->in;
    double *u = random_basis(one->out, p, 1), *v = random_basis(one->in, p, 2);
    double *vt = numbers(p * one->in), *values = numbers(p);
    for (int64_t k = 0; k < p; k++) {
        values[k] = one->singular_value(k, one->rank);
        for (int64_t j = 0; j < one->in; j++)
            vt[k * one->in + j] = v[j * p + k];
    }
    add_triples(self->w, one->out, one->in, p, u, p, values, vt);
    free(u);
    free(v);
    free(vt);
    free(values);
}

static void place(bench *self) {
    const problem *one = self->problem;
    int32_t dtype = one->dtype != 0 ? one->dtype : BALORA_F32;
    self->wide = arena_place(&self->memory, BALORA_F32, one->out, one->in);
    self->weight = arena_place(&self->memory, dtype, one->out, one->in);
    self->a = arena_place(&self->memory, BALORA_F32, one->rank, one->in);
    self->b = arena_place(&self->memory, BALORA_F32, one->out, one->rank);
}

static void receive(const bench *self, matrix_view source, double *out) {
    const backend_ops *ops = self->device.ops;
    int64_t count = source.rows * source.cols;
    float *host = calloc((size_t)count, sizeof *host);
    assert_non_null(host);
    expect_ok(ops->download(self->queue, host, source.buffer, source.offset, view_bytes(source)));
    expect_ok(ops->synchronize(self->queue));
    for (int64_t i = 0; i < count; i++)
        out[i] = (double)host[i];
    free(host);
}

/* Store the weight, and take what was stored for the truth. */
static void send(bench *self) {
    const backend_ops *ops = self->device.ops;
    int64_t count = self->wide.rows * self->wide.cols;
    float *host = calloc((size_t)count, sizeof *host);
    assert_non_null(host);
    for (int64_t i = 0; i < count; i++)
        host[i] = (float)self->w[i];
    expect_ok(ops->upload(self->queue, self->wide.buffer, self->wide.offset, host, view_bytes(self->wide)));
    expect_ok(ops->copy(self->queue, self->weight, self->wide));
    expect_ok(ops->copy(self->queue, self->wide, self->weight));
    receive(self, self->wide, self->w);
    free(host);
}

static void decompose(bench *self) {
    const problem *one = self->problem;
    int64_t p = one->out < one->in ? one->out : one->in;
    double *copy = numbers(one->out * one->in);
    memcpy(copy, self->w, (size_t)(one->out * one->in) * sizeof *copy);
    assert_int_equal(LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', (lapack_int)one->out, (lapack_int)one->in, copy,
                                    (lapack_int)one->in, self->s, self->u, (lapack_int)p, self->vt,
                                    (lapack_int)one->in),
                     0);
    free(copy);
}

static void open_bench(bench *self, scratch *base, const problem *one) {
    int64_t p = one->out < one->in ? one->out : one->in;
    *self = (bench){.base = base, .problem = one};
    expect_ok(backend_open(&self->device, &base->memory, test_device(), NULL, 1));
    expect_ok(self->device.ops->queue_open(&self->queue, self->device.device));
    place(self);
    expect_ok(arena_allocate(&self->memory, &self->device));
    place(self);
    self->w = numbers(one->out * one->in);
    self->u = numbers(one->out * p);
    self->s = numbers(p);
    self->vt = numbers(p * one->in);
    self->host_a = numbers(one->rank * one->in);
    self->host_b = numbers(one->out * one->rank);
    draw(self);
    send(self);
    decompose(self);
}

static void close_bench(bench *self) {
    arena_free(&self->memory);
    self->device.ops->queue_close(self->queue);
    backend_close(&self->device);
    free(self->w);
    free(self->u);
    free(self->s);
    free(self->vt);
    free(self->host_a);
    free(self->host_b);
}

static balora_status factorize(bench *self, uint64_t seed) {
    const problem *one = self->problem;
    pissa_request request = {.device = &self->device,
                             .queue = self->queue,
                             .memory = &self->base->memory,
                             .name = "model.layers.7.mlp.up_proj",
                             .weight = self->weight,
                             .rank = one->rank,
                             .scale = one->scale,
                             .seed = seed,
                             .full_svd = one->full_svd,
                             .a = self->a,
                             .b = self->b};
    balora_status status = pissa_factors(&request);
    if (status == BALORA_OK) {
        receive(self, self->a, self->host_a);
        receive(self, self->b, self->host_b);
    }
    return status;
}

/* --- what must hold --- */

static double distance(const double *a, const double *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

/* s A0 A0^T = s B0^T B0 = diag(sigma). */
static void expect_balanced_values(const bench *self) {
    const problem *one = self->problem;
    for (int64_t i = 0; i < one->rank; i++)
        for (int64_t j = 0; j <= i; j++) {
            double rows = 0, columns = 0, size = sqrt(self->s[i] * self->s[j]);
            double expected = i == j ? self->s[i] : 0;
            for (int64_t k = 0; k < one->in; k++)
                rows += one->scale * self->host_a[i * one->in + k] * self->host_a[j * one->in + k];
            for (int64_t k = 0; k < one->out; k++)
                columns += one->scale * self->host_b[k * one->rank + i] * self->host_b[k * one->rank + j];
            /* a value that is 0 but for rounding need only be as small */
            double allowed = VALUE_TOLERANCE * size + 1e-6 * self->s[0];
            if (i == j && self->s[i] > 1e-5 * self->s[0])
                allowed = VALUE_TOLERANCE * size;
            if (!(fabs(rows - expected) <= allowed && fabs(columns - expected) <= allowed))
                fail_msg("%s: [%lld, %lld] of s A0 A0^T is %.9g, of s B0^T B0 %.9g, expected %.9g", one->name,
                         (long long)i, (long long)j, rows, columns, expected);
        }
}

static void expect_best_part(const bench *self) {
    const problem *one = self->problem;
    int64_t p = one->out < one->in ? one->out : one->in, count = one->out * one->in;
    double *product = numbers(count), *best = numbers(count), *scales = numbers(one->rank);
    double kept = 0, left = 0;
    for (int64_t i = 0; i < one->rank; i++)
        scales[i] = one->scale;
    for (int64_t i = 0; i < p; i++)
        *(i < one->rank ? &kept : &left) += self->s[i] * self->s[i];
    add_triples(product, one->out, one->in, one->rank, self->host_b, one->rank, scales, self->host_a);
    add_triples(best, one->out, one->in, one->rank, self->u, p, self->s, self->vt);
    double off = distance(product, best, count), rest = distance(product, self->w, count);
    if (!one->no_gap && !(off <= PRODUCT_TOLERANCE * sqrt(kept)))
        fail_msg("%s: s B0 A0 is off the best part by %.3g of its norm", one->name, off / sqrt(kept));
    if (!(rest <= (1 + 1e-4) * sqrt(left) + 1e-5 * sqrt(kept)))
        fail_msg("%s: s B0 A0 leaves %.9g of the weight, the best part %.9g", one->name, rest, sqrt(left));
    free(product);
    free(best);
    free(scales);
}

static void check(scratch *base, const problem *one) {
    bench self;
    open_bench(&self, base, one);
    expect_ok(factorize(&self, 0));
    expect_balanced_values(&self);
    expect_best_part(&self);
    close_bench(&self);
}

/* --- tests --- */

static void subspaces_find_the_leading_part(void **state) {
    static const problem problems[] = {
        {.name = "tall", .out = 300, .in = 200, .rank = 8, .singular_value = geometric, .scale = 1},
        {.name = "wide", .out = 200, .in = 300, .rank = 8, .singular_value = geometric, .scale = 1},
        {.name = "square", .out = 160, .in = 160, .rank = 8, .singular_value = long_tail, .scale = 1},
        {.name = "rank 1", .out = 150, .in = 170, .rank = 1, .singular_value = long_tail, .scale = 1},
        {.name = "rank 40", .out = 170, .in = 150, .rank = 40, .singular_value = geometric, .scale = 1},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

static void small_sides_and_full_svd_agree(void **state) {
    static const problem problems[] = {
        {.name = "small", .out = 40, .in = 100, .rank = 8, .singular_value = geometric, .scale = 1},
        {.name = "full rank", .out = 12, .in = 30, .rank = 12, .singular_value = geometric, .scale = 1},
        {.name = "one row", .out = 1, .in = 30, .rank = 1, .singular_value = geometric, .scale = 1},
        {.name = "full SVD",
         .out = 200,
         .in = 150,
         .rank = 8,
         .singular_value = geometric,
         .scale = 1,
         .full_svd = 1},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

static void spectra_without_a_gap_keep_their_values(void **state) {
    static const problem problems[] = {
        {.name = "slow",
         .out = 300,
         .in = 200,
         .rank = 8,
         .singular_value = slow,
         .scale = 1,
         .no_gap = true},
        {.name = "flat",
         .out = 160,
         .in = 150,
         .rank = 8,
         .singular_value = flat,
         .scale = 1,
         .no_gap = true},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

static void a_weight_of_lower_rank_is_kept_whole(void **state) {
    static const problem problems[] = {
        {.name = "rank 4", .out = 200, .in = 150, .rank = 8, .singular_value = half_rank, .scale = 1},
        {.name = "rank 4, small", .out = 30, .in = 50, .rank = 8, .singular_value = half_rank, .scale = 1},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

/* In a Gram matrix in F32 the last of them would be lost: 1e-6 of the first. */
static void small_singular_values_do_not_drown(void **state) {
    static const problem problems[] = {
        {.name = "steep", .out = 300, .in = 200, .rank = 8, .singular_value = steep, .scale = 1},
        {.name = "steep tail", .out = 200, .in = 300, .rank = 8, .singular_value = steep_tail, .scale = 1},
        {.name = "steep, small", .out = 100, .in = 120, .rank = 8, .singular_value = steep, .scale = 1},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

static void a_weight_of_16_bits_counts_as_it_is_stored(void **state) {
    static const problem problems[] = {
        {.name = "bf16",
         .out = 200,
         .in = 150,
         .rank = 8,
         .singular_value = long_tail,
         .scale = 1,
         .dtype = BALORA_BF16},
        {.name = "f16",
         .out = 150,
         .in = 200,
         .rank = 8,
         .singular_value = geometric,
         .scale = 1,
         .dtype = BALORA_F16},
        {.name = "bf16, small",
         .out = 50,
         .in = 40,
         .rank = 8,
         .singular_value = long_tail,
         .scale = 1,
         .dtype = BALORA_BF16},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

static void the_scale_is_taken_out(void **state) {
    static const problem problems[] = {
        {.name = "s = 2", .out = 200, .in = 150, .rank = 8, .singular_value = geometric, .scale = 2},
        {.name = "s = 0.01", .out = 150, .in = 200, .rank = 8, .singular_value = geometric, .scale = 0.01},
        {.name = "s = 5, small", .out = 50, .in = 40, .rank = 8, .singular_value = geometric, .scale = 5},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++)
        check(*state, &problems[i]);
}

static void a_weight_of_zero_has_factors_of_zero(void **state) {
    static const problem problems[] = {
        {.name = "zero", .out = 200, .in = 150, .rank = 8, .singular_value = nothing, .scale = 1},
        {.name = "zero, small", .out = 20, .in = 30, .rank = 8, .singular_value = nothing, .scale = 1},
    };
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        bench self;
        open_bench(&self, *state, &problems[i]);
        expect_ok(factorize(&self, 0));
        for (int64_t k = 0; k < problems[i].rank * problems[i].in; k++)
            assert_true(self.host_a[k] == 0);
        for (int64_t k = 0; k < problems[i].rank * problems[i].out; k++)
            assert_true(self.host_b[k] == 0);
        close_bench(&self);
    }
}

static void a_value_that_is_not_finite_is_named(void **state) {
    static const problem problems[] = {
        {.name = "subspace", .out = 200, .in = 150, .rank = 8, .singular_value = geometric, .scale = 1},
        {.name = "small", .out = 20, .in = 30, .rank = 8, .singular_value = geometric, .scale = 1},
        {.name = "bf16",
         .out = 20,
         .in = 30,
         .rank = 8,
         .singular_value = geometric,
         .scale = 1,
         .dtype = BALORA_BF16},
    };
    static const double values[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
        bench self;
        open_bench(&self, *state, &problems[i]);
        self.w[problems[i].out * problems[i].in - 1] = values[i];
        send(&self);
        expect_failure(factorize(&self, 0), BALORA_ERROR_NUMERIC, "model.layers.7.mlp.up_proj");
        close_bench(&self);
    }
}

static void one_seed_gives_one_answer(void **state) {
    static const problem one = {
        .name = "repeated", .out = 300, .in = 200, .rank = 8, .singular_value = long_tail, .scale = 1};
    int64_t count_a = one.rank * one.in, count_b = one.rank * one.out;
    bench self;
    double *first_a = numbers(count_a), *first_b = numbers(count_b);
    open_bench(&self, *state, &one);
    expect_ok(factorize(&self, 5));
    memcpy(first_a, self.host_a, (size_t)count_a * sizeof *first_a);
    memcpy(first_b, self.host_b, (size_t)count_b * sizeof *first_b);
    expect_ok(factorize(&self, 5));
    assert_memory_equal(first_a, self.host_a, (size_t)count_a * sizeof *first_a);
    assert_memory_equal(first_b, self.host_b, (size_t)count_b * sizeof *first_b);
    /* another start ends at the same part, on other bits */
    expect_ok(factorize(&self, 6));
    assert_memory_not_equal(first_a, self.host_a, (size_t)count_a * sizeof *first_a);
    expect_best_part(&self);
    free(first_a);
    free(first_b);
    close_bench(&self);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(subspaces_find_the_leading_part),
        SCRATCH_TEST(small_sides_and_full_svd_agree),
        SCRATCH_TEST(spectra_without_a_gap_keep_their_values),
        SCRATCH_TEST(a_weight_of_lower_rank_is_kept_whole),
        SCRATCH_TEST(small_singular_values_do_not_drown),
        SCRATCH_TEST(a_weight_of_16_bits_counts_as_it_is_stored),
        SCRATCH_TEST(the_scale_is_taken_out),
        SCRATCH_TEST(a_weight_of_zero_has_factors_of_zero),
        SCRATCH_TEST(a_value_that_is_not_finite_is_named),
        SCRATCH_TEST(one_seed_gives_one_answer),
    };
    parallel_enter(1);
    return cmocka_run_group_tests_name("pissa", tests, NULL, NULL);
}
