/* The section "added_tokens" of tokenizer.json. */
#include <string.h>

#include "base/status.h"
#include "text/tokenizer_parts.h"

static balora_status read_added_flags(const tokenizer *self, const json_t *entry, int *flags) {
    static const struct {
        const char *key;
        int flag;
    } keys[] = {{"single_word", ADDED_SINGLE_WORD},
                {"lstrip", ADDED_LSTRIP},
                {"rstrip", ADDED_RSTRIP},
                {"normalized", ADDED_NORMALIZED},
                {"special", ADDED_SPECIAL}};
    *flags = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        bool set = false;
        STATUS_TRY(json_member_boolean(entry, keys[i].key, self->path, &set));
        *flags |= set ? keys[i].flag : 0;
    }
    return BALORA_OK;
}

/* A token that is in the vocabulary too must have the same id there, and nobody else's. */
static balora_status check_added_id(const tokenizer *self, const added_token *token) {
    const vocabulary *words = &self->model.words;
    char *scratch;
    STATUS_TRY(memory_new(self->memory, &scratch, token->content_bytes, 1, "the name of an added token"));
    int32_t known = vocabulary_find_name(words, token->content, token->content_bytes, scratch);
    memory_free(self->memory, scratch);
    bool taken = token->id < words->size && words->flags[token->id] != 0 && known != token->id;
    if ((known >= 0 && known != token->id) || taken)
        return status_fail(BALORA_ERROR_FORMAT, "%s: added_tokens: \"%s\" has the id %d, %s in model.vocab",
                           self->path, token->content, token->id,
                           taken ? "which another token has" : "but another one");
    return BALORA_OK;
}

/* What is looked for: of a normalized token its normal form. */
static balora_status read_pattern(const tokenizer *self, added_token *token) {
    token->pattern = token->content;
    token->pattern_bytes = token->content_bytes;
    if ((token->flags & ADDED_NORMALIZED) == 0)
        return BALORA_OK;
    text_buffer normalized = {.memory = self->memory};
    const char *text = token->content;
    size_t bytes = token->content_bytes;
    balora_status status = tokenizer_normalize(self, &normalized, &text, &bytes);
    if (status != BALORA_OK || text == token->content) {
        text_buffer_free(&normalized);
        return status;
    }
    token->pattern = normalized.bytes;
    token->pattern_bytes = normalized.count;
    return BALORA_OK;
}

static balora_status read_added_token(tokenizer *self, const json_t *entry) {
    const char *content;
    added_token token = {.id = -1};
    STATUS_TRY(json_member_string(entry, "content", self->path, true, &content));
    STATUS_TRY(tokenizer_check_id(self, json_object_get(entry, "id"), "added_tokens", content, &token.id));
    STATUS_TRY(read_added_flags(self, entry, &token.flags));
    if (*content == '\0')
        return BALORA_OK;
    token.content_bytes = strlen(content);
    STATUS_TRY(memory_string(self->memory, &token.content, content));
    balora_status status = check_added_id(self, &token);
    if (status == BALORA_OK)
        status = read_pattern(self, &token);
    if (status != BALORA_OK) {
        memory_free(self->memory, token.content);
        return status;
    }
    self->added.tokens[self->added.count++] = token;
    return BALORA_OK;
}

balora_status tokenizer_read_added(tokenizer *self, const json_t *file) {
    const json_t *list = json_object_get(file, "added_tokens");
    if (list != NULL && !json_is_null(list) && !json_is_array(list))
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"added_tokens\": expected an array, found %s",
                           self->path, json_type_name(list));
    size_t count = json_array_size(list);
    self->added.memory = self->memory;
    STATUS_TRY(
        memory_new(self->memory, &self->added.tokens, count, sizeof *self->added.tokens, "added tokens"));
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(list, i);
        if (!json_is_object(entry))
            return status_fail(BALORA_ERROR_FORMAT, "%s: added_tokens[%zu]: expected an object, found %s",
                               self->path, i, json_type_name(entry));
        STATUS_TRY(read_added_token(self, entry));
    }
    return added_finish(&self->added, self->path);
}
