/*
 * Speed of the slots of the dispatch table.
 *
 *     bench_ops --device NAME [--shape 8b|1b|tiny] [--length 2048] [--rank 16] [--threads N] [--ceiling SIZE] [--json]
 *
 * any device, with the operands that a step on a model of that shape has: see bench_device.h.
 *
 *     bench_ops [THREADS] [RUNS]
 *
 * the CPU's table in small, beside the ceiling that OpenBLAS sets in the same run: the best of several products of
 * 2048 x 2048 matrices.
 *
 * THREADS: 1 when left out; RUNS: how often each call is timed, of which the best counts (7). With one thread
 * the time is that of the thread on its core, so that other processes disturb less; otherwise it is the
 * wall's. Three tables on stdout: products (OpenBLAS called as a whole, the slot in F32, the slot with a BF16
 * weight), attention, and slots over rows in nanoseconds an element.
 */
#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/parallel.h"
#include "bench_device.h"

static double now(const bench *self) {
    struct timespec time;
    clock_gettime(self->threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Best seconds of one evaluation of `expression`, a status, each timing holding `repeats` of them. */
#define MEASURE(out, self, repeats, expression)                                                              \
    do {                                                                                                     \
        out = 1e9;                                                                                           \
        for (int run_ = 0; run_ <= (self)->runs; run_++) {                                                   \
            double start_ = now(self);                                                                       \
            for (int repeat_ = 0; repeat_ < (repeats); repeat_++)                                            \
                expect(expression);                                                                          \
            double seconds_ = (now(self) - start_) / (repeats);                                              \
            if (run_ > 0 && seconds_ < out)                                                                  \
                out = seconds_;                                                                              \
        }                                                                                                    \
    } while (0)

/* --- products --- */

typedef struct shape {
    const char *name;
    int transpose_a, transpose_b, rows, cols, inner;
} shape;

static const shape shapes[] = {
    {"ceiling", 0, 0, 2048, 2048, 2048},
    {"q forward", 0, 1, 256, 512, 512},
    {"q forward", 0, 1, 1024, 512, 512},
    {"q forward", 0, 1, 2048, 512, 512},
    {"q backward", 0, 0, 1024, 512, 512},
    {"up forward", 0, 1, 1024, 1536, 512},
    {"up backward", 0, 0, 1024, 512, 1536},
    {"down forward", 0, 1, 1024, 512, 1536},
    {"768 square", 0, 1, 1024, 768, 768},
    {"576 to 1536", 0, 1, 1024, 1536, 576},
    {"4096 square", 0, 1, 512, 4096, 4096},
    {"logits", 0, 1, 128, 32000, 512},
    {"logits back", 0, 0, 128, 512, 32000},
    {"x A^T", 0, 1, 1024, 96, 512},
    {"x A^T", 0, 1, 1024, 32, 512},
    {"x A^T", 0, 1, 1024, 16, 1536},
    {"h B^T", 0, 1, 1024, 512, 32},
    {"h B^T", 0, 1, 1024, 1536, 16},
    {"dy B", 0, 0, 1024, 32, 1536},
    {"dA", 1, 0, 96, 512, 1024},
    {"dA", 1, 0, 32, 512, 1024},
    {"dB", 1, 0, 1536, 32, 1024},
};

static balora_status multiply_whole(const shape *s, const float *a, const float *b, float *c) {
    cblas_sgemm(CblasRowMajor, s->transpose_a ? CblasTrans : CblasNoTrans,
                s->transpose_b ? CblasTrans : CblasNoTrans, s->rows, s->cols, s->inner, 1, a,
                s->transpose_a ? s->rows : s->inner, b, s->transpose_b ? s->inner : s->cols, 0, c, s->cols);
    return BALORA_OK;
}

static void bench_product(bench *self, const shape *s) {
    const backend_ops *ops = self->device.ops;
    int64_t b_rows = s->transpose_b ? s->cols : s->inner, b_cols = s->transpose_b ? s->inner : s->cols;
    matrix_view a =
        filled(self, BALORA_F32, s->transpose_a ? s->inner : s->rows, s->transpose_a ? s->rows : s->inner, 1);
    matrix_view b = filled(self, BALORA_F32, b_rows, b_cols, 1);
    matrix_view half = filled(self, BALORA_BF16, b_rows, b_cols, 1);
    matrix_view c = filled(self, BALORA_F32, s->rows, s->cols, 1);
    float *whole_a = calloc((size_t)(a.rows * a.cols), sizeof *whole_a);
    float *whole_b = calloc((size_t)(b.rows * b.cols), sizeof *whole_b);
    float *whole_c = calloc((size_t)(c.rows * c.cols), sizeof *whole_c);
    if (whole_a == NULL || whole_b == NULL || whole_c == NULL)
        exit(1);
    expect(ops->download(self->queue, whole_a, a.buffer, 0, view_bytes(a)));
    expect(ops->download(self->queue, whole_b, b.buffer, 0, view_bytes(b)));
    double flops = 2.0 * s->rows * s->cols * s->inner, whole, single, mixed;
    int repeats = flops > 2e8 ? 1 : (int)(2e8 / flops);
    MEASURE(whole, self, repeats, multiply_whole(s, whole_a, whole_b, whole_c));
    MEASURE(single, self, repeats, ops->gemm(self->queue, s->transpose_a, s->transpose_b, 1, a, b, 0, c));
    MEASURE(mixed, self, repeats, ops->gemm(self->queue, s->transpose_a, s->transpose_b, 1, a, half, 0, c));
    if (self->ceiling == 0)
        self->ceiling = flops / whole;
    printf("%-13s %c%c %5d x %5d x %5d %9.1f %9.1f %6.2f %9.1f %6.2f\n", s->name, s->transpose_a ? 'T' : 'N',
           s->transpose_b ? 'T' : 'N', s->rows, s->cols, s->inner, flops / whole * 1e-9,
           flops / single * 1e-9, flops / single / self->ceiling, flops / mixed * 1e-9, single / mixed);
    free(whole_a);
    free(whole_b);
    free(whole_c);
    release(self, a);
    release(self, b);
    release(self, half);
    release(self, c);
}

/* --- attention --- */

static void bench_attention(bench *self, int32_t length, int64_t head_dim, int64_t key_heads) {
    const backend_ops *ops = self->device.ops;
    int64_t heads = 8, width = heads * head_dim, key_width = key_heads * head_dim;
    int32_t places[2] = {0, length};
    matrix_view offsets = indices(self, places, 2);
    matrix_view q = filled(self, BALORA_F32, length, width, 1);
    matrix_view k = filled(self, BALORA_F32, length, key_width, 1);
    matrix_view v = filled(self, BALORA_F32, length, key_width, 1);
    matrix_view out = filled(self, BALORA_F32, length, width, 1);
    matrix_view dout = filled(self, BALORA_F32, length, width, 1);
    matrix_view dq = filled(self, BALORA_F32, length, width, 1);
    matrix_view dk = filled(self, BALORA_F32, length, key_width, 1);
    matrix_view dv = filled(self, BALORA_F32, length, key_width, 1);
    matrix_view logsumexp = filled(self, BALORA_F32, length, heads, 1);
    attention_shape sizes = {1, length, heads, key_heads, head_dim, 0, 0.125f, 0};
    attention_forward forward = {sizes, offsets, q, k, v, out, logsumexp};
    attention_backward backward = {sizes, offsets, q, k, v, out, logsumexp, dout, dq, dk, dv};
    double there, back;
    MEASURE(there, self, 1, ops->attention(self->queue, &forward));
    MEASURE(back, self, 1, ops->attention_backward(self->queue, &backward));
    double flops = 2.0 * (double)(heads * head_dim) * length * (length + 1.0); /* of the causal half */
    printf("%5d tokens, %lld/%lld heads of %3lld %9.1f %6.2f %9.1f %6.2f\n", length, (long long)heads,
           (long long)key_heads, (long long)head_dim, flops / there * 1e-9, flops / there / self->ceiling,
           2.5 * flops / back * 1e-9, 2.5 * flops / back / self->ceiling);
    matrix_view all[] = {offsets, q, k, v, out, dout, dq, dk, dv, logsumexp};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        release(self, all[i]);
}

/* --- rows --- */

static void report(const char *name, double seconds, int64_t elements) {
    printf("%-34s %8.3f\n", name, seconds * 1e9 / (double)elements);
}

static void bench_loss(bench *self, float temperature, int64_t top_k, const char *name) {
    const backend_ops *ops = self->device.ops;
    int64_t rows = 64, vocabulary = 32000;
    int32_t targets[64], regularized[64];
    for (int32_t i = 0; i < 64; i++) {
        targets[i] = 7 * i;
        regularized[i] = 1;
    }
    matrix_view fresh = filled(self, BALORA_F32, rows, vocabulary, 8);
    matrix_view logits = filled(self, BALORA_F32, rows, vocabulary, 8);
    matrix_view teacher = filled(self, BALORA_F32, rows, vocabulary, 7);
    matrix_view terms = filled(self, BALORA_F64, rows, LOSS_COLUMNS, 0);
    loss_head_rows args = {.logits = logits,
                           .teacher = teacher,
                           .targets = indices(self, targets, rows),
                           .regularized = indices(self, regularized, rows),
                           .terms = terms,
                           .task_weight = 1,
                           .consistency_weight = 0.025f,
                           .diversity_weight = 0.005f,
                           .temperature = temperature,
                           .top_k = top_k,
                           .gradient = 1};
    double copying, all;
    MEASURE(copying, self, 1, ops->copy(self->queue, logits, fresh));
    MEASURE(all, self, 1,
            ops->copy(self->queue, logits, fresh) == BALORA_OK ? ops->loss_head(self->queue, &args)
                                                               : BALORA_ERROR_INTERNAL);
    report(name, all - copying, rows * vocabulary);
    matrix_view held[] = {fresh, logits, teacher, terms, args.targets, args.regularized};
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        release(self, held[i]);
}

static void bench_rows(bench *self) {
    const backend_ops *ops = self->device.ops;
    int64_t rows = 1024, cols = 1536, count = rows * cols;
    matrix_view x = filled(self, BALORA_F32, rows, cols, 2), y = filled(self, BALORA_F32, rows, cols, 2);
    matrix_view z = filled(self, BALORA_F32, rows, cols, 2), u = filled(self, BALORA_F32, rows, cols, 2);
    matrix_view first = filled(self, BALORA_F32, rows, cols, 0);
    matrix_view second = filled(self, BALORA_F32, rows, cols, 0);
    matrix_view half = filled(self, BALORA_BF16, rows, cols, 2);
    matrix_view weight = filled(self, BALORA_F32, 1, cols, 1), scale = filled(self, BALORA_F32, 1, 1, 1);
    matrix_view sum = filled(self, BALORA_F64, 1, 1, 0);
    double t;
#define ROW_SLOT(name, expression)                                                                           \
    MEASURE(t, self, 1, expression);                                                                         \
    report(name, t, count)
    ROW_SLOT("copy", ops->copy(self->queue, y, x));
    ROW_SLOT("copy from bf16", ops->copy(self->queue, y, half));
    ROW_SLOT("copy to bf16", ops->copy(self->queue, half, y));
    ROW_SLOT("scale_add", ops->scale_add(self->queue, 0.5, x, 0.5, y));
    ROW_SLOT("sum_squares", ops->sum_squares(self->queue, x, 0, sum));
    ROW_SLOT("rms_norm", ops->rms_norm(self->queue, x, weight, 0, 1e-5f, y));
    ROW_SLOT("rms_norm_backward",
             ops->rms_norm_backward(self->queue, x, weight, 0, 1e-5f, z, y, view_none()));
    ROW_SLOT("gated_activation, silu", ops->gated_activation(self->queue, ACTIVATION_SILU, x, z, y));
    ROW_SLOT("gated_activation_backward, silu",
             ops->gated_activation_backward(self->queue, ACTIVATION_SILU, x, z, u, y, first));
    static const char *const optimizers[] = {"adamw", "lion", "adamw, 8-bit moments"};
    for (int32_t kind = OPTIMIZER_ADAMW; kind <= OPTIMIZER_ADAMW_8BIT; kind++) {
        optimizer_update update = optimizer_case(self, kind, count);
        ROW_SLOT(optimizers[kind - OPTIMIZER_ADAMW], ops->optimizer_step(self->queue, &update));
        optimizer_case_free(self, &update);
    }
    matrix_view held[] = {x, y, z, u, first, second, half, weight, scale, sum};
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        release(self, held[i]);
}

static int print_usage(void) {
    fprintf(stderr, "usage: bench_ops [THREADS] [RUNS]\n"
                    "       bench_ops --device NAME [--shape " MODEL_SHAPE_NAMES
                    "] [--length N] [--rank N] [--threads N] [--ceiling SIZE] [--json]\n");
    return 2;
}

/* A positive number, or 0. */
static int positive(const char *text) {
    char *end;
    long value = strtol(text, &end, 10);
    return *end == '\0' && value > 0 && value < 1000000 ? (int)value : 0;
}

static int bench_cpu_tables(int threads, int runs) {
    bench self;
    parallel_enter(threads);
    bench_open(&self, "cpu", threads);
    self.runs = runs;
    printf("%s; %s; %d threads, best of %d\n\n", self.properties.name, self.properties.features, self.threads,
           self.runs);

    printf("GFLOP/s of products              OpenBLAS      slot  /ceil      bf16  /fp32\n");
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        bench_product(&self, &shapes[i]);
    printf("\nGFLOP/s of attention              forward  /ceil  backward  /ceil\n");
    for (int32_t length = 256; length <= 2048; length *= 2)
        bench_attention(&self, length, 64, 8);
    bench_attention(&self, 1024, 64, 2);
    bench_attention(&self, 1024, 128, 8);
    printf("\nnanoseconds an element\n");
    bench_rows(&self);
    bench_loss(&self, 2, 20, "loss_head, T 2, top 20");
    bench_loss(&self, 2, 0, "loss_head, T 2, whole vocabulary");
    bench_loss(&self, 3, 20, "loss_head, T 3, top 20");
    bench_close(&self);
    return 0;
}

static int parse_device_table(device_table *table, int count, char **words) {
    for (int i = 1; i < count; i++) {
        const char *value = i + 1 < count ? words[i + 1] : "";
        struct {
            const char *flag;
            int64_t *number;
        } numbers[] = {
            {"--length", &table->length}, {"--rank", &table->rank}, {"--ceiling", &table->ceiling}};
        int known = 0;
        if (strcmp(words[i], "--json") == 0) {
            table->json = 1;
            continue;
        }
        if (strcmp(words[i], "--device") == 0)
            known = (table->device = value) != NULL;
        else if (strcmp(words[i], "--shape") == 0)
            known = (table->shape = model_shape_find(value)) != NULL;
        else if (strcmp(words[i], "--threads") == 0)
            known = (table->threads = positive(value)) > 0;
        for (size_t n = 0; n < sizeof numbers / sizeof numbers[0] && !known; n++)
            if (strcmp(words[i], numbers[n].flag) == 0)
                known = (*numbers[n].number = positive(value)) > 0;
        if (!known)
            return 0;
        i++;
    }
    return table->device != NULL && *table->device != '\0';
}

int main(int count, char **words) {
    if (count > 1 && strncmp(words[1], "--", 2) == 0) {
        device_table table = {.shape = model_shape_find("8b"), .length = 2048, .rank = 16};
        return parse_device_table(&table, count, words) ? bench_device(&table) : print_usage();
    }
    int threads = count > 1 ? positive(words[1]) : 1, runs = count > 2 ? positive(words[2]) : 7;
    return threads > 0 && runs > 0 ? bench_cpu_tables(threads, runs) : print_usage();
}
