/* The emulated runtime: devices, memory, streams, events, graphs, and failures on demand. */
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "recording.h"

struct emulation_stream {
    std::vector<std::function<cudaError_t()>> *recording = nullptr;
    bool broken = false; /* the capture met something that cannot be captured */
};
struct emulation_event {
    double seconds = 0;
};
struct emulation_pool {
    int device;
};
struct emulation_graph {
    std::vector<std::function<cudaError_t()>> nodes;
};
struct emulation_graph_exec {
    std::vector<std::function<cudaError_t()>> nodes;
};

namespace {

std::atomic<int> device_count{1};
std::atomic<std::size_t> memory_limit{std::size_t{8} << 30}, memory_used{0};
std::atomic<long> calls_before_failure{-1}, failures_left{0};
std::atomic<int> failure{cudaSuccess};
thread_local cudaError_t last_error = cudaSuccess;

const std::size_t FILLED_BYTES = std::size_t{32} << 20;

std::mutex blocks_mutex;
std::unordered_map<void *, std::size_t> blocks;

/* The error that a test asked for at this call, or success. */
cudaError_t planned_failure() {
    if (failures_left.load() == 0)
        return cudaSuccess;
    if (calls_before_failure.load() > 0) {
        calls_before_failure--;
        return cudaSuccess;
    }
    failures_left--;
    return (cudaError_t)failure.load();
}

cudaError_t answer(cudaError_t error) {
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

double now() {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

cudaError_t simple() {
    return answer(planned_failure());
}

cudaError_t no_capture(cudaStream_t stream) {
    if (stream->recording == nullptr)
        return cudaSuccess;
    stream->broken = true;
    return answer(cudaErrorStreamCaptureUnsupported);
}

} // namespace

void emulation_fail_calls(long after, long count, cudaError_t error) {
    calls_before_failure = after;
    failure = error;
    failures_left = count;
}

void emulation_set_devices(int count, std::size_t memory_bytes) {
    device_count = count;
    memory_limit = memory_bytes;
}

const char *cudaGetErrorName(cudaError_t error) {
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorNotSupported:
        return "cudaErrorNotSupported";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
        return "cudaErrorInvalidDevice";
    case cudaErrorInsufficientDriver:
        return "cudaErrorInsufficientDriver";
    case cudaErrorDevicesUnavailable:
        return "cudaErrorDevicesUnavailable";
    case cudaErrorECCUncorrectable:
        return "cudaErrorECCUncorrectable";
    case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
        return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorGraphExecUpdateFailure:
        return "cudaErrorGraphExecUpdateFailure";
    default:
        return "cudaErrorUnknown";
    }
}
const char *cudaGetErrorString(cudaError_t error) {
    return error == cudaSuccess ? "no error" : "emulated error";
}
cudaError_t cudaGetLastError() {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}
cudaError_t cudaPeekAtLastError() {
    return last_error;
}

cudaError_t emulation_enqueue(cudaStream_t stream, std::function<cudaError_t()> work) {
    cudaError_t error = planned_failure();
    if (error != cudaSuccess)
        return answer(error);
    if (stream->recording != nullptr) {
        stream->recording->push_back(std::move(work));
        return cudaSuccess;
    }
    return answer(work());
}

cudaError_t emulation_launch(const cudaLaunchConfig_t *config, std::function<void()> thread) {
    cudaLaunchConfig_t copy = *config;
    return emulation_enqueue(config->stream, [copy, thread]() { return emulation_play(copy, thread); });
}

cudaError_t cudaGetDeviceCount(int *count) {
    cudaError_t error = planned_failure();
    *count = error == cudaSuccess ? device_count.load() : 0;
    if (error == cudaSuccess && *count == 0)
        error = cudaErrorNoDevice;
    return answer(error);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *out, int device) {
    if (device < 0 || device >= device_count)
        return answer(cudaErrorInvalidDevice);
    *out = {};
    std::strcpy(out->name, "emulated GPU");
    out->totalGlobalMem = memory_limit;
    out->major = 9;
    out->minor = 0;
    out->multiProcessorCount = 4;
    out->sharedMemPerBlockOptin = EMULATED_SHARED_BYTES;
    return simple();
}
cudaError_t cudaSetDevice(int device) {
    return device < 0 || device >= device_count ? answer(cudaErrorInvalidDevice) : simple();
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = 13000;
    return simple();
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return simple();
}
cudaError_t cudaDeviceSynchronize() {
    return simple();
}

/* --- memory --- */

cudaError_t cudaMemGetInfo(std::size_t *free, std::size_t *total) {
    *total = memory_limit;
    *free = memory_limit - memory_used;
    return simple();
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t *out, const cudaMemPoolProps *props) {
    cudaError_t error = planned_failure();
    *out = error == cudaSuccess ? new emulation_pool{props->location.id} : nullptr;
    return answer(error);
}
cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
    delete pool;
    return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void *) {
    return simple();
}

static void *take(std::size_t bytes, cudaError_t *error) {
    *error = planned_failure();
    if (*error == cudaSuccess && memory_used + bytes > memory_limit)
        *error = cudaErrorMemoryAllocation;
    void *memory = nullptr;
    if (*error == cudaSuccess && posix_memalign(&memory, 256, bytes == 0 ? 1 : bytes) != 0)
        *error = cudaErrorMemoryAllocation;
    if (*error != cudaSuccess)
        return nullptr;
    /* NaN: what a slot must not read before it is written. The end of a large scratch block stays what it is: filling it
     * would take longer than the tests. */
    std::memset(memory, 0xFF, bytes < FILLED_BYTES ? bytes : FILLED_BYTES);
    memory_used += bytes;
    std::lock_guard<std::mutex> lock(blocks_mutex);
    blocks[memory] = bytes;
    return memory;
}

static cudaError_t give_back(void *memory) {
    if (memory == nullptr)
        return cudaSuccess;
    std::lock_guard<std::mutex> lock(blocks_mutex);
    auto found = blocks.find(memory);
    if (found == blocks.end())
        return cudaErrorInvalidValue;
    memory_used -= found->second;
    blocks.erase(found);
    std::free(memory);
    return cudaSuccess;
}

cudaError_t cudaMallocFromPoolAsync(void **out, std::size_t bytes, cudaMemPool_t, cudaStream_t) {
    cudaError_t error;
    *out = take(bytes, &error);
    return answer(error);
}
cudaError_t cudaFreeAsync(void *memory, cudaStream_t) {
    return answer(give_back(memory));
}
cudaError_t cudaMallocHost(void **out, std::size_t bytes) {
    cudaError_t error;
    *out = take(bytes, &error);
    return answer(error);
}
/* Memory taken here is the device's, whichever call took it; all other is unknown to the runtime. */
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *out, const void *memory) {
    cudaError_t error = planned_failure();
    if (error != cudaSuccess)
        return answer(error);
    *out = {};
    std::lock_guard<std::mutex> lock(blocks_mutex);
    const unsigned char *place = static_cast<const unsigned char *>(memory);
    for (const auto &[start, bytes] : blocks)
        if (place >= start && place < static_cast<const unsigned char *>(start) + bytes) {
            out->type = cudaMemoryTypeDevice;
            out->devicePointer = const_cast<void *>(memory);
        }
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *memory) {
    return answer(give_back(memory));
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
    return emulation_enqueue(stream, [=]() {
        std::memcpy(to, from, bytes);
        return cudaSuccess;
    });
}
cudaError_t cudaMemsetAsync(void *memory, int value, std::size_t bytes, cudaStream_t stream) {
    return cudaMemset2DAsync(memory, bytes, value, bytes, 1, stream);
}
cudaError_t cudaMemset2DAsync(void *memory, std::size_t pitch, int value, std::size_t width,
                              std::size_t height, cudaStream_t stream) {
    return emulation_enqueue(stream, [=]() {
        for (std::size_t row = 0; row < height; row++)
            std::memset(static_cast<char *>(memory) + row * pitch, value, width);
        return cudaSuccess;
    });
}
cudaError_t cudaMemcpy2DAsync(void *to, std::size_t to_pitch, const void *from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind, cudaStream_t stream) {
    return emulation_enqueue(stream, [=]() {
        for (std::size_t row = 0; row < height; row++)
            std::memcpy(static_cast<char *>(to) + row * to_pitch,
                        static_cast<const char *>(from) + row * from_pitch, width);
        return cudaSuccess;
    });
}

/* --- streams, events, graphs --- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned) {
    cudaError_t error = planned_failure();
    *out = error == cudaSuccess ? new emulation_stream : nullptr;
    return answer(error);
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (stream != nullptr)
        delete stream->recording;
    delete stream;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    cudaError_t error = no_capture(stream);
    return error != cudaSuccess ? error : simple();
}
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) {
    return simple();
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned) {
    cudaError_t error = planned_failure();
    *out = error == cudaSuccess ? new emulation_event : nullptr;
    return answer(error);
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    return emulation_enqueue(stream, [=]() {
        event->seconds = now();
        return cudaSuccess;
    });
}
cudaError_t cudaEventSynchronize(cudaEvent_t) {
    return simple();
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    *milliseconds = (float)((end->seconds - begin->seconds) * 1e3);
    return simple();
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    cudaError_t error = planned_failure();
    if (error == cudaSuccess) {
        delete stream->recording;
        stream->recording = new std::vector<std::function<cudaError_t()>>;
        stream->broken = false;
    }
    return answer(error);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out) {
    *out = nullptr;
    if (stream->recording == nullptr)
        return answer(cudaErrorInvalidValue);
    auto *nodes = stream->recording;
    stream->recording = nullptr;
    if (!stream->broken)
        *out = new emulation_graph{*nodes};
    delete nodes;
    return answer(stream->broken ? cudaErrorStreamCaptureUnsupported : planned_failure());
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
    cudaError_t error = planned_failure();
    *out = error == cudaSuccess ? new emulation_graph_exec{graph->nodes} : nullptr;
    return answer(error);
}
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph,
                                cudaGraphExecUpdateResultInfo *info) {
    /* As the device does: a graph of another form cannot be updated in place. */
    if (exec->nodes.size() != graph->nodes.size())
        return answer(cudaErrorGraphExecUpdateFailure);
    exec->nodes = graph->nodes;
    info->result = cudaGraphExecUpdateSuccess;
    return simple();
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
    std::vector<std::function<cudaError_t()>> nodes = exec->nodes;
    return emulation_enqueue(stream, [nodes]() {
        for (const auto &node : nodes) {
            cudaError_t error = node();
            if (error != cudaSuccess)
                return error;
        }
        return cudaSuccess;
    });
}
cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int value) {
    return value < 0 || (std::size_t)value > EMULATED_SHARED_BYTES ? answer(cudaErrorInvalidValue) : simple();
}
