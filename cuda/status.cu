/* Failures of the GPU backend as the library's own, and the checks of operands that find them first. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

const backend_host *cuda_host;

balora_status cuda_fail(balora_status status, int32_t origin, int64_t native_code, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return cuda_host->fail(status, origin, native_code, message);
}

static balora_status out_of_memory(const backend_device *device, const char *what, cudaError_t error) {
    size_t free_bytes = 0, total_bytes = 0;
    if (cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess)
        cudaGetLastError();
    return cuda_fail(
        BALORA_ERROR_MEMORY, BALORA_ORIGIN_CUDA, error,
        "cuda:%d: %s: out of device memory; %lld MiB are held by this device handle, %lld of %lld MiB are "
        "free",
        device->index, what, (long long)(device->current_bytes >> 20), (long long)(free_bytes >> 20),
        (long long)(total_bytes >> 20));
}

/* After these the process can do nothing more with the device. */
static bool is_lost(cudaError_t error) {
    return error == cudaErrorIllegalAddress || error == cudaErrorLaunchFailure ||
           error == cudaErrorECCUncorrectable || error == cudaErrorDevicesUnavailable;
}

balora_status cuda_check(const backend_device *device, const char *what, cudaError_t error) {
    if (error == cudaSuccess)
        return BALORA_OK;
    cudaGetLastError(); /* so that a later call does not report it again */
    if (device == nullptr)
        return cuda_fail(BALORA_ERROR_BACKEND, BALORA_ORIGIN_CUDA, error, "cuda: %s: %s (%s)", what,
                         cudaGetErrorString(error), cudaGetErrorName(error));
    if (error == cudaErrorMemoryAllocation)
        return out_of_memory(device, what, error);
    return cuda_fail(BALORA_ERROR_BACKEND, BALORA_ORIGIN_CUDA, error, "cuda:%d (%s): %s: %s (%s)%s",
                     device->index, device->name, what, cudaGetErrorString(error), cudaGetErrorName(error),
                     is_lost(error)
                         ? "; the device is lost to this process: start it again, from a checkpoint where "
                           "there is one"
                         : "");
}

balora_status operand_check(const char *slot, const char *name, matrix_view view, int64_t rows, int64_t cols,
                            int dtypes) {
    char problem[256];
    int64_t bytes = view.buffer != nullptr ? view.buffer->bytes : 0;
    if (operand_is_wrong(problem, sizeof problem, name, view, bytes, rows, cols, dtypes))
        return CUDA_INTERNAL("cuda %s: %s", slot, problem);
    return BALORA_OK;
}
