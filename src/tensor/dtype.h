/* Storage types: sizes and names. The codes are the public BALORA_F32, ... */
#ifndef TENSOR_DTYPE_H
#define TENSOR_DTYPE_H

#include <stdint.h>

#include "balora/types.h"

/* Bytes of one element; 0 for an unknown code. */
int64_t dtype_size(int32_t dtype);

/* "float32", "bfloat16", ... as config.json and the command line write them; "unknown" otherwise. */
const char *dtype_name(int32_t dtype);

/* Place of the first infinity or NaN among `count` F32, F16 or BF16 numbers of any alignment; -1: there is none. */
int64_t dtype_find_non_finite(int32_t dtype, const void *data, int64_t count);

#endif
