/* A few neighbouring numbers of a row at a time, in one access where addresses allow it. */
#ifndef CUDA_ROW_ACCESS_CUH
#define CUDA_ROW_ACCESS_CUH

#include "numbers.cuh"

/*
 * Columns [at, at + COUNT) of a row as floats, `pad` beyond its end. VECTOR: every row begins on an address
 * fit for COUNT numbers; the same thread gets the same columns either way, so that sums have the same bits.
 */
template <bool VECTOR, int COUNT, typename T, typename Index>
__device__ __forceinline__ void load_part(float (&out)[COUNT], const T *row, Index at, Index cols,
                                          float pad) {
    if (at + COUNT <= cols && VECTOR) {
        load_floats(out, row + at);
    } else if (at + COUNT <= cols) {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            out[i] = to_float(row[at + i]);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            out[i] = at + i < cols ? to_float(row[at + i]) : pad;
    }
}

template <bool VECTOR, int COUNT, typename T, typename Index>
__device__ __forceinline__ void store_part(T *row, const float (&in)[COUNT], Index at, Index cols) {
    if (at + COUNT <= cols && VECTOR) {
        store_floats(row + at, in);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            if (at + i < cols)
                row[at + i] = from_float<T>(in[i]);
    }
}

#endif
