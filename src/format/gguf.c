/* GGUF files: tensors' types and places. Reading the header: gguf_header.c; values by key: gguf_values.c. */
#include "format/gguf.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "format/gguf_header.h"

static int compare_keys(const void *left, const void *right) {
    const gguf_value *a = left, *b = right;
    return strcmp(a->key, b->key);
}

static int compare_places(const void *left, const void *right) {
    const gguf_tensor *a = left, *b = right;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int compare_names(const void *left, const void *right) {
    const gguf_tensor *const *a = left, *const *b = right;
    return strcmp((*a)->name, (*b)->name);
}

static balora_status sort_values(gguf_file *self) {
    qsort(self->values, (size_t)self->value_count, sizeof *self->values, compare_keys);
    for (int64_t i = 1; i < self->value_count; i++)
        if (strcmp(self->values[i - 1].key, self->values[i].key) == 0)
            return status_fail(BALORA_ERROR_FORMAT, "%s: two values have the key \"%.200s\"", self->file.path,
                               self->values[i].key);
    return BALORA_OK;
}

/* Elements and bytes of a tensor, from its shape and type. */
static balora_status measure(const gguf_file *self, gguf_tensor *tensor) {
    const char *path = self->file.path;
    tensor->type = gguf_tensor_type_coded(tensor->type_code);
    if (tensor->type == NULL)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: tensor \"%.200s\": this version has no element type %" PRIu32, path,
                           tensor->name, tensor->type_code);
    int64_t block = tensor->type->block_elements, row = tensor->rank > 0 ? tensor->shape[0] : 1, bytes;
    tensor->elements = 1;
    for (int32_t i = 0; i < tensor->rank; i++)
        if (!arith_multiply_i64(tensor->elements, tensor->shape[i], &tensor->elements))
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: tensor \"%.200s\": the product of its shape overflows 64 bits", path,
                               tensor->name);
    if (row % block != 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: tensor \"%.200s\": rows of %" PRId64
                           " elements do not fill blocks of %" PRId64 " (%s)",
                           path, tensor->name, row, block, tensor->type->name);
    if (!arith_multiply_i64(tensor->elements / block, tensor->type->block_bytes, &bytes))
        return status_fail(BALORA_ERROR_FORMAT, "%s: tensor \"%.200s\": its size overflows 64 bits", path,
                           tensor->name);
    tensor->bytes = (uint64_t)bytes;
    return BALORA_OK;
}

static balora_status read_alignment(gguf_file *self) {
    int64_t alignment = GGUF_DEFAULT_ALIGNMENT;
    STATUS_TRY(gguf_integer(self, "general.alignment", false, 1, GGUF_ALIGNMENT_LIMIT, &alignment));
    if ((alignment & (alignment - 1)) != 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: \"general.alignment\" is %" PRId64 "; expected a power of two",
                           self->file.path, alignment);
    self->alignment = (uint32_t)alignment;
    return BALORA_OK;
}

/* Small numbers only: `place` lies in the file. */
static uint64_t align(const gguf_file *self, uint64_t place) {
    return (place + self->alignment - 1) / self->alignment * self->alignment;
}

/* Sorted by offset, every tensor begins where the one before ended, padded; the last ends with the file. */
static balora_status place_tensors(gguf_file *self, uint64_t header_bytes) {
    uint64_t begin = align(self, header_bytes), end = header_bytes;
    qsort(self->tensors, (size_t)self->tensor_count, sizeof *self->tensors, compare_places);
    for (int64_t i = 0; i < self->tensor_count; i++) {
        gguf_tensor *tensor = &self->tensors[i];
        uint64_t expected = align(self, end) - begin;
        if (tensor->offset != expected)
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: tensor \"%.200s\": begins at %" PRIu64
                               " of the tensors' bytes; expected %" PRIu64
                               ": behind the tensor before it, at a multiple of %" PRIu32,
                               self->file.path, tensor->name, tensor->offset, expected, self->alignment);
        tensor->offset = begin + expected;
        if (tensor->offset > self->file.bytes || tensor->bytes > self->file.bytes - tensor->offset)
            return status_fail(
                BALORA_ERROR_FORMAT,
                "%s: tensor \"%.200s\": %" PRIu64 " bytes from offset %" PRIu64
                " on go beyond the file's end (%" PRIu64 " bytes); it may be damaged or not fully downloaded",
                self->file.path, tensor->name, tensor->bytes, tensor->offset, self->file.bytes);
        end = tensor->offset + tensor->bytes;
    }
    if (self->file.bytes > align(self, end))
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": expected the file's end, but %" PRIu64
                           " bytes follow that belong to no tensor",
                           self->file.path, end, self->file.bytes - end);
    return BALORA_OK;
}

/* When the tensors have their order. */
static balora_status index_names(gguf_file *self) {
    size_t count = (size_t)self->tensor_count;
    STATUS_TRY(memory_new(self->file.memory, &self->by_name, count, sizeof(self->by_name[0]),
                          "an index of tensors"));
    for (size_t i = 0; i < count; i++)
        self->by_name[i] = &self->tensors[i];
    qsort(self->by_name, count, sizeof(self->by_name[0]), compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(self->by_name[i - 1]->name, self->by_name[i]->name) == 0)
            return status_fail(BALORA_ERROR_FORMAT, "%s: two tensors have the name \"%.200s\"",
                               self->file.path, self->by_name[i]->name);
    return BALORA_OK;
}

balora_status gguf_open(gguf_file *out, allocator *memory, const char *path) {
    memset(out, 0, sizeof *out);
    uint64_t header_bytes;
    balora_status status;
    STATUS_GOTO(file_open(&out->file, memory, path));
    STATUS_GOTO(gguf_header_read(out, &header_bytes));
    STATUS_GOTO(sort_values(out));
    STATUS_GOTO(read_alignment(out));
    for (int64_t i = 0; i < out->tensor_count; i++)
        STATUS_GOTO(measure(out, &out->tensors[i]));
    STATUS_GOTO(place_tensors(out, header_bytes));
    STATUS_GOTO(index_names(out));
    return BALORA_OK;
fail:
    gguf_close(out);
    return status;
}

void gguf_close(gguf_file *self) {
    allocator *memory = self->file.memory;
    if (memory == NULL)
        return;
    memory_free(memory, self->by_name);
    memory_free(memory, self->tensors);
    memory_free(memory, self->values);
    memory_free(memory, self->header);
    file_close(&self->file);
    memset(self, 0, sizeof *self);
}

balora_status gguf_read_part(const gguf_file *self, const gguf_tensor *tensor, uint64_t offset,
                             uint64_t bytes, void *out) {
    if (offset > tensor->bytes || bytes > tensor->bytes - offset)
        return status_fail(BALORA_ERROR_INTERNAL,
                           "%s: tensor \"%.200s\": bytes behind its %" PRIu64 " were asked for",
                           self->file.path, tensor->name, tensor->bytes);
    balora_status status = file_read_at(&self->file, tensor->offset + offset, out, bytes);
    return status == BALORA_OK ? BALORA_OK : status_prefix(status, "tensor \"%.200s\"", tensor->name);
}

balora_status gguf_read(const gguf_file *self, const gguf_tensor *tensor, void *out) {
    return gguf_read_part(self, tensor, 0, tensor->bytes, out);
}
