#include "cpu/simd/symbols.h"

#if SIMD_WIDTH == 16
#define SIMD_NAME "avx512"
#elif SIMD_WIDTH == 8
#define SIMD_NAME "avx2"
#else
#define SIMD_NAME "x86-64"
#endif

const cpu_kernels SIMD_SYMBOL(kernels) = {
    .name = SIMD_NAME,
    .widen = SIMD_SYMBOL(widen),
    .narrow = SIMD_SYMBOL(narrow),
    .scale_add = SIMD_SYMBOL(scale_add),
    .sum_squares = SIMD_SYMBOL(sum_squares),
    .add_to_double = SIMD_SYMBOL(add_to_double),
    .rms_norm = SIMD_SYMBOL(rms_norm),
    .rms_norm_backward = SIMD_SYMBOL(rms_norm_backward),
    .rope = SIMD_SYMBOL(rope),
    .gated_activation = SIMD_SYMBOL(gated_activation),
    .gated_activation_backward = SIMD_SYMBOL(gated_activation_backward),
    .soft_cap = SIMD_SYMBOL(soft_cap),
    .soft_cap_backward = SIMD_SYMBOL(soft_cap_backward),
    .multiply_scratch = SIMD_SYMBOL(multiply_scratch),
    .multiply = SIMD_SYMBOL(multiply),
    .attention_scratch = SIMD_SYMBOL(attention_scratch),
    .attention_backward_scratch = SIMD_SYMBOL(attention_backward_scratch),
    .attention = SIMD_SYMBOL(attention),
    .attention_backward = SIMD_SYMBOL(attention_backward),
    .loss_row = SIMD_SYMBOL(loss_row),
    .entropy = SIMD_SYMBOL(entropy),
    .adamw = SIMD_SYMBOL(adamw),
    .dropout = SIMD_SYMBOL(dropout),
    .lion = SIMD_SYMBOL(lion),
    .adamw_8bit = SIMD_SYMBOL(adamw_8bit),
};
