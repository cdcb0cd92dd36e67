#include "model/staging.h"

#include <string.h>

#include "base/arith.h"
#include "base/status.h"

balora_status staging_create(staging *out, allocator *memory, const backend *device, backend_queue *queue) {
    *out = (staging){memory, device, queue, NULL, NULL};
    STATUS_TRY(memory_new(memory, &out->host, (size_t)STAGING_BYTES, 1, "a staging block"));
    return device->ops->buffer_allocate(&out->buffer, device->device, STAGING_BYTES);
}

void staging_free(staging *self) {
    if (self->memory == NULL)
        return;
    memory_free(self->memory, self->host);
    if (self->buffer != NULL)
        self->device->ops->buffer_free(self->device->device, self->buffer);
    memset(self, 0, sizeof *self);
}

/* A matrix cut into pieces whose elements follow each other: some whole rows, or a part of one long row. */
typedef struct piece_walk {
    matrix_view matrix;
    int64_t rows, columns; /* of a full piece */
    int64_t row, column;   /* where the next one begins */
} piece_walk;

static piece_walk walk_pieces(matrix_view matrix, int64_t element_bytes) {
    int64_t columns = arith_min(matrix.cols, STAGING_BYTES / element_bytes);
    int64_t rows = columns < matrix.cols ? 1 : STAGING_BYTES / arith_max(1, columns * element_bytes);
    return (piece_walk){matrix, rows, columns, 0, 0};
}

/* False behind the last. `first`: the piece's first element in the row-major order of the whole. */
static bool next_piece(piece_walk *walk, matrix_view *piece, int64_t *first) {
    if (walk->row >= walk->matrix.rows || walk->matrix.cols == 0)
        return false;
    int64_t height = arith_min(walk->rows, walk->matrix.rows - walk->row);
    int64_t width = arith_min(walk->columns, walk->matrix.cols - walk->column);
    *piece = view_columns(view_rows(walk->matrix, walk->row, height), walk->column, width);
    *first = walk->row * walk->matrix.cols + walk->column;
    walk->column += width;
    if (walk->column == walk->matrix.cols) {
        walk->column = 0;
        walk->row += height;
    }
    return true;
}

balora_status staging_read(staging *self, const tensor_place *source, int64_t first, matrix_view target,
                           bool finite) {
    const backend_ops *ops = self->device->ops;
    int32_t dtype = source->entry->dtype;
    int64_t size = dtype_size(dtype), at;
    piece_walk walk = walk_pieces(target, size);
    for (matrix_view piece; next_piece(&walk, &piece, &at);) {
        int64_t elements = piece.rows * piece.cols;
        STATUS_TRY(safetensors_read_part(source->file, source->entry, (uint64_t)((first + at) * size),
                                         (uint64_t)(elements * size), self->host));
        int64_t bad = finite ? dtype_find_non_finite(dtype, self->host, elements) : -1;
        if (bad >= 0)
            return status_fail(BALORA_ERROR_NUMERIC, "%s: tensor \"%s\": element %lld is not finite",
                               source->file->file.path, source->entry->name, (long long)(first + at + bad));
        STATUS_TRY(ops->upload(self->queue, self->buffer, 0, self->host, elements * size));
        STATUS_TRY(ops->copy(self->queue, piece, view_make(self->buffer, 0, dtype, piece.rows, piece.cols)));
    }
    return BALORA_OK;
}

/* A piece in host memory as `dtype`. */
static balora_status fetch(staging *self, const char *name, matrix_view piece, int32_t dtype) {
    const backend_ops *ops = self->device->ops;
    int64_t elements = piece.rows * piece.cols;
    STATUS_TRY(ops->copy(self->queue, view_make(self->buffer, 0, dtype, piece.rows, piece.cols), piece));
    STATUS_TRY(ops->download(self->queue, self->host, self->buffer, 0, elements * dtype_size(dtype)));
    STATUS_TRY(ops->synchronize(self->queue));
    if (dtype_find_non_finite(dtype, self->host, elements) < 0)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_NUMERIC,
                       "tensor \"%s\" holds a value that is not finite as %s: nothing was written", name,
                       dtype_name(dtype));
}

balora_status staging_emit(staging *self, const char *name, matrix_view source, int32_t dtype,
                           staging_sink sink, void *user) {
    int64_t size = dtype_size(dtype), at;
    piece_walk walk = walk_pieces(source, size);
    for (matrix_view piece; next_piece(&walk, &piece, &at);) {
        STATUS_TRY(fetch(self, name, piece, dtype));
        STATUS_TRY(sink(user, self->host, (uint64_t)(piece.rows * piece.cols * size)));
    }
    return BALORA_OK;
}

balora_status staging_to_safetensors(void *user, const void *data, uint64_t bytes) {
    return safetensors_write(user, data, bytes);
}

balora_status staging_write(staging *self, safetensors_writer *writer, const char *name, matrix_view source,
                            int32_t dtype) {
    return staging_emit(self, name, source, dtype, staging_to_safetensors, writer);
}

balora_status staging_check(staging *self, const char *name, matrix_view source, int32_t dtype) {
    int64_t at;
    piece_walk walk = walk_pieces(source, dtype_size(dtype));
    for (matrix_view piece; next_piece(&walk, &piece, &at);)
        STATUS_TRY(fetch(self, name, piece, dtype));
    return BALORA_OK;
}
