/* A host's tensor (balora/tensor.h): checked, and seen as a matrix. */
#ifndef TENSOR_HOST_TENSOR_H
#define TENSOR_HOST_TENSOR_H

#include <stdbool.h>

#include "balora/tensor.h"
#include "tensor/view.h"

/*
 * ARGUMENT, naming `name` and the field, unless it has a known dtype and device, 0 to 8 dimensions of 0 or more, a count
 * and distances that fit 63 bits in bytes, and where it has elements, an address fit for their type.
 */
balora_status host_tensor_check(const balora_tensor *tensor, const char *name);

/* Strides of a row-major tensor without gaps, from its shape; ARGUMENT where that overflows. */
balora_status host_tensor_compact_strides(balora_tensor *tensor, const char *name);

/* Elements; of a checked tensor. */
int64_t host_tensor_count(const balora_tensor *tensor);

/* A checked tensor as a matrix without a buffer, leading dimensions being its rows, which may lie apart; false where it is
 * none, such as a transposed one. */
bool host_tensor_rows(const balora_tensor *tensor, matrix_view *out);

/* Do the bytes that the two checked tensors span meet? Tensors of different devices never do. */
bool host_tensor_overlaps(const balora_tensor *a, const balora_tensor *b);

/* Do two elements of the checked tensor lie in one place, or might they? Strides that nest never do. */
bool host_tensor_shares_elements(const balora_tensor *tensor);

#endif
