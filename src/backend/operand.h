/* What every backend asks of a slot's operands, before it looks at their memory. */
#ifndef BACKEND_OPERAND_H
#define BACKEND_OPERAND_H

#include <stdio.h>

#include "backend/ops.h"
#include "base/arith.h"

/* Sets of dtypes that an operand may have. */
enum {
    IN_F32 = 1,
    IN_BF16 = 2,
    IN_F16 = 4,
    IN_F64 = 8,
    IN_I32 = 16,
    IN_U8 = 32,
    IN_I64 = 64,
    IN_FLOAT = IN_F32 | IN_BF16 | IN_F16,
    IN_ACTIVATION = IN_F32 | IN_BF16 /* of a device with bf16_activations */
};

#define ANY_SIZE INT64_C(-1)

static inline int64_t element_size(int32_t dtype) {
    switch (dtype) {
    case BALORA_F64:
    case BALORA_I64:
        return 8;
    case BALORA_F32:
    case BALORA_I32:
        return 4;
    case BALORA_F16:
    case BALORA_BF16:
        return 2;
    case BALORA_U8:
        return 1;
    default:
        return 0;
    }
}

static inline int dtype_bit(int32_t dtype) {
    switch (dtype) {
    case BALORA_F32:
        return IN_F32;
    case BALORA_BF16:
        return IN_BF16;
    case BALORA_F16:
        return IN_F16;
    case BALORA_F64:
        return IN_F64;
    case BALORA_I32:
        return IN_I32;
    case BALORA_I64:
        return IN_I64;
    case BALORA_U8:
        return IN_U8;
    default:
        return 0;
    }
}

/* The bytes that the view spans lie in a buffer of that size, on addresses fit for its elements. */
static inline bool operand_is_inside(matrix_view view, int64_t buffer_bytes) {
    int64_t size = element_size(view.dtype), span, bytes, end;
    if (view.rows < 0 || view.cols < 0 || view.ld < view.cols || view.offset < 0 || view.offset % size != 0)
        return false;
    if (view.rows == 0 || view.cols == 0)
        return view.offset <= buffer_bytes;
    return arith_multiply_i64(view.rows - 1, view.ld, &span) && arith_add_i64(span, view.cols, &span) &&
           arith_multiply_i64(span, size, &bytes) && arith_add_i64(bytes, view.offset, &end) &&
           end <= buffer_bytes;
}

/* A word of a dropout mask keeps its element when it is at least this. */
static inline uint32_t dropout_threshold(double probability) {
    double words = probability * 0x1p32 + 0.5;
    return words < 0x1p32 ? (uint32_t)words : UINT32_MAX;
}

/* Is it no view of this shape, with a dtype of the set, in its buffer of `buffer_bytes`? Says so in `text`. */
static inline bool operand_is_wrong(char *text, size_t text_bytes, const char *name, matrix_view view,
                                    int64_t buffer_bytes, int64_t rows, int64_t cols, int dtypes) {
    if (view.buffer == NULL)
        snprintf(text, text_bytes, "%s has no buffer", name);
    else if ((dtype_bit(view.dtype) & dtypes) == 0)
        snprintf(text, text_bytes, "%s has dtype %d, which this operand cannot have", name, view.dtype);
    else if ((rows != ANY_SIZE && view.rows != rows) || (cols != ANY_SIZE && view.cols != cols))
        snprintf(text, text_bytes, "%s is [%lld, %lld]; expected [%lld, %lld], where -1 stands for any size",
                 name, (long long)view.rows, (long long)view.cols, (long long)rows, (long long)cols);
    else if (!operand_is_inside(view, buffer_bytes))
        snprintf(text, text_bytes,
                 "%s [%lld, %lld], ld %lld, dtype %d at byte %lld does not fit its buffer of %lld bytes",
                 name, (long long)view.rows, (long long)view.cols, (long long)view.ld, view.dtype,
                 (long long)view.offset, (long long)buffer_bytes);
    else
        return false;
    return true;
}

/* --- optimizer_step --- */

/* Blocks of the flat array: those that the caller cut, or all of the same length. */
static inline int64_t optimizer_block_count(const optimizer_update *args) {
    return args->block_starts.buffer != NULL ? args->block_starts.cols - 1
                                             : arith_divide_up(args->parameter.cols, OPTIMIZER_BLOCK);
}

/* What an operand must be: one row of so many numbers. */
typedef struct operand_rule {
    const char *name;
    matrix_view view;
    int64_t cols;
    int dtypes;
} operand_rule;

enum { OPTIMIZER_OPERANDS = 11 };

typedef struct optimizer_rules {
    operand_rule rules[OPTIMIZER_OPERANDS];
    int count;
} optimizer_rules;

static inline void optimizer_rule(optimizer_rules *self, const char *name, matrix_view view, int64_t cols,
                                  int dtypes) {
    operand_rule *rule = &self->rules[self->count++];
    rule->name = name;
    rule->view = view;
    rule->cols = cols;
    rule->dtypes = dtypes;
}

/* The operands that a step of args->kind has. */
static inline void optimizer_list_rules(optimizer_rules *out, const optimizer_update *args) {
    int64_t count = args->parameter.cols, blocks = optimizer_block_count(args);
    bool is_8bit = args->kind == OPTIMIZER_ADAMW_8BIT;
    int moments = is_8bit ? IN_U8 : IN_F32;
    out->count = 0;
    optimizer_rule(out, "parameter", args->parameter, ANY_SIZE, IN_F32);
    optimizer_rule(out, "gradient", args->gradient, count, IN_F32);
    optimizer_rule(out, "first_moment", args->first_moment, count, moments);
    if (args->kind != OPTIMIZER_LION)
        optimizer_rule(out, "second_moment", args->second_moment, count, moments);
    optimizer_rule(out, "scale", args->scale, 1, IN_F32);
    if (args->block_starts.buffer != NULL)
        optimizer_rule(out, "block_starts", args->block_starts, blocks + 1, IN_I64);
    if (args->block_groups.buffer != NULL)
        optimizer_rule(out, "block_groups", args->block_groups, blocks, IN_U8);
    if (!is_8bit)
        return;
    optimizer_rule(out, "first_scales", args->first_scales, blocks, IN_F32);
    optimizer_rule(out, "second_scales", args->second_scales, blocks, IN_F32);
    optimizer_rule(out, "first_map", args->first_map, OPTIMIZER_BLOCK, IN_F32);
    optimizer_rule(out, "second_map", args->second_map, OPTIMIZER_BLOCK, IN_F32);
}

#endif
