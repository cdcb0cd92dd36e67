#include "tensor/tensor_rows.h"

#include <string.h>

#include "base/arith.h"
#include "base/parallel.h"
#include "base/status.h"
#include "tensor/host_tensor.h"

/* Elements from (0, .., 0) to the flat index `index` of the first `dimensions` dimensions. */
static int64_t element_offset(const balora_tensor *tensor, int32_t dimensions, int64_t index) {
    int64_t offset = 0;
    for (int32_t i = dimensions - 1; i >= 0; i--) {
        offset += index % tensor->shape[i] * tensor->strides[i];
        index /= tensor->shape[i];
    }
    return offset;
}

void *tensor_element(const balora_tensor *tensor, int64_t index) {
    return (unsigned char *)tensor->data +
           element_offset(tensor, tensor->rank, index) * dtype_size(tensor->dtype);
}

/* The one distance of all rows, where there is one: leading dimensions of more than one entry nest without gaps. */
static bool find_row_distance(const balora_tensor *tensor, int64_t columns, int64_t *out) {
    int64_t rows = 1;
    *out = columns;
    for (int32_t i = tensor->rank - 2; i >= 0; i--) {
        int64_t expected;
        if (tensor->shape[i] == 1)
            continue;
        if (rows == 1)
            *out = tensor->strides[i];
        else if (!arith_multiply_i64(*out, rows, &expected) || tensor->strides[i] != expected)
            return false;
        rows *= tensor->shape[i];
    }
    return *out >= columns && (columns == 1 || tensor->strides[tensor->rank - 1] == 1);
}

balora_status tensor_rows_open(tensor_rows *out, const backend *device, const balora_tensor *tensor,
                               const char *name) {
    int64_t distance;
    *out = (tensor_rows){.tensor = *tensor};
    if (tensor->rank < 1)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: rank is 0; expected [.., columns]", name);
    out->columns = tensor->shape[tensor->rank - 1];
    out->rows = out->columns > 0 ? host_tensor_count(tensor) / out->columns : 0;
    if (out->rows == 0)
        return BALORA_OK;
    if (!find_row_distance(tensor, out->columns, &distance)) {
        if (tensor->device == BALORA_DEVICE_CPU)
            return BALORA_OK;
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "%s: on a device its rows must follow each other at one distance without gaps between "
            "columns; pass a contiguous copy",
            name);
    }
    matrix_view view = {NULL, 0, out->rows, out->columns, distance, tensor->dtype, 0};
    balora_status status =
        device->ops->buffer_wrap(&out->buffer, device->device, tensor->data, view_bytes(view));
    if (status != BALORA_OK)
        return status_prefix(status, "%s", name);
    view.buffer = out->buffer;
    out->view = view;
    return BALORA_OK;
}

void tensor_rows_close(tensor_rows *self, const backend *device) {
    if (self->buffer != NULL)
        device->ops->buffer_free(device->device, self->buffer);
    memset(self, 0, sizeof *self);
}

/* --- pieces --- */

typedef struct piece_move {
    const tensor_rows *self;
    const tensor_piece *piece;
    unsigned char *packed;
    bool unpack;
} piece_move;

static void move_number(unsigned char *to, const unsigned char *from, int64_t size) {
    switch (size) {
    case 2:
        memcpy(to, from, 2);
        break;
    case 4:
        memcpy(to, from, 4);
        break;
    default:
        memcpy(to, from, (size_t)size);
    }
}

static void move_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const piece_move *move = user;
    const tensor_piece *piece = move->piece;
    const balora_tensor *tensor = &move->self->tensor;
    int64_t size = dtype_size(tensor->dtype), step = tensor->strides[tensor->rank - 1] * size;
    for (int64_t i = begin; i < end; i++) {
        int64_t row = piece->rows != NULL ? piece->rows[i] : piece->first_row + i;
        unsigned char *packed = move->packed + i * piece->columns * size;
        unsigned char *place = (unsigned char *)tensor->data +
                               element_offset(tensor, tensor->rank - 1, row) * size +
                               piece->first_column * step;
        for (int64_t j = 0; j < piece->columns; j++, place += step, packed += size)
            move_number(move->unpack ? place : packed, move->unpack ? packed : place, size);
    }
}

static void move_piece(const tensor_rows *self, const tensor_piece *piece, void *packed, bool unpack) {
    piece_move move = {self, piece, packed, unpack};
    parallel_for(piece->count, arith_max(1, 8192 / arith_max(1, piece->columns)), move_rows, &move);
}

void tensor_rows_pack(const tensor_rows *self, const tensor_piece *piece, void *packed) {
    move_piece(self, piece, packed, false);
}

void tensor_rows_unpack(const tensor_rows *self, const tensor_piece *piece, void *packed) {
    move_piece(self, piece, packed, true);
}
