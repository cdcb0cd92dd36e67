/*
 * Attention of BF16 operands on tensor cores, tile by tile with a running softmax (Dao, "FlashAttention-2",
 * 2023).
 *
 * The block's 4 warps share the streamed tile, 2 stages of which are in flight, and each has rows of the
 * standing tile for itself: 16 M queries, or 16 keys where keys stand. A product of those rows with the
 * streamed tile stays in the warp's registers, is softened there and, rounded to bf16, becomes the left
 * operand of the next product. Formulas of the backward: attention_fma.cu. Where keys stand the products are
 * transposed, S^T = K Q^T and dP^T = V dO^T, for that very reason.
 */
#include "attention_tile.cuh"
#include "mma.cuh"

/* Of shared tiles: rows are 16 bytes apart modulo 128 (80 for 32 and 96 columns), so that the 8 rows of a
 * matrix lie in different banks. */
template <int DIM> constexpr int TILE_LD = DIM + 8;

/* --- tiles --- */

/* Threads of a row in 16-byte accesses to a tile: a power of two, so that a thread stays in its column. */
template <int DIM> constexpr int ROW_LANES = DIM <= 32 ? 4 : DIM <= 64 ? 8 : DIM <= 128 ? 16 : 32;

/* Ask for rows [0, there) of a head as [ROWS][TILE_LD], zeros below and beside; it is there after copy_wait
 * and a barrier. */
template <int DIM, int ROWS>
__device__ __forceinline__ void ask_tile(bf16 *to, const bf16 *from, int64_t ld, int there,
                                         const attention_sizes &sizes) {
    const int STEP = ATTENTION_THREADS / ROW_LANES<DIM>;
    if (sizes.aligned) {
        int row = (int)threadIdx.x / ROW_LANES<DIM>, column = (int)threadIdx.x % ROW_LANES<DIM> * 8;
        from += row * ld + column;
        to += row * TILE_LD<DIM> + column;
        there = column < sizes.head_dim ? there - row : 0;
        if (column < DIM)
#pragma unroll
            for (int i = 0; i < ROWS; i += STEP, from += STEP * ld)
                copy_async<16>(to + i * TILE_LD<DIM>, from, i < there);
        return;
    }
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < ROWS * DIM; i += ATTENTION_THREADS) {
        int row = i / DIM, column = i % DIM;
        bool wanted = row < there && column < sizes.head_dim;
        to[row * TILE_LD<DIM> + column] = wanted ? from[row * ld + column] : bf16{0};
    }
}

/* A warp's sums, times `factor`, to its rows of a shared tile. */
template <int M, int N>
__device__ __forceinline__ void keep_sums(bf16 *to, int ld, const float (&sums)[M][N][4], float factor) {
    int lane = (int)threadIdx.x % 32;
    to += lane / 4 * ld + lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int half = 0; half < 2; half++)
                *reinterpret_cast<unsigned *>(to + (m * 16 + half * 8) * ld + n * 8) =
                    pack_bf16(sums[m][n][2 * half] * factor, sums[m][n][2 * half + 1] * factor);
}

/* Rows [0, there) of a shared tile to a head. */
template <int DIM>
__device__ __forceinline__ void store_tile(bf16 *to, const bf16 *from, int64_t ld, int there,
                                           const attention_sizes &sizes) {
    const int PIECES = DIM / 8;
    if (sizes.aligned) {
        for (int i = (int)threadIdx.x; i < there * PIECES; i += ATTENTION_THREADS) {
            int row = i / PIECES, column = i % PIECES * 8;
            if (column < sizes.head_dim)
                *reinterpret_cast<uint4 *>(to + row * ld + column) =
                    *reinterpret_cast<const uint4 *>(from + row * TILE_LD<DIM> + column);
        }
        return;
    }
    for (int i = (int)threadIdx.x; i < there * DIM; i += ATTENTION_THREADS) {
        int row = i / DIM, column = i % DIM;
        if (column < sizes.head_dim)
            to[row * ld + column] = from[row * TILE_LD<DIM> + column];
    }
}

template <int M, int N> __device__ __forceinline__ void clear(float (&sums)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                sums[m][n][i] = 0;
}

/* Weights in pairs of C tiles become A fragments. */
template <int M, int N>
__device__ __forceinline__ void round_weights(unsigned (&out)[M][N / 2][4], const float (&weights)[M][N][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            out[m][n / 2][n % 2 * 2] = pack_bf16(weights[m][n][0], weights[m][n][1]);
            out[m][n / 2][n % 2 * 2 + 1] = pack_bf16(weights[m][n][2], weights[m][n][3]);
        }
}

/* --- scores --- */

/* How much a tile's scores need: nothing but the scale, a look at who sees whom, or that and the soft cap. */
enum score_kind { SCORES_PLAIN, SCORES_MASKED, SCORES_CAPPED };

/* To 1e-7 of the cap, which is far below what bf16 operands carry. Derivative as cap_score. */
static __device__ __forceinline__ capped_score cap_score_fast(float x, float cap) {
    float e = exp2_fast(-2.0f * LOG2_E * fabsf(__fdividef(x, cap))), share = __fdividef(1.0f, 1.0f + e);
    return {copysignf(cap * (1.0f - e) * share, x), 4.0f * e * share * share};
}

/* A product as score in units of ln 2, and the score's derivative. */
template <score_kind KIND>
__device__ __forceinline__ capped_score make_score(float product, const attention_sizes &sizes) {
    if constexpr (KIND != SCORES_CAPPED)
        return {product * (sizes.scale * LOG2_E), 1.0f};
    capped_score score = cap_score_fast(product * sizes.scale, sizes.soft_cap);
    return {score.value * LOG2_E, score.slope};
}

/* Products of a warp's queries from `query` with keys from `key` on become scores; -infinity where unseen. */
template <score_kind KIND, int M, int N>
__device__ __forceinline__ void finish_scores(float (&scores)[M][N][4], const attention_sizes &sizes,
                                              int query, int key) {
    int lane = (int)threadIdx.x % 32;
    query += lane / 4;
    key += lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float score = make_score<KIND>(scores[m][n][i], sizes).value;
                bool seen = KIND == SCORES_PLAIN ||
                            is_visible(query + m * 16 + i / 2 * 8, key + n * 8 + i % 2, sizes.window);
                scores[m][n][i] = seen ? score : -INFINITY;
            }
}

static __device__ __forceinline__ score_kind kind_of(const attention_sizes &sizes, int query, int queries,
                                                     int key, int keys) {
    if (sizes.soft_cap > 0)
        return SCORES_CAPPED;
    return all_visible(query, queries, key, keys, sizes.window) ? SCORES_PLAIN : SCORES_MASKED;
}

/* --- forward --- */

/* Scores become weights relative to the row's highest score so far; `total` is the lane's part of their sum. */
template <int M, int N, int D>
__device__ __forceinline__ void soften(float (&scores)[M][N][4], float (&highest)[M][2], float (&total)[M][2],
                                       float (&sums)[M][D][4]) {
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float largest = highest[m][half];
#pragma unroll
            for (int n = 0; n < N; n++)
                largest = fmaxf(largest, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, 2));
            float base = largest == -INFINITY ? 0.0f : largest; /* no key seen yet */
            float shrink = exp2_fast(highest[m][half] - base), sum = total[m][half] * shrink;
            highest[m][half] = largest;
#pragma unroll
            for (int n = 0; n < N; n++)
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; i++) {
                    scores[m][n][i] = exp2_fast(scores[m][n][i] - base);
                    sum += scores[m][n][i];
                }
            total[m][half] = sum;
#pragma unroll
            for (int d = 0; d < D; d++) {
                sums[m][d][2 * half] *= shrink;
                sums[m][d][2 * half + 1] *= shrink;
            }
        }
}

/* Weighted sums become means; the log-sum-exp of the warp's rows from `row` on, below `there`, is kept. */
template <int M, int D>
__device__ __forceinline__ void finish_rows(float (&sums)[M][D][4], const float (&highest)[M][2],
                                            float (&total)[M][2], const token_rows<float> &logsumexp,
                                            int64_t first, int head, int row, int there) {
    row += (int)threadIdx.x % 32 / 4;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int half = 0; half < 2; half++, row += 8) {
            float sum = total[m][half];
            sum += __shfl_xor_sync(ALL_LANES, sum, 1);
            sum += __shfl_xor_sync(ALL_LANES, sum, 2);
            float share = 1.0f / sum;
#pragma unroll
            for (int d = 0; d < D; d++) {
                sums[m][d][2 * half] *= share;
                sums[m][d][2 * half + 1] *= share;
            }
            if (logsumexp.data != nullptr && row < there && threadIdx.x % 4 == 0)
                *token_at(logsumexp, first + row, head, 1) = highest[m][half] * LN_2 + logf(sum);
        }
}

template <int DIM, int M, int KEYS>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
    tensor_forward(attention_sizes sizes, forward_operands<bf16> x) {
    const int WARP_ROWS = 16 * M, QUERIES = WARP_ROWS * ATTENTION_WARPS, LD = TILE_LD<DIM>,
              STAGE = 2 * KEYS * LD;
    DYNAMIC_SHARED(memory);
    bf16 *queries = reinterpret_cast<bf16 *>(memory),
         *stages = queries + QUERIES * LD; /* keys, values; twice */
    int head = (int)blockIdx.y, key_head = head / sizes.group, dim = sizes.head_dim;
    tile_place place = find_tile<true>(sizes, QUERIES, (int)blockIdx.x);
    if (place.broken) {
        spoil(sizes, x.out, head, dim);
        spoil(sizes, x.logsumexp, head, 1);
    }
    if (place.broken || place.length == 0)
        return;
    int there = min(QUERIES, place.length - place.begin), end = place.begin + there;
    int key = first_key(place.begin, sizes.window), warp_row = (int)threadIdx.x / 32 * WARP_ROWS;
    int64_t first = place.first;
    bf16 *own = queries + warp_row * LD;
    auto ask_keys = [&](bf16 *stage, int begin) {
        int left = place.length - begin;
        ask_tile<DIM, KEYS>(stage, token_at(x.k, first + begin, key_head, dim), x.k.ld, left, sizes);
        ask_tile<DIM, KEYS>(stage + KEYS * LD, token_at(x.v, first + begin, key_head, dim), x.v.ld, left,
                            sizes);
    };
    ask_tile<DIM, QUERIES>(queries, token_at(x.q, first + place.begin, head, dim), x.q.ld, there, sizes);
    ask_keys(stages, key);
    float sums[M][DIM / 8][4], highest[M][2], total[M][2];
    clear(sums);
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        highest[i / 2][i % 2] = -INFINITY;
        total[i / 2][i % 2] = 0;
    }
    for (int stage = 0; key < end; key += KEYS, stage ^= 1) {
        copy_wait();
        __syncthreads();
        if (key + KEYS < end)
            ask_keys(stages + (stage ^ 1) * STAGE, key + KEYS);
        int query = place.begin + warp_row;
        if (!any_visible(query, WARP_ROWS, key, KEYS, sizes.window))
            continue;
        float scores[M][KEYS / 8][4];
        clear(scores);
        multiply_rows<M, KEYS / 8, DIM>(scores, own, stages + stage * STAGE, LD);
        score_kind kind = kind_of(sizes, query, WARP_ROWS, key, KEYS);
        if (kind == SCORES_PLAIN)
            finish_scores<SCORES_PLAIN>(scores, sizes, query, key);
        else if (kind == SCORES_MASKED)
            finish_scores<SCORES_MASKED>(scores, sizes, query, key);
        else
            finish_scores<SCORES_CAPPED>(scores, sizes, query, key);
        soften(scores, highest, total, sums);
        unsigned weights[M][KEYS / 16][4];
        round_weights(weights, scores);
        multiply_fragments<M, KEYS / 16, DIM / 8>(sums, weights, stages + stage * STAGE + KEYS * LD, LD);
    }
    finish_rows(sums, highest, total, x.logsumexp, first + place.begin, head, warp_row, there);
    keep_sums(own, LD, sums, 1.0f);
    __syncthreads();
    store_tile<DIM>(token_at(x.out, first + place.begin, head, dim), queries, x.out.ld, there, sizes);
}

/* --- backward --- */

/* What a pair's gradient needs of its query. */
struct query_figures {
    float sum_of_exp; /* log-sum-exp in units of ln 2 */
    float dot;
};

/* Products of a pair become its softmax weight and the gradient of the product before the scale. */
template <score_kind KIND>
__device__ __forceinline__ void differentiate(float *product, float *dweight, query_figures figures,
                                              bool seen, const attention_sizes &sizes) {
    capped_score score = make_score<KIND>(*product, sizes);
    float weight = exp2_fast(score.value - figures.sum_of_exp), slope = weight * (*dweight - figures.dot);
    if constexpr (KIND == SCORES_CAPPED)
        slope *= score.slope;
    *product = KIND == SCORES_PLAIN || seen ? weight : 0.0f;
    *dweight = KIND == SCORES_PLAIN || seen ? slope : 0.0f;
}

/* Rows are keys from `key` on, columns are queries from `query` on, of which `there` exist. */
template <score_kind KIND, int N>
__device__ __forceinline__ void differentiate_keys(float (&products)[1][N][4], float (&dweights)[1][N][4],
                                                   const float *sums_of_exp, const float *dots,
                                                   const attention_sizes &sizes, int query, int key,
                                                   int there) {
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < N; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int column = n * 8 + lane % 4 * 2 + i % 2;
            bool seen =
                column < there && is_visible(query + column, key + lane / 4 + i / 2 * 8, sizes.window);
            query_figures figures = {sums_of_exp[column] * LOG2_E, dots[column]};
            differentiate<KIND>(&products[0][n][i], &dweights[0][n][i], figures, seen, sizes);
        }
}

/* Rows are queries from `query` on, columns are keys from `key` on. */
template <score_kind KIND, int M, int N>
__device__ __forceinline__ void differentiate_queries(float (&products)[M][N][4], float (&dweights)[M][N][4],
                                                      const query_figures (&figures)[M][2],
                                                      const attention_sizes &sizes, int query, int key) {
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < M; m++)
#pragma unroll
        for (int n = 0; n < N; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                bool seen = is_visible(query + m * 16 + lane / 4 + i / 2 * 8,
                                       key + n * 8 + lane % 4 * 2 + i % 2, sizes.window);
                differentiate<KIND>(&products[m][n][i], &dweights[m][n][i], figures[m][i / 2], seen, sizes);
            }
}

/* A streamed tile of one head's queries with their gradients and figures, which go where keys stand. */
template <int DIM, int QUERIES> struct query_stage {
    bf16 queries[QUERIES * TILE_LD<DIM>], douts[QUERIES * TILE_LD<DIM>];
    float sums_of_exp[QUERIES], dots[QUERIES];
};

template <int DIM, int QUERIES>
__device__ __forceinline__ void ask_queries(query_stage<DIM, QUERIES> *stage, const attention_sizes &sizes,
                                            const backward_operands<bf16> &x, int64_t row, int head,
                                            int there) {
    int thread = (int)threadIdx.x, dim = sizes.head_dim;
    ask_tile<DIM, QUERIES>(stage->queries, token_at(x.q, row, head, dim), x.q.ld, there, sizes);
    ask_tile<DIM, QUERIES>(stage->douts, token_at(x.dout, row, head, dim), x.dout.ld, there, sizes);
    if (thread < QUERIES) {
        bool wanted = thread < there;
        int64_t at = row + (wanted ? thread : 0);
        copy_async<4>(&stage->sums_of_exp[thread], token_at(x.logsumexp, at, head, 1), wanted);
        copy_async<4>(&stage->dots[thread], x.dots + (int64_t)head * sizes.tokens + at, wanted);
    }
}

/*
 * dk and dv of a tile of keys. SPLIT warps share 16 keys, each with its part of the columns of dk and dv,
 * where a warp's registers cannot hold them all; each then computes the weights for itself.
 */
template <int DIM, int SPLIT, int QUERIES>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
    tensor_backward_keys(attention_sizes sizes, backward_operands<bf16> x) {
    const int KEYS = 16 * ATTENTION_WARPS / SPLIT, LD = TILE_LD<DIM>, COLUMNS = DIM / SPLIT;
    typedef query_stage<DIM, QUERIES> stage_type;
    DYNAMIC_SHARED(memory);
    stage_type *stages = reinterpret_cast<stage_type *>(memory);
    bf16 *keys = reinterpret_cast<bf16 *>(stages + 2), *values = keys + KEYS * LD;
    int key_head = (int)blockIdx.y, dim = sizes.head_dim;
    tile_place place = find_tile<false>(sizes, KEYS, (int)blockIdx.x);
    if (place.broken) {
        spoil(sizes, x.dk, key_head, dim);
        spoil(sizes, x.dv, key_head, dim);
    }
    if (place.broken || place.length == 0)
        return;
    int64_t first = place.first, row = first + place.begin;
    int there = min(KEYS, place.length - place.begin), warp = (int)threadIdx.x / 32;
    int warp_row = warp / SPLIT * 16, column = warp % SPLIT * COLUMNS, key = place.begin + warp_row;
    ask_tile<DIM, KEYS>(keys, token_at(x.k, row, key_head, dim), x.k.ld, there, sizes);
    ask_tile<DIM, KEYS>(values, token_at(x.v, row, key_head, dim), x.v.ld, there, sizes);
    ask_queries(stages, sizes, x, row, key_head * sizes.group, place.length - place.begin);
    int end = end_query(place.begin + there - 1, sizes.window, place.length);
    int tiles = (end - place.begin + QUERIES - 1) / QUERIES;
    float dk[1][COLUMNS / 8][4], dv[1][COLUMNS / 8][4];
    clear(dk);
    clear(dv);
    for (int step = 0; step < tiles * sizes.group; step++) {
        copy_wait();
        __syncthreads();
        const stage_type &stage = stages[step % 2];
        int next = step + 1, query = place.begin + step % tiles * QUERIES, left = place.length - query;
        if (next < tiles * sizes.group) {
            int begin = place.begin + next % tiles * QUERIES;
            ask_queries(stages + next % 2, sizes, x, first + begin, key_head * sizes.group + next / tiles,
                        place.length - begin);
        }
        if (!any_visible(query, QUERIES, key, 16, sizes.window))
            continue;
        float products[1][QUERIES / 8][4], dweights[1][QUERIES / 8][4];
        clear(products);
        clear(dweights);
        multiply_rows<1, QUERIES / 8, DIM>(products, keys + warp_row * LD, stage.queries, LD);
        multiply_rows<1, QUERIES / 8, DIM>(dweights, values + warp_row * LD, stage.douts, LD);
        score_kind kind = kind_of(sizes, query, QUERIES, key, 16);
        if (kind == SCORES_PLAIN && left >= QUERIES)
            differentiate_keys<SCORES_PLAIN>(products, dweights, stage.sums_of_exp, stage.dots, sizes, query,
                                             key, left);
        else if (kind != SCORES_CAPPED)
            differentiate_keys<SCORES_MASKED>(products, dweights, stage.sums_of_exp, stage.dots, sizes, query,
                                              key, left);
        else
            differentiate_keys<SCORES_CAPPED>(products, dweights, stage.sums_of_exp, stage.dots, sizes, query,
                                              key, left);
        unsigned weights[1][QUERIES / 16][4];
        round_weights(weights, products);
        multiply_fragments<1, QUERIES / 16, COLUMNS / 8>(dv, weights, stage.douts + column, LD);
        round_weights(weights, dweights);
        multiply_fragments<1, QUERIES / 16, COLUMNS / 8>(dk, weights, stage.queries + column, LD);
    }
    __syncthreads();
    keep_sums(keys + warp_row * LD + column, LD, dk, sizes.scale);
    keep_sums(values + warp_row * LD + column, LD, dv, 1.0f);
    __syncthreads();
    store_tile<DIM>(token_at(x.dk, row, key_head, dim), keys, x.dk.ld, there, sizes);
    store_tile<DIM>(token_at(x.dv, row, key_head, dim), values, x.dv.ld, there, sizes);
}

/* dq of a tile of queries. Its rows of dout are read before dq, which may be the same, is written. */
template <int DIM, int M, int KEYS>
static __global__ void __launch_bounds__(ATTENTION_THREADS, 2)
    tensor_backward_queries(attention_sizes sizes, backward_operands<bf16> x) {
    const int WARP_ROWS = 16 * M, QUERIES = WARP_ROWS * ATTENTION_WARPS, LD = TILE_LD<DIM>,
              STAGE = 2 * KEYS * LD;
    DYNAMIC_SHARED(memory);
    bf16 *queries = reinterpret_cast<bf16 *>(memory), *douts = queries + QUERIES * LD;
    bf16 *stages = douts + QUERIES * LD; /* keys, values; twice */
    int head = (int)blockIdx.y, key_head = head / sizes.group, dim = sizes.head_dim,
        lane = (int)threadIdx.x % 32;
    tile_place place = find_tile<true>(sizes, QUERIES, (int)blockIdx.x);
    if (place.broken)
        spoil(sizes, x.dq, head, dim);
    if (place.broken || place.length == 0)
        return;
    int there = min(QUERIES, place.length - place.begin), end = place.begin + there;
    int key = first_key(place.begin, sizes.window), warp_row = (int)threadIdx.x / 32 * WARP_ROWS;
    int64_t first = place.first, row = first + place.begin;
    auto ask_keys = [&](bf16 *stage, int begin) {
        int left = place.length - begin;
        ask_tile<DIM, KEYS>(stage, token_at(x.k, first + begin, key_head, dim), x.k.ld, left, sizes);
        ask_tile<DIM, KEYS>(stage + KEYS * LD, token_at(x.v, first + begin, key_head, dim), x.v.ld, left,
                            sizes);
    };
    ask_tile<DIM, QUERIES>(queries, token_at(x.q, row, head, dim), x.q.ld, there, sizes);
    ask_tile<DIM, QUERIES>(douts, token_at(x.dout, row, head, dim), x.dout.ld, there, sizes);
    ask_keys(stages, key);
    query_figures figures[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int64_t at = row + min(warp_row + lane / 4 + i * 8, there - 1);
        figures[i / 2][i % 2] = {*token_at(x.logsumexp, at, head, 1) * LOG2_E,
                                 x.dots[(int64_t)head * sizes.tokens + at]};
    }
    float dq[M][DIM / 8][4];
    clear(dq);
    for (int stage = 0; key < end; key += KEYS, stage ^= 1) {
        copy_wait();
        __syncthreads();
        if (key + KEYS < end)
            ask_keys(stages + (stage ^ 1) * STAGE, key + KEYS);
        const bf16 *keys = stages + stage * STAGE, *values = keys + KEYS * LD;
        int query = place.begin + warp_row;
        if (!any_visible(query, WARP_ROWS, key, KEYS, sizes.window))
            continue;
        float products[M][KEYS / 8][4], dweights[M][KEYS / 8][4];
        clear(products);
        clear(dweights);
        multiply_rows<M, KEYS / 8, DIM>(products, queries + warp_row * LD, keys, LD);
        multiply_rows<M, KEYS / 8, DIM>(dweights, douts + warp_row * LD, values, LD);
        score_kind kind = kind_of(sizes, query, WARP_ROWS, key, KEYS);
        if (kind == SCORES_PLAIN)
            differentiate_queries<SCORES_PLAIN>(products, dweights, figures, sizes, query, key);
        else if (kind == SCORES_MASKED)
            differentiate_queries<SCORES_MASKED>(products, dweights, figures, sizes, query, key);
        else
            differentiate_queries<SCORES_CAPPED>(products, dweights, figures, sizes, query, key);
        unsigned slopes[M][KEYS / 16][4];
        round_weights(slopes, dweights);
        multiply_fragments<M, KEYS / 16, DIM / 8>(dq, slopes, keys, LD);
    }
    keep_sums(queries + warp_row * LD, LD, dq, sizes.scale);
    __syncthreads();
    store_tile<DIM>(token_at(x.dq, row, head, dim), queries, x.dq.ld, there, sizes);
}

/* --- launches --- */

template <int DIM, int M, int KEYS>
static balora_status launch_forward(backend_queue *queue, const attention_sizes &sizes,
                                    const forward_operands<bf16> &x) {
    const int QUERIES = 16 * M * ATTENTION_WARPS;
    size_t shared = (QUERIES + 4 * KEYS) * TILE_LD<DIM> * sizeof(bf16);
    dim3 grid((unsigned)tiles_at_most(sizes.tokens, sizes.sequences, QUERIES), (unsigned)sizes.heads);
    return launch(queue, "attention", tensor_forward<DIM, M, KEYS>, grid, ATTENTION_THREADS, shared, sizes,
                  x);
}

template <int DIM, int SPLIT, int QUERIES>
static balora_status launch_keys(backend_queue *queue, const attention_sizes &sizes,
                                 const backward_operands<bf16> &x) {
    const int KEYS = 16 * ATTENTION_WARPS / SPLIT;
    size_t shared = 2 * KEYS * TILE_LD<DIM> * sizeof(bf16) + 2 * sizeof(query_stage<DIM, QUERIES>);
    dim3 grid((unsigned)tiles_at_most(sizes.tokens, sizes.sequences, KEYS),
              (unsigned)(sizes.heads / sizes.group));
    return launch(queue, "attention_backward", tensor_backward_keys<DIM, SPLIT, QUERIES>, grid,
                  ATTENTION_THREADS, shared, sizes, x);
}

template <int DIM, int M, int KEYS>
static balora_status launch_queries(backend_queue *queue, const attention_sizes &sizes,
                                    const backward_operands<bf16> &x) {
    const int QUERIES = 16 * M * ATTENTION_WARPS;
    size_t shared = (2 * QUERIES + 4 * KEYS) * TILE_LD<DIM> * sizeof(bf16);
    dim3 grid((unsigned)tiles_at_most(sizes.tokens, sizes.sequences, QUERIES), (unsigned)sizes.heads);
    return launch(queue, "attention_backward", tensor_backward_queries<DIM, M, KEYS>, grid, ATTENTION_THREADS,
                  shared, sizes, x);
}

/* Tiles as large as a thread's registers allow. */
balora_status tensor_attention(backend_queue *queue, const attention_sizes &sizes,
                               const forward_operands<bf16> &x) {
    if (sizes.head_dim <= 32)
        return launch_forward<32, 2, 64>(queue, sizes, x);
    if (sizes.head_dim <= 64)
        return launch_forward<64, 2, 64>(queue, sizes, x);
    if (sizes.head_dim <= 96)
        return launch_forward<96, 2, 32>(queue, sizes, x);
    if (sizes.head_dim <= 128)
        return launch_forward<128, 2, 32>(queue, sizes, x);
    if (sizes.head_dim <= 192)
        return launch_forward<192, 1, 32>(queue, sizes, x);
    return launch_forward<TENSOR_DIM, 1, 32>(queue, sizes, x);
}

template <int DIM, int SPLIT, int QUERIES, int M, int KEYS>
static balora_status launch_backward(backend_queue *queue, const attention_sizes &sizes,
                                     const backward_operands<bf16> &x) {
    CUDA_TRY((launch_keys<DIM, SPLIT, QUERIES>(queue, sizes, x)));
    return launch_queries<DIM, M, KEYS>(queue, sizes, x);
}

balora_status tensor_attention_backward(backend_queue *queue, const attention_sizes &sizes,
                                        const backward_operands<bf16> &x) {
    if (sizes.head_dim <= 32)
        return launch_backward<32, 1, 64, 2, 32>(queue, sizes, x);
    if (sizes.head_dim <= 64)
        return launch_backward<64, 1, 64, 2, 32>(queue, sizes, x);
    if (sizes.head_dim <= 96)
        return launch_backward<96, 1, 32, 1, 64>(queue, sizes, x);
    if (sizes.head_dim <= 128)
        return launch_backward<128, 1, 32, 1, 32>(queue, sizes, x);
    if (sizes.head_dim <= 192)
        return launch_backward<192, 2, 32, 1, 32>(queue, sizes, x);
    return launch_backward<TENSOR_DIM, 2, 32, 1, 32>(queue, sizes, x);
}
