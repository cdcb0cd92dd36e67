/* Loops over the elements of matrices: which thread takes which, and conversions on the way. */
#ifndef CUDA_SPANS_CUH
#define CUDA_SPANS_CUH

#include "internal.h"
#include "numbers.cuh"

/* --- numbers of any type --- */

template <typename A, typename B> constexpr bool IS_SAME = false;
template <typename A> constexpr bool IS_SAME<A, A> = true;

/* What numbers of T are computed in. */
template <typename T> struct arithmetic_of { using type = float; };
template <> struct arithmetic_of<double> { using type = double; };

/* The float that keeps enough of `x` for a second rounding to be the right one: rounded towards zero, with
 * the last bit set when anything was lost ("round to odd"). */
static __device__ __forceinline__ float narrow_to_odd(double x) {
    float rounded = (float)x;
    if ((double)rounded == x || x != x)
        return rounded;
    unsigned bits = __float_as_uint(rounded);
    if (fabs((double)rounded) > fabs(x))
        bits--;
    return __uint_as_float(bits | 1u);
}

/* Rounded once, to nearest even; a number of the same type keeps its bits. */
template <typename To, typename From> __device__ __forceinline__ To converted(From x) {
    if constexpr (IS_SAME<To, From>)
        return x;
    else if constexpr (IS_SAME<To, double>)
        return (double)to_float(x);
    else if constexpr (!IS_SAME<From, double>)
        return from_float<To>(to_float(x));
    else if constexpr (IS_SAME<To, float>)
        return (float)x;
    else
        return from_float<To>(narrow_to_odd(x));
}

/* COUNT neighbours, of which the first `left` exist; the others are 0. At any address. */
template <int COUNT, typename A, typename T>
__device__ __forceinline__ void load_loose(A (&out)[COUNT], const T *from, int64_t left) {
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        out[i] = i < left ? converted<A>(from[i]) : A{};
}

/* The same at an address that is a multiple of their size, unless COUNT is 1. */
template <int COUNT, typename A, typename T>
__device__ __forceinline__ void load_span(A (&out)[COUNT], const T *from, int64_t left) {
    if (COUNT > 1 && left >= COUNT) {
        pack<T, COUNT> values = *reinterpret_cast<const pack<T, COUNT> *>(from);
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            out[i] = converted<A>(values.value[i]);
        return;
    }
    load_loose(out, from, left);
}

template <int COUNT, typename A, typename T>
__device__ __forceinline__ void store_span(T *to, const A (&in)[COUNT], int64_t left) {
    if (COUNT > 1 && left >= COUNT) {
        pack<T, COUNT> values;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            values.value[i] = converted<T>(in[i]);
        *reinterpret_cast<pack<T, COUNT> *>(to) = values;
        return;
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        if (i < left)
            to[i] = converted<T>(in[i]);
}

/* Neighbours that one thread takes of operands of these types: 16 bytes of the smaller, at most 32 of the
 * larger. */
template <typename A, typename B = A> constexpr int span_count() {
    int smaller = (int)(sizeof(A) < sizeof(B) ? sizeof(A) : sizeof(B));
    int larger = (int)(sizeof(A) < sizeof(B) ? sizeof(B) : sizeof(A));
    return 16 / smaller < 32 / larger ? 16 / smaller : 32 / larger;
}
template <typename A, typename B = A> constexpr int SPAN_COUNT = span_count<A, B>();

/* --- threads --- */

enum { SPAN_THREADS = 256, MOST_BLOCKS_Y = 65535 };

/* The threads of a block stand in lines of 2^shift along the columns, so that narrow matrices keep them
 * busy. */
struct span_grid {
    int64_t rows, cols;
    int32_t shift;
};

static inline span_grid span_grid_of(int64_t rows, int64_t cols, int64_t count) {
    span_grid grid = {rows, cols, 0};
    while (grid.shift < 8 && (count << grid.shift) < cols)
        grid.shift++;
    return grid;
}

/* Blocks that cover the columns once; rows beyond the last block are walked to. */
static inline dim3 span_blocks(span_grid grid, int64_t count) {
    int64_t lines = arith_divide_up(grid.rows, SPAN_THREADS >> grid.shift);
    return dim3(blocks_for(grid.cols, count << grid.shift), (unsigned)arith_min(lines, MOST_BLOCKS_Y));
}

static __device__ __forceinline__ int64_t span_column(span_grid grid, int count) {
    return ((int64_t)blockIdx.x << grid.shift | (threadIdx.x & ((1u << grid.shift) - 1))) * count;
}

static __device__ __forceinline__ int64_t span_row(span_grid grid) {
    return (int64_t)blockIdx.y * (SPAN_THREADS >> grid.shift) + (threadIdx.x >> grid.shift);
}

static __device__ __forceinline__ int64_t span_row_step(span_grid grid) {
    return (int64_t)gridDim.y * (SPAN_THREADS >> grid.shift);
}

/* --- views --- */

static inline bool is_empty(matrix_view view) {
    return view.rows == 0 || view.cols == 0;
}

static inline matrix_view as_one_row(matrix_view view) {
    view.cols *= view.rows;
    view.ld = view.cols;
    view.rows = 1;
    return view;
}

/* Views of one shape that all lie without gaps become rows. */
template <typename... Views> static void flatten(Views &...views) {
    if ((is_joined(views) && ...))
        ((views = as_one_row(views)), ...);
}

template <typename... Views> static bool are_aligned(int64_t count, Views... views) {
    return (is_aligned(views, count) && ...);
}

/* `T` of a float dtype. */
#define DISPATCH_FLOAT(dtype, T, ...)                                                                        \
    do {                                                                                                     \
        if ((dtype) == BALORA_F16) {                                                                         \
            using T = f16;                                                                                   \
            __VA_ARGS__                                                                                      \
        } else {                                                                                             \
            DISPATCH_ACTIVATION(dtype, T, __VA_ARGS__);                                                      \
        }                                                                                                    \
    } while (0)

/* `COUNT`: `most` where whole spans may be accessed at once, else 1. */
#define DISPATCH_COUNT(aligned, most, COUNT, ...)                                                            \
    do {                                                                                                     \
        if (aligned) {                                                                                       \
            constexpr int COUNT = (most);                                                                    \
            __VA_ARGS__                                                                                      \
        } else {                                                                                             \
            constexpr int COUNT = 1;                                                                         \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    } while (0)

#endif
