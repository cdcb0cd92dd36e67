/*
 * Bad inputs as a table: each row is a valid folder with one thing changed, a call, and how the call must fail.
 *
 * The folder, made anew for each row:
 *     model/    config.json, model.safetensors, tokenizer.json, tokenizer_config.json
 *     shards/   the same model: config.json, model.safetensors.index.json, a.safetensors, b.safetensors
 *     adapter/  adapter_config.json, adapter_model.safetensors: rank 2 on q_proj and down_proj
 *     rows.jsonl, tokens.safetensors: data for that model
 *     out/      keep.txt: where results would go
 */
#ifndef TESTS_HOSTILE_H
#define TESTS_HOSTILE_H

#include "../unit/scratch.h"

#include "balora/balora.h"

/* What is changed in `file`. */
typedef enum change_kind {
    SET,           /* JSON: the member at `key` ("a/b/0") becomes `value` */
    REMOVE,        /* JSON: the member at `key` goes */
    HEADER_SET,    /* the same in the header of a safetensors file, whose data stay */
    HEADER_REMOVE, /**/
    HEADER_TEXT,   /* the header is `value`, whatever that is */
    TEXT,          /* the file is `value` */
    APPEND,        /* `value` behind the file's end */
    CUT,           /* the first `number` bytes stay; negative: so many go */
    LENGTH,        /* the first 8 bytes are `number` */
    SIZE,          /* the file has `number` bytes, zeros beyond its own */
    DEEP,          /* the file is `number` times `value` */
    ELEMENT,       /* element `number` of tensor `key` is the number in `value` */
    DELETE,        /* there is no file */
    FOLDER,        /* a folder is in its place */
    PIPE,          /* a named pipe is */
    LINK,          /* a symbolic link to `value` is */
    CLOSED,        /* nobody may read it (tried where the test is not run by root) */
} change_kind;

/* What is called then, on the folder's files. */
typedef enum call_kind {
    OPEN_MODEL,
    OPEN_MODEL_F32, /* with the storage type asked for */
    OPEN_SHARDS,
    OPEN_TOKENIZER,
    OPEN_ROWS,
    OPEN_ROWS_FIELDS, /* with fields "ask,say" */
    OPEN_TOKENS,
    OPEN_ADAPTER,
    SAVE,  /* adapter/ to out/ */
    MERGE, /* adapter/ into out/ */
    TRAIN, /* a trainer on the adapter and tokens.safetensors, and a step */
    EVALUATE,
} call_kind;

typedef struct bad_input {
    const char *name;
    call_kind call;
    change_kind change;
    const char *file, *key, *value;
    int64_t number;
    balora_status status;
    const char *parts[3]; /* what the message must say: file and key, as far as there is one */
} bad_input;

#define BAD(name, call, change, file, key, value, number, status, ...)                                       \
    {                                                                                                        \
        name, call, change, file, key, value, number, status, {                                              \
            __VA_ARGS__                                                                                      \
        }                                                                                                    \
    }

typedef struct bad_inputs {
    const bad_input *rows;
    size_t count;
} bad_inputs;

extern const bad_inputs safetensors_inputs, index_inputs, config_inputs, tokenizer_inputs, row_inputs,
    token_inputs, adapter_inputs, file_inputs;

/* Make the valid folder: a copy of FOLDER.base, which the first call makes and remove_base removes. */
void valid_folder(scratch *self);
void remove_base(const scratch *self);

/* Write a file that need not survive. */
void put_file(scratch *self, const char *name, const void *data, size_t bytes);

/* Change it. False when this row cannot be tried here. */
bool change_folder(scratch *self, const bad_input *row);

/* Call, on an output argument that is not NULL before; it must be NULL behind a failure. */
balora_status make_call(scratch *self, balora_context *context, const bad_input *row);

/* Open file descriptors of this process. */
int open_descriptors(void);

#endif
