#include "text/bpe.h"

#include <limits.h>
#include <stdio.h>

#include "base/arith.h"
#include "base/status.h"
#include "text/unicode.h"

#define NO_RANK  UINT32_MAX
#define NO_PLACE UINT32_MAX

/* A token of the word under work, chained to its neighbours. */
typedef struct bpe_symbol {
    int32_t id;
    uint32_t previous, next;
    uint32_t rank; /* of the merge with the next; NO_RANK: none */
} bpe_symbol;

balora_status bpe_init_merges(bpe *self, allocator *memory, size_t count) {
    self->memory = memory;
    self->slot_count = 16;
    while (self->slot_count < 2 * count)
        self->slot_count *= 2;
    self->seed = (uint64_t)(uintptr_t)self >> 4;
    STATUS_TRY(memory_new(memory, &self->merges, self->slot_count, sizeof *self->merges, "merges"));
    for (size_t i = 0; i < self->slot_count; i++)
        self->merges[i].left = -1;
    return BALORA_OK;
}

void bpe_free(bpe *self) {
    vocabulary_free(&self->words);
    if (self->memory != NULL)
        memory_free(self->memory, self->merges);
    *self = (bpe){0};
}

/* The slot that holds the pair, or the empty one where it belongs. */
static bpe_merge *find_slot(const bpe *self, int32_t left, int32_t right) {
    uint64_t key = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) + self->seed;
    key *= UINT64_C(0x9E3779B97F4A7C15);
    key = (key ^ key >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    size_t slot = (size_t)(key >> 32) & (self->slot_count - 1);
    while (self->merges[slot].left >= 0 &&
           (self->merges[slot].left != left || self->merges[slot].right != right))
        slot = (slot + 1) & (self->slot_count - 1);
    return &self->merges[slot];
}

void bpe_add_merge(bpe *self, int32_t left, int32_t right, int32_t rank, int32_t result) {
    *find_slot(self, left, right) = (bpe_merge){left, right, rank, result};
}

static uint32_t pair_rank(const bpe *self, int32_t left, int32_t right) {
    const bpe_merge *merge = find_slot(self, left, right);
    return merge->left >= 0 ? (uint32_t)merge->rank : NO_RANK;
}

/* The heap holds (rank, place), so that of equal ranks the leftmost comes first. */
static balora_status heap_push(bpe_scratch *scratch, size_t *count, uint32_t rank, uint32_t place) {
    if (*count == scratch->heap_capacity) {
        size_t capacity = *count < 128 ? 256 : *count * 2;
        STATUS_TRY(memory_grow(scratch->memory, &scratch->heap, *count, capacity, sizeof *scratch->heap,
                               "pairs of a word"));
        scratch->heap_capacity = capacity;
    }
    uint64_t item = (uint64_t)rank << 32 | place;
    size_t at = (*count)++;
    while (at > 0 && scratch->heap[(at - 1) / 2] > item) {
        scratch->heap[at] = scratch->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    scratch->heap[at] = item;
    return BALORA_OK;
}

static uint64_t heap_pop(bpe_scratch *scratch, size_t *count) {
    uint64_t top = scratch->heap[0], item = scratch->heap[--*count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < *count) {
        if (child + 1 < *count && scratch->heap[child + 1] < scratch->heap[child])
            child++;
        if (scratch->heap[child] >= item)
            break;
        scratch->heap[at] = scratch->heap[child];
        at = child;
    }
    scratch->heap[at] = item;
    return top;
}

/* A word on its way to symbols. */
typedef struct spelling {
    const bpe *self;
    bpe_symbol *symbols;
    size_t count;
    bool waiting; /* for the unknown token to be written */
} spelling;

static void spell_token(spelling *work, int32_t id) {
    work->symbols[work->count] =
        (bpe_symbol){id, (uint32_t)work->count - 1, (uint32_t)work->count + 1, NO_RANK};
    work->count++;
}

static void spell_waiting(spelling *work) {
    if (work->waiting)
        spell_token(work, work->self->unknown);
    work->waiting = false;
}

/*
 * What the vocabulary has, or does not have (id -1). As in `tokenizers`, an unknown token waits for the next
 * that is known: characters spelt in bytes go before it, and unknown ones on both sides of them are fused.
 */
static void spell_found(spelling *work, int32_t id) {
    if (id >= 0 || (work->waiting && !work->self->fuse_unknown))
        spell_waiting(work);
    if (id >= 0)
        spell_token(work, id);
    else
        work->waiting = work->self->unknown >= 0;
}

/* A character that is no token, in the tokens of its bytes. False: one is missing, nothing is written. */
static bool spell_bytes(spelling *work, const char *text, const char *end) {
    for (const char *at = text; at < end; at++)
        if (work->self->letter[(unsigned char)*at] < 0)
            return false;
    for (const char *at = text; at < end; at++)
        spell_token(work, work->self->letter[(unsigned char)*at]);
    return true;
}

static void spell_character(spelling *work, const char *text, const char *end) {
    int32_t id = vocabulary_find(&work->self->words, text, (size_t)(end - text), false);
    if (id >= 0 || !spell_bytes(work, text, end))
        spell_found(work, id);
}

/* The symbols of a word, at most one a byte; returns how many there are. */
static size_t spell(const bpe *self, const char *word, size_t bytes, bpe_symbol *symbols) {
    spelling work = {.self = self, .symbols = symbols};
    for (const char *at = word, *after; at < word + bytes; at = after) {
        after = at + 1;
        if (self->byte_fallback) {
            after = at;
            utf8_next(&after);
            spell_character(&work, at, after);
        } else {
            spell_found(&work, self->letter[(unsigned char)*at]);
        }
    }
    spell_waiting(&work);
    if (work.count > 0)
        symbols[work.count - 1].next = NO_PLACE;
    return work.count;
}

/* Note the pair that begins at `place` if it merges. */
static balora_status note_pair(const bpe *self, bpe_scratch *scratch, size_t *pairs, uint32_t place) {
    bpe_symbol *symbol = &scratch->symbols[place];
    symbol->rank =
        symbol->next == NO_PLACE ? NO_RANK : pair_rank(self, symbol->id, scratch->symbols[symbol->next].id);
    return symbol->rank == NO_RANK ? BALORA_OK : heap_push(scratch, pairs, symbol->rank, place);
}

static balora_status merge_symbols(const bpe *self, bpe_scratch *scratch, size_t count) {
    size_t pairs = 0;
    for (size_t i = 0; i + 1 < count; i++)
        STATUS_TRY(note_pair(self, scratch, &pairs, (uint32_t)i));
    while (pairs > 0) {
        uint64_t top = heap_pop(scratch, &pairs);
        uint32_t place = (uint32_t)top;
        bpe_symbol *symbol = &scratch->symbols[place];
        /* A symbol only grows, so the same rank is the same pair; anything else is out of date. */
        if (symbol->rank != (uint32_t)(top >> 32))
            continue;
        bpe_symbol *right = &scratch->symbols[symbol->next];
        symbol->id = find_slot(self, symbol->id, right->id)->result;
        symbol->next = right->next;
        right->rank = NO_RANK;
        if (symbol->next != NO_PLACE)
            scratch->symbols[symbol->next].previous = place;
        STATUS_TRY(note_pair(self, scratch, &pairs, place));
        if (symbol->previous != NO_PLACE)
            STATUS_TRY(note_pair(self, scratch, &pairs, symbol->previous));
    }
    return BALORA_OK;
}

static balora_status encode_by_merges(const bpe *self, const char *word, size_t bytes, bpe_scratch *scratch,
                                      token_buffer *out) {
    if (bytes >= NO_PLACE)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "a word of %zu bytes: at most %u are supported; split the text", bytes,
                           NO_PLACE - 1);
    if (bytes > scratch->symbol_capacity) {
        size_t capacity = bytes < 128 ? 128 : bytes;
        STATUS_TRY(memory_grow(scratch->memory, &scratch->symbols, 0, capacity, sizeof *scratch->symbols,
                               "symbols of a word"));
        scratch->symbol_capacity = capacity;
    }
    size_t count = spell(self, word, bytes, scratch->symbols);
    if (count == 0)
        return BALORA_OK;
    STATUS_TRY(merge_symbols(self, scratch, count));
    for (uint32_t place = 0; place != NO_PLACE; place = scratch->symbols[place].next)
        STATUS_TRY(token_buffer_append(out, scratch->symbols[place].id));
    return BALORA_OK;
}

balora_status bpe_encode(const bpe *self, const char *word, size_t bytes, bpe_scratch *scratch,
                         token_buffer *out) {
    int32_t id = vocabulary_find(&self->words, word, bytes, false);
    if (id >= 0 && (self->words.flags[id] & VOCABULARY_WHOLE) != 0)
        return token_buffer_append(out, id);
    return encode_by_merges(self, word, bytes, scratch, out);
}

balora_status bpe_finish(bpe *self, bool ignore_merges) {
    for (int byte = 0; byte < 256; byte++) {
        char name[8] = {(char)byte};
        int bytes = self->byte_fallback ? snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte) : 1;
        self->letter[byte] = vocabulary_find(&self->words, name, (size_t)bytes, false);
    }
    bpe_scratch scratch = {.memory = self->memory};
    token_buffer tokens = {.memory = self->memory};
    balora_status status = BALORA_OK;
    vocabulary *words = &self->words;
    for (int32_t id = 0; id < words->size; id++) {
        if ((words->flags[id] & VOCABULARY_PRESENT) == 0 || (words->flags[id] & VOCABULARY_LITERAL) != 0)
            continue;
        bool whole = ignore_merges;
        if (!whole) {
            tokens.count = 0;
            STATUS_GOTO(encode_by_merges(self, words->bytes + words->offset[id], words->length[id], &scratch,
                                         &tokens));
            whole = tokens.count == 1 && tokens.ids[0] == id;
        }
        words->flags[id] |= (uint8_t)(whole ? VOCABULARY_WHOLE : 0);
    }
fail:
    bpe_scratch_free(&scratch);
    token_buffer_free(&tokens);
    return status;
}

void bpe_scratch_free(bpe_scratch *scratch) {
    memory_free(scratch->memory, scratch->symbols);
    memory_free(scratch->memory, scratch->heap);
    *scratch = (bpe_scratch){.memory = scratch->memory};
}
