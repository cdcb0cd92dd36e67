#include "bench_device.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arith.h"
#include "base/parallel.h"

#define HEAD_ROWS      512 /* of a chunk of logits */
#define EIGENVALUES    10
#define SUBSPACE       32 /* rows of PiSSA's iteration at rank 16 */
#define ROPE_POSITIONS ((int64_t)8192)
#define FLUSHED_STREAMS                                                                                      \
    8 /* residual streams of F32 that are copied between two calls: more than caches hold */

enum { COUNTS_NOTHING, COUNTS_BYTES, COUNTS_FLOPS, COUNTS_FLOPS_F32, COUNTS_FLOPS_F64 };

typedef struct device_bench {
    bench base;
    const device_table *table;
    int32_t activation;                 /* BF16 where the device likes it, else F32 */
    double width;                       /* bytes of an activation */
    double copy, product, single, wide; /* ceilings: bytes/s, FLOP/s of activations, F32, F64 */
    matrix_view flush_from, flush_to;
} device_bench;

static const backend_ops *ops_of(const device_bench *self) {
    return self->base.device.ops;
}

static void report(const device_bench *self, const char *name, double seconds, int kind, double amount) {
    const double ceilings[] = {[COUNTS_NOTHING] = 1,
                               [COUNTS_BYTES] = self->copy,
                               [COUNTS_FLOPS] = self->product,
                               [COUNTS_FLOPS_F32] = self->single,
                               [COUNTS_FLOPS_F64] = self->wide};
    const char *unit = kind == COUNTS_BYTES ? "gb_per_s" : "gflops";
    if (self->table->json)
        printf("{\"call\": \"%s\", \"ms\": %.5f", name, seconds * 1e3);
    else
        printf("%-34s %11.4f ms", name, seconds * 1e3);
    if (kind != COUNTS_NOTHING && self->table->json)
        printf(", \"%s\": %.2f, \"of_ceiling\": %.3f", unit, amount / seconds * 1e-9,
               amount / seconds / ceilings[kind]);
    else if (kind != COUNTS_NOTHING)
        printf(" %11.1f %-8s %6.2f", amount / seconds * 1e-9, kind == COUNTS_BYTES ? "GB/s" : "GFLOP/s",
               amount / seconds / ceilings[kind]);
    puts(self->table->json ? "}" : "");
}

/* Empties the caches of what the last call left there. */
static balora_status flush(device_bench *self) {
    return ops_of(self)->copy(self->base.queue, self->flush_to, self->flush_from);
}

#define TIME_CALL(self, name, kind, amount, expression)                                                      \
    do {                                                                                                     \
        double seconds_;                                                                                     \
        TIME_ON_DEVICE(seconds_, &(self)->base, flush(self), expression);                                    \
        report(self, name, seconds_, kind, amount);                                                          \
    } while (0)

static void release_all(device_bench *self, const matrix_view *views, size_t count) {
    for (size_t i = 0; i < count; i++)
        release(&self->base, views[i]);
}

#define RELEASE_ALL(self, ...)                                                                               \
    do {                                                                                                     \
        const matrix_view held_[] = {__VA_ARGS__};                                                           \
        release_all(self, held_, sizeof held_ / sizeof held_[0]);                                            \
    } while (0)

static matrix_view activations(device_bench *self, int64_t rows, int64_t cols) {
    return filled(&self->base, self->activation, rows, cols, 1);
}

static matrix_view singles(device_bench *self, int64_t rows, int64_t cols) {
    return filled(&self->base, BALORA_F32, rows, cols, 1);
}

/* --- ceilings --- */

static void measure_ceilings(device_bench *self) {
    int64_t size = self->table->ceiling > 0 ? self->table->ceiling : bench_product_size(self->table->device);
    double flops = 2.0 * (double)size * (double)size * (double)size;
    self->copy = bench_copy_rate(&self->base, view_bytes(self->flush_from));
    self->single = bench_product_rate(&self->base, BALORA_F32, size);
    self->wide = bench_product_rate(&self->base, BALORA_F64, size);
    self->product = self->activation == BALORA_F32 ? self->single
                                                   : bench_product_rate(&self->base, self->activation, size);
    report(self, "ceiling, copy", 2 * (double)view_bytes(self->flush_from) / self->copy, COUNTS_BYTES,
           2 * (double)view_bytes(self->flush_from));
    report(self, self->activation == BALORA_F32 ? "ceiling, product, activations" : "ceiling, product, bf16",
           flops / self->product, COUNTS_FLOPS, flops);
    report(self, "ceiling, product, f32", flops / self->single, COUNTS_FLOPS_F32, flops);
    report(self, "ceiling, product, f64", flops / self->wide, COUNTS_FLOPS_F64, flops);
}

/* --- products --- */

/* c [rows, cols] = op(a) op(b), a and b activations or weights. */
static void time_product(device_bench *self, const char *name, int transpose_a, int transpose_b, int64_t rows,
                         int64_t cols, int64_t inner, int32_t result, double beta) {
    matrix_view a = activations(self, transpose_a ? inner : rows, transpose_a ? rows : inner);
    matrix_view b = activations(self, transpose_b ? cols : inner, transpose_b ? inner : cols);
    matrix_view c = filled(&self->base, result, rows, cols, 1);
    TIME_CALL(self, name, COUNTS_FLOPS, 2.0 * (double)rows * (double)cols * (double)inner,
              ops_of(self)->gemm(self->base.queue, transpose_a, transpose_b, 1, a, b, beta, c));
    RELEASE_ALL(self, a, b, c);
}

static void time_products(device_bench *self) {
    const model_shape *s = self->table->shape;
    int64_t n = self->table->length, d = s->hidden, f = s->intermediate, r = self->table->rank;
    int64_t qkv = (s->heads + 2 * s->key_heads) * s->head_dim, chunk = arith_min(HEAD_ROWS, n);
    int32_t same = self->activation;
    time_product(self, "gemm, q k v", 0, 1, n, qkv, d, same, 0);
    time_product(self, "gemm, gate and up", 0, 1, n, 2 * f, d, same, 0);
    time_product(self, "gemm, gate and up, backward", 0, 0, n, d, 2 * f, same, 0);
    time_product(self, "gemm, down", 0, 1, n, d, f, same, 0);
    time_product(self, "gemm, logits", 0, 1, 2 * chunk, s->vocabulary, d, BALORA_F32, 0);
    time_product(self, "gemm, logits, backward", 0, 0, chunk, d, s->vocabulary, BALORA_F32, 0);
    time_product(self, "low rank, x A^T of q k v", 0, 1, n, 6 * r, d, same, 0);
    time_product(self, "low rank, x A^T of down", 0, 1, n, 2 * r, f, same, 0);
    time_product(self, "low rank, + u B^T of gate", 0, 1, n, f, 2 * r, same, 1);
    time_product(self, "low rank, dy B of gate", 0, 0, n, 2 * r, f, same, 0);
    time_product(self, "low rank, dA of gate", 1, 0, r, d, n, BALORA_F32, 1);
    time_product(self, "low rank, dB of gate", 1, 0, f, r, n, BALORA_F32, 1);
}

/* --- transformer --- */

static void time_attention(device_bench *self) {
    const model_shape *s = self->table->shape;
    int32_t places[2] = {0, (int32_t)self->table->length};
    int64_t n = self->table->length, width = s->heads * s->head_dim, narrow = s->key_heads * s->head_dim;
    matrix_view offsets = indices(&self->base, places, 2), logsumexp = singles(self, n, s->heads);
    matrix_view q = activations(self, n, width), out = activations(self, n, width);
    matrix_view k = activations(self, n, narrow), v = activations(self, n, narrow);
    matrix_view dout = activations(self, n, width), dq = activations(self, n, width);
    matrix_view dk = activations(self, n, narrow), dv = activations(self, n, narrow);
    attention_shape sizes = {1, n, s->heads, s->key_heads, s->head_dim, 0, 1 / sqrtf((float)s->head_dim), 0};
    attention_forward forward = {sizes, offsets, q, k, v, out, logsumexp};
    attention_backward backward = {sizes, offsets, q, k, v, out, logsumexp, dout, dq, dk, dv};
    double flops = 2.0 * (double)width * (double)n * ((double)n + 1);
    TIME_CALL(self, "attention", COUNTS_FLOPS, flops, ops_of(self)->attention(self->base.queue, &forward));
    TIME_CALL(self, "attention_backward", COUNTS_FLOPS, 2.5 * flops,
              ops_of(self)->attention_backward(self->base.queue, &backward));
    RELEASE_ALL(self, offsets, logsumexp, q, k, v, out, dout, dq, dk, dv);
}

static void time_norms(device_bench *self) {
    int64_t n = self->table->length, d = self->table->shape->hidden;
    double count = (double)(n * d), width = self->width;
    matrix_view x = singles(self, n, d), dx = singles(self, n, d), weight = singles(self, 1, d);
    matrix_view y = activations(self, n, d);
    TIME_CALL(self, "rms_norm", COUNTS_BYTES, count * (4 + width),
              ops_of(self)->rms_norm(self->base.queue, x, weight, 0, 1e-5f, y));
    TIME_CALL(self, "rms_norm_backward", COUNTS_BYTES, count * (4 + width + 8),
              ops_of(self)->rms_norm_backward(self->base.queue, x, weight, 0, 1e-5f, y, dx, view_none()));
    TIME_CALL(self, "scale_add, residual", COUNTS_BYTES, count * (8 + width),
              ops_of(self)->scale_add(self->base.queue, 1, y, 1, x));
    RELEASE_ALL(self, x, dx, weight, y);
}

static void time_gates(device_bench *self) {
    int64_t n = self->table->length, f = self->table->shape->intermediate;
    double count = (double)(n * f), width = self->width;
    matrix_view both = activations(self, n, 2 * f), out = activations(self, n, f),
                dout = activations(self, n, f);
    matrix_view gate = view_columns(both, 0, f), up = view_columns(both, f, f),
                dboth = activations(self, n, 2 * f);
    matrix_view dgate = view_columns(dboth, 0, f), dup = view_columns(dboth, f, f);
    TIME_CALL(self, "gated_activation", COUNTS_BYTES, 3 * count * width,
              ops_of(self)->gated_activation(self->base.queue, ACTIVATION_SILU, gate, up, out));
    TIME_CALL(self, "gated_activation_backward", COUNTS_BYTES, 5 * count * width,
              ops_of(self)->gated_activation_backward(self->base.queue, ACTIVATION_SILU, gate, up, dout,
                                                      dgate, dup));
    RELEASE_ALL(self, both, dboth, out, dout);
}

static void time_rope(device_bench *self) {
    const model_shape *s = self->table->shape;
    int64_t n = self->table->length, width = s->heads * s->head_dim;
    int32_t *places = malloc((size_t)n * sizeof *places);
    if (places == NULL)
        exit(1);
    for (int64_t i = 0; i < n; i++)
        places[i] = (int32_t)(i % ROPE_POSITIONS);
    matrix_view x = activations(self, n, width), positions = indices(&self->base, places, n);
    matrix_view table = singles(self, ROPE_POSITIONS, s->head_dim);
    double bytes = 2 * (double)(n * width) * self->width + (double)(n * s->head_dim) * 4;
    TIME_CALL(self, "rope", COUNTS_BYTES, bytes,
              ops_of(self)->rope(self->base.queue, x, s->head_dim, positions, table, 0));
    RELEASE_ALL(self, x, positions, table);
    free(places);
}

/* --- objective and optimizer --- */

/* Puts back the logits that loss_head overwrites. */
static balora_status restore(device_bench *self, matrix_view fresh, matrix_view logits, matrix_view teacher) {
    balora_status status = ops_of(self)->copy(self->base.queue, logits, fresh);
    return status == BALORA_OK ? ops_of(self)->copy(self->base.queue, teacher, fresh) : status;
}

static void time_loss(device_bench *self) {
    int64_t rows = arith_min(HEAD_ROWS, self->table->length), vocabulary = self->table->shape->vocabulary;
    int32_t targets[HEAD_ROWS], regularized[HEAD_ROWS];
    for (int32_t i = 0; i < HEAD_ROWS; i++) {
        targets[i] = (int32_t)(7 * i % vocabulary);
        regularized[i] = 1;
    }
    matrix_view fresh = filled(&self->base, BALORA_F32, rows, vocabulary, 8), gradient = view_none();
    matrix_view logits = singles(self, rows, vocabulary), teacher = singles(self, rows, vocabulary);
    if (self->activation != BALORA_F32)
        gradient = activations(self, rows, vocabulary);
    loss_head_rows task = {.logits = logits,
                           .targets = indices(&self->base, targets, rows),
                           .regularized = indices(&self->base, regularized, rows),
                           .terms = filled(&self->base, BALORA_F64, rows, LOSS_COLUMNS, 0),
                           .task_weight = 1,
                           .temperature = 2,
                           .top_k = 20,
                           .gradient = 1,
                           .gradient_out = gradient};
    loss_head_rows all = task;
    all.teacher = teacher;
    all.consistency_weight = 0.025f;
    all.diversity_weight = 0.005f;
    double count = (double)(rows * vocabulary), seconds;
    TIME_ON_DEVICE(seconds, &self->base, restore(self, fresh, logits, teacher),
                   ops_of(self)->loss_head(self->base.queue, &all));
    report(self, "loss_head, student and teacher", seconds, COUNTS_BYTES, count * (8 + self->width));
    TIME_ON_DEVICE(seconds, &self->base, restore(self, fresh, logits, teacher),
                   ops_of(self)->loss_head(self->base.queue, &task));
    report(self, "loss_head, task only", seconds, COUNTS_BYTES, count * (4 + self->width));
    RELEASE_ALL(self, fresh, logits, teacher, task.targets, task.regularized, task.terms);
    if (!view_is_none(gradient))
        release(&self->base, gradient);
}

static int64_t trained_parameters(const device_table *table) {
    const model_shape *s = table->shape;
    int64_t width = s->heads * s->head_dim, narrow = s->key_heads * s->head_dim;
    int64_t sides = 2 * (s->hidden + width) + 2 * (s->hidden + narrow) + 3 * (s->hidden + s->intermediate);
    return s->layers * table->rank * sides;
}

static void time_optimizer(device_bench *self) {
    /* bytes read and written a number */
    static const struct {
        const char *name;
        double bytes;
    } kinds[] = {{"adamw", 28}, {"lion", 20}, {"adamw, 8-bit moments", 16}};
    int64_t count = trained_parameters(self->table);
    matrix_view gradient = singles(self, 1, count), sum = filled(&self->base, BALORA_F64, 1, 1, 0);
    TIME_CALL(self, "sum_squares", COUNTS_BYTES, 4 * (double)count,
              ops_of(self)->sum_squares(self->base.queue, gradient, 0, sum));
    RELEASE_ALL(self, gradient, sum);
    for (int i = 0; i < 3; i++) {
        optimizer_update update = optimizer_case(&self->base, OPTIMIZER_ADAMW + i, count);
        TIME_CALL(self, kinds[i].name, COUNTS_BYTES, kinds[i].bytes * (double)count,
                  ops_of(self)->optimizer_step(self->base.queue, &update));
        optimizer_case_free(&self->base, &update);
    }
}

/* --- the SVD term and PiSSA --- */

static void time_spectral(device_bench *self) {
    const backend_ops *ops = ops_of(self);
    int64_t n = arith_min(self->table->length, self->table->shape->hidden), d = self->table->shape->hidden;
    matrix_view hidden = filled(&self->base, BALORA_F64, n, d, 1),
                k = filled(&self->base, BALORA_F64, d, d, 1);
    matrix_view product = filled(&self->base, BALORA_F64, n, d, 1);
    matrix_view gram = filled(&self->base, BALORA_F64, n, n, 1), a = filled(&self->base, BALORA_F64, n, n, 1);
    matrix_view values = filled(&self->base, BALORA_F64, 1, EIGENVALUES, 1);
    matrix_view vectors = filled(&self->base, BALORA_F64, EIGENVALUES, n, 1);
    double seconds;
    TIME_CALL(self, "gemm, H K in f64", COUNTS_FLOPS_F64, 2.0 * (double)n * (double)d * (double)d,
              ops->gemm(self->base.queue, 0, 0, 1, hidden, k, 0, product));
    expect(ops->gram(self->base.queue, 0, hidden, gram));
    TIME_ON_DEVICE(seconds, &self->base, ops->copy(self->base.queue, a, gram),
                   ops->eigh_top(self->base.queue, a, values, vectors));
    report(self, "eigh_top, 10 of the Gram matrix", seconds, COUNTS_NOTHING, 0);
    RELEASE_ALL(self, hidden, k, product, gram, a, values, vectors);
}

static void time_factors(device_bench *self) {
    const backend_ops *ops = ops_of(self);
    int64_t d = self->table->shape->hidden, f = self->table->shape->intermediate;
    int64_t block = arith_min(SUBSPACE, d);
    matrix_view weight = activations(self, d, f), gram = singles(self, d, d);
    matrix_view basis = singles(self, block, d), next = singles(self, block, d);
    double seconds;
    TIME_CALL(self, "gram of the down projection", COUNTS_FLOPS_F32, 2.0 * (double)d * (double)d * (double)f,
              ops->gram(self->base.queue, 0, weight, gram));
    TIME_CALL(self, "gemm, subspace times Gram", COUNTS_FLOPS_F32,
              2.0 * (double)block * (double)d * (double)d,
              ops->gemm(self->base.queue, 0, 0, 1, basis, gram, 0, next));
    matrix_view fresh = singles(self, block, d);
    TIME_ON_DEVICE(seconds, &self->base, ops->copy(self->base.queue, basis, fresh),
                   ops->orthonormalize_rows(self->base.queue, basis));
    report(self, "orthonormalize_rows of a subspace", seconds, COUNTS_NOTHING, 0);
    RELEASE_ALL(self, weight, gram, basis, next, fresh);
}

/* --- all of them --- */

static void prepare(device_bench *self) {
    const model_shape *s = self->table->shape;
    int64_t n = self->table->length;
    backend_limits limits = {.gemm_columns = arith_max(s->vocabulary, 2 * s->intermediate),
                             .eigh_size = arith_min(n, s->hidden),
                             .eigh_count = EIGENVALUES,
                             .sequence_length = n,
                             .head_dim = s->head_dim,
                             .vocabulary = s->vocabulary,
                             .tokens = n,
                             .heads = s->heads};
    expect(ops_of(self)->prepare(self->base.queue, &limits));
}

int bench_device(const device_table *table) {
    device_bench self = {.table = table, .activation = BALORA_F32};
    int threads = table->threads > 0 ? table->threads : parallel_available();
    parallel_enter(threads);
    bench_open(&self.base, table->device, threads);
    if (self.base.properties.bf16_activations)
        self.activation = BALORA_BF16;
    self.width = (double)dtype_size(self.activation);
    int64_t flushed = FLUSHED_STREAMS * table->length * table->shape->hidden;
    self.flush_from = singles(&self, 1, flushed);
    self.flush_to = singles(&self, 1, flushed);
    prepare(&self);
    if (!table->json)
        printf("%s; %s; shape %s, %lld tokens, rank %lld\n", self.base.properties.name,
               self.base.properties.features, table->shape->name, (long long)table->length,
               (long long)table->rank);
    measure_ceilings(&self);
    time_products(&self);
    time_attention(&self);
    time_norms(&self);
    time_gates(&self);
    time_rope(&self);
    time_loss(&self);
    time_optimizer(&self);
    time_spectral(&self);
    time_factors(&self);
    RELEASE_ALL(&self, self.flush_from, self.flush_to);
    bench_close(&self.base);
    return 0;
}
