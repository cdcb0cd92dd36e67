/*
 * Attention in F32 arithmetic, tile by tile with a running softmax (Dao et al., "FlashAttention", 2022):
 * scores exist for one tile only. Operands are widened as they come into shared memory.
 *
 * The block's 128 threads are 16 rows of 8: a thread has rows `row + 16 i` of a product and the columns
 * `column + 8 j` of scores, or 4 column + {0..3} + 32 c of results. The 8 threads of a row are neighbours in
 * a warp, so that what a row needs of itself passes between lanes, and a warp reads back only weights that it
 * wrote.
 *
 * Backward, with P the softmax weights, recomputed from the saved log-sum-exp, and D_i = out_i . dout_i:
 *   dV = P^T dO,   dS = P (dO V^T - D) c'(S),   dK = scale dS^T Q,   dQ = scale dS K;
 * one kernel sums over queries for a tile of keys, a second one over keys for a tile of queries: each number
 * has one writer and one order of summation.
 */
#include "attention_tile.cuh"

const int ROW_THREADS = 16, COLUMN_THREADS = 8;

/* Of shared tiles: 4 more than a multiple of 32, so that neighbouring rows lie in other banks. */
template <int DIM> constexpr int TILE_LD = DIM + 4;
template <int WIDTH> constexpr int WEIGHTS_LD = WIDTH + 4;

/* --- tiles --- */

/* `rows` rows of a head as floats [rows][TILE_LD]; zeros from row `there` on and beyond head_dim. */
template <typename T, int DIM>
__device__ __forceinline__ void load_tile(float *to, const T *from, int64_t ld, int rows, int there,
                                          const attention_sizes &sizes) {
    const int PIECES = DIM / 4;
#pragma unroll 4
    for (int i = (int)threadIdx.x; i < rows * PIECES; i += ATTENTION_THREADS) {
        int row = i / PIECES, column = i % PIECES * 4;
        float piece[4] = {0, 0, 0, 0};
        if (row < there && column < sizes.head_dim) {
            const T *at = from + row * ld + column;
            if (sizes.aligned)
                load_floats(piece, at);
            else
#pragma unroll
                for (int e = 0; e < 4; e++)
                    piece[e] = column + e < sizes.head_dim ? to_float(at[e]) : 0.0f;
        }
        store_floats(to + row * TILE_LD<DIM> + column, piece);
    }
}

/* The thread's results to rows `row + 16 i` < there of a head. */
template <typename T, int R, int C>
__device__ __forceinline__ void store_rows(T *to, int64_t ld, const float (&sums)[R][C][4], int there,
                                           const attention_sizes &sizes) {
    int row = (int)threadIdx.x / COLUMN_THREADS, column = (int)threadIdx.x % COLUMN_THREADS * 4;
#pragma unroll
    for (int i = 0; i < R; i++, row += ROW_THREADS)
#pragma unroll
        for (int c = 0; c < C; c++) {
            int first = column + 32 * c;
            T *at = to + row * ld + first;
            if (row < there && first < sizes.head_dim && sizes.aligned)
                store_floats(at, sums[i][c]);
            else if (row < there)
#pragma unroll
                for (int e = 0; e < 4; e++)
                    if (first + e < sizes.head_dim)
                        at[e] = from_float<T>(sums[i][c][e]);
        }
}

const int DOT_PIECE = 16; /* terms of a dot product that are summed by themselves first */

static __device__ __forceinline__ int dot_depth(int head_dim) {
    return (head_dim + DOT_PIECE - 1) / DOT_PIECE * DOT_PIECE;
}

/*
 * products[i][j] = a[row + 16 i] . b[column + 8 j] over `depth` columns, a multiple of DOT_PIECE. Summed in
 * pieces: large scores keep more of their digits for one addition in 16.
 */
template <int DIM, int R, int C>
__device__ __forceinline__ void dot_rows(float (&products)[R][C], const float *a, const float *b, int depth) {
    const int LD = TILE_LD<DIM>;
    a += threadIdx.x / COLUMN_THREADS * LD;
    b += threadIdx.x % COLUMN_THREADS * LD;
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < C; j++)
            products[i][j] = 0;
#pragma unroll 1
    for (int piece = 0; piece < depth; piece += DOT_PIECE) {
        float sums[R][C] = {};
#pragma unroll
        for (int d = piece; d < piece + DOT_PIECE; d += 4) {
            float left[R][4], right[C][4];
#pragma unroll
            for (int i = 0; i < R; i++)
                load_floats(left[i], a + i * ROW_THREADS * LD + d);
#pragma unroll
            for (int j = 0; j < C; j++)
                load_floats(right[j], b + j * COLUMN_THREADS * LD + d);
#pragma unroll
            for (int e = 0; e < 4; e++)
#pragma unroll
                for (int i = 0; i < R; i++)
#pragma unroll
                    for (int j = 0; j < C; j++)
                        sums[i][j] = fmaf(left[i][e], right[j][e], sums[i][j]);
        }
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int j = 0; j < C; j++)
                products[i][j] += sums[i][j];
    }
}

/* sums[i] += sum_j weights[row + 16 i][j] values[j] over j < WIDTH. */
template <int DIM, int WIDTH, int R>
__device__ __forceinline__ void weigh_rows(float (&sums)[R][DIM / 32][4], const float *weights,
                                           const float *values) {
    weights += threadIdx.x / COLUMN_THREADS * WEIGHTS_LD<WIDTH>;
    values += threadIdx.x % COLUMN_THREADS * 4;
#pragma unroll 1
    for (int j = 0; j < WIDTH; j += 4) {
        float left[R][4];
#pragma unroll
        for (int i = 0; i < R; i++)
            load_floats(left[i], weights + i * ROW_THREADS * WEIGHTS_LD<WIDTH> + j);
#pragma unroll
        for (int e = 0; e < 4; e++)
#pragma unroll
            for (int c = 0; c < DIM / 32; c++) {
                float right[4];
                load_floats(right, values + (j + e) * TILE_LD<DIM> + 32 * c);
#pragma unroll
                for (int i = 0; i < R; i++)
#pragma unroll
                    for (int f = 0; f < 4; f++)
                        sums[i][c][f] = fmaf(left[i][e], right[f], sums[i][c][f]);
            }
    }
}

template <int R, int C>
__device__ __forceinline__ void scale_row(float (&sums)[R][C][4], int i, float factor) {
#pragma unroll
    for (int c = 0; c < C; c++)
#pragma unroll
        for (int e = 0; e < 4; e++)
            sums[i][c][e] *= factor;
}

/* The thread's values to weights[row + 16 i][column + 8 j]. */
template <int R, int C>
__device__ __forceinline__ void keep_weights(float *weights, const float (&values)[R][C]) {
    const int LD = WEIGHTS_LD<COLUMN_THREADS * C>;
    weights += threadIdx.x / COLUMN_THREADS * LD + threadIdx.x % COLUMN_THREADS;
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < C; j++)
            weights[i * ROW_THREADS * LD + j * COLUMN_THREADS] = values[i][j];
}

/* --- forward --- */

/* Products of queries from `query` and keys from `key` on become capped scores; -infinity where unseen. */
template <int R, int C>
__device__ __forceinline__ void finish_scores(float (&scores)[R][C], const attention_sizes &sizes, int query,
                                              int key) {
    query += (int)threadIdx.x / COLUMN_THREADS;
    key += (int)threadIdx.x % COLUMN_THREADS;
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
        for (int j = 0; j < C; j++) {
            float score = scores[i][j] * sizes.scale;
            if (sizes.soft_cap > 0)
                score = cap_score(score, sizes.soft_cap).value;
            bool seen = is_visible(query + i * ROW_THREADS, key + j * COLUMN_THREADS, sizes.window);
            scores[i][j] = seen ? score : -INFINITY;
        }
}

/* Scores become weights relative to the row's highest score so far; `total` is the lane's part of their sum. */
template <int R, int C, int D>
__device__ __forceinline__ void soften(float (&scores)[R][C], float (&highest)[R], float (&total)[R],
                                       float (&sums)[R][D][4]) {
#pragma unroll
    for (int i = 0; i < R; i++) {
        float largest = highest[i];
#pragma unroll
        for (int j = 0; j < C; j++)
            largest = fmaxf(largest, scores[i][j]);
#pragma unroll
        for (int distance = 1; distance < COLUMN_THREADS; distance *= 2)
            largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, distance));
        float base = largest == -INFINITY ? 0.0f : largest; /* no key seen yet */
        float shrink = expf(highest[i] - base);
        highest[i] = largest;
        total[i] *= shrink;
#pragma unroll
        for (int j = 0; j < C; j++) {
            scores[i][j] = expf(scores[i][j] - base);
            total[i] += scores[i][j];
        }
        scale_row(sums, i, shrink);
    }
}

/* Weighted sums become means, and the rows' log-sum-exp is kept where it is wanted. */
template <int R, int D>
__device__ __forceinline__ void finish_rows(float (&sums)[R][D][4], const float (&highest)[R],
                                            float (&total)[R], const token_rows<float> &logsumexp,
                                            int64_t first, int head, int there) {
#pragma unroll
    for (int i = 0; i < R; i++) {
        int row = (int)threadIdx.x / COLUMN_THREADS + i * ROW_THREADS;
#pragma unroll
        for (int distance = 1; distance < COLUMN_THREADS; distance *= 2)
            total[i] += __shfl_xor_sync(ALL_LANES, total[i], distance);
        scale_row(sums, i, 1.0f / total[i]);
        if (logsumexp.data != nullptr && row < there && threadIdx.x % COLUMN_THREADS == 0)
            *token_at(logsumexp, first + row, head, 1) = highest[i] + logf(total[i]);
    }
}

template <typename T, int DIM, int R, int C>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
    fma_forward(attention_sizes sizes, forward_operands<T> x) {
    const int QUERIES = ROW_THREADS * R, KEYS = COLUMN_THREADS * C, LD = TILE_LD<DIM>;
    DYNAMIC_SHARED(memory);
    float *queries = reinterpret_cast<float *>(memory), *keys = queries + QUERIES * LD,
          *values = keys + KEYS * LD;
    float *weights = values + KEYS * LD;
    int head = (int)blockIdx.y, key_head = head / sizes.group, dim = sizes.head_dim;
    tile_place place = find_tile<true>(sizes, QUERIES, (int)blockIdx.x);
    if (place.broken) {
        spoil(sizes, x.out, head, dim);
        spoil(sizes, x.logsumexp, head, 1);
        return;
    }
    if (place.length == 0)
        return;
    int64_t first = place.first, row = first + place.begin;
    int there = min(QUERIES, place.length - place.begin), depth = dot_depth(dim);
    load_tile<T, DIM>(queries, token_at(x.q, row, head, dim), x.q.ld, QUERIES, there, sizes);
    float sums[R][DIM / 32][4] = {}, highest[R], total[R];
#pragma unroll
    for (int i = 0; i < R; i++) {
        highest[i] = -INFINITY;
        total[i] = 0;
    }
    for (int key = first_key(place.begin, sizes.window); key < place.begin + there; key += KEYS) {
        __syncthreads();
        int left = min(KEYS, place.length - key);
        load_tile<T, DIM>(keys, token_at(x.k, first + key, key_head, dim), x.k.ld, KEYS, left, sizes);
        load_tile<T, DIM>(values, token_at(x.v, first + key, key_head, dim), x.v.ld, KEYS, left, sizes);
        __syncthreads();
        float scores[R][C];
        dot_rows<DIM>(scores, queries, keys, depth);
        finish_scores(scores, sizes, place.begin, key);
        soften(scores, highest, total, sums);
        keep_weights(weights, scores);
        __syncwarp();
        weigh_rows<DIM, KEYS>(sums, weights, values);
    }
    finish_rows(sums, highest, total, x.logsumexp, row, head, there);
    store_rows(token_at(x.out, row, head, dim), x.out.ld, sums, there, sizes);
}

/* --- backward --- */

/* The softmax weight of a pair, and the gradient of its product before the scale; 0 where unseen. */
struct pair_gradient {
    float weight, slope;
};

static __device__ __forceinline__ pair_gradient differentiate(float product, float dweight, float logsumexp,
                                                              float dot, bool seen,
                                                              const attention_sizes &sizes) {
    capped_score score = {product * sizes.scale, 1.0f};
    if (sizes.soft_cap > 0)
        score = cap_score(score.value, sizes.soft_cap);
    float weight = expf(score.value - logsumexp);
    return {seen ? weight : 0.0f, seen ? weight * (dweight - dot) * score.slope : 0.0f};
}

/* dk and dv of a tile of keys: rows of the products are keys, columns are queries. */
template <typename T, int DIM, int R, int C>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
    fma_backward_keys(attention_sizes sizes, backward_operands<T> x) {
    const int KEYS = ROW_THREADS * R, QUERIES = COLUMN_THREADS * C, LD = TILE_LD<DIM>;
    DYNAMIC_SHARED(memory);
    float *keys = reinterpret_cast<float *>(memory), *values = keys + KEYS * LD,
          *queries = values + KEYS * LD;
    float *douts = queries + QUERIES * LD, *weights = douts + QUERIES * LD;
    float *slopes = weights + KEYS * WEIGHTS_LD<QUERIES>, *sums_of_exp = slopes + KEYS * WEIGHTS_LD<QUERIES>;
    float *dots = sums_of_exp + QUERIES;
    int key_head = (int)blockIdx.y, dim = sizes.head_dim, depth = dot_depth(dim);
    tile_place place = find_tile<false>(sizes, KEYS, (int)blockIdx.x);
    if (place.broken) {
        spoil(sizes, x.dk, key_head, dim);
        spoil(sizes, x.dv, key_head, dim);
        return;
    }
    if (place.length == 0)
        return;
    int64_t first = place.first, row = first + place.begin;
    int there = min(KEYS, place.length - place.begin), end = place.begin + there;
    load_tile<T, DIM>(keys, token_at(x.k, row, key_head, dim), x.k.ld, KEYS, there, sizes);
    load_tile<T, DIM>(values, token_at(x.v, row, key_head, dim), x.v.ld, KEYS, there, sizes);
    end = end_query(end - 1, sizes.window, place.length);
    float dk[R][DIM / 32][4] = {}, dv[R][DIM / 32][4] = {};
    for (int head = key_head * sizes.group; head < (key_head + 1) * sizes.group; head++)
        for (int query = place.begin; query < end; query += QUERIES) {
            int left = min(QUERIES, place.length - query), thread = (int)threadIdx.x;
            __syncthreads();
            load_tile<T, DIM>(queries, token_at(x.q, first + query, head, dim), x.q.ld, QUERIES, left, sizes);
            load_tile<T, DIM>(douts, token_at(x.dout, first + query, head, dim), x.dout.ld, QUERIES, left,
                              sizes);
            if (thread < QUERIES) {
                int64_t at = first + query + min(thread, left - 1);
                sums_of_exp[thread] = *token_at(x.logsumexp, at, head, 1);
                dots[thread] = x.dots[(int64_t)head * sizes.tokens + at];
            }
            __syncthreads();
            float products[R][C], dweights[R][C];
            dot_rows<DIM>(products, keys, queries, depth);
            dot_rows<DIM>(dweights, values, douts, depth);
#pragma unroll
            for (int j = 0; j < C; j++) {
                int column = thread % COLUMN_THREADS + j * COLUMN_THREADS;
                float sum_of_exp = sums_of_exp[column], dot = dots[column];
#pragma unroll
                for (int i = 0; i < R; i++) {
                    int key = place.begin + thread / COLUMN_THREADS + i * ROW_THREADS;
                    bool seen = column < left && is_visible(query + column, key, sizes.window);
                    pair_gradient pair =
                        differentiate(products[i][j], dweights[i][j], sum_of_exp, dot, seen, sizes);
                    products[i][j] = pair.weight;
                    dweights[i][j] = pair.slope;
                }
            }
            keep_weights(weights, products);
            keep_weights(slopes, dweights);
            __syncwarp();
            weigh_rows<DIM, QUERIES>(dv, weights, douts);
            weigh_rows<DIM, QUERIES>(dk, slopes, queries);
        }
#pragma unroll
    for (int i = 0; i < R; i++)
        scale_row(dk, i, sizes.scale);
    store_rows(token_at(x.dk, row, key_head, dim), x.dk.ld, dk, there, sizes);
    store_rows(token_at(x.dv, row, key_head, dim), x.dv.ld, dv, there, sizes);
}

/* dq of a tile of queries: rows of the products are queries, columns are keys. Its rows of dout are read
 * before dq, which may be the same, is written. */
template <typename T, int DIM, int R, int C>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
    fma_backward_queries(attention_sizes sizes, backward_operands<T> x) {
    const int QUERIES = ROW_THREADS * R, KEYS = COLUMN_THREADS * C, LD = TILE_LD<DIM>;
    DYNAMIC_SHARED(memory);
    float *queries = reinterpret_cast<float *>(memory), *douts = queries + QUERIES * LD,
          *keys = douts + QUERIES * LD;
    float *values = keys + KEYS * LD, *slopes = values + KEYS * LD;
    int head = (int)blockIdx.y, key_head = head / sizes.group, dim = sizes.head_dim, depth = dot_depth(dim);
    tile_place place = find_tile<true>(sizes, QUERIES, (int)blockIdx.x);
    if (place.broken)
        spoil(sizes, x.dq, head, dim);
    if (place.broken || place.length == 0)
        return;
    int64_t first = place.first, row = first + place.begin;
    int there = min(QUERIES, place.length - place.begin), thread = (int)threadIdx.x;
    load_tile<T, DIM>(queries, token_at(x.q, row, head, dim), x.q.ld, QUERIES, there, sizes);
    load_tile<T, DIM>(douts, token_at(x.dout, row, head, dim), x.dout.ld, QUERIES, there, sizes);
    float dq[R][DIM / 32][4] = {}, sum_of_exp[R], dot[R];
#pragma unroll
    for (int i = 0; i < R; i++) {
        int64_t at = row + min(thread / COLUMN_THREADS + i * ROW_THREADS, there - 1);
        sum_of_exp[i] = *token_at(x.logsumexp, at, head, 1);
        dot[i] = x.dots[(int64_t)head * sizes.tokens + at];
    }
    for (int key = first_key(place.begin, sizes.window); key < place.begin + there; key += KEYS) {
        int left = min(KEYS, place.length - key);
        __syncthreads();
        load_tile<T, DIM>(keys, token_at(x.k, first + key, key_head, dim), x.k.ld, KEYS, left, sizes);
        load_tile<T, DIM>(values, token_at(x.v, first + key, key_head, dim), x.v.ld, KEYS, left, sizes);
        __syncthreads();
        float products[R][C], dweights[R][C];
        dot_rows<DIM>(products, queries, keys, depth);
        dot_rows<DIM>(dweights, douts, values, depth);
#pragma unroll
        for (int i = 0; i < R; i++)
#pragma unroll
            for (int j = 0; j < C; j++) {
                int query = place.begin + thread / COLUMN_THREADS + i * ROW_THREADS;
                bool seen =
                    is_visible(query, key + thread % COLUMN_THREADS + j * COLUMN_THREADS, sizes.window);
                dweights[i][j] =
                    differentiate(products[i][j], dweights[i][j], sum_of_exp[i], dot[i], seen, sizes).slope;
            }
        keep_weights(slopes, dweights);
        __syncwarp();
        weigh_rows<DIM, KEYS>(dq, slopes, keys);
    }
#pragma unroll
    for (int i = 0; i < R; i++)
        scale_row(dq, i, sizes.scale);
    store_rows(token_at(x.dq, row, head, dim), x.dq.ld, dq, there, sizes);
}

/* --- launches --- */

template <typename T, int DIM, int R, int C>
static balora_status launch_forward(backend_queue *queue, const attention_sizes &sizes,
                                    const forward_operands<T> &x) {
    const int QUERIES = ROW_THREADS * R, KEYS = COLUMN_THREADS * C;
    size_t floats = (QUERIES + 2 * KEYS) * TILE_LD<DIM> + QUERIES * WEIGHTS_LD<KEYS>;
    dim3 grid((unsigned)tiles_at_most(sizes.tokens, sizes.sequences, QUERIES), (unsigned)sizes.heads);
    return launch(queue, "attention", fma_forward<T, DIM, R, C>, grid, ATTENTION_THREADS,
                  floats * sizeof(float), sizes, x);
}

template <typename T, int DIM, int R, int C>
static balora_status launch_backward(backend_queue *queue, const attention_sizes &sizes,
                                     const backward_operands<T> &x) {
    const int ROWS = ROW_THREADS * R, COLUMNS = COLUMN_THREADS * C;
    size_t tiles = 2 * (ROWS + COLUMNS) * TILE_LD<DIM>, weights = ROWS * WEIGHTS_LD<COLUMNS>;
    unsigned count = (unsigned)tiles_at_most(sizes.tokens, sizes.sequences, ROWS);
    CUDA_TRY(launch(queue, "attention_backward", fma_backward_keys<T, DIM, R, C>,
                    dim3(count, (unsigned)(sizes.heads / sizes.group)), ATTENTION_THREADS,
                    (tiles + 2 * weights + 2 * COLUMNS) * sizeof(float), sizes, x));
    return launch(queue, "attention_backward", fma_backward_queries<T, DIM, R, C>,
                  dim3(count, (unsigned)sizes.heads), ATTENTION_THREADS, (tiles + weights) * sizeof(float),
                  sizes, x);
}

/* Tiles as large as a thread's sums and half of an SM's shared memory allow. */
template <typename T>
balora_status fma_attention(backend_queue *queue, const attention_sizes &sizes,
                            const forward_operands<T> &x) {
    if constexpr (sizeof(T) == sizeof(float)) {
        if (sizes.head_dim <= 32)
            return launch_forward<T, 32, 4, 8>(queue, sizes, x);
        if (sizes.head_dim <= 64)
            return launch_forward<T, 64, 4, 8>(queue, sizes, x);
        if (sizes.head_dim <= 128)
            return launch_forward<T, 128, 4, 4>(queue, sizes, x);
        if (sizes.head_dim <= 256)
            return launch_forward<T, 256, 2, 4>(queue, sizes, x);
    }
    return launch_forward<T, FMA_DIM, 1, 2>(queue, sizes, x);
}

template <typename T>
balora_status fma_attention_backward(backend_queue *queue, const attention_sizes &sizes,
                                     const backward_operands<T> &x) {
    if constexpr (sizeof(T) == sizeof(float)) {
        if (sizes.head_dim <= 32)
            return launch_backward<T, 32, 4, 4>(queue, sizes, x);
        if (sizes.head_dim <= 64)
            return launch_backward<T, 64, 4, 4>(queue, sizes, x);
        if (sizes.head_dim <= 128)
            return launch_backward<T, 128, 2, 4>(queue, sizes, x);
        if (sizes.head_dim <= 256)
            return launch_backward<T, 256, 2, 2>(queue, sizes, x);
    }
    return launch_backward<T, FMA_DIM, 1, 1>(queue, sizes, x);
}

template balora_status fma_attention(backend_queue *, const attention_sizes &,
                                     const forward_operands<float> &);
template balora_status fma_attention(backend_queue *, const attention_sizes &,
                                     const forward_operands<bf16> &);
template balora_status fma_attention_backward(backend_queue *, const attention_sizes &,
                                              const backward_operands<float> &);
template balora_status fma_attention_backward(backend_queue *, const attention_sizes &,
                                              const backward_operands<bf16> &);
