#include "text/buffer.h"

#include <string.h>

#include "base/arith.h"
#include "base/status.h"

#define SMALLEST_CAPACITY 256

static balora_status grow(allocator *memory, void *block, size_t count, size_t *capacity, size_t more,
                          size_t size, const char *what) {
    size_t needed;
    if (!arith_add(count, more, &needed))
        return status_fail(BALORA_ERROR_MEMORY, "%s: %zu and %zu elements overflow the address space", what,
                           count, more);
    if (needed <= *capacity)
        return BALORA_OK;
    size_t wanted = *capacity > SIZE_MAX / 2 ? needed : *capacity * 2;
    wanted = wanted < needed ? needed : wanted;
    wanted = wanted < SMALLEST_CAPACITY ? SMALLEST_CAPACITY : wanted;
    STATUS_TRY(memory_grow(memory, block, count, wanted, size, what));
    *capacity = wanted;
    return BALORA_OK;
}

balora_status text_buffer_reserve(text_buffer *buffer, size_t more) {
    return grow(buffer->memory, &buffer->bytes, buffer->count, &buffer->capacity, more, sizeof *buffer->bytes,
                "text");
}

balora_status token_buffer_reserve(token_buffer *buffer, size_t more) {
    return grow(buffer->memory, &buffer->ids, buffer->count, &buffer->capacity, more, sizeof *buffer->ids,
                "token ids");
}

balora_status text_buffer_append(text_buffer *buffer, const char *bytes, size_t count) {
    STATUS_TRY(text_buffer_reserve(buffer, count));
    if (count > 0)
        memcpy(buffer->bytes + buffer->count, bytes, count);
    buffer->count += count;
    return BALORA_OK;
}

balora_status token_buffer_append(token_buffer *buffer, int32_t id) {
    if (buffer->count == buffer->capacity)
        STATUS_TRY(token_buffer_reserve(buffer, 1));
    buffer->ids[buffer->count++] = id;
    return BALORA_OK;
}

balora_status token_buffer_append_all(token_buffer *buffer, const int32_t *ids, size_t count) {
    STATUS_TRY(token_buffer_reserve(buffer, count));
    if (count > 0)
        memcpy(buffer->ids + buffer->count, ids, count * sizeof *ids);
    buffer->count += count;
    return BALORA_OK;
}

void text_buffer_free(text_buffer *buffer) {
    memory_free(buffer->memory, buffer->bytes);
    *buffer = (text_buffer){.memory = buffer->memory};
}

void token_buffer_free(token_buffer *buffer) {
    memory_free(buffer->memory, buffer->ids);
    *buffer = (token_buffer){.memory = buffer->memory};
}
