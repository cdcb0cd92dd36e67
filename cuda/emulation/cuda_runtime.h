/*
 * The part of CUDA that cuda/ uses, played on the CPU: written from the programming guide, so that the very kernel
 * sources of the GPU backend run, and are tested, where no GPU is.
 *
 * A block's threads are fibers that take turns on one thread of the host; a barrier or a warp's exchange hands the
 * turn on. Blocks are spread over OpenMP's threads. A barrier that not all threads of a block reach, or a warp
 * operation that not all its lanes reach, ends the launch with cudaErrorLaunchFailure instead of a hang. Device memory
 * is host memory, so that address sanitizers see a kernel's overruns. Streams run at once.
 *
 * BALORA_EMULATION_ORDER=forward|reverse|shuffle sets in which order threads get their turns: results that depend on
 * it show a missing barrier.
 */
#ifndef EMULATION_CUDA_RUNTIME_H
#define EMULATION_CUDA_RUNTIME_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>

#define BALORA_EMULATION 1

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __shared__ static thread_local
/* The block's dynamic shared memory under a name, 128-byte aligned. */
#define DYNAMIC_SHARED(name) unsigned char *name = emulation_dynamic_shared()

/* --- built-in types and variables --- */

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {
    }
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
static inline float2 make_float2(float x, float y) {
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w) {
    return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y) {
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}

/* Of the running fiber, set whenever its turn comes. */
extern __thread uint3 threadIdx, blockIdx, blockDim, gridDim;
extern __thread unsigned emulation_lane; /* in its warp */
static const int warpSize = 32;

unsigned char *emulation_dynamic_shared();

/* --- cooperation --- */

void emulation_barrier();
/* Give `bytes` (at most 64) to the other lanes; returns, when all 32 have, an array of 32 pieces of 64 bytes. */
const unsigned char *emulation_exchange(const void *value, std::size_t bytes);
enum { EMULATION_PIECE = 64 };

static inline void __syncthreads() {
    emulation_barrier();
}
static inline void __syncwarp(unsigned = 0xFFFFFFFFu) {
    emulation_exchange("", 1);
}
template <typename T> T emulation_read(const unsigned char *pieces, unsigned lane) {
    T value;
    std::memcpy(&value, pieces + lane * EMULATION_PIECE, sizeof value);
    return value;
}
template <typename T> T __shfl_sync(unsigned, T value, int lane) {
    return emulation_read<T>(emulation_exchange(&value, sizeof value), (unsigned)lane % 32u);
}
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulation_read<T>(emulation_exchange(&value, sizeof value),
                             (emulation_lane ^ (unsigned)mask) % 32u);
}
template <typename T> T __shfl_down_sync(unsigned, T value, unsigned delta) {
    const unsigned char *pieces = emulation_exchange(&value, sizeof value);
    unsigned from = emulation_lane + delta;
    return from < 32 ? emulation_read<T>(pieces, from) : value;
}
template <typename T> T __shfl_up_sync(unsigned, T value, unsigned delta) {
    const unsigned char *pieces = emulation_exchange(&value, sizeof value);
    unsigned here = emulation_lane;
    return here >= delta ? emulation_read<T>(pieces, here - delta) : value;
}
static inline unsigned __ballot_sync(unsigned, int predicate) {
    unsigned char flag = predicate != 0;
    const unsigned char *pieces = emulation_exchange(&flag, 1);
    unsigned result = 0;
    for (unsigned lane = 0; lane < 32; lane++)
        result |= (unsigned)emulation_read<unsigned char>(pieces, lane) << lane;
    return result;
}
static inline int __any_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) != 0;
}
static inline int __all_sync(unsigned mask, int predicate) {
    return __ballot_sync(mask, predicate) == 0xFFFFFFFFu;
}
int emulation_count(int predicate); /* of the block's threads, after a barrier */
static inline int __syncthreads_or(int predicate) {
    return emulation_count(predicate) != 0;
}
static inline int __syncthreads_and(int predicate) {
    return emulation_count(!predicate) == 0;
}
static inline int __syncthreads_count(int predicate) {
    return emulation_count(predicate);
}
static inline void __threadfence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
static inline void __threadfence_block() {
}

static inline unsigned atomicAdd(unsigned *address, unsigned value) {
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
static inline int atomicAdd(int *address, int value) {
    return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
static inline int atomicMax(int *address, int value) {
    int seen = __atomic_load_n(address, __ATOMIC_SEQ_CST);
    while (seen < value &&
           !__atomic_compare_exchange_n(address, &seen, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return seen;
}
static inline int atomicMin(int *address, int value) {
    int seen = __atomic_load_n(address, __ATOMIC_SEQ_CST);
    while (seen > value &&
           !__atomic_compare_exchange_n(address, &seen, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return seen;
}
static inline unsigned atomicExch(unsigned *address, unsigned value) {
    return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);
}

/* --- arithmetic --- */

using std::isfinite;
using std::isinf;
using std::isnan;

template <typename T> static inline T emulation_min(T a, T b) {
    return b < a ? b : a;
}
template <typename T> static inline T emulation_max(T a, T b) {
    return a < b ? b : a;
}
#define EMULATION_MIN_MAX(T)                                                                                 \
    static inline T min(T a, T b) {                                                                          \
        return emulation_min(a, b);                                                                          \
    }                                                                                                        \
    static inline T max(T a, T b) {                                                                          \
        return emulation_max(a, b);                                                                          \
    }
EMULATION_MIN_MAX(int)
EMULATION_MIN_MAX(unsigned)
EMULATION_MIN_MAX(long)
EMULATION_MIN_MAX(unsigned long)
EMULATION_MIN_MAX(long long)
static inline float rsqrtf(float x) {
    return 1.0f / std::sqrt(x);
}
static inline double rsqrt(double x) {
    return 1.0 / std::sqrt(x);
}
#define cospi(x)  std::cos(3.141592653589793238 * (x))
#define __expf(x) expf(x)
#define __logf(x) logf(x)
static inline float __fdividef(float a, float b) {
    return a / b;
}
static inline float __frcp_rn(float x) {
    return 1.0f / x;
}
static inline float __fmaf_rn(float a, float b, float c) {
    return std::fma(a, b, c);
}
static inline float __fadd_rn(float a, float b) {
    return a + b;
}
static inline float __fmul_rn(float a, float b) {
    return a * b;
}
static inline double __dadd_rn(double a, double b) {
    return a + b;
}
static inline double __dmul_rn(double a, double b) {
    return a * b;
}
static inline int __popc(unsigned x) {
    return __builtin_popcount(x);
}
static inline int __ffs(int x) {
    return __builtin_ffs(x);
}
static inline int __clz(int x) {
    return x == 0 ? 32 : __builtin_clz((unsigned)x);
}
template <typename To, typename From> static inline To emulation_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "same size");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
static inline unsigned __float_as_uint(float x) {
    return emulation_bits<unsigned>(x);
}
static inline float __uint_as_float(unsigned x) {
    return emulation_bits<float>(x);
}
static inline int __float_as_int(float x) {
    return emulation_bits<int>(x);
}
static inline float __int_as_float(int x) {
    return emulation_bits<float>(x);
}
static inline long long __double_as_longlong(double x) {
    return emulation_bits<long long>(x);
}
static inline double __longlong_as_double(long long x) {
    return emulation_bits<double>(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b) {
    return (unsigned)(((unsigned long long)a * b) >> 32);
}
template <typename T> static inline T __ldg(const T *address) {
    return *address;
}

/* --- runtime --- */

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNotSupported = 801,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInsufficientDriver = 35,
    cudaErrorDevicesUnavailable = 46,
    cudaErrorECCUncorrectable = 214,
    cudaErrorIllegalAddress = 700,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorGraphExecUpdateFailure = 910,
    cudaErrorUnknown = 999
};
const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

typedef struct emulation_stream *cudaStream_t;
typedef struct emulation_event *cudaEvent_t;
typedef struct emulation_pool *cudaMemPool_t;
typedef struct emulation_graph *cudaGraph_t;
typedef struct emulation_graph_exec *cudaGraphExec_t;

struct cudaDeviceProp {
    char name[256];
    std::size_t totalGlobalMem;
    int major, minor, multiProcessorCount;
    std::size_t sharedMemPerBlockOptin;
};

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaEventDefault = 0 };
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
enum cudaMemAllocationType { cudaMemAllocationTypePinned = 1 };
enum cudaMemLocationType { cudaMemLocationTypeDevice = 1 };
struct cudaMemLocation {
    cudaMemLocationType type;
    int id;
};
enum cudaMemoryType {
    cudaMemoryTypeUnregistered = 0,
    cudaMemoryTypeHost = 1,
    cudaMemoryTypeDevice = 2,
    cudaMemoryTypeManaged = 3
};
struct cudaPointerAttributes {
    cudaMemoryType type;
    int device;
    void *devicePointer, *hostPointer;
};
struct cudaMemPoolProps {
    cudaMemAllocationType allocType;
    cudaMemLocation location;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaGraphExecUpdateResult { cudaGraphExecUpdateSuccess = 0 };
struct cudaGraphExecUpdateResultInfo {
    cudaGraphExecUpdateResult result;
};
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
};

cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(std::size_t *free, std::size_t *total);
cudaError_t cudaMemPoolCreate(cudaMemPool_t *out, const cudaMemPoolProps *props);
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void *value);
cudaError_t cudaMallocFromPoolAsync(void **out, std::size_t bytes, cudaMemPool_t pool, cudaStream_t stream);
cudaError_t cudaFreeAsync(void *memory, cudaStream_t stream);
cudaError_t cudaMallocHost(void **out, std::size_t bytes);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *out, const void *memory);
cudaError_t cudaFreeHost(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, std::size_t bytes, cudaStream_t stream);
cudaError_t cudaMemset2DAsync(void *memory, std::size_t pitch, int value, std::size_t width,
                              std::size_t height, cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void *to, std::size_t to_pitch, const void *from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute attribute, int value);

/* Runs the thread body for every thread of every block. `recording` streams keep the call for the graph instead. */
cudaError_t emulation_launch(const cudaLaunchConfig_t *config, std::function<void()> thread);

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                               Arguments &&...arguments) {
    return emulation_launch(config, [=]() { kernel(arguments...); });
}

/* --- for tests --- */

/* From the `after`-th call (counted from 0) of the runtime on, `count` calls fail with `error`. count 0: none. */
void emulation_fail_calls(long after, long count, cudaError_t error);
/* Devices that the machine is said to have, 1 at first; and their memory in bytes. */
void emulation_set_devices(int count, std::size_t memory_bytes);

#endif
