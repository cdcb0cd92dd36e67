/* The inside of a tokenizer: shared by its reader and its coder. */
#ifndef TEXT_TOKENIZER_PARTS_H
#define TEXT_TOKENIZER_PARTS_H

#include "format/json.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/split.h"
#include "text/tokenizer.h"

#define TOKENIZER_STEP_LIMIT 8 /* splits one after the other */

/* Metaspace: spaces become U+2581, and which piece of plain text gets one before it. */
typedef enum metaspace {
    METASPACE_NONE, /* no Metaspace */
    METASPACE_NEVER,
    METASPACE_FIRST, /* the one that begins the text */
    METASPACE_ALWAYS
} metaspace;

struct tokenizer {
    allocator *memory;
    char *path;
    bpe model;
    added_set added;
    bool nfc;
    bool mark_spaces, prepend_mark; /* normalizer: spaces as U+2581, and one before each plain piece */
    metaspace spaces;
    split_kind steps[TOKENIZER_STEP_LIMIT];
    int step_count;
    int byte_level_step; /* the steps before this one come before ByteLevel */
    bool prefix_space;   /* ByteLevel: a space before each piece of plain text that does not begin with one */
    size_t strip_left;   /* decoder: that many spaces at the beginning go */
    token_buffer before, behind; /* special tokens around a text */
    int32_t bos, eos;
};

/* The readers of single sections of tokenizer.json; the tokenizer's path names it in messages. */
balora_status tokenizer_read_model(tokenizer *self, const json_t *file);
balora_status tokenizer_read_added(tokenizer *self, const json_t *file); /* after model and pipeline */
balora_status tokenizer_read_pipeline(tokenizer *self, const json_t *file);

/* The readers of the sections as files with byte_fallback have them. */
balora_status spaces_read_normalizer(tokenizer *self, const json_t *file);
balora_status spaces_read_pre_tokenizer(tokenizer *self, const json_t *file);
balora_status spaces_read_decoder(tokenizer *self, const json_t *file);

/* A component, or the components of a Sequence: `count` of them from `list` or only `single`. */
typedef struct component_list {
    const json_t *single, *list;
    size_t count;
} component_list;

/* The components of the section `key`; those of a Sequence stand under `list_key`. None: count 0. */
balora_status tokenizer_list_components(const tokenizer *self, const json_t *file, const char *key,
                                        const char *list_key, component_list *out);
balora_status tokenizer_component_type(const tokenizer *self, const component_list *components, size_t place,
                                       const char *key, const json_t **component, const char **type);

/* An id of the file, for the token `name` of the section `where`. */
balora_status tokenizer_check_id(const tokenizer *self, const json_t *value, const char *where,
                                 const char *name, int32_t *id);

/* Puts the normal form in place of *text, which is not empty: itself or in `out`, which is emptied. */
balora_status tokenizer_normalize(const tokenizer *self, text_buffer *out, const char **text, size_t *bytes);

/* Says what was found where, and what would do. Returns BALORA_ERROR_UNSUPPORTED. */
balora_status tokenizer_unsupported(const tokenizer *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
