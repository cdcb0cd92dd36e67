/* What normalizations of rows share: the threads of a row, its moments, and the gradients of the weights. */
#ifndef CUDA_NORM_ROWS_CUH
#define CUDA_NORM_ROWS_CUH

#include "internal.h"
#include "reduce.cuh"
#include "row_access.cuh"

/* --- the threads of a row --- */

/* NORM_SPAN neighbours are taken by a thread at a time. */
enum { NORM_SPAN = 8, NORM_THREADS = 256, NORM_WARPS = NORM_THREADS / 32 };

/* A warp works on each short row, a block on each long one. */
struct row_team {
    int64_t row;
    int32_t first, step; /* this thread's first column, and from one span of it to the next */
    bool warp;
};

static __device__ __forceinline__ row_team team_of_row(bool warp) {
    int32_t thread = (int32_t)threadIdx.x;
    if (warp)
        return {(int64_t)blockIdx.x * NORM_WARPS + thread / 32, thread % 32 * NORM_SPAN, 32 * NORM_SPAN,
                true};
    return {blockIdx.x, thread * NORM_SPAN, NORM_THREADS * NORM_SPAN, false};
}

/* Where a team's row begins: `groups` of `cols` columns each lie side by side, and each is a row by itself. */
static __device__ __forceinline__ int64_t row_start(int64_t row, int32_t groups, int64_t ld, int64_t cols) {
    return groups == 1 ? row * ld : row / groups * ld + row % groups * cols;
}

template <template <typename> class Join, typename T>
__device__ __forceinline__ T team_reduce(const row_team &team, T value, T *pieces) {
    return team.warp ? warp_reduce<Join>(value) : block_reduce<Join>(value, pieces);
}

static inline bool is_short_row(int64_t cols) {
    return cols <= 4 * 32 * NORM_SPAN;
}

static inline unsigned team_blocks(int64_t rows, int64_t cols) {
    return blocks_for(rows, is_short_row(cols) ? NORM_WARPS : 1);
}

template <typename... Views> static bool are_aligned_for_norm(Views... views) {
    return (is_aligned(views, NORM_SPAN) && ...);
}

/* --- moments --- */

/* A row's normalized elements are n = (x - mean - mean_rest) inverse; the mean has two parts so that rows far
 * from 0 keep their digits. */
struct alignas(16) row_moments {
    float mean, mean_rest, inverse, unused;
};

static __device__ __forceinline__ float normalized(const row_moments &moments, float x) {
    return (x - moments.mean - moments.mean_rest) * moments.inverse;
}

/* --- gradients of the weights (norm.cu) --- */

/* Scratch for the moments of x's rows of `cols` columns each, and for the sums of norm_weights after it. */
balora_status norm_moments(backend_queue *queue, matrix_view x, int64_t cols, row_moments **out);
/* dweight += sum of dy n over the rows, dbias += that of dy; NULL buffers: not wanted. Where they have fewer columns
 * than x, so many of x are a row. `moments`: as norm_moments gave it, filled. */
balora_status norm_weights(backend_queue *queue, matrix_view x, matrix_view dy, const row_moments *moments,
                           matrix_view dweight, matrix_view dbias);

#endif
