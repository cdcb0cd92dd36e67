#include "regularizer/covariance.h"

#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "regularizer/logit_tile.h"

#define TILE_NUMBERS (INT64_C(1) << 18) /* 2 MiB in F64 */

static void place(covariance_term *self) {
    int64_t d = self->columns, n = self->tile_rows;
    self->mean = arena_place(&self->arena, BALORA_F64, 1, d);
    self->sums = arena_place(&self->arena, BALORA_F64, 1, d);
    self->products = arena_place(&self->arena, BALORA_F64, d, d);
    self->off = arena_place(&self->arena, BALORA_F64, d, d);
    self->ones = arena_place(&self->arena, BALORA_F64, n, 1);
    self->tile = arena_place(&self->arena, BALORA_F64, n, d);
    self->image = arena_place(&self->arena, BALORA_F64, n, d);
    self->narrow = arena_place(&self->arena, BALORA_F32, n, d);
}

static balora_status fill_ones(const covariance_term *self, allocator *memory) {
    double *host;
    STATUS_TRY(memory_new(memory, &host, (size_t)self->tile_rows, sizeof *host, "ones"));
    for (int64_t i = 0; i < self->tile_rows; i++)
        host[i] = 1;
    balora_status status = self->device->ops->upload(self->queue, self->ones.buffer, self->ones.offset, host,
                                                     view_bytes(self->ones));
    memory_free(memory, host);
    return status;
}

balora_status covariance_create(covariance_term *out, allocator *memory, const backend *device,
                                backend_queue *queue, int64_t rows, int64_t columns) {
    balora_status status;
    *out = (covariance_term){.device = device, .queue = queue, .columns = columns};
    out->tile_rows = arith_min(rows, arith_max(64, TILE_NUMBERS / columns));
    place(out);
    STATUS_TRY(arena_allocate(&out->arena, device));
    place(out);
    STATUS_GOTO(fill_ones(out, memory));
    return BALORA_OK;
fail:
    covariance_free(out);
    return status;
}

void covariance_free(covariance_term *self) {
    arena_free(&self->arena);
    memset(self, 0, sizeof *self);
}

balora_status covariance_begin(covariance_term *self, int64_t rows) {
    self->active = rows;
    STATUS_TRY(self->device->ops->fill_zero(self->queue, self->sums));
    return self->device->ops->fill_zero(self->queue, self->products);
}

/* Does something with the tile that holds `rows` (a slice of them, or none) of the part from `first` on. */
typedef balora_status (*tile_body)(covariance_term *self, matrix_view tile, matrix_view rows,
                                   matrix_view gradient, double scale);

static balora_status for_tiles(covariance_term *self, matrix_view logits, matrix_view rows,
                               matrix_view gradient, double scale, tile_body body) {
    bool named = !view_is_none(rows);
    int64_t count = named ? rows.cols : logits.rows;
    for (int64_t first = 0; first < count; first += self->tile_rows) {
        int64_t height = arith_min(self->tile_rows, count - first);
        matrix_view tile = view_rows(self->tile, 0, height), narrow = view_rows(self->narrow, 0, height);
        matrix_view slice = named ? view_columns(rows, first, height) : rows;
        matrix_view source = named ? logits : view_rows(logits, first, height), target = gradient;
        if (!named && !view_is_none(gradient))
            target = view_rows(gradient, first, height);
        STATUS_TRY(logit_tile_load(self->device->ops, self->queue, source, slice, tile, narrow));
        STATUS_TRY(body(self, tile, slice, target, scale));
    }
    return BALORA_OK;
}

static balora_status sum_tile(covariance_term *self, matrix_view tile, matrix_view rows, matrix_view gradient,
                              double scale) {
    (void)rows, (void)gradient, (void)scale;
    return self->device->ops->sum_rows(self->queue, tile, 1, self->sums);
}

balora_status covariance_add_mean(covariance_term *self, matrix_view logits, matrix_view rows) {
    STATUS_TRY(for_tiles(self, logits, rows, view_none(), 0, sum_tile));
    return self->device->ops->scale_add(self->queue, 1 / (double)self->active, self->sums, 0, self->mean);
}

static balora_status centre(const covariance_term *self, matrix_view tile) {
    return self->device->ops->gemm(self->queue, 0, 0, -1, view_rows(self->ones, 0, tile.rows), self->mean, 1,
                                   tile);
}

static balora_status multiply_tile(covariance_term *self, matrix_view tile, matrix_view rows,
                                   matrix_view gradient, double scale) {
    (void)rows, (void)gradient, (void)scale;
    const backend_ops *ops = self->device->ops;
    STATUS_TRY(centre(self, tile));
    STATUS_TRY(ops->gram(self->queue, 1, tile, self->off));
    return ops->scale_add(self->queue, 1, self->off, 1, self->products);
}

balora_status covariance_add_products(covariance_term *self, matrix_view logits, matrix_view rows) {
    return for_tiles(self, logits, rows, view_none(), 0, multiply_tile);
}

balora_status covariance_finish(covariance_term *self, matrix_view value) {
    const backend_ops *ops = self->device->ops;
    int64_t d = self->columns;
    matrix_view flat = view_reshape(self->off, 1, d * d), diagonal = self->off;
    diagonal.cols = 1;
    diagonal.ld = d + 1;
    STATUS_TRY(ops->scale_add(self->queue, 1 / (double)(self->active - 1), self->products, 0, self->off));
    STATUS_TRY(ops->fill_zero(self->queue, diagonal));
    return ops->gemm(self->queue, 0, 1, 1, flat, flat, 0, value);
}

static balora_status add_tile(covariance_term *self, matrix_view tile, matrix_view rows, matrix_view gradient,
                              double scale) {
    const backend_ops *ops = self->device->ops;
    matrix_view image = view_rows(self->image, 0, tile.rows), narrow = view_rows(self->narrow, 0, tile.rows);
    double factor = 4 * scale / ((double)self->columns * (double)(self->active - 1));
    STATUS_TRY(centre(self, tile));
    STATUS_TRY(ops->gemm(self->queue, 0, 0, factor, tile, self->off, 0, image));
    return logit_tile_add(ops, self->queue, image, rows, narrow, gradient);
}

balora_status covariance_add_gradient(covariance_term *self, matrix_view logits, matrix_view rows,
                                      double scale, matrix_view gradient) {
    return for_tiles(self, logits, rows, gradient, scale, add_tile);
}
