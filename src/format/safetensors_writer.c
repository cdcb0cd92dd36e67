#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "format/safetensors.h"
#include "format/safetensors_types.h"

#define ALIGNMENT                                                                                            \
    8 /* the header is padded so that the tensors' bytes begin at a multiple of the widest element */

static balora_status tensor_bytes(const char *path, const safetensors_tensor *tensor, uint64_t *bytes) {
    const safetensors_type *type = safetensors_type_of(tensor->dtype);
    if (type == NULL || tensor->rank < 0 || tensor->rank > SAFETENSORS_RANK_LIMIT ||
        strlen(tensor->name) - 1 >= SAFETENSORS_NAME_LIMIT)
        return status_fail(BALORA_ERROR_INTERNAL,
                           "%s: tensor \"%.200s\": its name, type (%d) or rank (%d) cannot be written", path,
                           tensor->name, tensor->dtype, tensor->rank);
    int64_t size = type->bits / 8;
    for (int32_t i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] < 0 || !arith_multiply_i64(size, tensor->shape[i], &size))
            return status_fail(BALORA_ERROR_INTERNAL, "%s: tensor \"%.200s\": its size overflows", path,
                               tensor->name);
    *bytes = (uint64_t)size;
    return BALORA_OK;
}

/* Places by falling element size, and as declared among equals. */
static balora_status plan_order(safetensors_writer *writer, const char *path,
                                const safetensors_tensor *tensors) {
    int64_t place = 0;
    for (int32_t bits = 64; bits >= 8; bits /= 2)
        for (int64_t i = 0; i < writer->count; i++) {
            const safetensors_type *type = safetensors_type_of(tensors[i].dtype);
            if (type == NULL || type->bits != bits)
                continue;
            STATUS_TRY(tensor_bytes(path, &tensors[i], &writer->remaining[place]));
            writer->order[place++] = i;
        }
    if (place != writer->count)
        return status_fail(BALORA_ERROR_INTERNAL, "%s: a tensor has a type that cannot be written", path);
    return BALORA_OK;
}

/* NULL: out of memory. */
static json_t *shape_value(const safetensors_tensor *tensor) {
    json_t *shape = json_array();
    int failed = 0;
    for (int32_t i = 0; i < tensor->rank; i++)
        failed |= json_array_append_new(shape, json_integer(tensor->shape[i]));
    if (!failed)
        return shape;
    json_decref(shape);
    return NULL;
}

/* NULL: out of memory. */
static json_t *make_header(const safetensors_writer *writer, const safetensors_tensor *tensors,
                           const json_t *metadata) {
    json_t *header = json_object();
    int failed = metadata != NULL
                     ? json_object_set(header, "__metadata__", (json_t *)metadata)
                     : json_object_set_new(header, "__metadata__", json_pack("{s:s}", "format", "pt"));
    uint64_t offset = 0;
    for (int64_t place = 0; place < writer->count; place++) {
        const safetensors_tensor *tensor = &tensors[writer->order[place]];
        uint64_t end = offset + writer->remaining[place];
        json_t *value =
            json_pack("{s:s, s:o, s:[I, I]}", "dtype", safetensors_type_of(tensor->dtype)->name, "shape",
                      shape_value(tensor), "data_offsets", (json_int_t)offset, (json_int_t)end);
        failed |= json_object_set_new(header, tensor->name, value);
        offset = end;
    }
    if (!failed)
        return header;
    json_decref(header);
    return NULL;
}

static balora_status write_header(safetensors_writer *writer, const json_t *header) {
    const char *path = writer->file.path;
    if (json_object_size(header) != (size_t)writer->count + 1)
        return status_fail(BALORA_ERROR_INTERNAL, "%s: two tensors to be written have the same name", path);
    char *text = json_dumps(header, JSON_COMPACT);
    if (text == NULL)
        return status_fail(BALORA_ERROR_MEMORY, "%s: the header cannot be written: out of memory", path);
    uint64_t length = strlen(text), padded = (length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    unsigned char raw[8];
    for (int i = 0; i < 8; i++)
        raw[i] = (unsigned char)(padded >> (8 * i));
    balora_status status = file_write(&writer->file, raw, sizeof raw);
    if (status == BALORA_OK)
        status = file_write(&writer->file, text, length);
    if (status == BALORA_OK)
        status = file_write(&writer->file, "       ", padded - length);
    json_free_text(text);
    return status;
}

balora_status safetensors_create(safetensors_writer *out, allocator *memory, const char *path,
                                 const safetensors_tensor *tensors, int64_t count, const json_t *metadata) {
    memset(out, 0, sizeof *out);
    json_t *header = NULL;
    balora_status status;
    STATUS_GOTO(file_create(&out->file, memory, path));
    out->count = count;
    STATUS_GOTO(memory_new(memory, &out->order, (size_t)count, sizeof *out->order, "an order of tensors"));
    STATUS_GOTO(
        memory_zeroed(memory, &out->remaining, (size_t)count, sizeof *out->remaining, "sizes of tensors"));
    STATUS_GOTO(plan_order(out, path, tensors));
    header = make_header(out, tensors, metadata);
    if (header == NULL)
        STATUS_GOTO(status_fail(BALORA_ERROR_MEMORY, "%s: the header cannot be made: out of memory", path));
    STATUS_GOTO(write_header(out, header));
    json_decref(header);
    return BALORA_OK;
fail:
    json_decref(header);
    safetensors_abandon(out);
    return status;
}

int64_t safetensors_next(safetensors_writer *writer) {
    while (writer->place < writer->count && writer->remaining[writer->place] == 0)
        writer->place++;
    return writer->place < writer->count ? writer->order[writer->place] : -1;
}

balora_status safetensors_write(safetensors_writer *writer, const void *data, uint64_t bytes) {
    if (bytes == 0)
        return BALORA_OK;
    if (safetensors_next(writer) < 0 || bytes > writer->remaining[writer->place])
        return status_fail(BALORA_ERROR_INTERNAL, "%s: %llu bytes are more than the tensor that is due takes",
                           writer->file.path, (unsigned long long)bytes);
    writer->remaining[writer->place] -= bytes;
    return file_write(&writer->file, data, bytes);
}

static void free_plan(safetensors_writer *writer, allocator *memory) {
    memory_free(memory, writer->order);
    memory_free(memory, writer->remaining);
    memset(writer, 0, sizeof *writer);
}

balora_status safetensors_publish(safetensors_writer *writer) {
    allocator *memory = writer->file.memory;
    balora_status status;
    if (safetensors_next(writer) >= 0) {
        status = status_fail(BALORA_ERROR_INTERNAL, "%s: published before every tensor was written",
                             writer->file.path);
        file_abandon(&writer->file);
    } else {
        status = file_publish(&writer->file);
    }
    free_plan(writer, memory);
    return status;
}

void safetensors_abandon(safetensors_writer *writer) {
    allocator *memory = writer->file.memory;
    if (memory == NULL)
        return;
    file_abandon(&writer->file);
    free_plan(writer, memory);
}

balora_status safetensors_save(allocator *memory, const char *path, const safetensors_tensor *tensors,
                               int64_t count, const json_t *metadata) {
    safetensors_writer writer;
    STATUS_TRY(safetensors_create(&writer, memory, path, tensors, count, metadata));
    for (int64_t i; (i = safetensors_next(&writer)) >= 0;) {
        balora_status status = safetensors_write(&writer, tensors[i].data, writer.remaining[writer.place]);
        if (status != BALORA_OK) {
            safetensors_abandon(&writer);
            return status;
        }
    }
    return safetensors_publish(&writer);
}
