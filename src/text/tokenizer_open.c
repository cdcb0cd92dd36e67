/* Opening a tokenizer: which files of a model folder are read, and in which order. */
#include <string.h>

#include "base/file.h"
#include "base/status.h"
#include "text/tokenizer_parts.h"

#define TOKENIZER_FILE_LIMIT (UINT64_C(64) << 20)
#define CONFIG_FILE_LIMIT    (UINT64_C(8) << 20)

/* The file of the folder, or NULL when it is not there. */
static balora_status read_optional(const tokenizer *self, const char *folder, const char *name,
                                   json_t **out) {
    *out = NULL;
    char *path;
    STATUS_TRY(file_join(self->memory, &path, folder, name));
    balora_status status =
        file_exists(path) ? json_read_object(out, self->memory, path, CONFIG_FILE_LIMIT) : BALORA_OK;
    memory_free(self->memory, path);
    return status;
}

/* "token", {"content": "token"}, 2 or [2, 3]; -1 for anything that names no token here. */
static int32_t find_bound(const tokenizer *self, const json_t *value) {
    if (json_is_object(value))
        value = json_object_get(value, "content");
    if (json_is_array(value))
        value = json_array_get(value, 0);
    if (json_is_string(value))
        return tokenizer_token_id(self, json_string_value(value));
    double id = json_is_number(value) ? json_number_value(value) : -1;
    if (id >= 0 && id < tokenizer_size(self) && id == (int32_t)id)
        return (int32_t)id;
    return -1;
}

static balora_status read_bounds(tokenizer *self, const char *folder) {
    static const struct {
        const char *file, *bos, *eos;
    } sources[] = {{"tokenizer_config.json", "bos_token", "eos_token"},
                   {"special_tokens_map.json", "bos_token", "eos_token"},
                   {"generation_config.json", "bos_token_id", "eos_token_id"},
                   {"config.json", "bos_token_id", "eos_token_id"}};
    self->bos = self->eos = -1;
    for (size_t i = 0; i < sizeof sources / sizeof *sources && (self->bos < 0 || self->eos < 0); i++) {
        json_t *file;
        STATUS_TRY(read_optional(self, folder, sources[i].file, &file));
        if (self->bos < 0)
            self->bos = find_bound(self, json_object_get(file, sources[i].bos));
        if (self->eos < 0)
            self->eos = find_bound(self, json_object_get(file, sources[i].eos));
        json_decref(file);
    }
    return BALORA_OK;
}

/* The template is read before the vocabulary is complete, so its ids are held to it here. */
static balora_status check_template(const tokenizer *self) {
    const token_buffer *sides[] = {&self->before, &self->behind};
    for (size_t side = 0; side < 2; side++)
        for (size_t i = 0; i < sides[side]->count; i++)
            if (sides[side]->ids[i] >= tokenizer_size(self))
                return status_fail(BALORA_ERROR_FORMAT,
                                   "%s: post_processor: the id %d belongs to no token; the largest is %d",
                                   self->path, sides[side]->ids[i], tokenizer_size(self) - 1);
    return BALORA_OK;
}

/* No tokenizer.json: say which other tokenizer the folder has. */
static balora_status explain_missing(const tokenizer *self, const char *folder) {
    static const char *const others[] = {"tokenizer.model", "vocab.json", "vocab.txt", "spiece.model"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char *path;
        STATUS_TRY(file_join(self->memory, &path, folder, others[i]));
        bool there = file_exists(path);
        memory_free(self->memory, path);
        if (there)
            return tokenizer_unsupported(self, "there is no such file, only %s", others[i]);
    }
    return status_fail(
        BALORA_ERROR_NOT_FOUND,
        "%s: there is no such file; a model folder with a tokenizer has one. Without it use a token file: "
        "--data FILE.safetensors (input_ids, labels, offsets)",
        self->path);
}

balora_status tokenizer_open(tokenizer **out, allocator *memory, const char *model_folder) {
    *out = NULL;
    tokenizer *self;
    json_t *file = NULL;
    balora_status status;
    STATUS_TRY(memory_zeroed(memory, &self, 1, sizeof *self, "tokenizer"));
    self->memory = self->before.memory = self->behind.memory = memory;
    STATUS_GOTO(file_join(memory, &self->path, model_folder, "tokenizer.json"));
    if (!file_exists(self->path)) {
        status = explain_missing(self, model_folder);
        goto fail;
    }
    STATUS_GOTO(json_read_object(&file, memory, self->path, TOKENIZER_FILE_LIMIT));
    STATUS_GOTO(
        tokenizer_read_model(self, file)); /* first: its type says most about an unsupported tokenizer */
    STATUS_GOTO(tokenizer_read_pipeline(self, file));
    STATUS_GOTO(tokenizer_read_added(self, file));
    STATUS_GOTO(check_template(self));
    STATUS_GOTO(read_bounds(self, model_folder));
    json_decref(file);
    *out = self;
    return BALORA_OK;
fail:
    json_decref(file);
    tokenizer_free(self);
    return status;
}

void tokenizer_free(tokenizer *self) {
    if (self == NULL)
        return;
    bpe_free(&self->model);
    added_free(&self->added);
    token_buffer_free(&self->before);
    token_buffer_free(&self->behind);
    memory_free(self->memory, self->path);
    memory_free(self->memory, self);
}
