/*
 * The top K logits of a row. Of equals the first ones count.
 *
 * The K-th largest of the threads' own largest logits is a lower bound of the row's K-th largest, and a tight
 * one where K is small against the threads: the few logits not below it are listed and ranked. Where that
 * does not do (K above the number of threads, or hundreds of equal logits) a radix selection finds the key of
 * the K-th largest.
 */
#ifndef CUDA_LOSS_TOP_CUH
#define CUDA_LOSS_TOP_CUH

#include "loss_sums.cuh"

enum { MOST_THREADS = 384, MOST_LISTED = 1024, DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

struct ranked_logit {
    float value;
    uint32_t column;
};

/* Sum of q ln q for q = softmax of the top K, and what q is computed from. */
struct top_softmax {
    double value, log_total;
    float highest;
};

struct top_memory {
    union {
        ranked_logit listed[MOST_LISTED];
        unsigned bins[DIGITS];
    };
    ranked_logit top[MOST_THREADS]; /* in order */
    uint16_t owners[MOST_THREADS];  /* threads that own a logit not below `limit` */
    unsigned owner_count, listed_count;
    float limit;
    unsigned digit, wanted, equal;
    top_softmax softmax; /* of `top` */
};

static __device__ __forceinline__ bool goes_before(ranked_logit a, ranked_logit b) {
    return a.value > b.value || (a.value == b.value && a.column < b.column);
}

static __device__ __forceinline__ unsigned rank_among(const ranked_logit *listed, unsigned count,
                                                      ranked_logit one) {
    unsigned rank = 0;
    for (unsigned i = 0; i < count; i++)
        rank += goes_before(listed[i], one);
    return rank;
}

/* --- few --- */

/* List the logits not below memory->limit; only the columns of the threads that own one are read. */
template <bool VECTOR>
__device__ __forceinline__ void list_logits(const float *row, uint32_t count, top_memory *memory) {
    unsigned owners = memory->owner_count, groups = (count + group_width() - 1) / group_width();
    float limit = memory->limit;
    for (unsigned task = threadIdx.x; task < owners * groups; task += blockDim.x) {
        uint32_t start = task / owners * group_width(), owner = memory->owners[task % owners];
        float x[LOSS_GROUP];
        load_group<VECTOR>(x, row, start, owner, count);
#pragma unroll
        for (int i = 0; i < LOSS_GROUP; i++)
            if (x[i] >= limit) {
                unsigned at = atomicAdd(&memory->listed_count, 1u);
                if (at < MOST_LISTED)
                    memory->listed[at] = {x[i], group_column(start, owner, i)};
            }
    }
}

/* memory->top becomes the top K in order; false: use find_cut. `own`: the thread's largest logit. */
template <bool VECTOR>
__device__ bool find_top(const float *row, uint32_t count, unsigned top_k, float own, top_memory *memory) {
    if (top_k > blockDim.x)
        return false;
    ranked_logit mine = {own, threadIdx.x};
    memory->listed[threadIdx.x] = mine;
    if (threadIdx.x == 0)
        memory->owner_count = memory->listed_count = 0;
    __syncthreads();
    if (rank_among(memory->listed, blockDim.x, mine) == top_k - 1)
        memory->limit = own;
    __syncthreads();
    if (own >= memory->limit)
        memory->owners[atomicAdd(&memory->owner_count, 1u)] = (uint16_t)threadIdx.x;
    __syncthreads();
    list_logits<VECTOR>(row, count, memory);
    __syncthreads();
    unsigned listed = memory->listed_count;
    if (listed < top_k || listed > MOST_LISTED) /* fewer: some of the top are minus infinity */
        return false;
    for (unsigned i = threadIdx.x; i < listed; i += blockDim.x) {
        unsigned rank = rank_among(memory->listed, listed, memory->listed[i]);
        if (rank < top_k)
            memory->top[rank] = memory->listed[i];
    }
    __syncthreads();
    return true;
}

/* --- many --- */

/* By the first warp: the digit at which `wanted` keys, counted from the highest digit down, are reached. */
static __device__ void find_digit(unsigned wanted, top_memory *memory) {
    const unsigned *bins = memory->bins;
    const int share = DIGITS / 32;
    int lane = (int)threadIdx.x, highest = DIGITS - 1 - lane * share;
    unsigned own = 0;
    for (int i = 0; i < share; i++)
        own += bins[highest - i];
    unsigned reached = own;
#pragma unroll
    for (int distance = 1; distance < 32; distance *= 2) {
        unsigned below = __shfl_up_sync(ALL_LANES, reached, distance);
        reached += lane >= distance ? below : 0;
    }
    unsigned before = reached - own;
    if (before >= wanted || reached < wanted)
        return;
    int digit = highest;
    while (before + bins[digit] < wanted)
        before += bins[digit--];
    memory->digit = (unsigned)digit;
    memory->wanted = wanted - before;
    memory->equal = bins[digit];
}

/* Count the digits at `shift` of the keys that agree with `prefix` above them. */
template <bool VECTOR>
__device__ __forceinline__ void count_digits(const float *row, uint32_t count, unsigned long long prefix,
                                             int shift, int bits, unsigned *bins) {
    for (uint32_t start = 0; start < count; start += group_width()) {
        float x[LOSS_GROUP];
        load_group<VECTOR>(x, row, start, threadIdx.x, count);
#pragma unroll
        for (int i = 0; i < LOSS_GROUP; i++) {
            uint32_t column = group_column(start, threadIdx.x, i);
            unsigned long long key = logit_key(x[i], column);
            if (column < count && (key ^ prefix) >> (shift + bits - 1) >> 1 == 0)
                atomicAdd(&bins[(key >> shift) & ((1u << bits) - 1)], 1u);
        }
    }
}

/* The smallest key (logit_key) of the top K, 0 < K < count. */
template <bool VECTOR>
__device__ unsigned long long find_cut(const float *row, uint32_t count, unsigned top_k, top_memory *memory) {
    unsigned long long prefix = 0;
    unsigned wanted = top_k;
    for (int end = 64; end > 0;) {
        int bits = end < DIGIT_BITS ? end : DIGIT_BITS, shift = end - bits;
        for (unsigned i = threadIdx.x; i < DIGITS; i += blockDim.x)
            memory->bins[i] = 0;
        __syncthreads();
        count_digits<VECTOR>(row, count, prefix, shift, bits, memory->bins);
        __syncthreads();
        if (threadIdx.x < 32)
            find_digit(wanted, memory);
        __syncthreads();
        prefix |= (unsigned long long)memory->digit << shift;
        wanted = memory->wanted;
        if (memory->equal == wanted) /* all that share the prefix belong to the top */
            break;
        end = shift;
    }
    return prefix;
}

/* --- their softmax --- */

static __device__ __forceinline__ top_softmax soften_top(const ranked_logit *top, unsigned count,
                                                         sum_memory *memory) {
    float highest = top[0].value;
    double sums[2] = {0, 0};
    for (unsigned i = threadIdx.x; i < count; i += blockDim.x) {
        double above = (double)top[i].value - (double)highest, e = exp(above);
        sums[0] += e;
        sums[1] += e == 0 ? 0 : e * above;
    }
    block_sums(sums, memory);
    double log_total = log(sums[0]);
    return {sums[1] / sums[0] - log_total, log_total, highest};
}

/* The derivative of `value` with respect to a logit of the top. */
static __device__ __forceinline__ float top_slope(const top_softmax &softmax, float x) {
    double log_q = (double)x - (double)softmax.highest - softmax.log_total, q = exp(log_q);
    return q == 0 ? 0.0f : (float)(q * (log_q - softmax.value));
}

/* Sums of exp(e) and of exp(e) e over the logits with keys from `cut` on, e relative to `highest`. */
template <bool VECTOR>
__device__ void sum_above_cut(const float *row, uint32_t count, float highest, unsigned long long cut,
                              double (&sums)[2], sum_memory *memory) {
    sums[0] = sums[1] = 0;
    for (uint32_t start = 0; start < count; start += group_width()) {
        float x[LOSS_GROUP], total = 0, product = 0;
        load_group<VECTOR>(x, row, start, threadIdx.x, count);
#pragma unroll
        for (int i = 0; i < LOSS_GROUP; i++) {
            float above = x[i] - highest, e = power_of_two(above * LOG2_E);
            bool within = e != 0 && logit_key(x[i], group_column(start, threadIdx.x, i)) >= cut;
            total += within ? e : 0;
            product += within ? e * above : 0;
        }
        sums[0] += (double)total;
        sums[1] += (double)product;
    }
    block_sums(sums, memory);
}

#endif
