/*
 * Vectors of the instruction set that a file is compiled for.
 *
 * Every file of this folder is compiled once per instruction set from the same source; the flags decide the width.
 * SIMD_SYMBOL gives each copy names of its own. Only the vector extensions that gcc and clang share are used.
 */
#ifndef CPU_SIMD_VECTOR_H
#define CPU_SIMD_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define SIMD_WIDTH        16
#define SIMD_SYMBOL(name) cpu_avx512_##name
#elif defined(__AVX2__)
#define SIMD_WIDTH        8
#define SIMD_SYMBOL(name) cpu_avx2_##name
#else
#define SIMD_WIDTH        4
#define SIMD_SYMBOL(name) cpu_x86_64_##name
#endif

#define SIMD_INLINE static inline __attribute__((always_inline))

typedef float vector __attribute__((vector_size(4 * SIMD_WIDTH)));
typedef int32_t ivector __attribute__((vector_size(4 * SIMD_WIDTH)));
typedef uint32_t uvector __attribute__((vector_size(4 * SIMD_WIDTH)));
typedef uint16_t hvector __attribute__((vector_size(2 * SIMD_WIDTH)));

/* The same without an alignment of their own, for memory. */
typedef float loose_vector __attribute__((vector_size(4 * SIMD_WIDTH), aligned(4), may_alias));
typedef uint16_t loose_hvector __attribute__((vector_size(2 * SIMD_WIDTH), aligned(2), may_alias));

SIMD_INLINE vector vector_load(const float *from) {
    return *(const loose_vector *)from;
}

SIMD_INLINE void vector_store(float *to, vector x) {
    *(loose_vector *)to = x;
}

SIMD_INLINE vector vector_all(float x) {
    return x - (vector){0};
}

/* The first `count` < SIMD_WIDTH elements; the rest is 0. */
SIMD_INLINE vector vector_load_part(const float *from, int64_t count) {
    float whole[SIMD_WIDTH] = {0};
    memcpy(whole, from, (size_t)count * sizeof *from);
    return vector_load(whole);
}

SIMD_INLINE void vector_store_part(float *to, vector x, int64_t count) {
    float whole[SIMD_WIDTH];
    vector_store(whole, x);
    memcpy(to, whole, (size_t)count * sizeof *to);
}

/* `yes` where the mask is set, else `no`. */
SIMD_INLINE vector vector_select(ivector mask, vector yes, vector no) {
    return (vector)((mask & (ivector)yes) | (~mask & (ivector)no));
}

SIMD_INLINE vector vector_max(vector a, vector b) {
    return vector_select(a > b, a, b);
}

SIMD_INLINE float vector_highest(vector x) {
    float highest = x[0];
    for (int i = 1; i < SIMD_WIDTH; i++)
        highest = x[i] > highest ? x[i] : highest;
    return highest;
}

SIMD_INLINE double vector_sum(vector x) {
    double sum = 0;
    for (int i = 0; i < SIMD_WIDTH; i++)
        sum += (double)x[i];
    return sum;
}

/*
 * e^x within 2 units in the last place: x = n ln 2 + r, a polynomial in r (fitted by iterated weighted least squares),
 * and n put into the exponent. Exactly 0 below -87.3, where float has no normal numbers left; stays at e^88 above 88;
 * NaN stays NaN.
 */
SIMD_INLINE vector vector_exp(vector x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves an integer in the low bits */
    vector clamped = vector_select(x > 88.0f, vector_all(88.0f), x);
    vector shifted = clamped * 1.44269504088896341f + round;
    vector n = shifted - round;
    vector r = clamped - n * 0.693359375f;
    r = r - n * -2.12194440054690583e-4f;
    vector c = r * 0.00138145837f + 0.00836872403f;
    c = c * r + 0.041668389f;
    c = c * r + 0.166665211f;
    c = c * r + 0.49999994f;
    vector result = (c * r) * r + r + 1.0f;
    result = (vector)((ivector)result + (ivector)((uvector)shifted << 23));
    return vector_select(x < -87.3f, vector_all(0.0f), result);
}

/* 1 / (1 + e^-x) */
SIMD_INLINE vector vector_sigmoid(vector x) {
    return 1.0f / (1.0f + vector_exp(-x));
}

/* BF16 is the upper half of a float. */
SIMD_INLINE vector vector_from_bf16(hvector x) {
    return (vector)(__builtin_convertvector(x, uvector) << 16);
}

/* F16 by moving its exponent; subnormals through one float subtraction. */
SIMD_INLINE vector vector_from_f16(hvector x) {
    uvector bits = __builtin_convertvector(x, uvector);
    uvector magnitude = (bits & 0x7fffu) << 13;
    uvector exponent = magnitude & 0x0f800000u;
    uvector normal = magnitude + (112u << 23);
    uvector special = normal + (112u << 23);
    vector subnormal = (vector)(magnitude + (113u << 23)) - 6.103515625e-05f;
    vector value = vector_select((ivector)(exponent == 0x0f800000u), (vector)special, (vector)normal);
    value = vector_select((ivector)(exponent == 0u), subnormal, value);
    return (vector)((uvector)value | ((bits & 0x8000u) << 16));
}

/* Round to nearest even; a NaN stays a (quiet) NaN. */
SIMD_INLINE hvector vector_to_bf16(vector x) {
    uvector bits = (uvector)x;
    uvector rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uvector nan = (bits >> 16) | 0x40u;
    uvector is_nan = (uvector)(x != x);
    return __builtin_convertvector((is_nan & nan) | (~is_nan & rounded), hvector);
}

#endif
