/* Copies with conversion, and rows by index. */
#include <math.h>

#include "internal.h"
#include "reduce.cuh"
#include "slots.h"
#include "spans.cuh"

/* --- copy --- */

template <typename To, typename From, int COUNT>
static __global__ void copy_elements(span_grid grid, To *to, int64_t to_ld, const From *from,
                                     int64_t from_ld) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        From values[COUNT];
        load_span(values, from + row * from_ld + column, left);
        store_span(to + row * to_ld + column, values, left);
    }
}

template <typename To, typename From>
static balora_status launch_copy(backend_queue *queue, matrix_view dst, matrix_view src) {
    constexpr int MOST = SPAN_COUNT<To, From>;
    DISPATCH_COUNT(are_aligned(MOST, dst, src), MOST, COUNT, {
        span_grid grid = span_grid_of(dst.rows, dst.cols, COUNT);
        return launch(queue, "copy", copy_elements<To, From, COUNT>, span_blocks(grid, COUNT), SPAN_THREADS,
                      0, grid, view_data<To>(dst), dst.ld, view_data<From>(src), src.ld);
    });
}

template <typename To> static balora_status copy_to(backend_queue *queue, matrix_view dst, matrix_view src) {
    if (src.dtype == BALORA_F64)
        return launch_copy<To, double>(queue, dst, src);
    DISPATCH_FLOAT(src.dtype, From, { return launch_copy<To, From>(queue, dst, src); });
}

balora_status cuda_copy(backend_queue *queue, matrix_view dst, matrix_view src) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("copy", "src", src, ANY_SIZE, ANY_SIZE, IN_FLOAT | IN_F64));
    CUDA_TRY(operand_check("copy", "dst", dst, src.rows, src.cols, IN_FLOAT | IN_F64));
    if (is_empty(dst))
        return BALORA_OK;
    flatten(dst, src);
    if (dst.dtype == BALORA_F64)
        return copy_to<double>(queue, dst, src);
    DISPATCH_FLOAT(dst.dtype, To, { return copy_to<To>(queue, dst, src); });
}

/* --- gather --- */

template <typename To, typename From, int COUNT>
static __global__ void gather(span_grid grid, To *dst, int64_t dst_ld, const From *src, int64_t src_rows,
                              int64_t src_ld, const int32_t *indices) {
    int64_t column = span_column(grid, COUNT), left = grid.cols - column;
    if (left <= 0)
        return;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        int64_t index = indices[row];
        float values[COUNT];
        if (index >= 0 && index < src_rows) {
            load_span(values, src + index * src_ld + column, left);
        } else {
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                values[i] = NAN;
        }
        store_span(dst + row * dst_ld + column, values, left);
    }
}

template <typename To, typename From>
static balora_status launch_gather(backend_queue *queue, matrix_view dst, matrix_view src,
                                   matrix_view indices) {
    constexpr int MOST = SPAN_COUNT<To, From>;
    DISPATCH_COUNT(are_aligned(MOST, dst, src), MOST, COUNT, {
        span_grid grid = span_grid_of(dst.rows, dst.cols, COUNT);
        return launch(queue, "gather_rows", gather<To, From, COUNT>, span_blocks(grid, COUNT), SPAN_THREADS,
                      0, grid, view_data<To>(dst), dst.ld, view_data<From>(src), src.rows, src.ld,
                      view_data<int32_t>(indices));
    });
}

balora_status cuda_gather_rows(backend_queue *queue, matrix_view dst, matrix_view src, matrix_view indices) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("gather_rows", "dst", dst, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("gather_rows", "src", src, ANY_SIZE, dst.cols, IN_FLOAT));
    CUDA_TRY(operand_check("gather_rows", "indices", indices, 1, dst.rows, IN_I32));
    if (is_empty(dst))
        return BALORA_OK;
    DISPATCH_ACTIVATION(dst.dtype, To, {
        DISPATCH_FLOAT(src.dtype, From, { return launch_gather<To, From>(queue, dst, src, indices); });
    });
}

/* --- scatter --- */

enum {
    SCATTER_THREADS = 256,
    SCATTER_TESTS = 4, /* indices that a thread looks at before the block meets */
    SCATTER_BATCH = SCATTER_THREADS * SCATTER_TESTS,
    SCATTER_WORDS = SCATTER_BATCH / 32,
    SCATTER_EACH = 8, /* columns of a thread */
    SCATTER_COLUMNS = SCATTER_THREADS * SCATTER_EACH
};
static_assert(SCATTER_WORDS == 32, "one warp lists the matches");

/* Where a source row goes. A bad index stands for row 0, and all rows that the call writes become NaN. */
static __device__ __forceinline__ int64_t target_of(int32_t index, int64_t dst_rows, int *bad) {
    if (index >= 0 && index < dst_rows)
        return index;
    *bad = 1;
    return 0;
}

/*
 * Of the batch of source rows from `base` on, those below `rows` that go to row `mine` of dst: their
 * distances from base, ascending. The whole block takes part; `list` may be read until the next call. Returns
 * their number.
 */
static __device__ int list_matches(const int32_t *indices, int64_t base, int64_t rows, int64_t dst_rows,
                                   int64_t mine, int32_t *list, int *bad) {
    __shared__ unsigned words[SCATTER_WORDS];
    __shared__ int listed;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, any = 0;
#pragma unroll
    for (int test = 0; test < SCATTER_TESTS; test++) {
        int64_t row = base + test * SCATTER_THREADS + threadIdx.x;
        int match = row < rows && target_of(indices[row], dst_rows, bad) == mine;
        unsigned word = __ballot_sync(ALL_LANES, match);
        if (lane == 0)
            words[test * (SCATTER_THREADS / 32) + warp] = word;
        any |= match;
    }
    if (!__syncthreads_or(any))
        return 0;
    if (warp == 0) {
        unsigned word = words[lane];
        int place = __popc(word);
        for (int distance = 1; distance < 32; distance *= 2) {
            int before = __shfl_up_sync(ALL_LANES, place, distance);
            place += lane >= distance ? before : 0;
        }
        if (lane == 31)
            listed = place;
        place -= __popc(word);
        for (; word != 0; word &= word - 1)
            list[place++] = lane * 32 + __ffs((int)word) - 1;
    }
    __syncthreads();
    return listed;
}

/*
 * Block (i, columns): where source row i is the first that goes to its row of dst, add it and all later ones
 * that go there, in order. Every such block sees all indices.
 */
template <typename To, typename From, int COUNT>
static __global__ void scatter_add(int64_t rows, int64_t cols, const From *src, int64_t src_ld,
                                   const int32_t *indices, To *dst, int64_t dst_rows, int64_t dst_ld) {
    constexpr int PACKS = SCATTER_EACH / COUNT;
    __shared__ int32_t list[SCATTER_BATCH];
    int64_t first = blockIdx.x;
    int bad = 0;
    int64_t mine = target_of(indices[first], dst_rows, &bad);
    for (int64_t base = 0; base < first; base += SCATTER_BATCH) {
        int earlier = 0;
#pragma unroll
        for (int test = 0; test < SCATTER_TESTS; test++) {
            int64_t row = base + test * SCATTER_THREADS + threadIdx.x;
            earlier |= row < first && target_of(indices[row], dst_rows, &bad) == mine;
        }
        if (__syncthreads_or(earlier))
            return;
    }
    int64_t column = (int64_t)blockIdx.y * SCATTER_COLUMNS + threadIdx.x * COUNT;
    const int64_t step = SCATTER_THREADS * COUNT; /* columns from a thread's pack to its next */
    float sums[PACKS][COUNT];
#pragma unroll
    for (int p = 0; p < PACKS; p++)
        load_span(sums[p], dst + mine * dst_ld + column + p * step, cols - column - p * step);
    for (int64_t base = first; base < rows; base += SCATTER_BATCH) {
        int listed = list_matches(indices, base, rows, dst_rows, mine, list, &bad);
#pragma unroll 4
        for (int match = 0; match < listed; match++) {
            const From *from = src + (base + list[match]) * src_ld + column;
#pragma unroll
            for (int p = 0; p < PACKS; p++) {
                float values[COUNT];
                load_span(values, from + p * step, cols - column - p * step);
#pragma unroll
                for (int i = 0; i < COUNT; i++)
                    sums[p][i] += values[i];
            }
        }
    }
    int poisoned = __syncthreads_or(bad);
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            sums[p][i] = poisoned ? NAN : sums[p][i];
        store_span(dst + mine * dst_ld + column + p * step, sums[p], cols - column - p * step);
    }
}

template <typename To, typename From>
static balora_status launch_scatter(backend_queue *queue, matrix_view dst, matrix_view src,
                                    matrix_view indices) {
    constexpr int MOST = SPAN_COUNT<To, From>;
    DISPATCH_COUNT(are_aligned(MOST, dst, src), MOST, COUNT, {
        dim3 blocks((unsigned)src.rows, blocks_for(src.cols, SCATTER_COLUMNS));
        return launch(queue, "scatter_add_rows", scatter_add<To, From, COUNT>, blocks, SCATTER_THREADS, 0,
                      src.rows, src.cols, view_data<From>(src), src.ld, view_data<int32_t>(indices),
                      view_data<To>(dst), dst.rows, dst.ld);
    });
}

balora_status cuda_scatter_add_rows(backend_queue *queue, matrix_view dst, matrix_view src,
                                    matrix_view indices) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("scatter_add_rows", "src", src, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(
        operand_check("scatter_add_rows", "dst", dst, ANY_SIZE, src.cols, IN_F32 | dtype_bit(src.dtype)));
    CUDA_TRY(operand_check("scatter_add_rows", "indices", indices, 1, src.rows, IN_I32));
    if (is_empty(src) || is_empty(dst))
        return BALORA_OK;
    if (src.dtype == BALORA_F32)
        return launch_scatter<float, float>(queue, dst, src, indices);
    DISPATCH_ACTIVATION(dst.dtype, To, { return launch_scatter<To, bf16>(queue, dst, src, indices); });
}
