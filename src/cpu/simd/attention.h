/* What attention's two directions share: block sizes, the mask, and copies of query rows. */
#ifndef CPU_SIMD_ATTENTION_H
#define CPU_SIMD_ATTENTION_H

#include "cpu/simd/tile.h"

#define QUERY_BLOCK 48            /* rows of queries held at a time: a multiple of TILE_ROWS */
#define KEY_BLOCK   TILE_MULTIPLE /* keys of one tile of scores */

/* The first key that a query sees. */
SIMD_INLINE int64_t first_visible(int64_t query, int64_t window) {
    return window > 0 && query >= window ? query - window + 1 : 0;
}

/* Columns [*begin, *end) of the tile of keys [key, key + keys) that a query sees. */
SIMD_INLINE void visible_keys(int64_t query, int64_t window, int64_t key, int64_t keys, int64_t *begin,
                              int64_t *end) {
    int64_t first = first_visible(query, window) - key, after = query + 1 - key;
    *begin = first > 0 ? first : 0;
    *end = after < keys ? after : keys;
}

/* Scores x become cap tanh(x / cap), up to `width`. */
SIMD_INLINE void cap_scores(float *scores, float cap, int64_t width) {
    for (int64_t j = 0; j < width; j += SIMD_WIDTH)
        vector_store(scores + j, cap * vector_tanh(vector_load(scores + j) / cap));
}

/* out [QUERY_BLOCK, dim] = scale x, rows beyond x are 0. */
SIMD_INLINE void copy_block(float *out, const float *x, int64_t stride, int64_t rows, int64_t dim,
                            float scale) {
    for (int64_t row = 0; row < rows; row++)
        for (int64_t c = 0; c < dim; c++)
            out[row * dim + c] = x[row * stride + c] * scale;
    memset(out + rows * dim, 0, (size_t)((QUERY_BLOCK - rows) * dim) * sizeof *out);
}

#endif
