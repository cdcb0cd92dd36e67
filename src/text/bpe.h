/* Byte-pair encoding: the merges of a vocabulary, applied to one word. */
#ifndef TEXT_BPE_H
#define TEXT_BPE_H

#include "text/buffer.h"
#include "text/vocabulary.h"

typedef struct bpe_merge {
    int32_t left, right; /* left -1: an empty slot */
    int32_t rank;        /* lower merges first */
    int32_t result;
} bpe_merge;

typedef struct bpe {
    allocator *memory;
    vocabulary words;
    bpe_merge *merges;
    size_t slot_count; /* a power of two */
    uint64_t seed;
    bool byte_fallback;  /* words are spelt in characters; one without a token in its bytes, "<0xNN>" */
    int32_t letter[256]; /* the token of each byte; -1: the vocabulary has none */
    int32_t unknown;     /* the token for what has none; -1: that vanishes, as in `tokenizers` */
    bool fuse_unknown;   /* one unknown token for adjacent ones */
} bpe;

/* Working memory of one thread; grows to the longest word met. */
typedef struct bpe_scratch {
    allocator *memory;
    struct bpe_symbol *symbols;
    size_t symbol_capacity;
    uint64_t *heap;
    size_t heap_capacity;
} bpe_scratch;

/* Room for `count` merges; the caller fills `words`, and sets `byte_fallback`, before bpe_finish. */
balora_status bpe_init_merges(bpe *self, allocator *memory, size_t count);
void bpe_free(bpe *self); /* also on a zeroed one */

/* The pair becomes `result`; a pair given twice has its last rank. */
void bpe_add_merge(bpe *self, int32_t left, int32_t right, int32_t rank, int32_t result);

/*
 * Mark the tokens that a word of their bytes becomes: then no merging is needed for it. `ignore_merges` marks
 * every token that a word can be, as that option of the file asks.
 */
balora_status bpe_finish(bpe *self, bool ignore_merges);

/* Append the tokens of one word. */
balora_status bpe_encode(const bpe *self, const char *word, size_t bytes, bpe_scratch *scratch,
                         token_buffer *out);

void bpe_scratch_free(bpe_scratch *scratch);

#endif
