/* Buffers of device memory, and events. */
#include "internal.h"
#include "slots.h"

/* --- buffers --- */

balora_status cuda_buffer_allocate(backend_buffer **out, backend_device *device, int64_t bytes) {
    *out = nullptr;
    if (bytes < 0)
        return CUDA_INTERNAL("cuda buffer_allocate: %lld bytes", (long long)bytes);
    CUDA_TRY(cuda_check(device, "cudaSetDevice", cudaSetDevice(device->index)));
    backend_buffer *buffer;
    CUDA_TRY(cuda_host->allocate(device->memory, &buffer, 1, sizeof *buffer, "a buffer of a cuda device"));
    void *memory;
    balora_status status = device_take(device, device->stream, bytes, "a buffer", &memory);
    /* Any queue may use it from now on. */
    if (status == BALORA_OK)
        status = cuda_check(device, "a buffer", cudaStreamSynchronize(device->stream));
    if (status != BALORA_OK) {
        device_give(device, device->stream, memory, bytes);
        cuda_host->release(device->memory, buffer);
        return status;
    }
    buffer->data = static_cast<unsigned char *>(memory);
    buffer->bytes = bytes;
    *out = buffer;
    return BALORA_OK;
}

/* Memory of the host's that a kernel would fault on is found here, where it can still be told. */
static balora_status check_place(const backend_device *device, const void *memory) {
    cudaPointerAttributes attributes;
    CUDA_TRY(cuda_check(device, "buffer_wrap", cudaPointerGetAttributes(&attributes, memory)));
    bool reachable = attributes.type == cudaMemoryTypeManaged ||
                     (attributes.type == cudaMemoryTypeDevice && attributes.device == device->index);
    if (!reachable)
        return cuda_fail(BALORA_ERROR_ARGUMENT, BALORA_ORIGIN_BALORA, 0,
                         "memory at %p is not of cuda device %d: the runtime calls it type %d of device %d",
                         memory, device->index, (int)attributes.type, attributes.device);
    return BALORA_OK;
}

balora_status cuda_buffer_wrap(backend_buffer **out, backend_device *device, void *memory, int64_t bytes) {
    *out = nullptr;
    if (bytes < 0 || (memory == nullptr && bytes > 0))
        return CUDA_INTERNAL("cuda buffer_wrap: %lld bytes at %p", (long long)bytes, memory);
    CUDA_TRY(cuda_check(device, "cudaSetDevice", cudaSetDevice(device->index)));
    if (bytes > 0)
        CUDA_TRY(check_place(device, memory));
    CUDA_TRY(cuda_host->allocate(device->memory, out, 1, sizeof **out, "a buffer of a cuda device"));
    **out = {static_cast<unsigned char *>(memory), bytes, true};
    return BALORA_OK;
}

void cuda_buffer_free(backend_device *device, backend_buffer *buffer) {
    if (buffer == nullptr)
        return;
    cudaSetDevice(device->index);
    cudaDeviceSynchronize(); /* no queue works with it any more */
    if (!buffer->wrapped)
        device_give(device, device->stream, buffer->data, buffer->bytes);
    cuda_host->release(device->memory, buffer);
}

balora_status cuda_fill_zero(backend_queue *queue, matrix_view x) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("fill_zero", "x", x, ANY_SIZE, ANY_SIZE, IN_FLOAT | IN_F64 | IN_I32 | IN_U8));
    if (x.rows == 0 || x.cols == 0)
        return BALORA_OK;
    size_t width = (size_t)(x.cols * element_size(x.dtype)), pitch = (size_t)(x.ld * element_size(x.dtype));
    void *data = view_data<void>(x);
    if (is_joined(x))
        return cuda_check(queue->device, "fill_zero",
                          cudaMemsetAsync(data, 0, width * (size_t)x.rows, queue->stream));
    return cuda_check(queue->device, "fill_zero",
                      cudaMemset2DAsync(data, pitch, 0, width, (size_t)x.rows, queue->stream));
}

/* --- events --- */

balora_status cuda_event_open(backend_event **out, backend_device *device) {
    *out = nullptr;
    CUDA_TRY(cuda_check(device, "cudaSetDevice", cudaSetDevice(device->index)));
    backend_event *event;
    CUDA_TRY(cuda_host->allocate(device->memory, &event, 1, sizeof *event, "an event of a cuda device"));
    event->device = device;
    balora_status status =
        cuda_check(device, "making an event", cudaEventCreateWithFlags(&event->event, cudaEventDefault));
    if (status != BALORA_OK) {
        cuda_host->release(device->memory, event);
        return status;
    }
    *out = event;
    return BALORA_OK;
}

void cuda_event_close(backend_event *event) {
    if (event == nullptr)
        return;
    cudaEventDestroy(event->event);
    cuda_host->release(event->device->memory, event);
}

balora_status cuda_event_record(backend_queue *queue, backend_event *event) {
    CUDA_TRY(enter(queue));
    return cuda_check(queue->device, "recording an event", cudaEventRecord(event->event, queue->stream));
}

balora_status cuda_event_wait(backend_queue *queue, backend_event *event) {
    CUDA_TRY(enter(queue));
    return cuda_check(queue->device, "waiting for an event",
                      cudaStreamWaitEvent(queue->stream, event->event, 0));
}

balora_status cuda_event_elapsed(backend_event *begin, backend_event *end, double *seconds) {
    float milliseconds = 0;
    CUDA_TRY(cuda_check(begin->device, "cudaSetDevice", cudaSetDevice(begin->device->index)));
    CUDA_TRY(cuda_check(begin->device, "waiting for an event", cudaEventSynchronize(begin->event)));
    CUDA_TRY(cuda_check(begin->device, "waiting for an event", cudaEventSynchronize(end->event)));
    CUDA_TRY(cuda_check(begin->device, "measuring time",
                        cudaEventElapsedTime(&milliseconds, begin->event, end->event)));
    *seconds = (double)milliseconds * 1e-3;
    return BALORA_OK;
}
