/*
 * Time and exactness of PiSSA's factors of one matrix [out, in] with a slowly decaying spectrum, beside a
 * full SVD.
 *
 *     bench_pissa [OUT IN RANK] [--device NAME] [--exact]
 *
 * The spectrum falls as 1 / sqrt(1 + i / 8), as that of trained weights does beyond their first directions.
 * --exact adds the full SVD and the largest relative error of the kept singular values against it. One JSON
 * line on stdout.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/pissa.h"
#include "balora/status.h"
#include "base/clock.h"
#include "base/parallel.h"
#include "base/random.h"

typedef struct bench {
    allocator memory;
    backend device;
    backend_queue *queue;
    arena arena;
    matrix_view weight, left, right, a, b, product;
    int64_t out, in, rank;
} bench;

static void place(bench *self) {
    int64_t side = self->out < self->in ? self->out : self->in;
    self->weight = arena_place(&self->arena, BALORA_F32, self->out, self->in);
    self->left = arena_place(&self->arena, BALORA_F32, self->out, side);
    self->right = arena_place(&self->arena, BALORA_F32, side, self->in);
    self->a = arena_place(&self->arena, BALORA_F32, self->rank, self->in);
    self->b = arena_place(&self->arena, BALORA_F32, self->out, self->rank);
    self->product = arena_place(&self->arena, BALORA_F32, self->rank, self->rank);
}

/* Gaussian columns and rows of unit length in the mean: nearly orthogonal, which is all that a spectrum needs
 * here. */
static balora_status fill(bench *self, matrix_view view, uint64_t stream, int decay_rows) {
    int64_t count = view.rows * view.cols;
    float *host = malloc((size_t)count * sizeof *host);
    if (host == NULL)
        return BALORA_ERROR_MEMORY;
    for (int64_t i = 0; i < count; i++) {
        double decay = decay_rows ? 1 / sqrt(1 + (double)(i / view.cols) / 8) : 1;
        uint64_t bits = random_bits(1, stream, (uint64_t)i);
        host[i] = (float)(decay * ((double)(bits >> 40) * 0x1p-23 - 1) /
                          sqrt((double)(decay_rows ? view.cols : view.rows)));
    }
    balora_status status =
        self->device.ops->upload(self->queue, view.buffer, view.offset, host, view_bytes(view));
    free(host);
    return status;
}

/* The singular values as the factors hold them: s_i = |b_i| |a_i|. */
static balora_status singular_values(bench *self, double *out) {
    const backend_ops *ops = self->device.ops;
    float *host = malloc((size_t)(self->rank * self->rank) * sizeof *host);
    if (host == NULL)
        return BALORA_ERROR_MEMORY;
    balora_status status = ops->gemm(self->queue, 0, 1, 1, self->a, self->a, 0, self->product);
    if (status == BALORA_OK)
        status = ops->download(self->queue, host, self->product.buffer, self->product.offset,
                               view_bytes(self->product));
    if (status == BALORA_OK)
        status = ops->synchronize(self->queue);
    for (int64_t i = 0; i < self->rank; i++)
        out[i] = (double)host[i * self->rank + i];
    free(host);
    return status;
}

static balora_status factor(bench *self, int full, double *seconds, double *values) {
    pissa_request request = {.device = &self->device,
                             .queue = self->queue,
                             .memory = &self->memory,
                             .name = "bench",
                             .weight = self->weight,
                             .rank = self->rank,
                             .scale = 1,
                             .full_svd = full,
                             .a = self->a,
                             .b = self->b};
    double begin = clock_seconds();
    balora_status status = pissa_factors(&request);
    *seconds = clock_seconds() - begin;
    return status == BALORA_OK ? singular_values(self, values) : status;
}

static balora_status run(bench *self, const char *device, int exact) {
    double seconds, full_seconds, *values = calloc((size_t)self->rank * 2, sizeof *values), error = 0;
    const backend_ops *ops;
    balora_status status = backend_open(&self->device, &self->memory, device, NULL, parallel_available());
    if (status != BALORA_OK || values == NULL)
        return status != BALORA_OK ? status : BALORA_ERROR_MEMORY;
    ops = self->device.ops;
    place(self);
    if ((status = ops->queue_open(&self->queue, self->device.device)) ||
        (status = arena_allocate(&self->arena, &self->device)))
        return status;
    place(self);
    if ((status = fill(self, self->left, 1, 0)) || (status = fill(self, self->right, 2, 1)) ||
        (status = ops->gemm(self->queue, 0, 0, 1, self->left, self->right, 0, self->weight)) ||
        (status = factor(self, 0, &seconds, values)))
        return status;
    printf("{\"device\": \"%s\", \"out\": %lld, \"in\": %lld, \"rank\": %lld, \"seconds\": %.3f", device,
           (long long)self->out, (long long)self->in, (long long)self->rank, seconds);
    if (exact) {
        if ((status = factor(self, 1, &full_seconds, values + self->rank)))
            return status;
        for (int64_t i = 0; i < self->rank; i++)
            error = fmax(error, fabs(values[i] / values[self->rank + i] - 1));
        printf(", \"full_svd_seconds\": %.3f, \"sigma_error\": %.2e", full_seconds, error);
    }
    printf("}\n");
    free(values);
    return BALORA_OK;
}

int main(int count, char **words) {
    bench self = {.out = 4096, .in = 11008, .rank = 128};
    int64_t *sizes[] = {&self.out, &self.in, &self.rank};
    const char *device = "cpu";
    int exact = 0, given = 0;
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "--exact") == 0)
            exact = 1;
        else if (strcmp(words[i], "--device") == 0 && i + 1 < count)
            device = words[++i];
        else if (given < 3)
            *sizes[given++] = atoll(words[i]);
        else
            given = 4;
    }
    int sound =
        self.out >= 1 && self.in >= 1 && self.rank >= 1 && self.rank <= self.out && self.rank <= self.in;
    if (!sound || (given != 0 && given != 3)) {
        fprintf(stderr, "usage: bench_pissa [OUT IN RANK] [--device NAME] [--exact]\n");
        return 2;
    }
    memory_init(&self.memory, NULL, NULL, NULL);
    balora_status status = run(&self, device, exact);
    if (status != BALORA_OK)
        fprintf(stderr, "%s\n", balora_error_message());
    if (self.queue != NULL)
        self.device.ops->queue_close(self.queue);
    arena_free(&self.arena);
    backend_close(&self.device);
    return status != BALORA_OK;
}
