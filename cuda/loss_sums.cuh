/*
 * A row of logits read once by a block: the largest, and sums of exponentials relative to it.
 *
 * Each thread keeps sums relative to the largest logit that it has met and scales them down when it meets a
 * larger one. Sums run in F32 over a group and are carried in F64, so that a row of 150,000 logits is as
 * exact as one of 100.
 */
#ifndef CUDA_LOSS_SUMS_CUH
#define CUDA_LOSS_SUMS_CUH

#include <float.h>

#include "reduce.cuh"
#include "row_access.cuh"

/* Which exponentials a row needs: at temperature 1, or at T as well and the teacher's too. At T = 2 the
 * former are the squares of the latter. */
enum row_kind { ROW_ALONE, ROW_AT_TWO, ROW_AT_ANY };

enum { LOSS_PIECE = 4, LOSS_GROUP = 8, MOST_WARPS = 32 };

const float LOG2_E = 1.44269504f;

/* 2^x, 2 units in the last place; results that are no normal numbers are 0. */
static __device__ __forceinline__ float power_of_two(float x) {
#ifdef BALORA_EMULATION
    return exp2f(x);
#else
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#endif
}

/* A group is what a thread reads at a time, in pieces a block's width apart: the column of its element i. */
static __device__ __forceinline__ uint32_t group_column(uint32_t start, uint32_t thread, int i) {
    return start + ((uint32_t)(i / LOSS_PIECE) * blockDim.x + thread) * LOSS_PIECE +
           (uint32_t)(i % LOSS_PIECE);
}

/* Columns that a block reads at a time. */
static __device__ __forceinline__ uint32_t group_width() {
    return blockDim.x * LOSS_GROUP;
}

/* The group of `thread`, padded by what no exponential can see. */
template <bool VECTOR>
__device__ __forceinline__ void load_group(float (&x)[LOSS_GROUP], const float *row, uint32_t start,
                                           uint32_t thread, uint32_t count) {
#pragma unroll
    for (int first = 0; first < LOSS_GROUP; first += LOSS_PIECE) {
        float piece[LOSS_PIECE];
        load_part<VECTOR>(piece, row, group_column(start, thread, first), count, -INFINITY);
#pragma unroll
        for (int i = 0; i < LOSS_PIECE; i++)
            x[first + i] = piece[i];
    }
}

template <bool VECTOR, typename T>
__device__ __forceinline__ void store_group(T *row, const float (&x)[LOSS_GROUP], uint32_t start,
                                            uint32_t count) {
#pragma unroll
    for (int first = 0; first < LOSS_GROUP; first += LOSS_PIECE) {
        float piece[LOSS_PIECE];
#pragma unroll
        for (int i = 0; i < LOSS_PIECE; i++)
            piece[i] = x[first + i];
        store_part<VECTOR>(row, piece, group_column(start, threadIdx.x, first), count);
    }
}

/* --- an order of logits with their places --- */

/* Unsigned numbers in the order of floats; both zeros are one. */
static __device__ __forceinline__ uint32_t ordered_bits(float x) {
    uint32_t bits = __float_as_uint(x + 0.0f);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static __device__ __forceinline__ float from_ordered_bits(uint32_t bits) {
    return __uint_as_float(bits & 0x80000000u ? bits & 0x7FFFFFFFu : ~bits);
}

/* The larger logit has the larger key, of equals the first one. */
static __device__ __forceinline__ unsigned long long logit_key(float x, uint32_t column) {
    return (unsigned long long)ordered_bits(x) << 32 | ~column;
}

/* --- sums of a row --- */

/* Where e is the logit's distance from the largest: sums of exp(e), of exp(e / T), of exp(e) e, and the
 * teacher's of exp(e / T). A row alone has the temperature in the first sum (and its weights in the third)
 * and no second one. */
struct row_sums {
    float highest, teacher_highest;
    uint32_t place; /* first column of the largest logit */
    double total, warm, weighted, teacher_warm;
};

/* Values are zero-based at the lowest finite number: a logit of minus infinity has no weight. */
static __device__ __forceinline__ row_sums empty_sums() {
    return {-FLT_MAX, -FLT_MAX, UINT32_MAX, 0, 0, 0, 0};
}

static __device__ __forceinline__ float highest_of(const float (&x)[LOSS_GROUP]) {
    float highest = x[0];
#pragma unroll
    for (int i = 1; i < LOSS_GROUP; i++)
        highest = fmaxf(highest, x[i]);
    return highest;
}

template <row_kind KIND>
__device__ __forceinline__ void raise_highest(row_sums *sums, float highest, float rate) {
    double rise = (double)highest - (double)sums->highest;
    float cold = power_of_two(-(float)rise * (KIND == ROW_ALONE ? rate : LOG2_E));
    sums->weighted = (sums->weighted - rise * sums->total) * (double)cold;
    sums->total *= (double)cold;
    if (KIND != ROW_ALONE)
        sums->warm *= (double)power_of_two(-(float)rise * rate);
    sums->highest = highest;
}

/* `rate`: LOG2_E / T. `weighted`: whether that sum is wanted. */
template <row_kind KIND>
__device__ __forceinline__ void add_group(row_sums *sums, const float (&x)[LOSS_GROUP], uint32_t start,
                                          float rate, bool weighted) {
    float highest = highest_of(x);
    if (highest > sums->highest) {
        raise_highest<KIND>(sums, highest, rate);
#pragma unroll
        for (int i = LOSS_GROUP - 1; i >= 0; i--)
            sums->place = x[i] == highest ? group_column(start, threadIdx.x, i) : sums->place;
    }
    float e[LOSS_GROUP], total = 0, warm = 0;
#pragma unroll
    for (int i = 0; i < LOSS_GROUP; i++) {
        float above = x[i] - sums->highest, tempered = power_of_two(above * rate);
        e[i] = KIND == ROW_ALONE    ? tempered
               : KIND == ROW_AT_TWO ? tempered * tempered
                                    : power_of_two(above * LOG2_E);
        total += e[i];
        warm += tempered;
    }
    sums->total += (double)total;
    if (KIND != ROW_ALONE)
        sums->warm += (double)warm;
    if (!weighted)
        return;
    float product = 0;
#pragma unroll
    for (int i = 0; i < LOSS_GROUP; i++)
        product += e[i] == 0 ? e[i] : e[i] * (x[i] - sums->highest);
    sums->weighted += (double)product;
}

static __device__ __forceinline__ void add_teacher_group(row_sums *sums, const float (&y)[LOSS_GROUP],
                                                         float rate) {
    float highest = highest_of(y), warm = 0;
    if (highest > sums->teacher_highest) {
        sums->teacher_warm *= (double)power_of_two((sums->teacher_highest - highest) * rate);
        sums->teacher_highest = highest;
    }
#pragma unroll
    for (int i = 0; i < LOSS_GROUP; i++)
        warm += power_of_two((y[i] - sums->teacher_highest) * rate);
    sums->teacher_warm += (double)warm;
}

/* This thread's part of the row. */
template <row_kind KIND, bool VECTOR>
__device__ __forceinline__ row_sums sum_part(const float *row, const float *teacher, uint32_t count,
                                             float scale, bool weighted) {
    float rate = scale * LOG2_E;
    row_sums sums = empty_sums();
    for (uint32_t start = 0; start < count; start += group_width()) {
        float x[LOSS_GROUP], y[LOSS_GROUP];
        load_group<VECTOR>(x, row, start, threadIdx.x, count);
        if (KIND != ROW_ALONE)
            load_group<VECTOR>(y, teacher, start, threadIdx.x, count);
        add_group<KIND>(&sums, x, start, rate, weighted);
        if (KIND != ROW_ALONE)
            add_teacher_group(&sums, y, rate);
    }
    return sums;
}

/* --- over the block --- */

struct sum_memory {
    double pieces[4][MOST_WARPS];
    unsigned long long keys[MOST_WARPS];
    float highest[MOST_WARPS];
};

/* The block's sums of several values at once. */
template <int COUNT> __device__ __forceinline__ void block_sums(double (&values)[COUNT], sum_memory *memory) {
    int warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
        values[k] = warp_reduce<sum_of>(values[k]);
        if (threadIdx.x % 32 == 0)
            memory->pieces[k][warp] = values[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < COUNT; k++) {
        values[k] = memory->pieces[k][0];
        for (int i = 1; i < warps; i++)
            values[k] += memory->pieces[k][i];
    }
    __syncthreads();
}

/* The row's sums from its parts, in every thread. */
template <row_kind KIND>
__device__ __forceinline__ row_sums join_parts(const row_sums &part, float scale, sum_memory *memory) {
    row_sums row;
    unsigned long long best = block_reduce<max_of>(logit_key(part.highest, part.place), memory->keys);
    row.highest = from_ordered_bits((uint32_t)(best >> 32));
    row.place = ~(uint32_t)best;
    row.teacher_highest = KIND == ROW_ALONE ? 0 : block_reduce<max_of>(part.teacher_highest, memory->highest);
    double fall = (double)part.highest - (double)row.highest, temper = (double)scale;
    double cold = exp(KIND == ROW_ALONE ? fall * temper : fall);
    double values[4] = {part.total * cold, (part.weighted + fall * part.total) * cold, 0, 0};
    if (KIND != ROW_ALONE) {
        values[2] = part.warm * exp(fall * temper);
        values[3] =
            part.teacher_warm * exp(((double)part.teacher_highest - (double)row.teacher_highest) * temper);
    }
    block_sums(values, memory);
    row.total = values[0];
    row.weighted = values[1];
    row.warm = KIND == ROW_ALONE ? values[0] : values[2];
    row.teacher_warm = values[3];
    return row;
}

#endif
