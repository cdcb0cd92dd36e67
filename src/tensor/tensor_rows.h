/*
 * A host's tensor [.., V] as rows of V numbers on a device: in place where its rows follow each other at one distance
 * without gaps between columns, else through packed pieces that the caller moves (on the CPU only).
 */
#ifndef TENSOR_TENSOR_ROWS_H
#define TENSOR_TENSOR_ROWS_H

#include <stdbool.h>

#include "balora/tensor.h"
#include "tensor/view.h"

typedef struct tensor_rows {
    balora_tensor tensor;   /* checked, one dimension at least */
    int64_t rows, columns;  /* of all leading dimensions; V */
    backend_buffer *buffer; /* over the tensor's memory; NULL where it is moved by pieces */
    matrix_view view;       /* [rows, columns] of it; none where it is moved by pieces */
} tensor_rows;

/*
 * `name` says in messages which tensor it is. ARGUMENT: no dimension at all; UNSUPPORTED: strides that only the CPU
 * takes, on another device. Nothing to close after a failure.
 */
balora_status tensor_rows_open(tensor_rows *out, const backend *device, const balora_tensor *tensor,
                               const char *name);
void tensor_rows_close(tensor_rows *self, const backend *device); /* also on a zeroed one */

static inline bool tensor_rows_in_place(const tensor_rows *self) {
    return self->buffer != NULL;
}

/* A piece of a tensor on the CPU, packed row by row: rows `first_row` + i, or rows[i] where `rows` is given, i < count. */
typedef struct tensor_piece {
    const int32_t *rows;
    int64_t first_row, count;
    int64_t first_column, columns;
} tensor_piece;

void tensor_rows_pack(const tensor_rows *self, const tensor_piece *piece, void *packed);
void tensor_rows_unpack(const tensor_rows *self, const tensor_piece *piece, void *packed);

/* Address of the element with flat index `index` (row-major) of a checked tensor on the CPU. */
void *tensor_element(const balora_tensor *tensor, int64_t index);

#endif
