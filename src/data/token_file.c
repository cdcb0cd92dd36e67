#include "data/token_file.h"

#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "format/safetensors.h"
#include "tensor/dtype.h"

#define CHUNK_BYTES 65536

static balora_status find_integers(const safetensors_file *file, const char *name, bool required,
                                   const safetensors_entry **out) {
    const safetensors_entry *entry = safetensors_find(file, name);
    *out = entry;
    if (entry == NULL && required)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: tensor \"%s\" is missing; a token file has input_ids, labels and offsets",
                           file->file.path, name);
    if (entry != NULL && (entry->rank != 1 || (entry->dtype != BALORA_I32 && entry->dtype != BALORA_I64))) {
        char shape[SAFETENSORS_SHAPE_TEXT];
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: tensor \"%s\" is %s of %s; expected one dimension of I32 or I64",
                           file->file.path, name, safetensors_shape_text(shape, entry->rank, entry->shape),
                           entry->type_name);
    }
    return BALORA_OK;
}

/* Store `count` integers at `index` of the destination: 64-bit ones, or 32-bit ones that must fit. */
static balora_status store(const safetensors_file *file, const safetensors_entry *entry,
                           const int64_t *values, int64_t index, int64_t count, int64_t *wide,
                           int32_t *narrow) {
    if (wide != NULL) {
        memcpy(wide + index, values, (size_t)count * sizeof *values);
        return BALORA_OK;
    }
    for (int64_t i = 0; i < count; i++) {
        if (values[i] < INT32_MIN || values[i] > INT32_MAX)
            return status_fail(BALORA_ERROR_MISMATCH,
                               "%s: %s[%lld] is %lld, which is no token of any vocabulary", file->file.path,
                               entry->name, (long long)(index + i), (long long)values[i]);
        narrow[index + i] = (int32_t)values[i];
    }
    return BALORA_OK;
}

/* Read a tensor of I32 or I64 into `wide` or, when that is NULL, into `narrow`. */
static balora_status read_integers(const safetensors_file *file, const safetensors_entry *entry,
                                   int64_t *wide, int32_t *narrow) {
    int64_t values[CHUNK_BYTES / sizeof(int64_t)];
    int32_t raw[CHUNK_BYTES / sizeof(int64_t)];
    int64_t size = dtype_size(entry->dtype), step = CHUNK_BYTES / (int64_t)sizeof(int64_t);
    for (int64_t first = 0; first < entry->elements; first += step) {
        int64_t count = arith_min(step, entry->elements - first);
        void *place = entry->dtype == BALORA_I64 ? (void *)values : (void *)raw;
        STATUS_TRY(
            safetensors_read_part(file, entry, (uint64_t)(first * size), (uint64_t)(count * size), place));
        for (int64_t i = 0; i < count && entry->dtype == BALORA_I32; i++)
            values[i] = raw[i];
        STATUS_TRY(store(file, entry, values, first, count, wide, narrow));
    }
    return BALORA_OK;
}

static balora_status read_tensors(dataset *out, const safetensors_file *file) {
    const safetensors_entry *ids, *labels, *offsets;
    STATUS_TRY(find_integers(file, "input_ids", true, &ids));
    STATUS_TRY(find_integers(file, "labels", false, &labels));
    STATUS_TRY(find_integers(file, "offsets", true, &offsets));
    if (labels != NULL && labels->elements != ids->elements)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: labels has %lld elements; expected %lld, as input_ids has", file->file.path,
                           (long long)labels->elements, (long long)ids->elements);
    if (offsets->elements < 2)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offsets has %lld elements; expected the number of sequences + 1",
                           file->file.path, (long long)offsets->elements);
    out->tokens = ids->elements;
    out->sequences = offsets->elements - 1;
    size_t tokens = (size_t)out->tokens;
    STATUS_TRY(memory_new(out->memory, &out->offsets, (size_t)offsets->elements, sizeof(int64_t),
                          "offsets of sequences"));
    STATUS_TRY(memory_new(out->memory, &out->ids, tokens, sizeof(int32_t), "tokens"));
    STATUS_TRY(memory_new(out->memory, &out->labels, tokens, sizeof(int32_t), "labels"));
    STATUS_TRY(read_integers(file, offsets, out->offsets, NULL));
    STATUS_TRY(read_integers(file, ids, NULL, out->ids));
    if (labels != NULL)
        return read_integers(file, labels, NULL, out->labels);
    memcpy(out->labels, out->ids, tokens * sizeof(int32_t));
    return BALORA_OK;
}

balora_status token_file_read(dataset *out, allocator *memory, const char *path, int64_t vocabulary,
                              int64_t max_length) {
    memset(out, 0, sizeof *out);
    safetensors_file file;
    STATUS_TRY(safetensors_open(&file, memory, path));
    out->memory = memory;
    balora_status status;
    STATUS_GOTO(read_tensors(out, &file));
    STATUS_GOTO(dataset_complete(out, vocabulary, max_length, path, BALORA_ERROR_FORMAT));
    safetensors_close(&file);
    return BALORA_OK;
fail:
    safetensors_close(&file);
    dataset_free(out);
    return status;
}
