/* Memory of the CPU device: host blocks. */
#include <string.h>

#include "cpu/internal.h"

balora_status cpu_buffer_allocate(backend_buffer **out, backend_device *device, int64_t bytes) {
    *out = NULL;
    if (bytes < 0)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu buffer_allocate: %lld bytes", (long long)bytes);
    backend_buffer *buffer;
    STATUS_TRY(memory_zeroed(device->memory, &buffer, 1, sizeof *buffer, "a cpu buffer"));
    balora_status status = device_take(device, bytes, "a cpu buffer", &buffer->data);
    if (status != BALORA_OK) {
        memory_free(device->memory, buffer);
        return status;
    }
    buffer->bytes = bytes;
    *out = buffer;
    return BALORA_OK;
}

balora_status cpu_buffer_wrap(backend_buffer **out, backend_device *device, void *memory, int64_t bytes) {
    *out = NULL;
    if (bytes < 0 || (memory == NULL && bytes > 0))
        return status_fail(BALORA_ERROR_INTERNAL, "cpu buffer_wrap: %lld bytes at %p", (long long)bytes,
                           memory);
    STATUS_TRY(memory_zeroed(device->memory, out, 1, sizeof **out, "a cpu buffer"));
    **out = (backend_buffer){memory, bytes, true};
    return BALORA_OK;
}

void cpu_buffer_free(backend_device *device, backend_buffer *buffer) {
    if (buffer == NULL)
        return;
    if (!buffer->wrapped)
        device_give(device, buffer->data, buffer->bytes);
    memory_free(device->memory, buffer);
}

static balora_status check_range(const char *slot, const backend_buffer *buffer, int64_t offset,
                                 int64_t bytes) {
    if (buffer == NULL || offset < 0 || bytes < 0 || offset > buffer->bytes || bytes > buffer->bytes - offset)
        return status_fail(
            BALORA_ERROR_INTERNAL, "cpu %s: %lld bytes at byte %lld do not fit a buffer of %lld bytes", slot,
            (long long)bytes, (long long)offset, buffer == NULL ? -1LL : (long long)buffer->bytes);
    return BALORA_OK;
}

balora_status cpu_upload(backend_queue *queue, backend_buffer *buffer, int64_t offset, const void *host,
                         int64_t bytes) {
    (void)queue;
    STATUS_TRY(check_range("upload", buffer, offset, bytes));
    if (bytes > 0)
        memcpy(buffer->data + offset, host, (size_t)bytes);
    return BALORA_OK;
}

balora_status cpu_download(backend_queue *queue, void *host, backend_buffer *buffer, int64_t offset,
                           int64_t bytes) {
    (void)queue;
    STATUS_TRY(check_range("download", buffer, offset, bytes));
    if (bytes > 0)
        memcpy(host, buffer->data + offset, (size_t)bytes);
    return BALORA_OK;
}

static void zero_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const matrix_view *x = user;
    int64_t size = element_size(x->dtype);
    memset((unsigned char *)view_row(*x, row) + column * size, 0, (size_t)(count * size));
}

balora_status cpu_fill_zero(backend_queue *queue, matrix_view x) {
    (void)queue;
    STATUS_TRY(operand_check("fill_zero", "x", x, ANY_SIZE, ANY_SIZE, IN_FLOAT | IN_F64 | IN_I32));
    parallel_spans(x.rows, x.cols, is_joined(x), zero_span, &x);
    return BALORA_OK;
}
