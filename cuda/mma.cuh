/*
 * What a warp asks of the tensor cores and of the copy engine of shared memory: mma.sync.m16n8k16 on bf16
 * with F32 sums, ldmatrix, cp.async (PTX ISA, "Matrix multiply-accumulate operation using mma instruction",
 * "ldmatrix", "cp.async"; sm_80 and later). Each has a scalar twin that follows the ISA's layouts lane by
 * lane.
 *
 * Fragments, with groupID = lane / 4 and threadID_in_group = lane % 4; a register holds two neighbours, the
 * lower index in its low half:
 *   A [16, 16]: registers {a0,a1} {a2,a3} {a4,a5} {a6,a7}; row groupID (+ 8 in registers 1 and 3), columns
 *               2 threadID_in_group + {0, 1} (+ 8 in registers 2 and 3)
 *   B [16, 8]:  registers {b0,b1} {b2,b3}; rows 2 threadID_in_group + {0, 1} (+ 8 in register 1), column groupID
 *   C [16, 8]:  c0..c3; row groupID (+ 8 for c2, c3), columns 2 threadID_in_group + {0, 1}
 * So two C tiles beside each other, rounded to bf16, are the registers of an A: a first product's result is a
 * second one's operand without leaving its lanes.
 */
#ifndef CUDA_MMA_CUH
#define CUDA_MMA_CUH

#include "numbers.cuh"

#ifdef BALORA_EMULATION
#include <vector>

/* --- twins --- */

const unsigned MMA_FAULT = 0xFFFFFFFFu; /* NaN: what a misaligned address gives */

static inline float mma_element(const unsigned char *pieces, int lane, int element) {
    bf16 value;
    std::memcpy(&value, pieces + lane * EMULATION_PIECE + element * 2, sizeof value);
    return to_float(value);
}

static inline void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    unsigned own[6] = {a[0], a[1], a[2], a[3], b0, b1};
    const unsigned char *pieces = emulation_exchange(own, sizeof own);
    int group = (int)emulation_lane / 4, member = (int)emulation_lane % 4;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 16; k++) {
            int below = i / 2, column = 2 * member + i % 2, register_a = below + k / 8 * 2,
                register_b = 4 + k / 8;
            c[i] += mma_element(pieces, group * 4 + k % 8 / 2, register_a * 2 + k % 2) *
                    mma_element(pieces, column * 4 + k % 8 / 2, register_b * 2 + k % 2);
        }
}

/* The addresses that all lanes gave: lane 8 i + r has that of row r of matrix i. */
static inline const bf16 *mma_row(const unsigned char *pieces, int matrix, int row) {
    return emulation_read<const bf16 *>(pieces, (unsigned)(matrix * 8 + row));
}

static inline bool mma_aligned(const void *address) {
    return reinterpret_cast<std::uintptr_t>(address) % 16 == 0;
}

static inline void load_matrices(unsigned (&out)[4], const bf16 *row) {
    const unsigned char *pieces = emulation_exchange(&row, sizeof row);
    for (int i = 0; i < 4; i++) {
        const bf16 *from = mma_row(pieces, i, (int)emulation_lane / 4) + emulation_lane % 4 * 2;
        out[i] = mma_aligned(row) ? (unsigned)from[0].bits | (unsigned)from[1].bits << 16 : MMA_FAULT;
    }
}

static inline void load_matrices_transposed(unsigned (&out)[4], const bf16 *row) {
    const unsigned char *pieces = emulation_exchange(&row, sizeof row);
    for (int i = 0; i < 4; i++) {
        int column = (int)emulation_lane / 4, first = (int)emulation_lane % 4 * 2;
        unsigned low = mma_row(pieces, i, first)[column].bits,
                 high = mma_row(pieces, i, first + 1)[column].bits;
        out[i] = mma_aligned(row) ? low | high << 16 : MMA_FAULT;
    }
}

/* Copies that a thread asked for: they happen when it waits, as late as they may on the device. */
struct mma_copy {
    void *to;
    const void *from; /* NULL: zeros */
    std::size_t bytes;
};

static inline std::vector<mma_copy> &mma_copies() {
    static thread_local std::vector<mma_copy> copies[1024];
    return copies[threadIdx.x];
}

template <int BYTES> void copy_async(void *to, const void *from, bool wanted) {
    auto faulty = (reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % BYTES;
    if (faulty == 0)
        mma_copies().push_back({to, wanted ? from : nullptr, BYTES});
}

static inline void copy_wait() {
    for (const mma_copy &copy : mma_copies()) {
        std::memset(copy.to, 0, copy.bytes);
        if (copy.from != nullptr)
            std::memcpy(copy.to, copy.from, copy.bytes);
    }
    mma_copies().clear();
}

static inline unsigned pack_bf16(float low, float high) {
    return (unsigned)to_bf16(low).bits | (unsigned)to_bf16(high).bits << 16;
}

static inline float exp2_fast(float x) {
    return std::exp2(x);
}

#else

static __device__ __forceinline__ unsigned shared_address(const void *generic) {
    return (unsigned)__cvta_generic_to_shared(generic);
}

/* c += a b. All lanes of the warp take part, here and in the loads. */
static __device__ __forceinline__ void multiply_add(float (&c)[4], const unsigned (&a)[4], unsigned b0,
                                                    unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/*
 * Four 8 x 8 matrices of shared memory; `row` of lane 8 i + r is the address of row r of matrix i, on 16
 * bytes. Register i of a lane then holds matrix i's row groupID, columns 2 threadID_in_group + {0, 1}.
 */
static __device__ __forceinline__ void load_matrices(unsigned (&out)[4], const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* The same of the transposed matrices: register i holds rows 2 threadID_in_group + {0, 1}, column groupID. */
static __device__ __forceinline__ void load_matrices_transposed(unsigned (&out)[4], const bf16 *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/* BYTES (4 or 16) from device to shared memory, both aligned to BYTES; zeros where not `wanted`. They are
 * there for the thread that asked after its copy_wait, for others after a barrier that follows. */
template <int BYTES> __device__ __forceinline__ void copy_async(void *to, const void *from, bool wanted) {
    int bytes = wanted ? BYTES : 0;
    if constexpr (BYTES == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                     "r"(bytes)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(to)), "l"(from),
                     "r"(bytes)
                     : "memory");
}

/* Until all copies that this thread asked for have happened. */
static __device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_all;" ::: "memory");
}

static __device__ __forceinline__ unsigned pack_bf16(float low, float high) {
    unsigned packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/* 2^x to 2 units in the last place. */
static __device__ __forceinline__ float exp2_fast(float x) {
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
}

#endif

/* --- products of a warp --- */

/*
 * sums += a b^T for a [16 M, K] and b [8 N, K] in shared memory, rows `ld` elements apart: C tile [m][n] of
 * `sums` covers rows 16 m and columns 8 n.
 */
template <int M, int N, int K>
__device__ __forceinline__ void multiply_rows(float (&sums)[M][N][4], const bf16 *a, const bf16 *b, int ld) {
    int lane = (int)threadIdx.x % 32;
    a += lane % 16 * ld + lane / 16 * 8;
    b += (lane / 16 * 8 + lane % 8) * ld + lane / 8 % 2 * 8;
#pragma unroll 4
    for (int k = 0; k < K; k += 16) {
        unsigned left[M][4];
#pragma unroll
        for (int m = 0; m < M; m++)
            load_matrices(left[m], a + m * 16 * ld + k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned right[4];
            load_matrices(right, b + n * 8 * ld + k);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply_add(sums[m][n], left[m], right[0], right[1]);
                multiply_add(sums[m][n + 1], left[m], right[2], right[3]);
            }
        }
    }
}

/* sums += a b for fragments a [16 M, 16 K] and b [16 K, 8 N] in shared memory, rows `ld` elements apart. */
template <int M, int K, int N>
__device__ __forceinline__ void multiply_fragments(float (&sums)[M][N][4], const unsigned (&a)[M][K][4],
                                                   const bf16 *b, int ld) {
    int lane = (int)threadIdx.x % 32;
    b += lane % 16 * ld + lane / 16 * 8;
#pragma unroll
    for (int k = 0; k < K; k++)
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            unsigned right[4];
            load_matrices_transposed(right, b + k * 16 * ld + n * 8);
#pragma unroll
            for (int m = 0; m < M; m++) {
                multiply_add(sums[m][n], a[m][k], right[0], right[1]);
                multiply_add(sums[m][n + 1], a[m][k], right[2], right[3]);
            }
        }
}

#endif
