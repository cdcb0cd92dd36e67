#include "format/gguf_types.h"

#include <stddef.h>

static const struct {
    uint32_t bytes;
    const char *name;
} values[GGUF_VALUE_TYPES] = {
    [GGUF_U8] = {1, "u8"},       [GGUF_I8] = {1, "i8"},     [GGUF_U16] = {2, "u16"},
    [GGUF_I16] = {2, "i16"},     [GGUF_U32] = {4, "u32"},   [GGUF_I32] = {4, "i32"},
    [GGUF_F32] = {4, "f32"},     [GGUF_BOOL] = {1, "bool"}, [GGUF_TEXT] = {0, "text"},
    [GGUF_ARRAY] = {0, "array"}, [GGUF_U64] = {8, "u64"},   [GGUF_I64] = {8, "i64"},
    [GGUF_F64] = {8, "f64"},
};

uint32_t gguf_value_bytes(uint32_t type) {
    return type < GGUF_VALUE_TYPES ? values[type].bytes : 0;
}

const char *gguf_value_name(uint32_t type) {
    return type < GGUF_VALUE_TYPES ? values[type].name : "unknown";
}

/* Codes that are missing here were withdrawn, or never leave a running program. */
static const gguf_tensor_type types[] = {
    {0, BALORA_F32, 1, 4, "F32"},
    {1, BALORA_F16, 1, 2, "F16"},
    {2, BALORA_DTYPE_AUTO, 32, 18, "Q4_0"},
    {3, BALORA_DTYPE_AUTO, 32, 20, "Q4_1"},
    {6, BALORA_DTYPE_AUTO, 32, 22, "Q5_0"},
    {7, BALORA_DTYPE_AUTO, 32, 24, "Q5_1"},
    {8, BALORA_DTYPE_AUTO, 32, 34, "Q8_0"},
    {10, BALORA_DTYPE_AUTO, 256, 84, "Q2_K"},
    {11, BALORA_DTYPE_AUTO, 256, 110, "Q3_K"},
    {12, BALORA_DTYPE_AUTO, 256, 144, "Q4_K"},
    {13, BALORA_DTYPE_AUTO, 256, 176, "Q5_K"},
    {14, BALORA_DTYPE_AUTO, 256, 210, "Q6_K"},
    {16, BALORA_DTYPE_AUTO, 256, 66, "IQ2_XXS"},
    {17, BALORA_DTYPE_AUTO, 256, 74, "IQ2_XS"},
    {18, BALORA_DTYPE_AUTO, 256, 98, "IQ3_XXS"},
    {19, BALORA_DTYPE_AUTO, 256, 50, "IQ1_S"},
    {20, BALORA_DTYPE_AUTO, 32, 18, "IQ4_NL"},
    {21, BALORA_DTYPE_AUTO, 256, 110, "IQ3_S"},
    {22, BALORA_DTYPE_AUTO, 256, 82, "IQ2_S"},
    {23, BALORA_DTYPE_AUTO, 256, 136, "IQ4_XS"},
    {24, BALORA_DTYPE_AUTO, 1, 1, "I8"},
    {25, BALORA_DTYPE_AUTO, 1, 2, "I16"},
    {26, BALORA_I32, 1, 4, "I32"},
    {27, BALORA_I64, 1, 8, "I64"},
    {28, BALORA_F64, 1, 8, "F64"},
    {29, BALORA_DTYPE_AUTO, 256, 56, "IQ1_M"},
    {30, BALORA_BF16, 1, 2, "BF16"},
    {34, BALORA_DTYPE_AUTO, 256, 54, "TQ1_0"},
    {35, BALORA_DTYPE_AUTO, 256, 66, "TQ2_0"},
    {39, BALORA_DTYPE_AUTO, 32, 17, "MXFP4"},
};

#define TYPE_COUNT (sizeof types / sizeof types[0])

const gguf_tensor_type *gguf_tensor_type_coded(uint32_t code) {
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (types[i].code == code)
            return &types[i];
    return NULL;
}

const gguf_tensor_type *gguf_tensor_type_of(int32_t dtype) {
    for (size_t i = 0; i < TYPE_COUNT; i++)
        if (types[i].dtype == dtype && dtype != BALORA_DTYPE_AUTO)
            return &types[i];
    return NULL;
}
