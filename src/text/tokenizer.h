/* BPE from tokenizer.json, byte-level or with byte fallback, with the ids of the PyPI package `tokenizers`. */
#ifndef TEXT_TOKENIZER_H
#define TEXT_TOKENIZER_H

#include <stdbool.h>

#include "text/buffer.h"

/* Immutable once open: any number of threads may use one at a time. */
typedef struct tokenizer tokenizer;

/* How a conversation is written, told from the special tokens that the vocabulary holds. */
typedef enum tokenizer_chat {
    TOKENIZER_CHAT_NONE,
    TOKENIZER_CHAT_CHATML, /* <|im_start|>role ... <|im_end|> */
    TOKENIZER_CHAT_LLAMA3  /* <|start_header_id|>role<|end_header_id|> ... <|eot_id|> */
} tokenizer_chat;

/*
 * Read tokenizer.json; begin and end of text from tokenizer_config.json, special_tokens_map.json,
 * generation_config.json and config.json, the first that tells. A tokenizer of another kind is
 * BALORA_ERROR_UNSUPPORTED and named. `memory` must outlive the tokenizer.
 */
balora_status tokenizer_open(tokenizer **out, allocator *memory, const char *model_folder);
void tokenizer_free(tokenizer *self);

/* Append the ids of the text; one that is not UTF-8 is BALORA_ERROR_FORMAT naming the byte. */
balora_status tokenizer_encode(const tokenizer *self, const char *text, size_t bytes, bool add_special_tokens,
                               token_buffer *out);

/*
 * The bytes that the ids stand for, at *out with a closing NUL (not counted): UTF-8 only if the ids end at a
 * character's end. An id without a token gives nothing; a negative one is BALORA_ERROR_ARGUMENT. *out is from
 * `memory`.
 */
balora_status tokenizer_decode(const tokenizer *self, const int32_t *ids, size_t count, bool skip_special,
                               char **out, size_t *bytes, allocator *memory);

/*
 * The id of the token of that name (" the" is named "\u0120the"); -1: none, or a name of more than 1 KiB.
 * `token` is valid UTF-8.
 */
int32_t tokenizer_token_id(const tokenizer *self, const char *token);

/* The text of an added token, borrowed; NULL when the id is not one. */
const char *tokenizer_added_text(const tokenizer *self, int32_t id);

int32_t tokenizer_bos(const tokenizer *self);  /* -1: none */
int32_t tokenizer_eos(const tokenizer *self);  /* -1: none */
int32_t tokenizer_size(const tokenizer *self); /* one more than the largest id */
tokenizer_chat tokenizer_chat_format(const tokenizer *self);

/* What was read from where, for messages and info: the path of tokenizer.json, borrowed. */
const char *tokenizer_path(const tokenizer *self);

#endif
