#include "format/tensor_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

#define FILE_NAME_BYTES 512

static int compare_places(const void *left, const void *right) {
    const tensor_place *a = left, *b = right;
    return strcmp(a->entry->name, b->entry->name);
}

static balora_status open_shard(tensor_files *self, const char *name) {
    char *path;
    STATUS_TRY(file_join(self->memory, &path, self->folder, name));
    balora_status status = safetensors_open(&self->shards[self->shard_count], self->memory, path);
    memory_free(self->memory, path);
    STATUS_TRY(status);
    self->shard_count++;
    return memory_string(self->memory, &self->shard_names[self->shard_count - 1], name);
}

static balora_status allocate_shards(tensor_files *self, size_t count) {
    STATUS_TRY(
        memory_zeroed(self->memory, &self->shards, count, sizeof *self->shards, "a list of weight files"));
    return memory_zeroed(self->memory, &self->shard_names, count, sizeof *self->shard_names,
                         "names of weight files");
}

static balora_status open_single(tensor_files *self, const char *name) {
    STATUS_TRY(allocate_shards(self, 1));
    STATUS_TRY(open_shard(self, name));
    const safetensors_file *file = &self->shards[0];
    STATUS_TRY(memory_new(self->memory, &self->places, (size_t)file->count, sizeof *self->places,
                          "a list of tensors"));
    for (int64_t i = 0; i < file->count; i++)
        self->places[i] = (tensor_place){file, file->by_name[i]};
    self->count = file->count;
    return BALORA_OK;
}

/* `numbers` maps each shard's name to its place in the list. */
static balora_status number_shards(const json_t *map, const char *index_path, json_t *numbers) {
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value) {
        const char *name = json_string_value(value);
        if (name == NULL || !file_is_plain_name(name))
            return status_fail(
                BALORA_ERROR_FORMAT,
                "%s: \"weight_map\": \"%.200s\": expected the plain name of a file in the same folder, "
                "found %s%.200s",
                index_path, tensor, name != NULL ? "" : json_type_name(value), name != NULL ? name : "");
        if (json_object_get(numbers, name) != NULL)
            continue;
        json_t *number = json_integer((json_int_t)json_object_size(numbers));
        if (json_object_set_new(numbers, name, number) != 0)
            return status_fail(BALORA_ERROR_MEMORY, "%s: the list of shards cannot be made: out of memory",
                               index_path);
    }
    return BALORA_OK;
}

static balora_status open_shards(tensor_files *self, json_t *numbers, const char *index_path) {
    STATUS_TRY(allocate_shards(self, json_object_size(numbers)));
    const char *name;
    json_t *number;
    json_object_foreach(numbers, name, number) {
        balora_status status = open_shard(self, name);
        if (status != BALORA_OK)
            return status_prefix(status, "%s: shard", index_path);
    }
    return BALORA_OK;
}

static balora_status find_mapped(tensor_files *self, const json_t *map, const json_t *numbers,
                                 const char *index_path) {
    STATUS_TRY(memory_new(self->memory, &self->places, json_object_size(map), sizeof *self->places,
                          "a list of tensors"));
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)map, tensor, value) {
        json_int_t number = json_integer_value(json_object_get(numbers, json_string_value(value)));
        const safetensors_file *file = &self->shards[number];
        const safetensors_entry *entry = safetensors_find(file, tensor);
        if (entry == NULL)
            return status_fail(BALORA_ERROR_NOT_FOUND,
                               "%s: tensor \"%.200s\" is missing, though %s says that it is there",
                               file->file.path, tensor, index_path);
        self->places[self->count++] = (tensor_place){file, entry};
    }
    qsort(self->places, (size_t)self->count, sizeof *self->places, compare_places);
    return BALORA_OK;
}

static balora_status open_indexed(tensor_files *self, const char *index_path) {
    json_t *index, *numbers = NULL;
    STATUS_TRY(json_read_object(&index, self->memory, index_path, SAFETENSORS_HEADER_LIMIT));
    const json_t *map = json_object_get(index, "weight_map");
    balora_status status;
    if (!json_is_object(map) || json_object_size(map) > SAFETENSORS_TENSOR_LIMIT)
        STATUS_GOTO(
            status_fail(BALORA_ERROR_FORMAT,
                        "%s: expected \"weight_map\" to be an object of at most %d tensors and their files",
                        index_path, SAFETENSORS_TENSOR_LIMIT));
    numbers = json_object();
    if (numbers == NULL)
        STATUS_GOTO(status_fail(BALORA_ERROR_MEMORY, "%s: out of memory", index_path));
    STATUS_GOTO(number_shards(map, index_path, numbers));
    STATUS_GOTO(open_shards(self, numbers, index_path));
    STATUS_GOTO(find_mapped(self, map, numbers, index_path));
    self->has_index = true;
fail:
    json_decref(numbers);
    json_decref(index);
    return status;
}

static balora_status nothing_found(const tensor_files *self, const char *stem) {
    char *pickled;
    bool is_pickled = false;
    for (int i = 0; i < 2 && !is_pickled; i++) {
        char name[FILE_NAME_BYTES];
        snprintf(name, sizeof name, "%s%s", strcmp(stem, "model") == 0 ? "pytorch_model" : stem,
                 i == 0 ? ".bin" : ".bin.index.json");
        STATUS_TRY(file_join(self->memory, &pickled, self->folder, name));
        is_pickled = file_exists(pickled);
        memory_free(self->memory, pickled);
    }
    if (is_pickled)
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "%s: the weights are pickled (.bin), which can run code when it is read; save them as "
            "safetensors first",
            self->folder);
    return status_fail(
        BALORA_ERROR_NOT_FOUND,
        "%s: expected a folder with %s.safetensors, or %s.safetensors.index.json and its shards",
        self->folder, stem, stem);
}

balora_status tensor_files_open(tensor_files *out, allocator *memory, const char *folder, const char *stem) {
    memset(out, 0, sizeof *out);
    out->memory = memory;
    char *path = NULL, *index_path = NULL;
    char name[FILE_NAME_BYTES], index_name[FILE_NAME_BYTES];
    snprintf(name, sizeof name, "%s.safetensors", stem);
    snprintf(index_name, sizeof index_name, "%s.safetensors.index.json", stem);
    balora_status status;
    STATUS_GOTO(memory_string(memory, &out->folder, folder));
    STATUS_GOTO(file_join(memory, &path, folder, name));
    STATUS_GOTO(file_join(memory, &index_path, folder, index_name));
    if (file_exists(path))
        status = open_single(out, name);
    else if (file_exists(index_path))
        status = open_indexed(out, index_path);
    else
        status = nothing_found(out, stem);
fail:
    memory_free(memory, path);
    memory_free(memory, index_path);
    if (status != BALORA_OK)
        tensor_files_close(out);
    return status;
}

void tensor_files_close(tensor_files *self) {
    allocator *memory = self->memory;
    if (memory == NULL)
        return;
    for (int64_t i = 0; i < self->shard_count; i++) {
        safetensors_close(&self->shards[i]);
        memory_free(memory, self->shard_names[i]);
    }
    memory_free(memory, self->shards);
    memory_free(memory, self->shard_names);
    memory_free(memory, self->places);
    memory_free(memory, self->folder);
    memset(self, 0, sizeof *self);
}

bool tensor_files_find(const tensor_files *self, const char *name, tensor_place *out) {
    int64_t low = 0, high = self->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(name, self->places[middle].entry->name);
        if (order == 0) {
            *out = self->places[middle];
            return true;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    *out = (tensor_place){0};
    return false;
}

balora_status tensor_files_expect(const tensor_files *self, const char *name, int32_t rank,
                                  const int64_t *shape, tensor_place *out) {
    char expected[SAFETENSORS_SHAPE_TEXT], found[SAFETENSORS_SHAPE_TEXT];
    safetensors_shape_text(expected, rank, shape);
    if (!tensor_files_find(self, name, out))
        return status_fail(BALORA_ERROR_NOT_FOUND, "%s: tensor \"%s\" is missing; expected it with shape %s",
                           self->has_index ? self->folder : self->shards[0].file.path, name, expected);
    const safetensors_entry *entry = out->entry;
    bool same = entry->rank == rank;
    for (int32_t i = 0; same && i < rank; i++)
        same = entry->shape[i] == shape[i];
    if (!same)
        return status_fail(BALORA_ERROR_MISMATCH, "%s: tensor \"%s\" has shape %s; expected %s",
                           out->file->file.path, name,
                           safetensors_shape_text(found, entry->rank, entry->shape), expected);
    if (entry->dtype != BALORA_F32 && entry->dtype != BALORA_F16 && entry->dtype != BALORA_BF16)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: tensor \"%s\" holds %s numbers; F32, F16 and BF16 weights are supported",
                           out->file->file.path, name, entry->type_name);
    return BALORA_OK;
}
