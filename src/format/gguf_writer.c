/* Writing GGUF: version 3, little endian, tensors as declared. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "format/gguf.h"

static balora_status put(gguf_writer *writer, uint64_t number, int bytes) {
    unsigned char raw[8];
    for (int i = 0; i < bytes; i++)
        raw[i] = (unsigned char)(number >> (8 * i));
    return file_write(&writer->file, raw, (uint64_t)bytes);
}

static balora_status put_text(gguf_writer *writer, const char *text) {
    uint64_t length = strlen(text);
    STATUS_TRY(put(writer, length, 8));
    return file_write(&writer->file, text, length);
}

/* `bytes` zeros, fewer than an alignment. */
static balora_status put_padding(gguf_writer *writer, uint64_t bytes) {
    static const unsigned char zeros[GGUF_DEFAULT_ALIGNMENT];
    return file_write(&writer->file, zeros, bytes);
}

static uint64_t padding_behind(uint64_t bytes) {
    return (GGUF_DEFAULT_ALIGNMENT - bytes % GGUF_DEFAULT_ALIGNMENT) % GGUF_DEFAULT_ALIGNMENT;
}

static balora_status put_setting(gguf_writer *writer, const gguf_setting *setting, uint64_t *header) {
    *header += 8 + strlen(setting->key) + 4;
    STATUS_TRY(put_text(writer, setting->key));
    STATUS_TRY(put(writer, setting->type, 4));
    if (setting->type == GGUF_TEXT) {
        *header += 8 + strlen(setting->text);
        return put_text(writer, setting->text);
    }
    float number = (float)setting->number;
    uint32_t bits;
    if (setting->type != GGUF_F32 || !isfinite(number))
        return status_fail(BALORA_ERROR_INTERNAL, "%s: \"%s\": its value %g or type (%s) cannot be written",
                           writer->file.path, setting->key, setting->number, gguf_value_name(setting->type));
    memcpy(&bits, &number, sizeof bits);
    *header += 4;
    return put(writer, bits, 4);
}

static balora_status measure(gguf_writer *writer, const gguf_output *tensor, uint64_t *bytes) {
    const gguf_tensor_type *type = gguf_tensor_type_of(tensor->dtype);
    if (type == NULL || tensor->rank < 0 || tensor->rank > GGUF_RANK_LIMIT ||
        strlen(tensor->name) - 1 >= GGUF_NAME_LIMIT)
        return status_fail(BALORA_ERROR_INTERNAL,
                           "%s: tensor \"%.200s\": its name, type (%d) or rank (%d) cannot be written",
                           writer->file.path, tensor->name, tensor->dtype, tensor->rank);
    int64_t size = type->block_bytes;
    for (int32_t i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] < 0 || !arith_multiply_i64(size, tensor->shape[i], &size))
            return status_fail(BALORA_ERROR_INTERNAL, "%s: tensor \"%.200s\": its size overflows",
                               writer->file.path, tensor->name);
    *bytes = (uint64_t)size;
    return BALORA_OK;
}

/* One tensor's description; `offset` is its place behind the header. */
static balora_status put_tensor(gguf_writer *writer, const gguf_output *tensor, uint64_t offset,
                                uint64_t *header) {
    *header += 8 + strlen(tensor->name) + 4 + 8 * (uint64_t)tensor->rank + 4 + 8;
    STATUS_TRY(put_text(writer, tensor->name));
    STATUS_TRY(put(writer, (uint64_t)tensor->rank, 4));
    for (int32_t i = 0; i < tensor->rank; i++)
        STATUS_TRY(put(writer, (uint64_t)tensor->shape[i], 8));
    STATUS_TRY(put(writer, gguf_tensor_type_of(tensor->dtype)->code, 4));
    return put(writer, offset, 8);
}

static balora_status write_header(gguf_writer *writer, const gguf_setting *settings, int64_t setting_count,
                                  const gguf_output *tensors) {
    uint64_t header = 24, offset = 0;
    STATUS_TRY(file_write(&writer->file, "GGUF", 4));
    STATUS_TRY(put(writer, GGUF_VERSION, 4));
    STATUS_TRY(put(writer, (uint64_t)writer->count, 8));
    STATUS_TRY(put(writer, (uint64_t)setting_count, 8));
    for (int64_t i = 0; i < setting_count; i++)
        STATUS_TRY(put_setting(writer, &settings[i], &header));
    for (int64_t i = 0; i < writer->count; i++) {
        uint64_t *bytes = &writer->remaining[i];
        STATUS_TRY(measure(writer, &tensors[i], bytes));
        STATUS_TRY(put_tensor(writer, &tensors[i], offset, &header));
        writer->padding[i] = padding_behind(*bytes);
        offset += *bytes + writer->padding[i];
    }
    return put_padding(writer, padding_behind(header));
}

balora_status gguf_create(gguf_writer *out, allocator *memory, const char *path, const gguf_setting *settings,
                          int64_t setting_count, const gguf_output *tensors, int64_t tensor_count) {
    memset(out, 0, sizeof *out);
    balora_status status;
    STATUS_GOTO(file_create(&out->file, memory, path));
    out->count = tensor_count;
    STATUS_GOTO(memory_zeroed(memory, &out->remaining, (size_t)tensor_count, sizeof *out->remaining,
                              "sizes of tensors"));
    STATUS_GOTO(
        memory_zeroed(memory, &out->padding, (size_t)tensor_count, sizeof *out->padding, "sizes of padding"));
    STATUS_GOTO(write_header(out, settings, setting_count, tensors));
    return BALORA_OK;
fail:
    gguf_abandon(out);
    return status;
}

int64_t gguf_next(const gguf_writer *writer) {
    return writer->place < writer->count ? writer->place : -1;
}

balora_status gguf_write(gguf_writer *writer, const void *data, uint64_t bytes) {
    int64_t place = writer->place;
    if (place >= writer->count || bytes > writer->remaining[place])
        return status_fail(BALORA_ERROR_INTERNAL,
                           "%s: %" PRIu64 " bytes are more than the tensor that is due takes",
                           writer->file.path, bytes);
    writer->remaining[place] -= bytes;
    if (bytes > 0) /* of an empty tensor `data` may be NULL */
        STATUS_TRY(file_write(&writer->file, data, bytes));
    if (writer->remaining[place] > 0)
        return BALORA_OK;
    writer->place++;
    return put_padding(writer, writer->padding[place]);
}

static void free_plan(gguf_writer *writer, allocator *memory) {
    memory_free(memory, writer->remaining);
    memory_free(memory, writer->padding);
    memset(writer, 0, sizeof *writer);
}

balora_status gguf_publish(gguf_writer *writer) {
    allocator *memory = writer->file.memory;
    balora_status status;
    if (gguf_next(writer) >= 0) {
        status = status_fail(BALORA_ERROR_INTERNAL, "%s: published before every tensor was written",
                             writer->file.path);
        file_abandon(&writer->file);
    } else {
        status = file_publish(&writer->file);
    }
    free_plan(writer, memory);
    return status;
}

void gguf_abandon(gguf_writer *writer) {
    allocator *memory = writer->file.memory;
    if (memory == NULL)
        return;
    file_abandon(&writer->file);
    free_plan(writer, memory);
}
