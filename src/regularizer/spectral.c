#include "regularizer/spectral.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "regularizer/spectral_solve.h"

#define PIECE_ROWS ((int64_t)256)

int64_t spectral_problem_size(const spectral_options *options) {
    return options->head_trained ? options->rows : arith_min(options->rows, options->hidden);
}

int64_t spectral_pair_count(const spectral_options *options) {
    return spectral_pairs_of(options->norm, options->top, spectral_problem_size(options));
}

static int64_t pair_count(const spectral_term *self, int64_t size) {
    return spectral_pairs_of(self->norm, self->top, size);
}

static void place(spectral_term *self, const spectral_options *options) {
    arena *plan = &self->arena;
    int64_t d = self->hidden, m = self->rows, n = spectral_problem_size(options), pairs = pair_count(self, n);
    bool tall = m > d && !self->head_trained;
    self->gram = arena_place(plan, BALORA_F64, d, d);
    self->root = tall ? arena_place(plan, BALORA_F64, d, d) : view_none();
    self->h = arena_place(plan, BALORA_F64, m, d);
    self->p = arena_place(plan, BALORA_F64, m, d);
    self->result = arena_place(plan, BALORA_F64, m, d);
    self->products = arena_place(plan, BALORA_F64, arith_max(n, tall ? d : 1), arith_max(n, tall ? d : 1));
    self->square = arena_place(plan, BALORA_F64, d, d);
    self->values = arena_place(plan, BALORA_F64, 1, arith_max(n, d));
    self->weights = arena_place(plan, BALORA_F64, 1, arith_max(n, d));
    self->vectors = arena_place(plan, BALORA_F64, tall ? d : pairs, n);
    self->images = arena_place(plan, BALORA_F64, pairs, d);
    self->coordinates = arena_place(plan, BALORA_F64, m, pairs);
    self->trace = arena_place(plan, BALORA_F64, 1, 1);
    self->gamma = arena_place(plan, BALORA_F64, 1, 1);
    self->piece = arena_place(plan, BALORA_F64, PIECE_ROWS, d);
    self->narrow = arena_place(plan, BALORA_F32, m, d);
    self->narrow_square = self->head_trained ? arena_place(plan, BALORA_F32, d, d) : view_none();
}

/* L^T = sqrt(Lambda) E from K = E^T Lambda E. */
static balora_status take_root(spectral_term *self) {
    const backend_ops *ops = self->device->ops;
    int64_t d = self->hidden;
    double *host;
    matrix_view values = view_columns(self->values, 0, d), copy = view_reshape(self->products, d, d);
    STATUS_TRY(ops->copy(self->queue, copy, self->gram));
    STATUS_TRY(ops->eigh_top(self->queue, copy, values, self->root));
    STATUS_TRY(memory_new(self->memory, &host, (size_t)d, sizeof *host, "eigenvalues of the head"));
    balora_status status =
        ops->download(self->queue, host, values.buffer, values.offset, d * (int64_t)sizeof *host);
    if (status == BALORA_OK)
        status = ops->synchronize(self->queue);
    for (int64_t i = 0; i < d; i++)
        host[i] = sqrt(fmax(host[i], 0));
    if (status == BALORA_OK)
        status = ops->upload(self->queue, values.buffer, values.offset, host, d * (int64_t)sizeof *host);
    memory_free(self->memory, host);
    STATUS_TRY(status);
    return ops->scale_rows(self->queue, self->root, values);
}

balora_status spectral_update_head(spectral_term *self, matrix_view head) {
    const backend_ops *ops = self->device->ops;
    STATUS_TRY(ops->fill_zero(self->queue, self->gram));
    for (int64_t row = 0; row < head.rows; row += PIECE_ROWS) {
        int64_t count = arith_min(PIECE_ROWS, head.rows - row);
        matrix_view piece = view_rows(self->piece, 0, count);
        STATUS_TRY(ops->copy(self->queue, piece, view_rows(head, row, count)));
        STATUS_TRY(ops->gemm(self->queue, 1, 0, 1, piece, piece, 1, self->gram));
    }
    return view_is_none(self->root) ? BALORA_OK : take_root(self);
}

balora_status spectral_create(spectral_term *out, allocator *memory, const backend *device,
                              backend_queue *queue, matrix_view head, const spectral_options *options) {
    memset(out, 0, sizeof *out);
    out->memory = memory;
    out->device = device;
    out->queue = queue;
    out->hidden = options->hidden;
    out->rows = options->rows;
    out->top = options->top;
    out->norm = options->norm;
    out->head_trained = options->head_trained;
    balora_status status;
    place(out, options);
    STATUS_GOTO(arena_allocate(&out->arena, device));
    place(out, options);
    STATUS_GOTO(spectral_update_head(out, head));
    return BALORA_OK;
fail:
    spectral_free(out);
    return status;
}

void spectral_free(spectral_term *self) {
    arena_free(&self->arena);
    memset(self, 0, sizeof *self);
}

/* The pairs of an eigenproblem of `size` rows. */
static spectral_pairs pairs_of(const spectral_term *self, int64_t size) {
    int64_t count = pair_count(self, size);
    return (spectral_pairs){.values = view_columns(self->values, 0, count),
                            .weights = view_columns(self->weights, 0, count),
                            .vectors = view_reshape(self->vectors, count, size),
                            .trace = self->trace,
                            .gamma = self->gamma,
                            .top = self->top,
                            .norm = self->norm};
}

/* x *= gamma, for a contiguous x. */
static balora_status scale_by_gamma(spectral_term *self, matrix_view x) {
    return self->device->ops->scale_rows(self->queue, view_reshape(x, 1, x.rows * x.cols), self->gamma);
}

/* result = gamma x + sum_i c_i u_i (u_i^T x) with the eigenvectors of the M x M matrix; x is overwritten. */
static balora_status apply_row_vectors(spectral_term *self, matrix_view vectors, matrix_view weights,
                                       matrix_view x, matrix_view result) {
    const backend_ops *ops = self->device->ops;
    matrix_view images = view_rows(self->images, 0, vectors.rows);
    STATUS_TRY(ops->gemm(self->queue, 0, 0, 1, vectors, x, 0, images));
    STATUS_TRY(ops->scale_rows(self->queue, images, weights));
    STATUS_TRY(ops->gemm(self->queue, 1, 0, 1, vectors, images, 0, result));
    STATUS_TRY(scale_by_gamma(self, x));
    return ops->scale_add(self->queue, 1, x, 1, result);
}

/* dW = W (H^T C H), where C x is what apply_row_vectors computes. */
static balora_status head_gradient(spectral_term *self, matrix_view vectors, matrix_view weights,
                                   matrix_view h, matrix_view head, matrix_view dhead) {
    const backend_ops *ops = self->device->ops;
    matrix_view copy = view_rows(self->p, 0, h.rows), image = view_rows(self->result, 0, h.rows);
    STATUS_TRY(ops->copy(self->queue, copy, h));
    STATUS_TRY(apply_row_vectors(self, vectors, weights, copy, image));
    STATUS_TRY(ops->gemm(self->queue, 1, 0, 1, h, image, 0, self->square));
    STATUS_TRY(ops->copy(self->queue, self->narrow_square, self->square));
    return ops->gemm(self->queue, 0, 0, 1, head, self->narrow_square, 1, dhead);
}

/* Through S = H K H^T [M, M]. */
static balora_status by_rows(spectral_term *self, matrix_view h, matrix_view p, double scale,
                             matrix_view value, matrix_view head, matrix_view dhead) {
    const backend_ops *ops = self->device->ops;
    int64_t m = h.rows;
    matrix_view s = view_reshape(self->products, m, m), result = view_rows(self->result, 0, m);
    spectral_pairs pairs = pairs_of(self, m);
    STATUS_TRY(ops->gemm(self->queue, 0, 1, 1, p, h, 0, s));
    STATUS_TRY(spectral_solve(ops, self->queue, s, &pairs, scale, value));
    STATUS_TRY(apply_row_vectors(self, pairs.vectors, pairs.weights, p, result));
    STATUS_TRY(ops->copy(self->queue, view_rows(self->narrow, 0, m), result));
    return self->head_trained ? head_gradient(self, pairs.vectors, pairs.weights, h, head, dhead) : BALORA_OK;
}

/* Through L^T H^T H L [hidden, hidden]. */
static balora_status by_columns(spectral_term *self, matrix_view h, matrix_view p, double scale,
                                matrix_view value) {
    const backend_ops *ops = self->device->ops;
    int64_t m = h.rows, d = self->hidden, count = pair_count(self, d);
    spectral_pairs pairs = pairs_of(self, d);
    matrix_view s = view_reshape(self->products, d, d), result = view_rows(self->result, 0, m);
    matrix_view images = view_rows(self->images, 0, count);
    matrix_view coordinates = view_reshape(self->coordinates, m, count);
    matrix_view y = view_rows(self->result, 0, m); /* H L, until the result is written */
    STATUS_TRY(ops->gemm(self->queue, 0, 1, 1, h, self->root, 0, y));
    STATUS_TRY(ops->gemm(self->queue, 1, 0, 1, y, y, 0, s));
    STATUS_TRY(spectral_solve(ops, self->queue, s, &pairs, scale, value));
    STATUS_TRY(ops->gemm(self->queue, 0, 1, 1, y, pairs.vectors, 0, coordinates));
    STATUS_TRY(ops->gemm(self->queue, 0, 0, 1, pairs.vectors, self->root, 0, images));
    STATUS_TRY(ops->scale_rows(self->queue, images, pairs.weights));
    STATUS_TRY(ops->gemm(self->queue, 0, 0, 1, coordinates, images, 0, result));
    STATUS_TRY(scale_by_gamma(self, p));
    STATUS_TRY(ops->scale_add(self->queue, 1, p, 1, result));
    return ops->copy(self->queue, view_rows(self->narrow, 0, m), result);
}

balora_status spectral_evaluate(spectral_term *self, matrix_view hidden, double scale, matrix_view value,
                                matrix_view head, matrix_view dhead) {
    const backend_ops *ops = self->device->ops;
    int64_t m = hidden.rows;
    matrix_view h = view_rows(self->h, 0, m), p = view_rows(self->p, 0, m);
    STATUS_TRY(ops->copy(self->queue, h, hidden));
    STATUS_TRY(ops->gemm(self->queue, 0, 0, 1, h, self->gram, 0, p));
    if (self->head_trained || m <= self->hidden)
        return by_rows(self, h, p, scale, value, head, dhead);
    return by_columns(self, h, p, scale, value);
}
