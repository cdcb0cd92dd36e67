#include "adapter/merge_untied.h"

#include "base/file.h"
#include "base/status.h"
#include "format/json.h"

#define CONFIG_BYTES_LIMIT ((uint64_t)8 << 20)
#define INDEX_BYTES_LIMIT  ((uint64_t)100 << 20)

static balora_status write_again(const merge_folder *self, const char *path, json_t *document, bool changed) {
    balora_status status = changed
                               ? json_write_file(self->memory, path, document, false)
                               : status_fail(BALORA_ERROR_MEMORY, "%s: its new form: out of memory", path);
    json_decref(document);
    return status;
}

static balora_status untie_config(const merge_folder *self, const char *path) {
    json_t *document;
    STATUS_TRY(json_read_object(&document, self->memory, path, CONFIG_BYTES_LIMIT));
    return write_again(self, path, document,
                       json_object_set_new(document, "tie_word_embeddings", json_false()) == 0);
}

static balora_status extend_index(const merge_folder *self, const char *path, const char *shard,
                                  const char *head, uint64_t head_bytes) {
    json_t *document;
    STATUS_TRY(json_read_object(&document, self->memory, path, INDEX_BYTES_LIMIT));
    json_t *map = json_object_get(document, "weight_map");
    json_t *size = json_object_get(json_object_get(document, "metadata"), "total_size");
    bool changed = json_object_set_new(map, head, json_string(shard)) == 0;
    if (json_is_integer(size))
        changed = changed && json_integer_set(size, json_integer_value(size) + (json_int_t)head_bytes) == 0;
    return write_again(self, path, document, changed);
}

balora_status merge_untie(const merge_folder *self, const char *shard, const char *head,
                          uint64_t head_bytes) {
    char *config = NULL, *index = NULL;
    balora_status status;
    STATUS_GOTO(file_join(self->memory, &config, self->staging, "config.json"));
    STATUS_GOTO(untie_config(self, config));
    if (self->base->has_index) {
        STATUS_GOTO(file_join(self->memory, &index, self->staging, "model.safetensors.index.json"));
        status = extend_index(self, index, shard, head, head_bytes);
    }
fail:
    memory_free(self->memory, config);
    memory_free(self->memory, index);
    return status;
}
