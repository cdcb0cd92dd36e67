/* The header of a GGUF file: read forward in blocks, without recursion. Places and types of tensors: gguf.c. */
#include "format/gguf_header.h"

#include <inttypes.h>
#include <string.h>

#include "base/status.h"

#define FIRST_BLOCK_BYTES ((uint64_t)1 << 16)

/* The smallest description of a value (empty text, or a number of one byte, behind a key of one byte), and of a tensor
 * (no dimension, a name of one byte). */
#define VALUE_BYTES_LEAST  (8 + 1 + 4 + 1)
#define TENSOR_BYTES_LEAST (8 + 1 + 4 + 4 + 8)

/* Where the reader is in the header; self->header holds the file's first `held` bytes. */
typedef struct gguf_cursor {
    gguf_file *self;
    uint64_t at, held, capacity;
} gguf_cursor;

static balora_status grow(gguf_cursor *cursor, uint64_t needed) {
    gguf_file *self = cursor->self;
    uint64_t capacity = cursor->capacity > 0 ? cursor->capacity : FIRST_BLOCK_BYTES;
    while (capacity < needed)
        capacity *= 2;
    if (capacity > self->file.bytes)
        capacity = self->file.bytes;
    /* one byte more: the NUL behind a text that ends the header */
    STATUS_TRY(memory_grow(self->file.memory, &self->header, cursor->held, capacity + 1, 1, "a GGUF header"));
    cursor->capacity = capacity;
    STATUS_TRY(file_read_at(&self->file, cursor->held, self->header + cursor->held, capacity - cursor->held));
    cursor->held = capacity;
    return BALORA_OK;
}

/* Step over `bytes` bytes that are then in memory. `what` they are: for messages. */
static balora_status take(gguf_cursor *cursor, uint64_t bytes, const char *what) {
    const file_reader *file = &cursor->self->file;
    uint64_t left = file->bytes - cursor->at;
    if (bytes > left)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": %s takes %" PRIu64 " bytes, but the file has %" PRIu64
                           " left; it may be damaged or not fully downloaded",
                           file->path, cursor->at, what, bytes, left);
    if (bytes > GGUF_HEADER_LIMIT - cursor->at)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": %s of %" PRIu64 " bytes; a header of at most %" PRIu64
                           " bytes is read",
                           file->path, cursor->at, what, bytes, GGUF_HEADER_LIMIT);
    if (cursor->at + bytes > cursor->held)
        STATUS_TRY(grow(cursor, cursor->at + bytes));
    cursor->at += bytes;
    return BALORA_OK;
}

static balora_status take_u32(gguf_cursor *cursor, uint32_t *out, const char *what) {
    STATUS_TRY(take(cursor, 4, what));
    *out = (uint32_t)gguf_load(cursor->self->header + cursor->at - 4, 4);
    return BALORA_OK;
}

static balora_status take_u64(gguf_cursor *cursor, uint64_t *out, const char *what) {
    STATUS_TRY(take(cursor, 8, what));
    *out = gguf_load(cursor->self->header + cursor->at - 8, 8);
    return BALORA_OK;
}

/* A count of things of which each takes at least `least` bytes of the file. */
static balora_status take_count(gguf_cursor *cursor, uint64_t limit, uint64_t least, const char *what,
                                int64_t *out) {
    uint64_t count, left;
    STATUS_TRY(take_u64(cursor, &count, what));
    left = cursor->self->file.bytes - cursor->at;
    if (count > limit || count > left / least)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": %s is %" PRIu64 "; at most %" PRIu64
                           " are read, and %" PRIu64 " bytes follow",
                           cursor->self->file.path, cursor->at - 8, what, count, limit, left);
    *out = (int64_t)count;
    return BALORA_OK;
}

static balora_status read_start(gguf_cursor *cursor) {
    gguf_file *self = cursor->self;
    STATUS_TRY(take(cursor, 4, "the magic number"));
    if (memcmp(self->header, "GGUF", 4) != 0)
        return status_fail(BALORA_ERROR_FORMAT, "%s: offset 0: expected the magic number \"GGUF\"",
                           self->file.path);
    STATUS_TRY(take_u32(cursor, &self->version, "the version"));
    if (self->version >= 1u << 16)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: offset 4: version %#" PRIx32
                           "; the file is of a big-endian machine, and only little-endian ones are read",
                           self->file.path, self->version);
    if (self->version != 2 && self->version != GGUF_VERSION)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "%s: offset 4: version %" PRIu32 "; expected 2 or %d",
                           self->file.path, self->version, GGUF_VERSION);
    STATUS_TRY(take_count(cursor, GGUF_TENSOR_LIMIT, TENSOR_BYTES_LEAST, "the number of tensors",
                          &self->tensor_count));
    return take_count(cursor, GGUF_VALUE_LIMIT, VALUE_BYTES_LEAST, "the number of values",
                      &self->value_count);
}

/* A key or a tensor's name: printable ASCII, so that it can stand in messages. The length stays for close_name. */
static balora_status take_name(gguf_cursor *cursor, const char *what, uint64_t *offset) {
    uint64_t length;
    STATUS_TRY(take_u64(cursor, &length, what));
    *offset = cursor->at;
    if (length == 0 || length > GGUF_NAME_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": %s of %" PRIu64 " bytes; expected 1 to %d",
                           cursor->self->file.path, cursor->at - 8, what, length, GGUF_NAME_LIMIT);
    STATUS_TRY(take(cursor, length, what));
    for (uint64_t i = *offset; i < cursor->at; i++)
        if (cursor->self->header[i] < 0x21 || cursor->self->header[i] > 0x7e)
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: offset %" PRIu64 ": %s with the byte %#x; expected printable ASCII",
                               cursor->self->file.path, i, what, cursor->self->header[i]);
    return BALORA_OK;
}

/* Step over the elements of an array. */
static balora_status take_elements(gguf_cursor *cursor, gguf_value *value) {
    STATUS_TRY(take_u32(cursor, &value->element_type, "the type of an array's elements"));
    STATUS_TRY(take_u64(cursor, &value->count, "the length of an array"));
    uint64_t bytes = gguf_value_bytes(value->element_type), left = cursor->self->file.bytes - cursor->at;
    bool texts = value->element_type == GGUF_TEXT;
    if (bytes == 0 && !texts)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": an array of elements of type %" PRIu32
                           " (%s); expected numbers, booleans or texts",
                           cursor->self->file.path, cursor->at - 12, value->element_type,
                           gguf_value_name(value->element_type));
    if (value->count > left / (texts ? 8 : bytes))
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": an array of %" PRIu64
                           " elements, but the file has %" PRIu64 " bytes left",
                           cursor->self->file.path, cursor->at - 8, value->count, left);
    value->offset = cursor->at;
    if (!texts)
        return take(cursor, value->count * bytes, "an array");
    for (uint64_t i = 0; i < value->count; i++) {
        uint64_t length;
        STATUS_TRY(take_u64(cursor, &length, "the length of a text in an array"));
        STATUS_TRY(take(cursor, length, "a text in an array"));
    }
    return BALORA_OK;
}

static balora_status read_value(gguf_cursor *cursor, gguf_value *value) {
    STATUS_TRY(take_name(cursor, "a key", &value->key_offset));
    STATUS_TRY(take_u32(cursor, &value->type, "the type of a value"));
    value->count = 1;
    if (value->type == GGUF_ARRAY)
        return take_elements(cursor, value);
    if (value->type == GGUF_TEXT) {
        STATUS_TRY(take_u64(cursor, &value->count, "the length of a text"));
        value->offset = cursor->at;
        return take(cursor, value->count, "a text");
    }
    if (gguf_value_bytes(value->type) == 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": a value of type %" PRIu32 "; expected 0 to %d",
                           cursor->self->file.path, cursor->at - 4, value->type, GGUF_VALUE_TYPES - 1);
    value->offset = cursor->at;
    return take(cursor, gguf_value_bytes(value->type), "a value");
}

/* As it stands there; what it says is checked when it has a name. */
static balora_status read_tensor(gguf_cursor *cursor, gguf_tensor *tensor) {
    uint32_t rank;
    STATUS_TRY(take_name(cursor, "a tensor's name", &tensor->name_offset));
    STATUS_TRY(take_u32(cursor, &rank, "a tensor's number of dimensions"));
    if (rank > GGUF_RANK_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": %" PRIu32 " dimensions; at most %d are read",
                           cursor->self->file.path, cursor->at - 4, rank, GGUF_RANK_LIMIT);
    tensor->rank = (int32_t)rank;
    for (uint32_t i = 0; i < rank; i++) {
        uint64_t size;
        STATUS_TRY(take_u64(cursor, &size, "a tensor's shape"));
        if (size > INT64_MAX)
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: offset %" PRIu64 ": a dimension of %" PRIu64 " overflows",
                               cursor->self->file.path, cursor->at - 8, size);
        tensor->shape[i] = (int64_t)size;
    }
    STATUS_TRY(take_u32(cursor, &tensor->type_code, "a tensor's type"));
    return take_u64(cursor, &tensor->offset, "a tensor's offset");
}

static void close_name(gguf_file *self, uint64_t offset, const char **name) {
    uint64_t length = gguf_load(self->header + offset - 8, 8);
    *name = (const char *)self->header + offset;
    self->header[offset + length] = '\0';
}

/* Names and texts become strings in place: what stood behind them has been read. */
static void close_texts(gguf_file *self) {
    for (int64_t i = 0; i < self->value_count; i++) {
        close_name(self, self->values[i].key_offset, &self->values[i].key);
        self->values[i].data = self->header + self->values[i].offset;
    }
    for (int64_t i = 0; i < self->tensor_count; i++)
        close_name(self, self->tensors[i].name_offset, &self->tensors[i].name);
    /* last: the byte behind a text belongs to the length of the next name */
    for (int64_t i = 0; i < self->value_count; i++)
        if (self->values[i].type == GGUF_TEXT)
            self->header[self->values[i].offset + self->values[i].count] = '\0';
}

balora_status gguf_header_read(gguf_file *self, uint64_t *bytes) {
    gguf_cursor cursor = {.self = self};
    allocator *memory = self->file.memory;
    STATUS_TRY(read_start(&cursor));
    STATUS_TRY(memory_zeroed(memory, &self->values, (size_t)self->value_count, sizeof *self->values,
                             "a list of values"));
    STATUS_TRY(memory_zeroed(memory, &self->tensors, (size_t)self->tensor_count, sizeof *self->tensors,
                             "a tensor list"));
    for (int64_t i = 0; i < self->value_count; i++)
        STATUS_TRY(read_value(&cursor, &self->values[i]));
    for (int64_t i = 0; i < self->tensor_count; i++)
        STATUS_TRY(read_tensor(&cursor, &self->tensors[i]));
    close_texts(self);
    *bytes = cursor.at;
    return BALORA_OK;
}
