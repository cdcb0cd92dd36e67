/* Which rows of a host's logits take part: of a mask, of a list, or all. */
#ifndef REGULARIZER_SELECTION_H
#define REGULARIZER_SELECTION_H

#include "base/memory.h"
#include "tensor/tensor_rows.h"

typedef struct selection {
    int32_t *rows; /* [count], ascending */
    int64_t count, all;
} selection;

/*
 * At most one of `mask` (U8, I32 or I64, one number a row: not 0 takes part) and `indices` (I32 or I64: rows, each once,
 * in any order) is given, both checked tensors. ARGUMENT: they do not fit `all` rows; UNSUPPORTED: they are not on the
 * CPU, or more rows than 31 bits count.
 */
balora_status selection_make(selection *out, allocator *memory, int64_t all, const balora_tensor *mask,
                             const balora_tensor *indices);
void selection_free(selection *self, allocator *memory);

/* Place of the first selected row that is `row` or beyond. */
int64_t selection_find(const selection *self, int64_t row);

#endif
