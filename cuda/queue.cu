/* Queues: a stream with its scratch memory, and the page-locked memory that transfers pass through. */
#include <string.h>

#include "attention.h"
#include "internal.h"
#include "libraries.h"
#include "slots.h"

static const int64_t STAGE_BYTES = INT64_C(4) << 20, LANDED_BYTES = INT64_C(1) << 20;
static const int64_t SCRATCH_FLOOR = INT64_C(1) << 20;

/* --- page-locked memory --- */

static balora_status stage_open(backend_queue *queue, cuda_stage *stage) {
    if (stage->data != nullptr)
        return BALORA_OK;
    CUDA_TRY(cuda_check(queue->device, "making an event",
                        cudaEventCreateWithFlags(&stage->done, cudaEventDisableTiming)));
    void *memory;
    CUDA_TRY(cuda_check(queue->device, "page-locked memory for transfers",
                        cudaMallocHost(&memory, (size_t)STAGE_BYTES)));
    stage->data = static_cast<unsigned char *>(memory);
    return BALORA_OK;
}

static void stage_close(cuda_stage *stage) {
    if (stage->data != nullptr)
        cudaFreeHost(stage->data);
    if (stage->done != nullptr)
        cudaEventDestroy(stage->done);
    *stage = {};
}

/* A stage with room: the one being filled, or the next when its copies have run. */
static balora_status stage_with_room(backend_queue *queue, cuda_stage **out) {
    cuda_stage *stage = &queue->stages[queue->stage];
    CUDA_TRY(stage_open(queue, stage));
    if (stage->used == STAGE_BYTES) {
        CUDA_TRY(cuda_check(queue->device, "upload", cudaEventRecord(stage->done, queue->stream)));
        queue->stage = (queue->stage + 1) % CUDA_STAGES;
        stage = &queue->stages[queue->stage];
        CUDA_TRY(stage_open(queue, stage));
        CUDA_TRY(cuda_check(queue->device, "upload", cudaEventSynchronize(stage->done)));
        stage->used = 0;
    }
    *out = stage;
    return BALORA_OK;
}

static balora_status send(backend_queue *queue, cuda_stage *stage, unsigned char *to, const void *host,
                          int64_t bytes) {
    unsigned char *from = stage->data + stage->used;
    memcpy(from, host, (size_t)bytes);
    stage->used = arith_min(STAGE_BYTES, arith_divide_up(stage->used + bytes, 64) * 64);
    return cuda_check(queue->device, "upload",
                      cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyHostToDevice, queue->stream));
}

static balora_status check_range(const char *slot, const backend_buffer *buffer, int64_t offset,
                                 int64_t bytes) {
    int64_t end;
    if (buffer == nullptr || offset < 0 || bytes < 0 || !arith_add_i64(offset, bytes, &end) ||
        end > buffer->bytes)
        return CUDA_INTERNAL("cuda %s: %lld bytes from %lld do not fit a buffer of %lld", slot,
                             (long long)bytes, (long long)offset,
                             buffer == nullptr ? 0LL : (long long)buffer->bytes);
    return BALORA_OK;
}

balora_status cuda_upload(backend_queue *queue, backend_buffer *buffer, int64_t offset, const void *host,
                          int64_t bytes) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_range("upload", buffer, offset, bytes));
    unsigned char *to = buffer->data + offset;
    const unsigned char *from = static_cast<const unsigned char *>(host);
    if (queue->capturing) {
        if (bytes > STAGE_BYTES - queue->captured.used)
            return cuda_fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUDA, 0,
                             "cuda:%d: more than %lld MiB of uploads in one graph", queue->device->index,
                             (long long)(STAGE_BYTES >> 20));
        return bytes > 0 ? send(queue, &queue->captured, to, from, bytes) : BALORA_OK;
    }
    for (int64_t sent = 0; sent < bytes;) {
        cuda_stage *stage;
        CUDA_TRY(stage_with_room(queue, &stage));
        int64_t piece = arith_min(bytes - sent, STAGE_BYTES - stage->used);
        CUDA_TRY(send(queue, stage, to + sent, from + sent, piece));
        sent += piece;
    }
    return BALORA_OK;
}

balora_status cuda_download(backend_queue *queue, void *host, backend_buffer *buffer, int64_t offset,
                            int64_t bytes) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_range("download", buffer, offset, bytes));
    if (bytes == 0)
        return BALORA_OK;
    const unsigned char *from = buffer->data + offset;
    bool lands = queue->landing_count < CUDA_LANDINGS && bytes <= LANDED_BYTES - queue->landed_bytes;
    if (!lands && queue->capturing)
        return cuda_fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUDA, 0,
                         "cuda:%d: more than %lld KiB or %d pieces of downloads in one graph",
                         queue->device->index, (long long)(LANDED_BYTES >> 10), CUDA_LANDINGS);
    if (!lands) /* to memory that is not page-locked: returns when the copy has run */
        return cuda_check(queue->device, "download",
                          cudaMemcpyAsync(host, from, (size_t)bytes, cudaMemcpyDeviceToHost, queue->stream));
    unsigned char *to = queue->landed + queue->landed_bytes;
    CUDA_TRY(cuda_check(queue->device, "download",
                        cudaMemcpyAsync(to, from, (size_t)bytes, cudaMemcpyDeviceToHost, queue->stream)));
    queue->landings[queue->landing_count++] = {host, to, bytes};
    queue->landed_bytes = arith_divide_up(queue->landed_bytes + bytes, 64) * 64;
    return BALORA_OK;
}

balora_status cuda_synchronize(backend_queue *queue) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(cuda_check(queue->device, "synchronize", cudaStreamSynchronize(queue->stream)));
    for (int32_t i = 0; i < queue->landing_count; i++)
        memcpy(queue->landings[i].host, queue->landings[i].data, (size_t)queue->landings[i].bytes);
    queue->landing_count = 0;
    queue->landed_bytes = 0;
    return BALORA_OK;
}

/* --- scratch --- */

balora_status check_not_capturing(const backend_queue *queue, const char *what) {
    if (!queue->capturing)
        return BALORA_OK;
    return cuda_fail(
        BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUDA, 0,
        "cuda:%d: %s would have to grow while a graph is recorded; prepare did not foresee the size",
        queue->device->index, what);
}

balora_status scratch_reserve(backend_queue *queue, int64_t bytes, void **out) {
    if (bytes > queue->scratch_bytes) {
        CUDA_TRY(check_not_capturing(queue, "scratch"));
        /* Work under way may still read the old block: it goes back in the order of the stream. */
        device_give(queue->device, queue->stream, queue->scratch, queue->scratch_bytes);
        queue->scratch = nullptr;
        queue->scratch_bytes = 0;
        void *memory;
        int64_t wanted = arith_max(bytes, SCRATCH_FLOOR);
        CUDA_TRY(device_take(queue->device, queue->stream, wanted, "scratch of a queue", &memory));
        queue->scratch = static_cast<unsigned char *>(memory);
        queue->scratch_bytes = wanted;
    }
    *out = queue->scratch;
    return BALORA_OK;
}

balora_status cuda_prepare(backend_queue *queue, const backend_limits *limits) {
    CUDA_TRY(enter(queue));
    int64_t bytes = gemm_scratch_bytes(queue, limits);
    bytes = arith_max(bytes, factor_scratch_bytes(queue, limits));
    bytes = arith_max(bytes, attention_scratch_bytes(queue, limits));
    bytes = arith_max(bytes, rows_scratch_bytes(queue, limits));
    bytes = arith_max(bytes, norm_scratch_bytes(queue, limits));
    bytes = arith_max(bytes, loss_scratch_bytes(queue, limits));
    void *unused;
    CUDA_TRY(scratch_reserve(queue, bytes, &unused));
    return libraries_prepare(queue, limits);
}

/* --- life --- */

static balora_status open_parts(backend_queue *queue) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(cuda_check(queue->device, "making a stream",
                        cudaStreamCreateWithFlags(&queue->stream, cudaStreamNonBlocking)));
    void *memory;
    CUDA_TRY(cuda_check(queue->device, "page-locked memory for transfers",
                        cudaMallocHost(&memory, (size_t)LANDED_BYTES)));
    queue->landed = static_cast<unsigned char *>(memory);
    return libraries_open(queue);
}

balora_status cuda_queue_open(backend_queue **out, backend_device *device) {
    *out = nullptr;
    backend_queue *queue;
    CUDA_TRY(cuda_host->allocate(device->memory, &queue, 1, sizeof *queue, "a cuda queue"));
    queue->device = device;
    balora_status status = open_parts(queue);
    if (status != BALORA_OK) {
        cuda_queue_close(queue);
        return status;
    }
    *out = queue;
    return BALORA_OK;
}

void cuda_queue_close(backend_queue *queue) {
    if (queue == nullptr)
        return;
    backend_device *device = queue->device;
    cudaSetDevice(device->index);
    if (queue->stream != nullptr)
        cudaStreamSynchronize(queue->stream);
    cudnn_close(queue);
    libraries_close(queue);
    device_give(device, queue->stream, queue->scratch, queue->scratch_bytes);
    for (cuda_stage &stage : queue->stages)
        stage_close(&stage);
    stage_close(&queue->captured);
    if (queue->landed != nullptr)
        cudaFreeHost(queue->landed);
    if (queue->graph != nullptr)
        cudaGraphExecDestroy(queue->graph);
    if (queue->stream != nullptr)
        cudaStreamDestroy(queue->stream);
    cuda_host->release(device->memory, queue);
}

balora_status cuda_allow_tf32(backend_queue *queue, int32_t allowed) {
    queue->allow_tf32 = allowed != 0;
    return BALORA_OK;
}

/* --- graphs --- */

balora_status cuda_capture_begin(backend_queue *queue) {
    CUDA_TRY(enter(queue));
    if (queue->capturing)
        return CUDA_INTERNAL("cuda capture_begin: the queue is recording already");
    CUDA_TRY(stage_open(queue, &queue->captured));
    CUDA_TRY(cuda_check(queue->device, "capture", cudaEventSynchronize(queue->captured.done)));
    queue->captured.used = 0;
    CUDA_TRY(cuda_check(queue->device, "capture",
                        cudaStreamBeginCapture(queue->stream, cudaStreamCaptureModeThreadLocal)));
    queue->capturing = 1;
    return BALORA_OK;
}

/* Put the new graph in the place of the last one: in place where it has the same form, as steps of one shape do. */
static balora_status take_graph(backend_queue *queue, cudaGraph_t graph) {
    if (queue->graph != nullptr) {
        cudaGraphExecUpdateResultInfo result = {};
        if (cudaGraphExecUpdate(queue->graph, graph, &result) == cudaSuccess)
            return BALORA_OK;
        cudaGetLastError();
        cudaGraphExecDestroy(queue->graph);
        queue->graph = nullptr;
    }
    return cuda_check(queue->device, "instantiating a graph", cudaGraphInstantiate(&queue->graph, graph, 0));
}

balora_status cuda_capture_end(backend_queue *queue, int32_t run) {
    CUDA_TRY(enter(queue));
    if (!queue->capturing)
        return CUDA_INTERNAL("cuda capture_end: the queue is not recording");
    queue->capturing = 0;
    cudaGraph_t graph = nullptr;
    cudaError_t error = cudaStreamEndCapture(queue->stream, &graph);
    if (!run || error != cudaSuccess) {
        if (graph != nullptr)
            cudaGraphDestroy(graph);
        cudaGetLastError();
        queue->landing_count = 0;
        queue->landed_bytes = 0;
        return run ? cuda_check(queue->device, "ending a capture", error) : BALORA_OK;
    }
    balora_status status = take_graph(queue, graph);
    cudaGraphDestroy(graph);
    CUDA_TRY(status);
    CUDA_TRY(cuda_check(queue->device, "running a graph", cudaGraphLaunch(queue->graph, queue->stream)));
    return cuda_check(queue->device, "running a graph", cudaEventRecord(queue->captured.done, queue->stream));
}
