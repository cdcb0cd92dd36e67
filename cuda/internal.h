/*
 * What the files of the GPU backend share: its objects, operand checks, kernel launches, scratch and errors.
 *
 * Every file but the emulation's is compiled twice: by nvcc for the device, and by the host's C++ compiler
 * against cuda/emulation, where threads, blocks and warps are played on the CPU (docs/gpu.md).
 */
#ifndef CUDA_INTERNAL_H
#define CUDA_INTERNAL_H

#include <cuda_runtime.h>
#include <stdint.h>

extern "C" {
#include "backend/operand.h"
#include "backend/plugin.h"
}
#include "base/arith.h"

/* --- objects --- */

struct cuda_libraries;       /* cuBLAS, cuBLASLt, cuSOLVER of a queue: libraries.h */
struct cuda_attention_plans; /* of cuDNN: attention_cudnn.cpp */

struct backend_device {
    allocator *memory;
    int32_t index;
    int32_t threads;
    int32_t multiprocessors;
    int32_t major, minor;              /* compute capability */
    int64_t shared_bytes;              /* that a block may ask for */
    int64_t current_bytes, peak_bytes; /* atomics: buffers and scratch */
    cudaMemPool_t pool;
    cudaStream_t stream; /* of allocations */
    char name[96];
};

/* A piece of page-locked memory that uploads pass through. */
struct cuda_stage {
    unsigned char *data;
    int64_t used;
    cudaEvent_t done; /* when all copies out of it have run */
};

enum { CUDA_STAGES = 4, CUDA_LANDINGS = 32 };

/* A download under way: page-locked memory on its way to the caller's. */
struct cuda_landing {
    void *host;
    const unsigned char *data;
    int64_t bytes;
};

struct backend_queue {
    backend_device *device;
    cudaStream_t stream;
    cuda_libraries *libraries;
    cuda_attention_plans *attention; /* NULL until cuDNN is first asked */
    unsigned char *scratch;          /* device memory: one block that each slot may use for itself */
    int64_t scratch_bytes;
    cuda_stage stages[CUDA_STAGES];
    int32_t stage; /* the one being filled */
    int32_t allow_tf32;
    int32_t capturing;
    int32_t reserved1;
    cudaGraphExec_t graph; /* the last one captured, updated in place where it can be */
    cuda_stage captured;   /* uploads of a capture; refilled by the next one */
    unsigned char *landed; /* page-locked memory of small downloads */
    int64_t landed_bytes;  /* of it, used since the last synchronization */
    cuda_landing landings[CUDA_LANDINGS];
    int32_t landing_count;
    int32_t reserved2;
};

struct backend_buffer {
    unsigned char *data;
    int64_t bytes;
    bool wrapped = false; /* the memory is somebody else's */
};

struct backend_event {
    backend_device *device;
    cudaEvent_t event;
};

/* --- errors (status.cu) --- */

/* Set once by the plugin's entry. */
extern const backend_host *cuda_host;

balora_status cuda_fail(balora_status status, int32_t origin, int64_t native_code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A slot's caller broke its contract. */
#define CUDA_INTERNAL(...) cuda_fail(BALORA_ERROR_INTERNAL, BALORA_ORIGIN_BALORA, 0, __VA_ARGS__)

/* BALORA_OK, or the failure with the runtime's own name for it. `device` may be NULL. Running out of memory reports
 * what is free. */
balora_status cuda_check(const backend_device *device, const char *what, cudaError_t error);

#define CUDA_TRY(expression)                                                                                 \
    do {                                                                                                     \
        balora_status try_status_ = (expression);                                                            \
        if (try_status_ != BALORA_OK)                                                                        \
            return try_status_;                                                                              \
    } while (0)

/* --- operands (status.cu) --- */

/* BALORA_ERROR_INTERNAL naming slot and operand unless the view lies in its buffer and has this shape and a dtype of
 * the set. */
balora_status operand_check(const char *slot, const char *name, matrix_view view, int64_t rows, int64_t cols,
                            int dtypes);

static inline bool is_none(matrix_view view) {
    return view.buffer == nullptr;
}

/* The first element, as device code takes it. */
template <typename T> T *view_data(matrix_view view) {
    return reinterpret_cast<T *>(view.buffer->data + view.offset);
}

static inline bool is_joined(matrix_view view) {
    return view.ld == view.cols || view.rows == 1;
}

/* A whole number of `count` elements may be loaded at a time from the start of every row. */
static inline bool is_aligned(matrix_view view, int64_t count) {
    int64_t bytes = count * element_size(view.dtype);
    return reinterpret_cast<uintptr_t>(view.buffer->data + view.offset) % (uintptr_t)bytes == 0 &&
           (view.rows == 1 || view.ld * element_size(view.dtype) % bytes == 0);
}

/* --- memory (device.cu) --- */

/* Memory of the device's pool, usable and given back in the order of the stream, and counted. */
balora_status device_take(backend_device *device, cudaStream_t stream, int64_t bytes, const char *what,
                          void **out);
void device_give(backend_device *device, cudaStream_t stream, void *memory, int64_t bytes);

/* --- scratch (queue.cu) --- */

/* At least `bytes` bytes of device memory, aligned to 256: the same block for every call of the queue, grown in the
 * order of the queue where `prepare` did not foresee the size. */
balora_status scratch_reserve(backend_queue *queue, int64_t bytes, void **out);

/* BALORA_ERROR_UNSUPPORTED while a graph is recorded: memory taken then would be the graph's own. */
balora_status check_not_capturing(const backend_queue *queue, const char *what);

/* What each file's slots need of it for given limits. */
int64_t gemm_scratch_bytes(const backend_queue *queue, const backend_limits *limits);
int64_t factor_scratch_bytes(const backend_queue *queue, const backend_limits *limits);
int64_t attention_scratch_bytes(const backend_queue *queue, const backend_limits *limits);
int64_t rows_scratch_bytes(const backend_queue *queue, const backend_limits *limits);
int64_t norm_scratch_bytes(const backend_queue *queue, const backend_limits *limits);
int64_t loss_scratch_bytes(const backend_queue *queue, const backend_limits *limits);

/* --- launches --- */

/* Every slot starts with it: the calling thread may have used another device before. */
static inline balora_status enter(const backend_queue *queue) {
    return cuda_check(queue->device, "cudaSetDevice", cudaSetDevice(queue->device->index));
}

/* Run a kernel on the queue; `shared` bytes of dynamic shared memory. An empty grid runs nothing. */
template <typename... Parameters, typename... Arguments>
balora_status launch(backend_queue *queue, const char *name, void (*kernel)(Parameters...), dim3 grid,
                     unsigned threads, size_t shared, Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0)
        return BALORA_OK;
    if (shared > 48 * 1024)
        CUDA_TRY(cuda_check(queue->device, name,
                            cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                                 cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared)));
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared;
    config.stream = queue->stream;
    return cuda_check(queue->device, name,
                      cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

/* Blocks of `per_block` items. */
static inline unsigned blocks_for(int64_t items, int64_t per_block) {
    return (unsigned)arith_divide_up(items, per_block);
}

/* `T` of a dtype, where a slot takes several: DISPATCH(dtype, T, { ...return... }). */
#define DISPATCH_ACTIVATION(dtype, T, ...)                                                                   \
    do {                                                                                                     \
        if ((dtype) == BALORA_BF16) {                                                                        \
            using T = bf16;                                                                                  \
            __VA_ARGS__                                                                                      \
        } else {                                                                                             \
            using T = float;                                                                                 \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    } while (0)

#endif
