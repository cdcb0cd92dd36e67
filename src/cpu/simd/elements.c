#include "balora/types.h"
#include "cpu/simd/symbols.h"

#include <math.h>

typedef vector (*from_half)(hvector);

SIMD_INLINE void widen_span(float *out, const uint16_t *in, int64_t count, from_half convert) {
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        vector_store(out + i, convert(*(const loose_hvector *)(in + i)));
    if (i == count)
        return;
    uint16_t rest[SIMD_WIDTH] = {0};
    memcpy(rest, in + i, (size_t)(count - i) * sizeof *in);
    vector_store_part(out + i, convert(*(const loose_hvector *)rest), count - i);
}

void SIMD_SYMBOL(widen)(float *out, const void *in, int32_t dtype, int64_t count) {
    if (dtype == BALORA_F32)
        memcpy(out, in, (size_t)count * sizeof *out);
    else if (dtype == BALORA_BF16)
        widen_span(out, in, count, vector_from_bf16);
    else
        widen_span(out, in, count, vector_from_f16);
}

/* Round to nearest even; beyond the largest half becomes infinity, NaN a quiet NaN. */
static uint16_t float_to_f16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t sign = (bits >> 16) & 0x8000u;
    uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((magnitude >> 13) & 0x1ffu));
    if (magnitude >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* subnormal: adding 0.5 rounds to units of 2^-24 */
        float shifted;
        memcpy(&shifted, &magnitude, sizeof shifted);
        shifted += 0.5f;
        uint32_t units;
        memcpy(&units, &shifted, sizeof units);
        return (uint16_t)(sign | (units - 0x3f000000u));
    }
    uint32_t rounded = magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u);
    return (uint16_t)(sign | (rounded >> 13));
}

static void narrow_to_bf16(uint16_t *out, const float *in, int64_t count) {
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        *(loose_hvector *)(out + i) = vector_to_bf16(vector_load(in + i));
    if (i == count)
        return;
    uint16_t rest[SIMD_WIDTH];
    *(loose_hvector *)rest = vector_to_bf16(vector_load_part(in + i, count - i));
    memcpy(out + i, rest, (size_t)(count - i) * sizeof *out);
}

void SIMD_SYMBOL(narrow)(void *out, int32_t dtype, const float *in, int64_t count) {
    if (dtype == BALORA_F32) {
        memcpy(out, in, (size_t)count * sizeof *in);
    } else if (dtype == BALORA_BF16) {
        narrow_to_bf16(out, in, count);
    } else {
        uint16_t *half = out;
        for (int64_t i = 0; i < count; i++)
            half[i] = float_to_f16(in[i]);
    }
}

void SIMD_SYMBOL(scale_add)(float alpha, const float *x, float beta, float *y, int64_t count) {
    int64_t i = 0;
    if (beta == 0) {
        for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
            vector_store(y + i, alpha * vector_load(x + i));
        for (; i < count; i++)
            y[i] = alpha * x[i];
        return;
    }
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        vector_store(y + i, alpha * vector_load(x + i) + beta * vector_load(y + i));
    for (; i < count; i++)
        y[i] = alpha * x[i] + beta * y[i];
}

/* Squares and sums in double: a float's square may overflow, and its rounding would show in a sum of large
 * terms. */
double SIMD_SYMBOL(sum_squares)(const float *x, int64_t count) {
    dvector sums[4] = {{0}, {0}, {0}, {0}};
    int64_t i = 0;
    for (; i + 2 * SIMD_WIDTH <= count; i += 2 * SIMD_WIDTH) {
        for (int part = 0; part < 4; part++) {
            dvector wide = dvector_load(x + i + part * SIMD_WIDTH / 2);
            sums[part] += wide * wide;
        }
    }
    double total = dvector_sum((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < count; i++)
        total += (double)x[i] * (double)x[i];
    return total;
}

void SIMD_SYMBOL(add_to_double)(double *sum, const float *x, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        sum[i] += (double)x[i];
}
