/* Codes of GGUF: types of its values, and element types of its tensors with the bytes of their blocks. */
#ifndef FORMAT_GGUF_TYPES_H
#define FORMAT_GGUF_TYPES_H

#include <stdint.h>

#include "balora/types.h"

/* Types of a value, as the file has them. */
typedef enum gguf_value_type {
    GGUF_U8 = 0,
    GGUF_I8 = 1,
    GGUF_U16 = 2,
    GGUF_I16 = 3,
    GGUF_U32 = 4,
    GGUF_I32 = 5,
    GGUF_F32 = 6,
    GGUF_BOOL = 7, /* a byte, 0 or 1 */
    GGUF_TEXT = 8,
    GGUF_ARRAY = 9,
    GGUF_U64 = 10,
    GGUF_I64 = 11,
    GGUF_F64 = 12,
    GGUF_VALUE_TYPES
} gguf_value_type;

/* Bytes of a number or boolean; 0 for texts, arrays and unknown codes. */
uint32_t gguf_value_bytes(uint32_t type);

/* "u32", "text", ...: for messages; "unknown" otherwise. */
const char *gguf_value_name(uint32_t type);

/* The unsigned little-endian number in `bytes` bytes, at most 8. */
static inline uint64_t gguf_load(const unsigned char *data, uint32_t bytes) {
    uint64_t number = 0;
    for (uint32_t i = bytes; i > 0; i--)
        number = number << 8 | data[i - 1];
    return number;
}

/* How a tensor's elements are stored: in blocks that do not cross a row's end. */
typedef struct gguf_tensor_type {
    uint32_t code; /* as the file has it */
    int32_t dtype; /* BALORA_F32, ...; BALORA_DTYPE_AUTO: this library has no code for it */
    uint32_t block_elements, block_bytes;
    const char *name;
} gguf_tensor_type;

/* NULL for a code that files do not have. */
const gguf_tensor_type *gguf_tensor_type_coded(uint32_t code);

/* NULL for a code of this library without a type. */
const gguf_tensor_type *gguf_tensor_type_of(int32_t dtype);

#endif
