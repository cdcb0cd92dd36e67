#include <string.h>

#include "base/status.h"
#include "text/nfc.h"
#include "text/spaces.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#define NAME_LIMIT 1024 /* bytes of a name that a token is asked for by */

/* One call of tokenizer_encode. */
typedef struct encoder {
    const tokenizer *self;
    bpe_scratch scratch;
    text_buffer normalized, prefixed;
    token_buffer *out;
} encoder;

/* ByteLevel's add_prefix_space: the piece with a space before it, unless it begins with one. */
static balora_status prefix_piece(encoder *work, const char **text, const char **end) {
    if (**text == ' ')
        return BALORA_OK;
    work->prefixed.count = 0;
    STATUS_TRY(text_buffer_append(&work->prefixed, " ", 1));
    STATUS_TRY(text_buffer_append(&work->prefixed, *text, (size_t)(*end - *text)));
    *text = work->prefixed.bytes;
    *end = *text + work->prefixed.count;
    return BALORA_OK;
}

/*
 * Cut the piece [text, end), which is not empty, by the steps from `step` on and encode the words. The
 * recursion is over the steps, of which there are at most TOKENIZER_STEP_LIMIT.
 */
static balora_status encode_piece(encoder *work, int step, const char *text, const char *end) {
    const tokenizer *self = work->self;
    if (self->prefix_space && step == self->byte_level_step)
        STATUS_TRY(prefix_piece(work, &text, &end));
    if (step == self->step_count)
        return bpe_encode(&self->model, text, (size_t)(end - text), &work->scratch, work->out);
    while (text < end) {
        const char *after = split_next(self->steps[step], text, end);
        STATUS_TRY(encode_piece(work, step + 1, text, after));
        text = after;
    }
    return BALORA_OK;
}

balora_status tokenizer_normalize(const tokenizer *self, text_buffer *out, const char **text, size_t *bytes) {
    out->count = 0;
    if (self->nfc && !nfc_is_normal(*text, *bytes))
        STATUS_TRY(nfc_normalize(out, *text, *bytes));
    else if (self->mark_spaces) /* never together with NFC */
        STATUS_TRY(spaces_mark(out, *text, *bytes, self->prepend_mark));
    else
        return BALORA_OK;
    *text = out->bytes;
    *bytes = out->count;
    return BALORA_OK;
}

/* A piece of plain text, which begins the whole text or not. */
static balora_status encode_plain(encoder *work, const char *text, const char *end, bool first) {
    metaspace spaces = work->self->spaces;
    if (spaces == METASPACE_NONE)
        return encode_piece(work, 0, text, end);
    bool prefix = (spaces == METASPACE_ALWAYS || (spaces == METASPACE_FIRST && first)) &&
                  !spaces_begin(text, (size_t)(end - text));
    work->prefixed.count = 0;
    STATUS_TRY(spaces_mark(&work->prefixed, text, (size_t)(end - text), prefix));
    return encode_piece(work, 0, work->prefixed.bytes, work->prefixed.bytes + work->prefixed.count);
}

/* Normalize, then look for the added tokens that are to be found in normalized text. */
static balora_status encode_raw(encoder *work, const char *text, size_t bytes, bool first) {
    const tokenizer *self = work->self;
    STATUS_TRY(tokenizer_normalize(self, &work->normalized, &text, &bytes));
    added_walk walk = added_walk_start(&self->added, &self->added.normalized, text, bytes);
    size_t begin, end;
    const added_token *token;
    while (added_walk_next(&walk, &begin, &end, &token))
        STATUS_TRY(token != NULL ? token_buffer_append(work->out, token->id)
                                 : encode_plain(work, text + begin, text + end, first && begin == 0));
    return BALORA_OK;
}

static balora_status encode_text(encoder *work, const char *text, size_t bytes) {
    added_walk walk = added_walk_start(&work->self->added, &work->self->added.plain, text, bytes);
    size_t begin, end;
    const added_token *token;
    while (added_walk_next(&walk, &begin, &end, &token))
        STATUS_TRY(token != NULL ? token_buffer_append(work->out, token->id)
                                 : encode_raw(work, text + begin, end - begin, begin == 0));
    return BALORA_OK;
}

balora_status tokenizer_encode(const tokenizer *self, const char *text, size_t bytes, bool add_special_tokens,
                               token_buffer *out) {
    size_t valid = utf8_check(text, bytes);
    if (valid < bytes)
        return status_fail(
            BALORA_ERROR_FORMAT,
            "the text is not valid UTF-8 at byte %zu (value 0x%02X); convert it to UTF-8 first", valid,
            (unsigned char)text[valid]);
    encoder work = {.self = self, .out = out, .scratch = {.memory = out->memory}};
    work.normalized.memory = work.prefixed.memory = out->memory;
    balora_status status = BALORA_OK;
    if (add_special_tokens)
        STATUS_GOTO(token_buffer_append_all(out, self->before.ids, self->before.count));
    STATUS_GOTO(encode_text(&work, text, bytes));
    if (add_special_tokens)
        STATUS_GOTO(token_buffer_append_all(out, self->behind.ids, self->behind.count));
fail:
    bpe_scratch_free(&work.scratch);
    text_buffer_free(&work.normalized);
    text_buffer_free(&work.prefixed);
    return status;
}

/* The bytes of one token; none for an id without a token. */
static void token_bytes(const tokenizer *self, int32_t id, bool skip_special, const char **bytes,
                        size_t *count) {
    *bytes = "";
    *count = 0;
    const added_token *added = added_find(&self->added, id);
    const vocabulary *words = &self->model.words;
    if (added != NULL) {
        if (skip_special && (added->flags & ADDED_SPECIAL) != 0)
            return;
        *bytes = added->content;
        *count = added->content_bytes;
    } else if (id < words->size && words->flags[id] != 0) {
        *bytes = words->bytes + words->offset[id];
        *count = words->length[id];
    }
}

/* At most `count` spaces at the beginning go. */
static void strip_left(text_buffer *text, size_t count) {
    size_t spaces = 0;
    while (spaces < count && spaces < text->count && text->bytes[spaces] == ' ')
        spaces++;
    text->count -= spaces;
    if (spaces > 0)
        memmove(text->bytes, text->bytes + spaces, text->count);
}

balora_status tokenizer_decode(const tokenizer *self, const int32_t *ids, size_t count, bool skip_special,
                               char **out, size_t *bytes, allocator *memory) {
    *out = NULL;
    *bytes = 0;
    text_buffer text = {.memory = memory};
    balora_status status = BALORA_OK;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0) {
            status = status_fail(BALORA_ERROR_ARGUMENT, "ids[%zu] is %d; an id is not negative", i, ids[i]);
            goto fail;
        }
        const char *piece;
        size_t piece_bytes;
        token_bytes(self, ids[i], skip_special, &piece, &piece_bytes);
        STATUS_GOTO(self->model.byte_fallback ? spaces_append_token(&text, piece, piece_bytes)
                                              : text_buffer_append(&text, piece, piece_bytes));
    }
    strip_left(&text, self->strip_left);
    STATUS_GOTO(text_buffer_append(&text, "", 1));
    *out = text.bytes;
    *bytes = text.count - 1;
    return BALORA_OK;
fail:
    text_buffer_free(&text);
    return status;
}

int32_t tokenizer_token_id(const tokenizer *self, const char *token) {
    for (size_t i = 0; i < self->added.count; i++)
        if (strcmp(self->added.tokens[i].content, token) == 0)
            return self->added.tokens[i].id;
    char scratch[NAME_LIMIT];
    size_t bytes = strlen(token);
    return bytes <= sizeof scratch ? vocabulary_find_name(&self->model.words, token, bytes, scratch) : -1;
}

const char *tokenizer_added_text(const tokenizer *self, int32_t id) {
    const added_token *added = added_find(&self->added, id);
    return added != NULL ? added->content : NULL;
}

int32_t tokenizer_bos(const tokenizer *self) {
    return self->bos;
}

int32_t tokenizer_eos(const tokenizer *self) {
    return self->eos;
}

int32_t tokenizer_size(const tokenizer *self) {
    int32_t size = self->model.words.size;
    if (self->added.count > 0 && self->added.tokens[self->added.count - 1].id >= size)
        size = self->added.tokens[self->added.count - 1].id + 1;
    return size;
}

tokenizer_chat tokenizer_chat_format(const tokenizer *self) {
    if (tokenizer_token_id(self, "<|im_start|>") >= 0 && tokenizer_token_id(self, "<|im_end|>") >= 0)
        return TOKENIZER_CHAT_CHATML;
    if (tokenizer_token_id(self, "<|start_header_id|>") >= 0 &&
        tokenizer_token_id(self, "<|end_header_id|>") >= 0 && tokenizer_token_id(self, "<|eot_id|>") >= 0)
        return TOKENIZER_CHAT_LLAMA3;
    return TOKENIZER_CHAT_NONE;
}

const char *tokenizer_path(const tokenizer *self) {
    return self->path;
}
