/* What attention's kernels share: where a block's tile lies, which keys a query sees, and the soft cap. */
#ifndef CUDA_ATTENTION_TILE_CUH
#define CUDA_ATTENTION_TILE_CUH

#include "internal.h"
#include "reduce.cuh"

const int ATTENTION_THREADS = 128, ATTENTION_WARPS = ATTENTION_THREADS / 32;
const float LOG2_E = 1.44269504f, LN_2 = 0.693147181f;

/* A matrix [tokens, heads * head_dim] of all sequences. */
template <typename T> struct token_rows {
    T *data;
    int64_t ld;
};

template <typename T>
__device__ __forceinline__ T *token_at(const token_rows<T> &x, int64_t row, int64_t head, int head_dim) {
    return x.data + row * x.ld + head * head_dim;
}

struct attention_sizes {
    const int32_t *offsets; /* [sequences + 1] */
    int32_t sequences, tokens, longest;
    int32_t heads, group; /* of the queries; query heads of one key head */
    int32_t head_dim;
    int32_t window;  /* 0: none */
    int32_t aligned; /* every 8 BF16 or 4 F32 numbers of the rows may be accessed at once */
    float scale, soft_cap;
};

template <typename T> struct forward_operands {
    token_rows<const T> q, k, v;
    token_rows<T> out;           /* may be q */
    token_rows<float> logsumexp; /* [tokens, heads]; NULL: not wanted */
};

template <typename T> struct backward_operands {
    token_rows<const T> q, k, v, dout;
    token_rows<const float> logsumexp;
    const float *dots;        /* [heads][tokens]: out_i . dout_i */
    token_rows<T> dq, dk, dv; /* dq may be dout: dk and dv are computed before it */
};

/* attention_tensor.cu: tensor cores, head_dim up to TENSOR_DIM. */
const int TENSOR_DIM = 256;
balora_status tensor_attention(backend_queue *queue, const attention_sizes &sizes,
                               const forward_operands<bf16> &x);
balora_status tensor_attention_backward(backend_queue *queue, const attention_sizes &sizes,
                                        const backward_operands<bf16> &x);

/* attention_fma.cu: F32 arithmetic, head_dim up to FMA_DIM; bf16 beyond TENSOR_DIM only. */
const int FMA_DIM = 512;
template <typename T>
balora_status fma_attention(backend_queue *queue, const attention_sizes &sizes, const forward_operands<T> &x);
template <typename T>
balora_status fma_attention_backward(backend_queue *queue, const attention_sizes &sizes,
                                     const backward_operands<T> &x);

/* --- places --- */

/* Rows [begin, begin + a tile's rows) of a sequence; positions count from the sequence's first row. */
struct tile_place {
    int first;  /* row of the sequence's first token */
    int length; /* of the sequence; 0: there is no such tile */
    int begin;
    bool broken; /* the offsets are not what the slot was promised */
};

/* Tiles of `rows` rows that sequences of `tokens` tokens together have at most. */
static inline int64_t tiles_at_most(int64_t tokens, int64_t sequences, int64_t rows) {
    return (tokens + sequences * (rows - 1)) / rows;
}

/*
 * The tile number `wanted` of all sequences' tiles. Tiles of queries are counted from a sequence's end and
 * tiles of keys from its begin: those see or are seen by the most, and long work should not begin last. Every
 * warp of the block finds the place for itself, and reads all offsets on the way, so that wrong ones are seen
 * by every block.
 */
template <bool FROM_END>
__device__ __forceinline__ tile_place find_tile(const attention_sizes &sizes, int rows, int wanted) {
    tile_place place = {0, 0, 0, false};
    int lane = (int)threadIdx.x % 32, before = 0;
    bool broken = sizes.offsets[0] != 0 || sizes.offsets[sizes.sequences] != sizes.tokens;
    for (int base = 0; base < sizes.sequences; base += 32) {
        int first = 0, length = 0;
        if (base + lane < sizes.sequences) {
            int end = sizes.offsets[base + lane + 1];
            first = sizes.offsets[base + lane];
            if (first < 0 || end < first || end > sizes.tokens || end - first > sizes.longest)
                broken = true;
            else
                length = end - first;
        }
        int tiles = (length + rows - 1) / rows, reached = tiles;
#pragma unroll
        for (int distance = 1; distance < 32; distance *= 2) {
            int other = __shfl_up_sync(ALL_LANES, reached, distance);
            reached += lane >= distance ? other : 0;
        }
        reached += before;
        unsigned holders = __ballot_sync(ALL_LANES, reached - tiles <= wanted && wanted < reached);
        if (holders != 0) {
            int holder = __ffs((int)holders) - 1;
            place.first = __shfl_sync(ALL_LANES, first, holder);
            place.length = __shfl_sync(ALL_LANES, length, holder);
            int number = FROM_END ? reached - 1 - wanted : wanted - (reached - tiles);
            place.begin = __shfl_sync(ALL_LANES, number, holder) * rows;
        }
        before = __shfl_sync(ALL_LANES, reached, 31);
    }
    place.broken = __any_sync(ALL_LANES, broken);
    return place;
}

/* The block's share of one head's `width` columns becomes NaN, where the offsets are broken. */
template <typename T>
__device__ void spoil(const attention_sizes &sizes, const token_rows<T> &x, int head, int width) {
    for (int64_t row = blockIdx.x; x.data != nullptr && row < sizes.tokens; row += gridDim.x)
        for (int column = (int)threadIdx.x; column < width; column += ATTENTION_THREADS)
            token_at(x, row, head, width)[column] = from_float<T>(NAN);
}

/* --- who sees whom --- */

static __device__ __forceinline__ bool is_visible(int query, int key, int window) {
    return key <= query && (window == 0 || query - key < window);
}

/* Every query of [query, query + queries) sees every key of [key, key + keys). */
static __device__ __forceinline__ bool all_visible(int query, int queries, int key, int keys, int window) {
    return key + keys - 1 <= query && (window == 0 || query + queries - 1 - key < window);
}

/* Some query of [query, query + queries) sees some key of [key, key + keys). */
static __device__ __forceinline__ bool any_visible(int query, int queries, int key, int keys, int window) {
    return key <= query + queries - 1 && (window == 0 || query - (key + keys - 1) < window);
}

/* The first key that a query sees. */
static __device__ __forceinline__ int first_key(int query, int window) {
    return window > 0 && query >= window ? query - window + 1 : 0;
}

/* One past the last query that sees a key. */
static __device__ __forceinline__ int end_query(int key, int window, int length) {
    return window > 0 && key < length - window ? key + window : length;
}

/* --- scores --- */

/* c(x) = cap tanh(x / cap) and its derivative 1 / cosh^2(x / cap), which 1 - tanh^2 would lose near 1. */
struct capped_score {
    float value, slope;
};

static __device__ __forceinline__ capped_score cap_score(float x, float cap) {
    float e = expf(-2.0f * fabsf(x / cap)), share = 1.0f / (1.0f + e);
    return {cap * tanhf(x / cap), 4.0f * e * share * share};
}

#endif
