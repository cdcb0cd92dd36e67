#include "format/safetensors_types.h"

#include <string.h>

static const safetensors_type types[] = {
    {"F64", 64, BALORA_F64},
    {"I64", 64, BALORA_I64},
    {"F32", 32, BALORA_F32},
    {"I32", 32, BALORA_I32},
    {"F16", 16, BALORA_F16},
    {"BF16", 16, BALORA_BF16},
    {"U8", 8, BALORA_U8},
    {"C64", 64, BALORA_DTYPE_AUTO},
    {"U64", 64, BALORA_DTYPE_AUTO},
    {"U32", 32, BALORA_DTYPE_AUTO},
    {"I16", 16, BALORA_DTYPE_AUTO},
    {"U16", 16, BALORA_DTYPE_AUTO},
    {"I8", 8, BALORA_DTYPE_AUTO},
    {"BOOL", 8, BALORA_DTYPE_AUTO},
    {"F8_E4M3", 8, BALORA_DTYPE_AUTO},
    {"F8_E5M2", 8, BALORA_DTYPE_AUTO},
    {"F8_E8M0", 8, BALORA_DTYPE_AUTO},
    {"F8_E4M3FNUZ", 8, BALORA_DTYPE_AUTO},
    {"F8_E5M2FNUZ", 8, BALORA_DTYPE_AUTO},
    {"F6_E2M3", 6, BALORA_DTYPE_AUTO},
    {"F6_E3M2", 6, BALORA_DTYPE_AUTO},
    {"F4", 4, BALORA_DTYPE_AUTO},
};

#define TYPE_COUNT (sizeof types / sizeof types[0])

const safetensors_type *safetensors_type_named(const char *name) {
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (strcmp(types[i].name, name) == 0)
            return &types[i];
    return NULL;
}

const safetensors_type *safetensors_type_of(int32_t dtype) {
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (types[i].dtype == dtype && dtype != BALORA_DTYPE_AUTO)
            return &types[i];
    return NULL;
}
