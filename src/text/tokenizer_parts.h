/* The inside of a tokenizer: shared by its reader and its coder. */
#ifndef TEXT_TOKENIZER_PARTS_H
#define TEXT_TOKENIZER_PARTS_H

#include "format/json.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/split.h"
#include "text/tokenizer.h"

#define TOKENIZER_STEP_LIMIT 8 /* splits one after the other */

struct tokenizer {
    allocator *memory;
    char *path;
    bpe model;
    added_set added;
    bool nfc;
    split_kind steps[TOKENIZER_STEP_LIMIT];
    int step_count;
    int byte_level_step; /* the steps before this one come before ByteLevel */
    bool prefix_space;   /* ByteLevel: a space before each piece of plain text that does not begin with one */
    token_buffer before, behind; /* special tokens around a text */
    int32_t bos, eos;
};

/* The readers of single sections of tokenizer.json; the tokenizer's path names it in messages. */
balora_status tokenizer_read_model(tokenizer *self, const json_t *file);
balora_status tokenizer_read_added(tokenizer *self, const json_t *file); /* after model and pipeline */
balora_status tokenizer_read_pipeline(tokenizer *self, const json_t *file);

/* Says what was found where, and what would do. Returns BALORA_ERROR_UNSUPPORTED. */
balora_status tokenizer_unsupported(const tokenizer *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
