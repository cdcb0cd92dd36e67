/* The section "model" of tokenizer.json. */
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "text/tokenizer_parts.h"

#define MODEL_KEY "model"

/* An option that must be absent, null, false, 0 or "". */
static balora_status refuse_option(const tokenizer *self, const json_t *model, const char *key) {
    const json_t *value = json_object_get(model, key);
    bool off = value == NULL || json_is_null(value) || json_is_false(value) ||
               (json_is_string(value) && json_string_length(value) == 0) ||
               (json_is_number(value) && json_number_value(value) == 0);
    if (off)
        return BALORA_OK;
    if (json_is_string(value))
        return tokenizer_unsupported(self, "model.%s is \"%s\", expected none", key,
                                     json_string_value(value));
    return tokenizer_unsupported(self, "model.%s is set, expected it off", key);
}

static balora_status check_model(const tokenizer *self, const json_t *model) {
    const char *type = "BPE"; /* files of the first versions leave it out */
    STATUS_TRY(json_member_string(model, "type", self->path, false, &type));
    if (strcmp(type, "BPE") != 0)
        return tokenizer_unsupported(self, "model.type is \"%s\"", type);
    static const char *const options[] = {"dropout", "continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        STATUS_TRY(refuse_option(self, model, options[i]));
    if (!json_is_object(json_object_get(model, "vocab")) || !json_is_array(json_object_get(model, "merges")))
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: model: expected an object \"vocab\" and an array \"merges\"", self->path);
    return BALORA_OK;
}

balora_status tokenizer_check_id(const tokenizer *self, const json_t *value, const char *where,
                                 const char *name, int32_t *id) {
    json_int_t number = json_is_integer(value) ? json_integer_value(value) : -1;
    if (number < 0 || number >= VOCABULARY_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT, "%s: %s: the id of \"%s\" is not an integer from 0 to %d",
                           self->path, where, name, VOCABULARY_LIMIT - 1);
    *id = (int32_t)number;
    return BALORA_OK;
}

static balora_status read_vocabulary(tokenizer *self, json_t *vocab) {
    const char *name;
    json_t *value;
    int32_t id = -1, largest = -1;
    size_t bytes = 0, used = 0;
    json_object_foreach(vocab, name, value) {
        STATUS_TRY(tokenizer_check_id(self, value, "model.vocab", name, &id));
        largest = id > largest ? id : largest;
        bytes += strlen(name);
    }
    STATUS_TRY(vocabulary_init(&self->model.words, self->memory, self->model.byte_fallback, largest + 1,
                               json_object_size(vocab), bytes));
    json_object_foreach(vocab, name, value) {
        id = (int32_t)json_integer_value(value);
        if (!vocabulary_add(&self->model.words, id, name, strlen(name), &used))
            return status_fail(
                BALORA_ERROR_FORMAT,
                "%s: model.vocab: \"%s\" has the id %d, which another token has; ids must be unique",
                self->path, name, id);
    }
    return BALORA_OK;
}

/* One merge as the file has it: "left right" or ["left", "right"]. */
typedef struct merge_names {
    const char *left, *right;
    size_t left_bytes, right_bytes;
} merge_names;

static bool parse_merge(const json_t *value, merge_names *names) {
    if (json_is_array(value) && json_array_size(value) == 2) {
        const json_t *left = json_array_get(value, 0), *right = json_array_get(value, 1);
        if (!json_is_string(left) || !json_is_string(right))
            return false;
        *names = (merge_names){json_string_value(left), json_string_value(right), json_string_length(left),
                               json_string_length(right)};
        return true;
    }
    if (!json_is_string(value))
        return false;
    const char *text = json_string_value(value), *space = strchr(text, ' ');
    if (space == NULL || strchr(space + 1, ' ') != NULL)
        return false;
    *names = (merge_names){text, space + 1, (size_t)(space - text), strlen(space + 1)};
    return true;
}

static balora_status find_part(const tokenizer *self, text_buffer *scratch, size_t rank, const char *name,
                               size_t bytes, int32_t *id) {
    scratch->count = 0;
    STATUS_TRY(text_buffer_reserve(scratch, bytes));
    *id = vocabulary_find_name(&self->model.words, name, bytes, scratch->bytes);
    if (*id < 0)
        return status_fail(BALORA_ERROR_FORMAT, "%s: model.merges[%zu]: \"%.*s\" is not in model.vocab",
                           self->path, rank, (int)arith_min((int64_t)bytes, 200), name);
    return BALORA_OK;
}

static balora_status read_merge(tokenizer *self, text_buffer *scratch, size_t rank, const json_t *value) {
    merge_names names;
    if (!parse_merge(value, &names))
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: model.merges[%zu]: expected \"left right\" or [\"left\", \"right\"]",
                           self->path, rank);
    int32_t left, right;
    STATUS_TRY(find_part(self, scratch, rank, names.left, names.left_bytes, &left));
    STATUS_TRY(find_part(self, scratch, rank, names.right, names.right_bytes, &right));
    const vocabulary *words = &self->model.words;
    if (((words->flags[left] | words->flags[right]) & VOCABULARY_LITERAL) != 0)
        return BALORA_OK; /* no text of the byte alphabet ever has this pair */
    scratch->count = 0;
    STATUS_TRY(text_buffer_append(scratch, words->bytes + words->offset[left], words->length[left]));
    STATUS_TRY(text_buffer_append(scratch, words->bytes + words->offset[right], words->length[right]));
    int32_t result = vocabulary_find(words, scratch->bytes, scratch->count, false);
    if (result < 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: model.merges[%zu]: \"%.*s\" and \"%.*s\" joined are not in model.vocab",
                           self->path, rank, (int)arith_min((int64_t)names.left_bytes, 200), names.left,
                           (int)arith_min((int64_t)names.right_bytes, 200), names.right);
    bpe_add_merge(&self->model, left, right, (int32_t)rank, result);
    return BALORA_OK;
}

static balora_status read_merges(tokenizer *self, const json_t *merges) {
    text_buffer scratch = {.memory = self->memory};
    size_t count = json_array_size(merges);
    balora_status status;
    STATUS_GOTO(bpe_init_merges(&self->model, self->memory, count));
    for (size_t rank = 0; rank < count; rank++)
        STATUS_GOTO(read_merge(self, &scratch, rank, json_array_get(merges, rank)));
fail:
    text_buffer_free(&scratch);
    return status;
}

balora_status tokenizer_read_model(tokenizer *self, const json_t *file) {
    json_t *model = json_object_get(file, MODEL_KEY);
    if (!json_is_object(model))
        return status_fail(BALORA_ERROR_FORMAT, "%s: the object \"%s\" is missing", self->path, MODEL_KEY);
    STATUS_TRY(check_model(self, model));
    STATUS_TRY(json_member_boolean(model, "byte_fallback", self->path, &self->model.byte_fallback));
    STATUS_TRY(read_vocabulary(self, json_object_get(model, "vocab")));
    STATUS_TRY(read_merges(self, json_object_get(model, "merges")));
    const char *unknown = NULL;
    bool ignore_merges = false;
    STATUS_TRY(json_member_string(model, "unk_token", self->path, false, &unknown));
    STATUS_TRY(json_member_boolean(model, "fuse_unk", self->path, &self->model.fuse_unknown));
    STATUS_TRY(json_member_boolean(model, "ignore_merges", self->path, &ignore_merges));
    self->model.unknown = -1;
    if (unknown != NULL) {
        self->model.unknown = tokenizer_token_id(self, unknown);
        if (self->model.unknown < 0)
            return status_fail(BALORA_ERROR_FORMAT, "%s: model.unk_token \"%s\" is not in model.vocab",
                               self->path, unknown);
    }
    return bpe_finish(&self->model, ignore_merges);
}
