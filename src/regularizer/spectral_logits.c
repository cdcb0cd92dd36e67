#include "regularizer/spectral_logits.h"

#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "regularizer/logit_tile.h"

#define TILE_NUMBERS  (INT64_C(2) << 20) /* 16 MiB in F64 */
#define LEAST_SEGMENT INT64_C(64) /* columns (or rows) of a tile at least, so that products have depth */

int64_t spectral_logits_problem_size(const spectral_logits_options *options) {
    return arith_min(options->rows, options->columns);
}

int64_t spectral_logits_pair_count(const spectral_logits_options *options) {
    return spectral_pairs_of(options->norm, options->top, spectral_logits_problem_size(options));
}

/* Enough for LEAST_SEGMENT columns of all rows, or rows with all columns, whichever way an evaluation goes. */
static int64_t tile_numbers(const spectral_logits_options *options) {
    int64_t most = options->rows * options->columns;
    int64_t least = LEAST_SEGMENT * spectral_logits_problem_size(options);
    return arith_min(most, arith_max(TILE_NUMBERS, least));
}

/* Rows of a tile at most, where tiles hold all columns. */
static int64_t tile_rows(const spectral_logits *self) {
    return arith_max(1, self->tile_numbers / self->options.columns);
}

static void place(spectral_logits *self) {
    arena *plan = &self->arena;
    const spectral_logits_options *options = &self->options;
    int64_t n = spectral_logits_problem_size(options), pairs = spectral_logits_pair_count(options);
    bool tall = options->rows > options->columns;
    self->gram = arena_place(plan, BALORA_F64, n, n);
    self->part = arena_place(plan, BALORA_F64, n, n);
    self->values = arena_place(plan, BALORA_F64, 1, pairs);
    self->weights = arena_place(plan, BALORA_F64, 1, pairs);
    self->vectors = arena_place(plan, BALORA_F64, pairs, n);
    self->images = arena_place(plan, BALORA_F64, pairs, options->columns);
    self->coordinates = tall ? arena_place(plan, BALORA_F64, tile_rows(self), pairs) : view_none();
    self->trace = arena_place(plan, BALORA_F64, 1, 1);
    self->gamma = arena_place(plan, BALORA_F64, 1, 1);
    self->tile = arena_place(plan, BALORA_F64, 1, self->tile_numbers);
    self->narrow = arena_place(plan, BALORA_F32, 1, self->tile_numbers);
}

balora_status spectral_logits_create(spectral_logits *out, const backend *device, backend_queue *queue,
                                     const spectral_logits_options *options) {
    *out = (spectral_logits){.device = device, .queue = queue, .options = *options};
    out->tile_numbers = tile_numbers(options);
    place(out);
    STATUS_TRY(arena_allocate(&out->arena, device));
    place(out);
    return BALORA_OK;
}

void spectral_logits_free(spectral_logits *self) {
    arena_free(&self->arena);
    memset(self, 0, sizeof *self);
}

bool spectral_logits_by_rows(const spectral_logits *self) {
    return self->active <= self->options.columns;
}

/* Size of the eigenproblem of the evaluation under way. */
static int64_t problem_size(const spectral_logits *self) {
    return arith_min(self->active, self->options.columns);
}

static spectral_pairs pairs_of(const spectral_logits *self) {
    int64_t size = problem_size(self);
    int64_t count = spectral_pairs_of(self->options.norm, self->options.top, size);
    return (spectral_pairs){.values = view_columns(self->values, 0, count),
                            .weights = view_columns(self->weights, 0, count),
                            .vectors = view_reshape(self->vectors, count, size),
                            .trace = self->trace,
                            .gamma = self->gamma,
                            .top = self->options.top,
                            .norm = self->options.norm};
}

static matrix_view images_of(const spectral_logits *self) {
    return view_rows(self->images, 0, pairs_of(self).values.cols);
}

/* --- parts in tiles --- */

/* A rectangle of a part of the logits. */
typedef struct rectangle {
    int64_t row, rows, column, columns;
} rectangle;

/* A part's rows are all its own, or those that `rows` names. */
static int64_t part_rows(matrix_view logits, matrix_view rows) {
    return view_is_none(rows) ? logits.rows : rows.cols;
}

/* The rectangle of a part that begins where `one` says, as large as a tile takes: of all rows where the Gram matrix is
 * one of rows, else with all columns. */
static void fit_tile(const spectral_logits *self, int64_t rows, int64_t columns, rectangle *one) {
    bool by_rows = spectral_logits_by_rows(self);
    int64_t high = by_rows ? rows : tile_rows(self);
    int64_t wide = by_rows ? self->tile_numbers / arith_max(1, rows) : columns;
    one->rows = arith_min(high, rows - one->row);
    one->columns = arith_min(wide, columns - one->column);
}

/* The numbers of a rectangle in F64, one behind the other. */
static balora_status load_tile(const spectral_logits *self, matrix_view logits, matrix_view rows,
                               const rectangle *one, matrix_view *out) {
    matrix_view columns = view_columns(logits, one->column, one->columns);
    matrix_view narrow = view_reshape(self->narrow, one->rows, one->columns);
    bool named = !view_is_none(rows);
    *out = view_reshape(self->tile, one->rows, one->columns);
    return logit_tile_load(self->device->ops, self->queue,
                           named ? columns : view_rows(columns, one->row, one->rows),
                           named ? view_columns(rows, one->row, one->rows) : rows, *out, narrow);
}

/* A part has all rows of the term where the Gram matrix is one of rows, else all columns, and lies within [M, V]. */
static balora_status check_part(const spectral_logits *self, matrix_view logits, int64_t rows,
                                bool whole_rows, int64_t first_row, int64_t first_column) {
    bool by_rows = spectral_logits_by_rows(self), whole_columns = logits.cols == self->options.columns;
    if (rows < 0 || logits.cols < 1 || first_row < 0 || first_row > self->active - rows || first_column < 0 ||
        first_column > self->options.columns - logits.cols ||
        (by_rows && whole_rows && rows != self->active) || (!by_rows && !whole_columns))
        return status_fail(BALORA_ERROR_INTERNAL,
                           "spectral_logits: a part [%lld, %lld] at row %lld and column %lld of [%lld, %lld]",
                           (long long)rows, (long long)logits.cols, (long long)first_row,
                           (long long)first_column, (long long)self->active,
                           (long long)self->options.columns);
    return BALORA_OK;
}

/* One tile of a part; `part_column` is the part's first column among V. */
typedef balora_status (*tile_body)(spectral_logits *self, matrix_view tile, int64_t column);

static balora_status for_tiles(spectral_logits *self, matrix_view logits, matrix_view rows,
                               int64_t part_column, tile_body body) {
    int64_t count = part_rows(logits, rows);
    rectangle one = {0};
    STATUS_TRY(check_part(self, logits, count, true, 0, part_column));
    for (one.row = 0; one.row < count; one.row += one.rows)
        for (one.column = 0; one.column < logits.cols; one.column += one.columns) {
            matrix_view tile;
            fit_tile(self, count, logits.cols, &one);
            STATUS_TRY(load_tile(self, logits, rows, &one, &tile));
            STATUS_TRY(body(self, tile, part_column + one.column));
        }
    return BALORA_OK;
}

/* --- evaluation --- */

balora_status spectral_logits_begin(spectral_logits *self, int64_t rows) {
    if (rows < 1 || rows > self->options.rows)
        return status_fail(BALORA_ERROR_INTERNAL, "spectral_logits: %lld rows; planned for 1 to %lld",
                           (long long)rows, (long long)self->options.rows);
    self->active = rows;
    int64_t size = problem_size(self);
    return self->device->ops->fill_zero(self->queue, view_reshape(self->gram, size, size));
}

static balora_status add_products(spectral_logits *self, matrix_view tile, int64_t column) {
    (void)column;
    const backend_ops *ops = self->device->ops;
    int64_t size = problem_size(self);
    matrix_view gram = view_reshape(self->gram, size, size), part = view_reshape(self->part, size, size);
    STATUS_TRY(ops->gram(self->queue, !spectral_logits_by_rows(self), tile, part));
    return ops->scale_add(self->queue, 1, part, 1, gram);
}

balora_status spectral_logits_accumulate(spectral_logits *self, matrix_view logits, matrix_view rows) {
    return for_tiles(self, logits, rows, 0, add_products);
}

balora_status spectral_logits_solve(spectral_logits *self, double scale, matrix_view value) {
    const backend_ops *ops = self->device->ops;
    int64_t size = problem_size(self);
    spectral_pairs pairs = pairs_of(self);
    STATUS_TRY(spectral_solve(ops, self->queue, view_reshape(self->gram, size, size), &pairs, scale, value));
    if (spectral_logits_by_rows(self))
        return BALORA_OK;
    STATUS_TRY(ops->copy(self->queue, images_of(self), pairs.vectors));
    return ops->scale_rows(self->queue, images_of(self), pairs.weights);
}

static balora_status project_tile(spectral_logits *self, matrix_view tile, int64_t column) {
    const backend_ops *ops = self->device->ops;
    spectral_pairs pairs = pairs_of(self);
    matrix_view images = view_columns(images_of(self), column, tile.cols);
    STATUS_TRY(ops->gemm(self->queue, 0, 0, 1, pairs.vectors, tile, 0, images));
    return ops->scale_rows(self->queue, images, pairs.weights);
}

balora_status spectral_logits_project(spectral_logits *self, matrix_view logits, matrix_view rows,
                                      int64_t first_column) {
    return spectral_logits_by_rows(self) ? for_tiles(self, logits, rows, first_column, project_tile)
                                         : BALORA_OK;
}

balora_status spectral_logits_evaluate(spectral_logits *self, matrix_view logits, matrix_view rows,
                                       double scale, matrix_view value) {
    STATUS_TRY(spectral_logits_begin(self, part_rows(logits, rows)));
    STATUS_TRY(spectral_logits_accumulate(self, logits, rows));
    STATUS_TRY(spectral_logits_solve(self, scale, value));
    return spectral_logits_project(self, logits, rows, 0);
}

/* --- gradient --- */

/* tile = gamma tile + left images, left [rows of the tile, pairs] being U, or Z V. */
static balora_status turn_into_gradient(spectral_logits *self, matrix_view tile, int64_t first_row,
                                        int64_t column) {
    const backend_ops *ops = self->device->ops;
    spectral_pairs pairs = pairs_of(self);
    bool by_rows = spectral_logits_by_rows(self);
    matrix_view left = view_columns(pairs.vectors, first_row, tile.rows);
    if (!by_rows) {
        left = view_reshape(self->coordinates, tile.rows, pairs.values.cols);
        STATUS_TRY(ops->gemm(self->queue, 0, 1, 1, tile, pairs.vectors, 0, left));
    }
    STATUS_TRY(ops->scale_rows(self->queue, view_reshape(tile, 1, tile.rows * tile.cols), self->gamma));
    return ops->gemm(self->queue, by_rows, 0, 1, left, view_columns(images_of(self), column, tile.cols), 1,
                     tile);
}

static balora_status add_tile(const spectral_logits *self, matrix_view tile, matrix_view rows,
                              const rectangle *one, matrix_view gradient) {
    matrix_view columns = view_columns(gradient, one->column, one->columns);
    matrix_view narrow = view_reshape(self->narrow, one->rows, one->columns);
    bool named = !view_is_none(rows);
    return logit_tile_add(self->device->ops, self->queue, tile,
                          named ? view_columns(rows, one->row, one->rows) : rows, narrow,
                          named ? columns : view_rows(columns, one->row, one->rows));
}

balora_status spectral_logits_add_gradient(spectral_logits *self, matrix_view logits, matrix_view rows,
                                           int64_t first_row, int64_t first_column, matrix_view gradient) {
    int64_t count = part_rows(logits, rows);
    rectangle one = {0};
    STATUS_TRY(check_part(self, logits, count, false, first_row, first_column));
    for (one.row = 0; one.row < count; one.row += one.rows)
        for (one.column = 0; one.column < logits.cols; one.column += one.columns) {
            matrix_view tile;
            fit_tile(self, count, logits.cols, &one);
            STATUS_TRY(load_tile(self, logits, rows, &one, &tile));
            STATUS_TRY(turn_into_gradient(self, tile, first_row + one.row, first_column + one.column));
            STATUS_TRY(add_tile(self, tile, rows, &one, gradient));
        }
    return BALORA_OK;
}
