/*
 * What the benchmarks share: a device opened by its name, random operands in its memory, its own clock, and the rates
 * that it reaches at best. Any failure ends the program with its message.
 */
#ifndef BENCHMARKS_BENCH_H
#define BENCHMARKS_BENCH_H

#include "tensor/view.h"

enum { BENCH_WARMUPS = 3, BENCH_RUNS = 10 };

typedef struct bench {
    allocator memory;
    backend device;
    backend_queue *queue;
    backend_properties properties;
    int threads, runs;
    double ceiling; /* FLOP/s */
    backend_event *begin, *end;
    double samples[BENCH_RUNS]; /* seconds */
    uint64_t draws;             /* streams of random numbers used so far */
} bench;

void expect(balora_status status);

/* `device` as balora_model_options has it; NULL: the CPU. */
void bench_open(bench *self, const char *device, int threads);
void bench_close(bench *self);
int bench_is_cpu(const char *device);

/* Normal numbers of the variance that numbers between -scale and scale have. */
matrix_view filled(bench *self, int32_t dtype, int64_t rows, int64_t cols, double scale);
matrix_view indices(bench *self, const int32_t *values, int64_t count);
void release(bench *self, matrix_view view);

/* A step of `count` numbers in one group, OPTIMIZER_...; its views are released by optimizer_case_free. */
optimizer_update optimizer_case(bench *self, int32_t kind, int64_t count);
void optimizer_case_free(bench *self, optimizer_update *update);

/*
 * Median seconds of ten evaluations of `expression`, a status, after three, by the device's events. `before`, another
 * one, is enqueued ahead of each and not counted: work that hides how long the host takes to enqueue, and that puts
 * back what the call destroys.
 */
#define TIME_ON_DEVICE(out, self, before, expression)                                                        \
    do {                                                                                                     \
        for (int run_ = -BENCH_WARMUPS; run_ < BENCH_RUNS; run_++) {                                         \
            expect(before);                                                                                  \
            bench_begin(self);                                                                               \
            expect(expression);                                                                              \
            bench_end(self, run_);                                                                           \
        }                                                                                                    \
        out = bench_median(self);                                                                            \
    } while (0)
void bench_begin(bench *self);
void bench_end(bench *self, int run); /* a run below 0 is a warm-up */
double bench_median(bench *self);

/* FLOP/s of a product of two square matrices of `dtype` through the table. */
double bench_product_rate(bench *self, int32_t dtype, int64_t size);

/* Bytes read and written a second by a copy of `bytes`. */
double bench_copy_rate(bench *self, int64_t bytes);

/* FLOP/s of OpenBLAS's own F32 product: the best of five. */
double bench_openblas_rate(int64_t size);

/* Size of the products above: large enough for the device's best rate. */
static inline int64_t bench_product_size(const char *device) {
    return bench_is_cpu(device) ? 1536 : 8192;
}

#endif
