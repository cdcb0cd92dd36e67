/* Names and sizes of the element types of safetensors. */
#ifndef FORMAT_SAFETENSORS_TYPES_H
#define FORMAT_SAFETENSORS_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "balora/types.h"

typedef struct safetensors_type {
    const char *name;
    int32_t bits;
    int32_t dtype; /* BALORA_DTYPE_AUTO: this library has no code for it */
} safetensors_type;

/* NULL for a name that the format has not had so far. */
const safetensors_type *safetensors_type_named(const char *name);

/* NULL for a code without a type. */
const safetensors_type *safetensors_type_of(int32_t dtype);

#endif
