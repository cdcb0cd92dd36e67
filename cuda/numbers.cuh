/* 16-bit floats as device code holds them, and conversions that round to nearest even. */
#ifndef CUDA_NUMBERS_CUH
#define CUDA_NUMBERS_CUH

#include <cuda_runtime.h>
#include <stdint.h>

#ifndef BALORA_EMULATION
#include <cuda_bf16.h>
#include <cuda_fp16.h>
/* The block's dynamic shared memory under a name, 128-byte aligned. */
#define DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#endif

struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};

static __device__ __forceinline__ float to_float(float x) {
    return x;
}
static __device__ __forceinline__ float to_float(bf16 x) {
    return __uint_as_float((unsigned)x.bits << 16);
}

#ifdef BALORA_EMULATION
static inline float to_float(f16 x) {
    unsigned sign = (unsigned)(x.bits & 0x8000u) << 16, exponent = x.bits >> 10 & 31u,
             mantissa = x.bits & 1023u;
    if (exponent == 31)
        return __uint_as_float(sign | 0x7F800000u | mantissa << 13);
    if (exponent == 0)
        return std::copysign((float)mantissa * 0x1p-24f, __uint_as_float(sign | 0x3F800000u));
    return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}
static inline bf16 to_bf16(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return {(uint16_t)(bits >> 16 | 0x40u)};
    return {(uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16)};
}
static inline f16 to_f16(float x) {
    unsigned bits = __float_as_uint(x), sign = bits >> 16 & 0x8000u, rest = bits & 0x7FFFFFFFu;
    if (rest > 0x7F800000u)
        return {(uint16_t)(sign | 0x7E00u)};
    if (rest >= 0x477FF000u) /* 65520 and more */
        return {(uint16_t)(sign | 0x7C00u)};
    if (rest < 0x38800000u) /* below the smallest normal number: in units of 2^-24 */
        return {(uint16_t)(sign | (unsigned)std::nearbyint(__uint_as_float(rest) * 0x1p24f))};
    rest += 0xFFFu + (rest >> 13 & 1u);
    return {(uint16_t)(sign | (rest - 0x38000000u) >> 13)};
}
#else
static __device__ __forceinline__ float to_float(f16 x) {
    return __half2float(__ushort_as_half(x.bits));
}
static __device__ __forceinline__ bf16 to_bf16(float x) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(x))};
}
static __device__ __forceinline__ f16 to_f16(float x) {
    return {__half_as_ushort(__float2half_rn(x))};
}
#endif

/* Rounded to T. */
template <typename T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ bf16 from_float<bf16>(float x) {
    return to_bf16(x);
}
template <> __device__ __forceinline__ f16 from_float<f16>(float x) {
    return to_f16(x);
}

/* COUNT neighbouring numbers, loaded and stored in one access; the address must be aligned to their size. */
template <typename T, int COUNT> struct alignas(sizeof(T) * COUNT) pack { T value[COUNT]; };

/* How many numbers of the widest T make a 16-byte access. */
template <typename T> constexpr int PACK_16 = 16 / (int)sizeof(T);

template <typename T, int COUNT>
__device__ __forceinline__ void load_floats(float (&out)[COUNT], const T *from) {
    pack<T, COUNT> values = *reinterpret_cast<const pack<T, COUNT> *>(from);
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        out[i] = to_float(values.value[i]);
}

template <typename T, int COUNT>
__device__ __forceinline__ void store_floats(T *to, const float (&in)[COUNT]) {
    pack<T, COUNT> values;
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        values.value[i] = from_float<T>(in[i]);
    *reinterpret_cast<pack<T, COUNT> *>(to) = values;
}

#endif
