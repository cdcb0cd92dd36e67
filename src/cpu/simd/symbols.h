/* The row kernels of one instruction set; see cpu/kernels.h for what each does. */
#ifndef CPU_SIMD_SYMBOLS_H
#define CPU_SIMD_SYMBOLS_H

#include "cpu/kernels.h"
#include "cpu/simd/vector.h"

/* elements.c */
void SIMD_SYMBOL(widen)(float *out, const void *in, int32_t dtype, int64_t count);
void SIMD_SYMBOL(narrow)(void *out, int32_t dtype, const float *in, int64_t count);
void SIMD_SYMBOL(scale_add)(float alpha, const float *x, float beta, float *y, int64_t count);
double SIMD_SYMBOL(sum_squares)(const float *x, int64_t count);
void SIMD_SYMBOL(add_to_double)(double *sum, const float *x, int64_t count);

/* rows.c */
void SIMD_SYMBOL(rms_norm)(const float *x, const float *weight, float weight_offset, float epsilon, float *y,
                           int64_t count);
void SIMD_SYMBOL(rms_norm_backward)(const float *x, const float *weight, float weight_offset, float epsilon,
                                    const float *dy, float *dx, double *dweight, int64_t count);
void SIMD_SYMBOL(rope)(float *x, const float *table, int64_t heads, int64_t head_dim, int inverse);
void SIMD_SYMBOL(gated_activation)(int32_t activation, const float *gate, const float *up, float *out,
                                   int64_t count);
void SIMD_SYMBOL(gated_activation_backward)(int32_t activation, const float *gate, const float *up,
                                            const float *dout, float *dgate, float *dup, int64_t count);
void SIMD_SYMBOL(soft_cap)(float cap, const float *x, float *y, int64_t count);
void SIMD_SYMBOL(soft_cap_backward)(float cap, const float *y, const float *dy, float *dx, int64_t count);

/* multiply.c */
int64_t SIMD_SYMBOL(multiply_scratch)(void);
void SIMD_SYMBOL(multiply)(const multiply_call *call);

/* attention.c, attention_backward.c */
int64_t SIMD_SYMBOL(attention_scratch)(int64_t length, int64_t head_dim);
int64_t SIMD_SYMBOL(attention_backward_scratch)(int64_t length, int64_t head_dim);
void SIMD_SYMBOL(attention)(const attention_item *item, int64_t first, int64_t last);
void SIMD_SYMBOL(attention_backward)(const attention_item *item);

/* loss.c */
void SIMD_SYMBOL(loss_row)(const loss_row *row);
double SIMD_SYMBOL(entropy)(const float *logits, float temperature, int64_t count);

/* dropout.c */
void SIMD_SYMBOL(dropout)(const dropout_span *span);

/* optimizer.c */
void SIMD_SYMBOL(adamw)(const adamw_factors *factors, float *parameter, const float *gradient,
                        float *first_moment, float *second_moment, int64_t count);
void SIMD_SYMBOL(lion)(const lion_factors *factors, float *parameter, const float *gradient, float *moment,
                       int64_t count);
void SIMD_SYMBOL(adamw_8bit)(const adamw_factors *factors, const moment_map *first, const moment_map *second,
                             const quantised_block *block);

#endif
