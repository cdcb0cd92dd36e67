/*
 * Vectors of the instruction set that a file is compiled for.
 *
 * Every file of this folder is compiled once per instruction set from the same source; the flags decide the
 * width. SIMD_SYMBOL gives each copy names of its own. Arithmetic uses the vector extensions that gcc and
 * clang share, and intrinsics for the three operations that those lack.
 */
#ifndef CPU_SIMD_VECTOR_H
#define CPU_SIMD_VECTOR_H

#include <immintrin.h>
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
typedef uint64_t uint64_vector __attribute__((vector_size(4 * SIMD_WIDTH))); /* half as many */
typedef uint16_t hvector __attribute__((vector_size(2 * SIMD_WIDTH)));

/* Doubles: half as many in a register. */
typedef double dvector __attribute__((vector_size(4 * SIMD_WIDTH)));
typedef float half_vector __attribute__((vector_size(2 * SIMD_WIDTH), aligned(4), may_alias));

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

/* SIMD_WIDTH / 2 floats as doubles. */
SIMD_INLINE dvector dvector_load(const float *from) {
    return __builtin_convertvector(*(const half_vector *)from, dvector);
}

SIMD_INLINE double dvector_sum(dvector x) {
    double sum = 0;
    for (int i = 0; i < SIMD_WIDTH / 2; i++)
        sum += x[i];
    return sum;
}

/* `yes` where the mask is set, else `no`. */
SIMD_INLINE vector vector_select(ivector mask, vector yes, vector no) {
    return (vector)((mask & (ivector)yes) | (~mask & (ivector)no));
}

#if SIMD_WIDTH == 16
/* Where either is NaN: `b`. */
SIMD_INLINE vector vector_max(vector a, vector b) {
    return _mm512_max_ps(a, b);
}

SIMD_INLINE vector vector_min(vector a, vector b) {
    return _mm512_min_ps(a, b);
}

/* Whether any lane of a mask is set. */
SIMD_INLINE int vector_any(ivector mask) {
    return _mm512_movepi32_mask((__m512i)mask) != 0;
}
#elif SIMD_WIDTH == 8
SIMD_INLINE vector vector_max(vector a, vector b) {
    return _mm256_max_ps(a, b);
}

SIMD_INLINE vector vector_min(vector a, vector b) {
    return _mm256_min_ps(a, b);
}

SIMD_INLINE int vector_any(ivector mask) {
    return _mm256_movemask_ps((vector)mask) != 0;
}
#else
SIMD_INLINE vector vector_max(vector a, vector b) {
    return _mm_max_ps(a, b);
}

SIMD_INLINE vector vector_min(vector a, vector b) {
    return _mm_min_ps(a, b);
}

SIMD_INLINE int vector_any(ivector mask) {
    return _mm_movemask_ps((vector)mask) != 0;
}
#endif

/* table[index] in every lane. */
#if SIMD_WIDTH == 16
SIMD_INLINE vector vector_gather(const float *table, ivector index) {
    return _mm512_i32gather_ps((__m512i)index, table, 4);
}
#elif SIMD_WIDTH == 8
SIMD_INLINE vector vector_gather(const float *table, ivector index) {
    return _mm256_i32gather_ps(table, (__m256i)index, 4);
}
#else
SIMD_INLINE vector vector_gather(const float *table, ivector index) {
    return (vector){table[index[0]], table[index[1]], table[index[2]], table[index[3]]};
}
#endif

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
 * e^x for x <= 88 within 2 units in the last place: x = n ln 2 + r, a polynomial in r (fitted by iterated
 * weighted least squares), and n put into the exponent. Exactly 0 below -87.3, where float has no normal
 * numbers left; NaN stays NaN.
 */
SIMD_INLINE vector vector_exp(vector x) {
    const float round = 12582912.0f; /* 1.5 * 2^23: adding it leaves an integer in the low bits */
    vector shifted = x * 1.44269504088896341f + round;
    vector n = shifted - round;
    vector r = x - n * 0.693359375f;
    r = r - n * -2.12194440054690583e-4f;
    vector c = r * 0.00138145837f + 0.00836872403f;
    c = c * r + 0.041668389f;
    c = c * r + 0.166665211f;
    c = c * r + 0.49999994f;
    vector result = (c * r) * r + r + 1.0f;
    result = (vector)((uvector)result + ((uvector)shifted << 23));
    return (vector)(~(x < -87.3f) & (ivector)result);
}

/* 1 / (1 + e^-x) */
SIMD_INLINE vector vector_sigmoid(vector x) {
    return 1.0f / (1.0f + vector_exp(vector_min(vector_all(88.0f), -x)));
}

/* tanh x within 4 units in the last place: an odd polynomial near 0 (fitted as above), an exponential beyond. */
SIMD_INLINE vector vector_tanh(vector x) {
    vector size = (vector)((uvector)x & 0x7fffffffu), square = x * x;
    vector c = square * -0.00589515011f + 0.0207959643f;
    c = c * square - 0.0537838279f;
    c = c * square + 0.133319241f;
    c = c * square - 0.333332980f;
    vector near = x + x * square * c;
    vector far = 1.0f - 2.0f / (vector_exp(2.0f * vector_min(vector_all(10.0f), size)) + 1.0f);
    far = (vector)((uvector)far | ((uvector)x & 0x80000000u));
    return vector_select(size < 0.6f, near, far);
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
