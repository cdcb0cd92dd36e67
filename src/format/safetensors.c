#include "format/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "format/safetensors_types.h"

#define LENGTH_BYTES 8

/* While the header is read: where we are, for messages. */
typedef struct header_place {
    const char *path;
    const char *tensor;
    uint64_t data_begin; /* of the tensors' bytes in the file */
    uint64_t data_bytes;
} header_place;

static balora_status fail_tensor(const header_place *place, const char *problem) {
    return status_fail(BALORA_ERROR_FORMAT, "%s: tensor \"%.200s\": %s", place->path, place->tensor, problem);
}

static balora_status read_length(const file_reader *file, uint64_t *header_bytes) {
    unsigned char raw[LENGTH_BYTES];
    if (file->bytes < LENGTH_BYTES)
        return status_fail(
            BALORA_ERROR_FORMAT,
            "%s: %llu bytes are too few: a safetensors file begins with the 8 bytes of its header's length",
            file->path, (unsigned long long)file->bytes);
    STATUS_TRY(file_read_at(file, 0, raw, sizeof raw));
    uint64_t length = 0;
    for (int i = LENGTH_BYTES - 1; i >= 0; i--)
        length = length << 8 | raw[i];
    if (length > SAFETENSORS_HEADER_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT, "%s: offset 0: a header of %llu bytes; at most %llu are read",
                           file->path, (unsigned long long)length,
                           (unsigned long long)SAFETENSORS_HEADER_LIMIT);
    if (length > file->bytes - LENGTH_BYTES)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset 0: a header of %llu bytes, but the file has %llu behind the length",
                           file->path, (unsigned long long)length,
                           (unsigned long long)(file->bytes - LENGTH_BYTES));
    *header_bytes = length;
    return BALORA_OK;
}

static balora_status read_header(const file_reader *file, uint64_t header_bytes, json_t **out) {
    char *text;
    *out = NULL;
    STATUS_TRY(memory_new(file->memory, &text, header_bytes + 1, 1, "a safetensors header"));
    balora_status status;
    STATUS_GOTO(file_read_at(file, LENGTH_BYTES, text, header_bytes));
    if (header_bytes == 0 || text[0] != '{')
        STATUS_GOTO(
            status_fail(BALORA_ERROR_FORMAT, "%s: offset 8: the header must begin with '{'", file->path));
    STATUS_GOTO(json_parse(out, text, header_bytes, file->path));
fail:
    memory_free(file->memory, text);
    return status;
}

static balora_status read_shape(const header_place *place, const json_t *shape, safetensors_entry *entry) {
    if (!json_is_array(shape))
        return fail_tensor(place, "expected \"shape\" to be an array of integers");
    if (json_array_size(shape) > SAFETENSORS_RANK_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT, "%s: tensor \"%.200s\": %zu dimensions; at most %d are read",
                           place->path, place->tensor, json_array_size(shape), SAFETENSORS_RANK_LIMIT);
    entry->rank = (int32_t)json_array_size(shape);
    entry->elements = 1;
    for (int32_t i = 0; i < entry->rank; i++) {
        const json_t *size = json_array_get(shape, (size_t)i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return fail_tensor(place, "expected \"shape\" to hold integers of 0 and above");
        entry->shape[i] = json_integer_value(size);
        if (!arith_multiply_i64(entry->elements, entry->shape[i], &entry->elements))
            return fail_tensor(place, "the product of \"shape\" overflows 64 bits");
    }
    return BALORA_OK;
}

static balora_status read_offsets(const header_place *place, const json_t *offsets,
                                  safetensors_entry *entry) {
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return fail_tensor(place, "expected \"data_offsets\" to be an array of two integers");
    int64_t first = json_integer_value(begin), last = json_integer_value(end);
    if (first < 0 || last < first || (uint64_t)last > place->data_bytes)
        return status_fail(
            BALORA_ERROR_FORMAT,
            "%s: tensor \"%.200s\": data_offsets [%lld, %lld] must rise and stay within the file's %llu "
            "bytes of data (from offset %llu)",
            place->path, place->tensor, (long long)first, (long long)last,
            (unsigned long long)place->data_bytes, (unsigned long long)place->data_begin);
    entry->offset = place->data_begin + (uint64_t)first;
    entry->bytes = (uint64_t)(last - first);
    return BALORA_OK;
}

/* The size of an element is known for every type that the format has had so far. */
static balora_status check_size(const header_place *place, const safetensors_entry *entry) {
    const safetensors_type *type = safetensors_type_named(entry->type_name);
    if (type == NULL)
        return BALORA_OK;
    int64_t bits;
    if (!arith_multiply_i64(entry->elements, type->bits, &bits))
        return fail_tensor(place, "the size of the tensor overflows 64 bits");
    if (bits % 8 != 0)
        return fail_tensor(place, "its elements do not fill whole bytes");
    if ((uint64_t)bits / 8 != entry->bytes) {
        char shape[SAFETENSORS_SHAPE_TEXT];
        return status_fail(
            BALORA_ERROR_FORMAT,
            "%s: tensor \"%.200s\": offset %llu: data_offsets give %llu bytes, but %s of %s takes %lld",
            place->path, place->tensor, (unsigned long long)entry->offset, (unsigned long long)entry->bytes,
            safetensors_shape_text(shape, entry->rank, entry->shape), entry->type_name,
            (long long)(bits / 8));
    }
    return BALORA_OK;
}

static balora_status read_entry(const header_place *place, const json_t *value, safetensors_entry *entry) {
    if (!json_is_object(value))
        return fail_tensor(place, "expected an object with \"dtype\", \"shape\" and \"data_offsets\"");
    const json_t *type_name = json_object_get(value, "dtype");
    if (!json_is_string(type_name))
        return fail_tensor(place, "expected \"dtype\" to be a string");
    snprintf(entry->type_name, sizeof entry->type_name, "%s", json_string_value(type_name));
    const safetensors_type *type = safetensors_type_named(json_string_value(type_name));
    entry->dtype = type != NULL ? type->dtype : BALORA_DTYPE_AUTO;
    STATUS_TRY(read_shape(place, json_object_get(value, "shape"), entry));
    STATUS_TRY(read_offsets(place, json_object_get(value, "data_offsets"), entry));
    return check_size(place, entry);
}

static balora_status check_metadata(const header_place *place, const json_t *metadata) {
    if (!json_is_object(metadata))
        return status_fail(BALORA_ERROR_FORMAT, "%s: expected \"__metadata__\" to be an object of strings",
                           place->path);
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value) {
        if (!json_is_string(value))
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: \"__metadata__\": \"%.200s\": expected a string, found %s", place->path,
                               key, json_type_name(value));
    }
    return BALORA_OK;
}

/* Names are measured before they are copied into one block. */
static balora_status measure_names(const header_place *place, json_t *header, size_t *bytes) {
    const char *key;
    json_t *value;
    *bytes = 0;
    if (json_object_size(header) > SAFETENSORS_TENSOR_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT, "%s: %zu tensors; at most %d are read", place->path,
                           json_object_size(header), SAFETENSORS_TENSOR_LIMIT);
    json_object_foreach(header, key, value) {
        size_t length = strlen(key);
        if (length == 0 || length > SAFETENSORS_NAME_LIMIT)
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: tensor \"%.80s\": a name of %zu bytes; expected 1 to %d", place->path,
                               key, length, SAFETENSORS_NAME_LIMIT);
        *bytes += length + 1;
    }
    return BALORA_OK;
}

static balora_status read_entries(safetensors_file *self, header_place *place, json_t *header) {
    size_t name_bytes, used = 0;
    STATUS_TRY(measure_names(place, header, &name_bytes));
    allocator *memory = self->file.memory;
    STATUS_TRY(memory_new(memory, &self->names, name_bytes, 1, "tensor names"));
    STATUS_TRY(memory_zeroed(memory, &self->entries, json_object_size(header), sizeof *self->entries,
                             "a tensor list"));
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value) {
        place->tensor = key;
        if (strcmp(key, "__metadata__") == 0) {
            STATUS_TRY(check_metadata(place, value));
            self->metadata = json_incref(value);
            continue;
        }
        safetensors_entry *entry = &self->entries[self->count];
        STATUS_TRY(read_entry(place, value, entry));
        size_t bytes = strlen(key) + 1;
        entry->name = memcpy(self->names + used, key, bytes);
        used += bytes;
        self->count++;
    }
    return BALORA_OK;
}

static int compare_places(const void *left, const void *right) {
    const safetensors_entry *a = left, *b = right;
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return strcmp(a->name, b->name);
}

static int compare_names(const void *left, const void *right) {
    const safetensors_entry *const *a = left, *const *b = right;
    return strcmp((*a)->name, (*b)->name);
}

/* Sorted by offset, every tensor begins where the last one ended, and the last one ends with the file. */
static balora_status check_places(const safetensors_file *self, const header_place *place) {
    uint64_t end = place->data_begin;
    for (int64_t i = 0; i < self->count; i++) {
        const safetensors_entry *entry = &self->entries[i];
        if (entry->offset != end)
            return status_fail(
                BALORA_ERROR_FORMAT,
                "%s: tensor \"%.200s\": begins at offset %llu, but the tensor before it ends at %llu: "
                "expected neither %s",
                place->path, entry->name, (unsigned long long)entry->offset, (unsigned long long)end,
                entry->offset < end ? "overlap nor hole" : "hole nor overlap");
        end += entry->bytes;
    }
    if (end != self->file.bytes)
        return status_fail(
            BALORA_ERROR_FORMAT,
            "%s: the tensors end at offset %llu, but the file has %llu bytes; the file may be damaged or "
            "not fully downloaded",
            place->path, (unsigned long long)end, (unsigned long long)self->file.bytes);
    return BALORA_OK;
}

static balora_status index_names(safetensors_file *self) {
    size_t count = (size_t)self->count;
    STATUS_TRY(memory_new(self->file.memory, &self->by_name, count, sizeof(self->by_name[0]),
                          "an index of tensors"));
    for (size_t i = 0; i < count; i++)
        self->by_name[i] = &self->entries[i];
    qsort(self->by_name, count, sizeof(self->by_name[0]), compare_names);
    return BALORA_OK;
}

balora_status safetensors_open(safetensors_file *out, allocator *memory, const char *path) {
    memset(out, 0, sizeof *out);
    json_t *header = NULL;
    uint64_t header_bytes = 0;
    balora_status status;
    STATUS_GOTO(file_open(&out->file, memory, path));
    STATUS_GOTO(read_length(&out->file, &header_bytes));
    STATUS_GOTO(read_header(&out->file, header_bytes, &header));
    header_place place = {.path = path, .data_begin = LENGTH_BYTES + header_bytes};
    place.data_bytes = out->file.bytes - place.data_begin;
    STATUS_GOTO(read_entries(out, &place, header));
    qsort(out->entries, (size_t)out->count, sizeof *out->entries, compare_places);
    STATUS_GOTO(check_places(out, &place));
    STATUS_GOTO(index_names(out));
    json_decref(header);
    return BALORA_OK;
fail:
    json_decref(header);
    safetensors_close(out);
    return status;
}

void safetensors_close(safetensors_file *self) {
    allocator *memory = self->file.memory;
    if (memory == NULL)
        return;
    memory_free(memory, self->by_name);
    memory_free(memory, self->entries);
    memory_free(memory, self->names);
    json_decref(self->metadata);
    file_close(&self->file);
    memset(self, 0, sizeof *self);
}

const safetensors_entry *safetensors_find(const safetensors_file *self, const char *name) {
    int64_t low = 0, high = self->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(name, self->by_name[middle]->name);
        if (order == 0)
            return self->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

balora_status safetensors_read_part(const safetensors_file *self, const safetensors_entry *entry,
                                    uint64_t offset, uint64_t bytes, void *out) {
    if (offset > entry->bytes || bytes > entry->bytes - offset)
        return status_fail(BALORA_ERROR_INTERNAL,
                           "%s: tensor \"%.200s\": bytes %llu to %llu of %llu were asked for",
                           self->file.path, entry->name, (unsigned long long)offset,
                           (unsigned long long)(offset + bytes), (unsigned long long)entry->bytes);
    balora_status status = file_read_at(&self->file, entry->offset + offset, out, bytes);
    return status == BALORA_OK ? BALORA_OK : status_prefix(status, "tensor \"%.200s\"", entry->name);
}

balora_status safetensors_read(const safetensors_file *self, const safetensors_entry *entry, void *out) {
    return safetensors_read_part(self, entry, 0, entry->bytes, out);
}

const char *safetensors_shape_text(char text[SAFETENSORS_SHAPE_TEXT], int32_t rank, const int64_t *shape) {
    size_t used = 1;
    text[0] = '[';
    for (int32_t i = 0; i < rank && i < SAFETENSORS_RANK_LIMIT; i++)
        used += (size_t)snprintf(text + used, SAFETENSORS_SHAPE_TEXT - used, "%s%lld", i > 0 ? ", " : "",
                                 (long long)shape[i]);
    snprintf(text + used, SAFETENSORS_SHAPE_TEXT - used, "]");
    return text;
}
