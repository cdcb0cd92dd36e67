#include "tensor/arena.h"

#include <string.h>

#include "base/arith.h"

#define ALIGNMENT 64

matrix_view arena_place(arena *self, int32_t dtype, int64_t rows, int64_t cols) {
    matrix_view view = view_make(self->buffer, self->bytes, dtype, rows, cols);
    self->bytes = arith_divide_up(self->bytes + view_bytes(view), ALIGNMENT) * ALIGNMENT;
    return view;
}

balora_status arena_allocate(arena *self, const backend *device) {
    balora_status status = device->ops->buffer_allocate(&self->buffer, device->device, self->bytes);
    if (status != BALORA_OK)
        return status;
    self->device = device;
    self->bytes = 0;
    return BALORA_OK;
}

void arena_free(arena *self) {
    if (self->device != NULL)
        self->device->ops->buffer_free(self->device->device, self->buffer);
    memset(self, 0, sizeof *self);
}
