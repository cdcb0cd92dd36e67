/* The tokens of a vocabulary, found by id or by their bytes. */
#ifndef TEXT_VOCABULARY_H
#define TEXT_VOCABULARY_H

#include <stdbool.h>

#include "base/memory.h"

#define VOCABULARY_LIMIT 2000000 /* ids are below */

enum {
    VOCABULARY_PRESENT = 1,
    VOCABULARY_LITERAL =
        2,               /* the name has characters outside GPT-2's byte alphabet: its bytes are its UTF-8 */
    VOCABULARY_WHOLE = 4 /* a word of exactly these bytes becomes this one token */
};

typedef struct vocabulary_slot {
    uint32_t tag; /* upper half of the hash */
    int32_t id;   /* -1: empty */
} vocabulary_slot;

typedef struct vocabulary {
    allocator *memory;
    int32_t size;              /* one more than the largest id */
    char *bytes;               /* the tokens' bytes, one token after the other */
    uint32_t *offset, *length; // [size]
    uint8_t *flags;            // [size]
    vocabulary_slot *slots;
    size_t slot_count; /* a power of two */
    uint64_t seed;     /* differs between processes: no file can choose colliding names */
    size_t longest;    /* bytes of the longest token */
    bool plain;        /* names are text itself, not written in GPT-2's byte alphabet */
} vocabulary;

/*
 * Room for ids below `size` whose names have `name_bytes` bytes of UTF-8 together; `plain` names are text
 * itself.
 */
balora_status vocabulary_init(vocabulary *self, allocator *memory, bool plain, int32_t size, size_t count,
                              size_t name_bytes);
void vocabulary_free(vocabulary *self); /* also on a zeroed one */

/*
 * Add a token by its name, in the byte alphabet ("\u0120the" is " the") unless names are plain. `used` counts
 * the bytes filled so far. False: the id has a token already.
 */
bool vocabulary_add(vocabulary *self, int32_t id, const char *name, size_t name_bytes, size_t *used);

/* The id of the token with these bytes; -1: none. `literal` asks for names outside the byte alphabet. */
int32_t vocabulary_find(const vocabulary *self, const char *bytes, size_t count, bool literal);

/* The id of the token of that name; -1: none. `scratch` has room for `name_bytes` bytes. */
int32_t vocabulary_find_name(const vocabulary *self, const char *name, size_t name_bytes, char *scratch);

#endif
