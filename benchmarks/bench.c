#include "bench.h"

#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balora/status.h"
#include "base/clock.h"
#include "base/parallel.h"

#define DRAW_SEED UINT64_C(22)

void expect(balora_status status) {
    if (status == BALORA_OK)
        return;
    fprintf(stderr, "%s\n", balora_error_message());
    exit(1);
}

int bench_is_cpu(const char *device) {
    return device == NULL || strncmp(device, "cpu", 3) == 0;
}

void bench_open(bench *self, const char *device, int threads) {
    *self = (bench){.threads = threads};
    memory_init(&self->memory, NULL, NULL, NULL);
    expect(backend_open(&self->device, &self->memory, device != NULL ? device : "cpu", NULL, threads));
    const backend_ops *ops = self->device.ops;
    expect(ops->queue_open(&self->queue, self->device.device));
    expect(ops->device_properties(self->device.device, &self->properties));
    expect(ops->event_open(&self->begin, self->device.device));
    expect(ops->event_open(&self->end, self->device.device));
}

void bench_close(bench *self) {
    const backend_ops *ops = self->device.ops;
    ops->event_close(self->begin);
    ops->event_close(self->end);
    ops->queue_close(self->queue);
    backend_close(&self->device);
}

/* --- operands --- */

static matrix_view allocated(bench *self, int32_t dtype, int64_t rows, int64_t cols) {
    backend_buffer *buffer;
    expect(self->device.ops->buffer_allocate(&buffer, self->device.device, rows * cols * dtype_size(dtype)));
    return view_make(buffer, 0, dtype, rows, cols);
}

matrix_view filled(bench *self, int32_t dtype, int64_t rows, int64_t cols, double scale) {
    const backend_ops *ops = self->device.ops;
    matrix_view out = allocated(self, dtype, rows, cols), numbers = out;
    if (dtype == BALORA_F64)
        numbers = allocated(self, BALORA_F32, rows, cols);
    expect(ops->fill_normal(self->queue, numbers, DRAW_SEED, self->draws++, scale / sqrt(3)));
    if (dtype == BALORA_F64) {
        expect(ops->copy(self->queue, out, numbers));
        release(self, numbers);
    }
    return out;
}

matrix_view indices(bench *self, const int32_t *values, int64_t count) {
    matrix_view out = allocated(self, BALORA_I32, 1, count);
    expect(self->device.ops->upload(self->queue, out.buffer, 0, values, view_bytes(out)));
    return out;
}

void release(bench *self, matrix_view view) {
    expect(self->device.ops->synchronize(self->queue));
    self->device.ops->buffer_free(self->device.device, view.buffer);
}

/* Random bytes: every code stands for a number. */
static matrix_view codes(bench *self, int64_t count) {
    matrix_view out = filled(self, BALORA_F32, 1, (count + 3) / 4, 1);
    out.dtype = BALORA_U8;
    out.cols = out.ld = count;
    return out;
}

/* Ascending numbers from `first` to 1. */
static matrix_view ascending(bench *self, double first) {
    matrix_view out = filled(self, BALORA_F32, 1, 256, 1);
    float values[256];
    for (int i = 0; i < 256; i++)
        values[i] = (float)(first + (1 - first) * i / 255);
    expect(self->device.ops->upload(self->queue, out.buffer, 0, values, view_bytes(out)));
    return out;
}

optimizer_update optimizer_case(bench *self, int32_t kind, int64_t count) {
    int64_t blocks = (count + OPTIMIZER_BLOCK - 1) / OPTIMIZER_BLOCK;
    optimizer_update update = {.kind = kind,
                               .group_count = 1,
                               .groups = {{1e-4, 0.01}},
                               .parameter = filled(self, BALORA_F32, 1, count, 1),
                               .gradient = filled(self, BALORA_F32, 1, count, 1),
                               .scale = filled(self, BALORA_F32, 1, 1, 1),
                               .beta1 = 0.9,
                               .beta2 = 0.99,
                               .epsilon = 1e-8,
                               .step = 10};
    if (kind == OPTIMIZER_ADAMW_8BIT) {
        update.first_moment = codes(self, count);
        update.second_moment = codes(self, count);
        update.first_scales = filled(self, BALORA_F32, 1, blocks, 1);
        update.second_scales = filled(self, BALORA_F32, 1, blocks, 0);
        update.first_map = ascending(self, -1);
        update.second_map = ascending(self, 0);
        return update;
    }
    update.first_moment = filled(self, BALORA_F32, 1, count, 0);
    if (kind == OPTIMIZER_ADAMW)
        update.second_moment = filled(self, BALORA_F32, 1, count, 0);
    return update;
}

void optimizer_case_free(bench *self, optimizer_update *update) {
    matrix_view held[] = {update->parameter,     update->gradient,      update->scale,
                          update->first_moment,  update->second_moment, update->first_scales,
                          update->second_scales, update->first_map,     update->second_map};
    for (size_t i = 0; i < sizeof held / sizeof held[0]; i++)
        if (!view_is_none(held[i]))
            release(self, held[i]);
}

/* --- the device's clock --- */

void bench_begin(bench *self) {
    expect(self->device.ops->event_record(self->queue, self->begin));
}

void bench_end(bench *self, int run) {
    const backend_ops *ops = self->device.ops;
    double seconds;
    expect(ops->event_record(self->queue, self->end));
    expect(ops->event_elapsed(self->begin, self->end, &seconds));
    if (run >= 0)
        self->samples[run] = seconds;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(bench *self) {
    qsort(self->samples, BENCH_RUNS, sizeof *self->samples, compare);
    return (self->samples[BENCH_RUNS / 2 - 1] + self->samples[BENCH_RUNS / 2]) / 2;
}

/* --- ceilings --- */

static int32_t product_dtype(const bench *self, int32_t dtype) {
    return dtype == BALORA_F64 || (dtype == BALORA_BF16 && self->properties.bf16_activations) ? dtype
                                                                                              : BALORA_F32;
}

double bench_product_rate(bench *self, int32_t dtype, int64_t size) {
    const backend_ops *ops = self->device.ops;
    matrix_view a = filled(self, dtype, size, size, 1), b = filled(self, dtype, size, size, 1);
    matrix_view c = filled(self, product_dtype(self, dtype), size, size, 1);
    double seconds, flops = 2.0 * (double)size * (double)size * (double)size;
    TIME_ON_DEVICE(seconds, self, ops->fill_zero(self->queue, c),
                   ops->gemm(self->queue, 0, 1, 1, a, b, 0, c));
    release(self, a);
    release(self, b);
    release(self, c);
    return flops / seconds;
}

double bench_copy_rate(bench *self, int64_t bytes) {
    const backend_ops *ops = self->device.ops;
    int64_t columns = bytes / (int64_t)sizeof(float);
    matrix_view from = filled(self, BALORA_F32, 1, columns, 1), to = filled(self, BALORA_F32, 1, columns, 1);
    double seconds;
    TIME_ON_DEVICE(seconds, self, ops->fill_zero(self->queue, to), ops->copy(self->queue, to, from));
    release(self, from);
    release(self, to);
    return 2 * (double)columns * sizeof(float) / seconds;
}

double bench_openblas_rate(int64_t size) {
    size_t n = (size_t)size;
    blasint side = (blasint)size;
    float *a = malloc(3 * n * n * sizeof *a);
    double best = 0;
    if (a == NULL)
        return 0;
    for (size_t i = 0; i < 3 * n * n; i++)
        a[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    for (int run = 0; run < 6; run++) {
        double begin = clock_seconds();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, side, side, side, 1, a, side, a + n * n, side, 0,
                    a + 2 * n * n, side);
        double rate = 2.0 * (double)n * (double)n * (double)n / (clock_seconds() - begin);
        if (run > 0 && rate > best)
            best = rate;
    }
    free(a);
    return best;
}
