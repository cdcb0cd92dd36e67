/* GPUs as devices: what there are, and their memory. */
#include <stdio.h>
#include <string.h>

#include "attention.h"
#include "internal.h"
#include "libraries.h"
#include "slots.h"

const int64_t LOGIT_BYTES = INT64_C(640)
                            << 20; /* student, teacher and gradient of a chunk: see backend_properties */

/* A machine without a GPU or driver has no devices; anything else is worth a message. */
balora_status cuda_device_count(int32_t *count) {
    int found = 0;
    cudaError_t error = cudaGetDeviceCount(&found);
    *count = 0;
    if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver) {
        cudaGetLastError();
        return BALORA_OK;
    }
    CUDA_TRY(cuda_check(nullptr, "counting devices", error));
    *count = found;
    return BALORA_OK;
}

static balora_status check_index(int32_t index) {
    int32_t count;
    CUDA_TRY(cuda_device_count(&count));
    if (count == 0)
        return cuda_fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUDA, 0,
                         "cuda:%d: no GPU, or no driver for one, is on this machine", index);
    if (index < 0 || index >= count)
        return cuda_fail(BALORA_ERROR_ARGUMENT, BALORA_ORIGIN_BALORA, 0,
                         "cuda:%d does not exist; there are cuda:0 to cuda:%d", index, count - 1);
    return BALORA_OK;
}

static balora_status open_pool(backend_device *device) {
    cudaMemPoolProps props = {};
    props.allocType = cudaMemAllocationTypePinned;
    props.location.type = cudaMemLocationTypeDevice;
    props.location.id = device->index;
    CUDA_TRY(cuda_check(device, "making a memory pool", cudaMemPoolCreate(&device->pool, &props)));
    /* Keep what is freed: another trainer will ask for the same. */
    uint64_t threshold = UINT64_MAX;
    return cuda_check(device, "making a memory pool",
                      cudaMemPoolSetAttribute(device->pool, cudaMemPoolAttrReleaseThreshold, &threshold));
}

static balora_status open_parts(backend_device *device) {
    cudaDeviceProp properties;
    CUDA_TRY(cuda_check(device, "cudaSetDevice", cudaSetDevice(device->index)));
    CUDA_TRY(
        cuda_check(device, "reading its properties", cudaGetDeviceProperties(&properties, device->index)));
    snprintf(device->name, sizeof device->name, "%.95s", properties.name);
    device->major = properties.major;
    device->minor = properties.minor;
    device->multiprocessors = properties.multiProcessorCount;
    device->shared_bytes = (int64_t)properties.sharedMemPerBlockOptin;
    if (device->major < 8)
        return cuda_fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUDA, 0,
                         "cuda:%d (%s) has compute capability %d.%d; this build needs 8.0 or newer",
                         device->index, device->name, device->major, device->minor);
    CUDA_TRY(open_pool(device));
    return cuda_check(device, "making a stream",
                      cudaStreamCreateWithFlags(&device->stream, cudaStreamNonBlocking));
}

balora_status cuda_device_open(backend_device **out, allocator *memory, int32_t index, int32_t threads) {
    *out = nullptr;
    if (threads < 0)
        return cuda_fail(BALORA_ERROR_ARGUMENT, BALORA_ORIGIN_BALORA, 0,
                         "cuda device: %d threads; expected 0 (one a core) or more", threads);
    CUDA_TRY(check_index(index));
    backend_device *device;
    CUDA_TRY(cuda_host->allocate(memory, &device, 1, sizeof *device, "a cuda device"));
    device->memory = memory;
    device->index = index;
    device->threads = threads;
    balora_status status = open_parts(device);
    if (status != BALORA_OK) {
        cuda_device_close(device);
        return status;
    }
    *out = device;
    return BALORA_OK;
}

void cuda_device_close(backend_device *device) {
    if (device == nullptr)
        return;
    if (device->stream != nullptr)
        cudaStreamDestroy(device->stream);
    if (device->pool != nullptr)
        cudaMemPoolDestroy(device->pool);
    cuda_host->release(device->memory, device);
}

balora_status cuda_device_properties(backend_device *device, backend_properties *out) {
    memset(out, 0, sizeof *out);
    int driver = 0, runtime = 0;
    size_t free_bytes = 0, total_bytes = 0;
    CUDA_TRY(cuda_check(device, "cudaSetDevice", cudaSetDevice(device->index)));
    CUDA_TRY(cuda_check(device, "reading the driver's version", cudaDriverGetVersion(&driver)));
    CUDA_TRY(cuda_check(device, "reading the runtime's version", cudaRuntimeGetVersion(&runtime)));
    CUDA_TRY(cuda_check(device, "reading free memory", cudaMemGetInfo(&free_bytes, &total_bytes)));
    char libraries[96];
    libraries_describe(libraries, sizeof libraries);
    memcpy(out->name, device->name, sizeof out->name);
    snprintf(out->features, sizeof out->features,
             "sm_%d%d,multiprocessors=%d,driver=%d.%d,runtime=%d.%d,%s,attention=%s", device->major,
             device->minor, device->multiprocessors, driver / 1000, driver % 1000 / 10, runtime / 1000,
             runtime % 1000 / 10, libraries, attention_engine());
    out->memory_bytes = (int64_t)total_bytes;
    out->threads = device->threads;
    out->bf16_activations = 1;
    out->logit_bytes = LOGIT_BYTES;
    return BALORA_OK;
}

balora_status cuda_memory_usage(backend_device *device, backend_memory *out) {
    size_t free_bytes = 0, total_bytes = 0;
    CUDA_TRY(cuda_check(device, "cudaSetDevice", cudaSetDevice(device->index)));
    CUDA_TRY(cuda_check(device, "reading free memory", cudaMemGetInfo(&free_bytes, &total_bytes)));
    out->current = __atomic_load_n(&device->current_bytes, __ATOMIC_RELAXED);
    out->peak = __atomic_load_n(&device->peak_bytes, __ATOMIC_RELAXED);
    out->free = (int64_t)free_bytes;
    out->total = (int64_t)total_bytes;
    return BALORA_OK;
}

/* --- memory in the order of a stream --- */

static void count_bytes(backend_device *device, int64_t bytes) {
    int64_t now = __atomic_add_fetch(&device->current_bytes, bytes, __ATOMIC_RELAXED);
    int64_t peak = __atomic_load_n(&device->peak_bytes, __ATOMIC_RELAXED);
    while (now > peak && !__atomic_compare_exchange_n(&device->peak_bytes, &peak, now, false,
                                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

balora_status device_take(backend_device *device, cudaStream_t stream, int64_t bytes, const char *what,
                          void **out) {
    *out = nullptr;
    size_t wanted = bytes > 0 ? (size_t)bytes : 1;
    CUDA_TRY(cuda_check(device, what, cudaMallocFromPoolAsync(out, wanted, device->pool, stream)));
    count_bytes(device, bytes);
    return BALORA_OK;
}

void device_give(backend_device *device, cudaStream_t stream, void *memory, int64_t bytes) {
    if (memory == nullptr)
        return;
    cudaFreeAsync(memory, stream);
    count_bytes(device, -bytes);
}
