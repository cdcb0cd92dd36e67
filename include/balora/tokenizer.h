/*
 * A model's tokenizer: BPE as tokenizer.json describes it, byte-level or with byte fallback, with the ids of
 * the Hugging Face package `tokenizers`. It never changes: any number of threads may use one at a time.
 */
#ifndef BALORA_TOKENIZER_H
#define BALORA_TOKENIZER_H

#include "balora/types.h"

BALORA_BEGIN_DECLS

typedef struct balora_tokenizer balora_tokenizer;

/*
 * Open the tokenizer of a Hugging Face folder: tokenizer.json of at most 64 MB, with the tokens that begin
 * and end a text from tokenizer_config.json, special_tokens_map.json, generation_config.json or config.json,
 * the first that names them. Understood are the byte-level vocabularies of GPT-2, SmolLM2, LLaMA-3 and Qwen,
 * and those with byte fallback of Gemma, LLaMA 2 and Mistral; sections "truncation" and "padding" are left alone.
 *
 * out      receives the tokenizer, NULL on failure
 * context  kept alive by the tokenizer
 * folder   UTF-8 path
 * Errors: NOT_FOUND, IO, FORMAT (naming file and key), UNSUPPORTED (naming what was found), MEMORY, ARGUMENT.
 * Since 0.1.
 */
BALORA_API balora_status balora_tokenizer_open(balora_tokenizer **out, balora_context *context,
                                               const char *folder);

/* Give the handle back; NULL is allowed. Since 0.1. */
BALORA_API void balora_tokenizer_free(balora_tokenizer *handle);

/*
 * The ids of a text. Added tokens, such as <|im_end|>, are found in it.
 *
 * text                UTF-8, may hold NUL bytes
 * bytes               its length; -1: up to the first NUL
 * add_special_tokens  not 0: with what the model puts around every text
 * ids                 receives the ids; may be NULL when capacity is 0
 * capacity            room in `ids`; 0 only asks for the count
 * count               receives the number of ids, also when they do not fit; 0 after any other failure
 * Errors: FORMAT (not UTF-8, naming the byte), ARGUMENT (also: more ids than capacity, then nothing is
 * written), MEMORY, STATE, CANCELLED. Since 0.1.
 */
BALORA_API balora_status balora_tokenizer_encode(const balora_tokenizer *handle, const char *text,
                                                 int64_t bytes, int32_t add_special_tokens, int32_t *ids,
                                                 int64_t capacity, int64_t *count);

/*
 * The text that ids stand for. It is UTF-8 when the ids end where a character ends. An id that no token has
 * gives nothing.
 *
 * ids, count           may be NULL and 0
 * skip_special_tokens  not 0: without special tokens
 * text                 receives the bytes and a closing NUL; may be NULL when capacity is 0
 * capacity             room in `text`, the NUL included; 0 only asks for the length
 * bytes                receives the length without the NUL, also when it does not fit; 0 after any other
 * failure.
 * Errors: ARGUMENT (a negative id; also: no room, then nothing is written), MEMORY, STATE, CANCELLED.
 * Since 0.1.
 */
BALORA_API balora_status balora_tokenizer_decode(const balora_tokenizer *handle, const int32_t *ids,
                                                 int64_t count, int32_t skip_special_tokens, char *text,
                                                 int64_t capacity, int64_t *bytes);

/* How conversations are written, told from the special tokens of the vocabulary. */
enum { BALORA_CHAT_NONE = 0, BALORA_CHAT_CHATML = 10, BALORA_CHAT_LLAMA3 = 20 };

typedef struct balora_tokenizer_information {
    uint64_t struct_size;
    int32_t size;        /* one more than the largest id */
    int32_t begin, end;  /* ids of the tokens that begin and end a text; -1: none */
    int32_t chat_format; /* BALORA_CHAT_... */
} balora_tokenizer_information;

#define BALORA_TOKENIZER_INFORMATION_INIT                                                                    \
    { sizeof(balora_tokenizer_information), 0, -1, -1, 0 }

/* Facts of a tokenizer. Errors: ARGUMENT, ABI. Since 0.1. */
BALORA_API balora_status balora_tokenizer_describe(const balora_tokenizer *handle,
                                                   balora_tokenizer_information *out);

BALORA_END_DECLS

#endif
