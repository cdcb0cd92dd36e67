/*
 * One block of device memory, planned before it is taken: run the code that places every matrix once to learn
 * the size, allocate, and run it again for the real views.
 */
#ifndef TENSOR_ARENA_H
#define TENSOR_ARENA_H

#include "tensor/view.h"

typedef struct arena {
    const backend *device;
    backend_buffer *buffer; /* NULL while planning */
    int64_t bytes;          /* placed so far */
} arena;

/* The next free place for a contiguous matrix. */
matrix_view arena_place(arena *self, int32_t dtype, int64_t rows, int64_t cols);

/* Take the planned bytes and start placing again from the front. */
balora_status arena_allocate(arena *self, const backend *device);
void arena_free(arena *self); /* also on a zeroed one */

#endif
