/* JSON Lines data: one object a line, tokenized with the model folder's tokenizer. */
#ifndef DATA_JSONL_H
#define DATA_JSONL_H

#include "data/dataset.h"

typedef struct jsonl_options {
    const char *folder; /* of the model, with tokenizer.json */
    const char *fields; /* "a,b": keys of instruction and answer; "a": of text; NULL: found in each row */
    int64_t vocabulary; /* of the model */
    int64_t max_length; /* tokens kept of a row */
} jsonl_options;

/*
 * Rows, by the keys that they have:
 *   instruction + response, question + answer, or `fields`: the instruction prompt, then the answer and end
 * of text; prompt + completion: as they are, then end of text; messages: a conversation in the model's
 * format, whose assistant turns are supervised; text: all supervised, then end of text. A row without a
 * supervised next token within max_length is skipped and counted. Errors: NOT_FOUND, IO, FORMAT (file, line
 * and key), UNSUPPORTED (the tokenizer, or the format of conversations), MISMATCH (a token beyond the
 * vocabulary).
 */
balora_status jsonl_read(dataset *out, allocator *memory, const char *path, const jsonl_options *options);

#endif
