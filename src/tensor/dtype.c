#include "tensor/dtype.h"

#include <stddef.h>

typedef struct dtype_entry {
    int32_t dtype;
    int32_t bytes;
    const char *name;
} dtype_entry;

static const dtype_entry entries[] = {
    {BALORA_F32, 4, "float32"}, {BALORA_F16, 2, "float16"}, {BALORA_BF16, 2, "bfloat16"},
    {BALORA_F64, 8, "float64"}, {BALORA_I32, 4, "int32"},   {BALORA_I64, 8, "int64"},
    {BALORA_U8, 1, "uint8"},
};

#define ENTRY_COUNT (sizeof entries / sizeof entries[0])

int64_t dtype_size(int32_t dtype) {
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        if (entries[i].dtype == dtype)
            return entries[i].bytes;
    return 0;
}

const char *dtype_name(int32_t dtype) {
    for (size_t i = 0; i < ENTRY_COUNT; i++)
        if (entries[i].dtype == dtype)
            return entries[i].name;
    return "unknown";
}

int64_t dtype_find_non_finite(int32_t dtype, const void *data, int64_t count) {
    const unsigned char *bytes = data;
    int64_t size = dtype_size(dtype);
    /* All exponent bits set: what infinities and NaNs have in common. They lie in the last two bytes. */
    unsigned mask = dtype == BALORA_F16 ? 0x7c00u : 0x7f80u;
    for (int64_t i = 0; i < count; i++) {
        const unsigned char *high = bytes + (i + 1) * size - 2;
        unsigned bits = (unsigned)high[0] | (unsigned)high[1] << 8;
        if ((bits & mask) == mask)
            return i;
    }
    return -1;
}
