/* Sums and maxima over the threads of a warp or block, in an order that does not depend on timing. */
#ifndef CUDA_REDUCE_CUH
#define CUDA_REDUCE_CUH

#include "numbers.cuh"

const unsigned ALL_LANES = 0xFFFFFFFFu;

template <typename T> struct sum_of {
    static __device__ __forceinline__ T join(T a, T b) {
        return a + b;
    }
};

/* NaN wins, so that it is seen. */
template <typename T> struct max_of {
    static __device__ __forceinline__ T join(T a, T b) {
        return a != a || a > b ? a : b;
    }
};

/* The whole warp's join of `value`, in every lane. All lanes must take part. */
template <template <typename> class Join, typename T> __device__ __forceinline__ T warp_reduce(T value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2)
        value = Join<T>::join(value, __shfl_xor_sync(ALL_LANES, value, distance));
    return value;
}

/*
 * The whole block's join, in every thread. The block has a multiple of 32 threads and all take part. `pieces`: shared
 * memory for one T a warp; it may be used again at once.
 */
template <template <typename> class Join, typename T>
__device__ __forceinline__ T block_reduce(T value, T *pieces) {
    int warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    value = warp_reduce<Join>(value);
    if (threadIdx.x % 32 == 0)
        pieces[warp] = value;
    __syncthreads();
    value = pieces[0];
    for (int i = 1; i < warps; i++)
        value = Join<T>::join(value, pieces[i]);
    __syncthreads();
    return value;
}

#endif
