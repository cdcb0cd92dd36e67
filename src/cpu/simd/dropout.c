#include "cpu/simd/symbols.h"

/* SIMD_WIDTH Philox 4x32-10 blocks at once, as base/random.h defines them. */
typedef struct philox_vectors {
    uvector c0, c1, c2, c3;
} philox_vectors;

/* Lower and upper halves of the products of 32-bit lanes with a constant: even lanes, then odd ones. */
SIMD_INLINE uvector multiply_halves(uvector a, uint32_t factor, uvector *high) {
#if SIMD_WIDTH == 16
    __m512i b = _mm512_set1_epi64((long long)factor);
    uint64_vector even = (uint64_vector)_mm512_mul_epu32((__m512i)a, b);
    uint64_vector odd = (uint64_vector)_mm512_mul_epu32((__m512i)((uint64_vector)a >> 32), b);
#elif SIMD_WIDTH == 8
    __m256i b = _mm256_set1_epi64x((long long)factor);
    uint64_vector even = (uint64_vector)_mm256_mul_epu32((__m256i)a, b);
    uint64_vector odd = (uint64_vector)_mm256_mul_epu32((__m256i)((uint64_vector)a >> 32), b);
#else
    __m128i b = _mm_set1_epi64x((long long)factor);
    uint64_vector even = (uint64_vector)_mm_mul_epu32((__m128i)a, b);
    uint64_vector odd = (uint64_vector)_mm_mul_epu32((__m128i)((uint64_vector)a >> 32), b);
#endif
    *high = (uvector)(even >> 32 | (odd & UINT64_C(0xFFFFFFFF00000000)));
    return (uvector)((even & UINT64_C(0xFFFFFFFF)) | odd << 32);
}

SIMD_INLINE void philox_rounds(philox_vectors *block, uint64_t seed) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uvector high0, high2;
        uvector low0 = multiply_halves(block->c0, 0xD2511F53u, &high0);
        uvector low2 = multiply_halves(block->c2, 0xCD9E8D57u, &high2);
        *block = (philox_vectors){high2 ^ block->c1 ^ k0, low2, high0 ^ block->c3 ^ k1, low0};
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* Words of the 4 SIMD_WIDTH columns from block `index` on, in the order of the columns. */
SIMD_INLINE void draw_words(uint32_t *words, uint64_t seed, uint64_t stream, uint64_t index) {
    uvector lane, none = {0};
    for (int i = 0; i < SIMD_WIDTH; i++)
        lane[i] = (uint32_t)i;
    /* The sum's carry never reaches the site in the upper half: columns are below 2^34. */
    philox_vectors block = {lane + (uint32_t)index, none + (uint32_t)(index >> 32), none + (uint32_t)stream,
                            none + (uint32_t)(stream >> 32)};
    philox_rounds(&block, seed);
    for (int i = 0; i < SIMD_WIDTH; i++) {
        words[4 * i] = block.c0[i];
        words[4 * i + 1] = block.c1[i];
        words[4 * i + 2] = block.c2[i];
        words[4 * i + 3] = block.c3[i];
    }
}

void SIMD_SYMBOL(dropout)(const dropout_span *span) {
    uint32_t words[4 * SIMD_WIDTH];
    for (int64_t start = 0; start < span->count; start += 4 * SIMD_WIDTH) {
        int64_t count = span->count - start < 4 * SIMD_WIDTH ? span->count - start : 4 * SIMD_WIDTH;
        const float *x = span->x + start;
        float *y = span->y + start;
        draw_words(words, span->seed, span->stream, span->index + (uint64_t)start / 4);
        if (span->beta == 0)
            for (int64_t i = 0; i < count; i++)
                y[i] = words[i] >= span->threshold ? span->scale * x[i] : 0;
        else
            for (int64_t i = 0; i < count; i++)
                y[i] = span->beta * y[i] + (words[i] >= span->threshold ? span->scale * x[i] : 0);
    }
}
