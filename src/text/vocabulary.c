#include "text/vocabulary.h"

#include <string.h>

#include "base/status.h"
#include "text/unicode.h"

/*
 * GPT-2 names a byte by the Latin-1 character of the same number where that prints, and numbers the other 68
 * from U+0100 on in order: 0..32, 127..160, 173. Returns -1 for any other character.
 */
static int byte_of_letter(uint32_t letter) {
    if ((letter >= '!' && letter <= '~') || (letter >= 0xA1 && letter <= 0xFF && letter != 0xAD))
        return (int)letter;
    if (letter < 0x100 || letter > 0x143)
        return -1;
    int place = (int)letter - 0x100;
    return place <= 32 ? place : place <= 66 ? place - 33 + 127 : 0xAD;
}

/* The bytes that a name stands for; returns their count, at most `name_bytes`. */
static size_t decode_name(const vocabulary *self, char *out, const char *name, size_t name_bytes,
                          bool *literal) {
    size_t count = 0;
    *literal = false;
    if (self->plain) {
        memcpy(out, name, name_bytes);
        return name_bytes;
    }
    for (const char *at = name; at < name + name_bytes;) {
        int byte = byte_of_letter(utf8_next(&at));
        if (byte < 0) {
            *literal = true;
            memcpy(out, name, name_bytes);
            return name_bytes;
        }
        out[count++] = (char)byte;
    }
    return count;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    __extension__ unsigned __int128 product = (unsigned __int128)(a ^ UINT64_C(0x9E3779B97F4A7C15)) * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_bytes(uint64_t seed, const char *bytes, size_t count) {
    uint64_t hash = seed ^ count, part;
    for (; count > sizeof part; bytes += sizeof part, count -= sizeof part) {
        memcpy(&part, bytes, sizeof part);
        hash = mix(hash ^ part, UINT64_C(0xD6E8FEB86659FD93));
    }
    part = 0;
    if (count > 0)
        memcpy(&part, bytes, count);
    return mix(hash ^ part, UINT64_C(0xA0761D6478BD642F));
}

balora_status vocabulary_init(vocabulary *self, allocator *memory, bool plain, int32_t size, size_t count,
                              size_t name_bytes) {
    *self = (vocabulary){.memory = memory, .plain = plain, .size = size, .slot_count = 16};
    while (self->slot_count < 2 * count)
        self->slot_count *= 2;
    self->seed = (uint64_t)(uintptr_t)self * UINT64_C(0x9E3779B97F4A7C15);
    STATUS_TRY(memory_new(memory, &self->bytes, name_bytes, 1, "token bytes"));
    STATUS_TRY(memory_zeroed(memory, &self->offset, (size_t)size, sizeof *self->offset, "token offsets"));
    STATUS_TRY(memory_zeroed(memory, &self->length, (size_t)size, sizeof *self->length, "token lengths"));
    STATUS_TRY(memory_zeroed(memory, &self->flags, (size_t)size, sizeof *self->flags, "token flags"));
    STATUS_TRY(memory_new(memory, &self->slots, self->slot_count, sizeof *self->slots, "token hash"));
    for (size_t i = 0; i < self->slot_count; i++)
        self->slots[i] = (vocabulary_slot){0, -1};
    return BALORA_OK;
}

void vocabulary_free(vocabulary *self) {
    if (self->memory == NULL)
        return;
    memory_free(self->memory, self->bytes);
    memory_free(self->memory, self->offset);
    memory_free(self->memory, self->length);
    memory_free(self->memory, self->flags);
    memory_free(self->memory, self->slots);
    *self = (vocabulary){0};
}

bool vocabulary_add(vocabulary *self, int32_t id, const char *name, size_t name_bytes, size_t *used) {
    if (self->flags[id] != 0)
        return false;
    bool literal;
    char *bytes = self->bytes + *used;
    size_t count = decode_name(self, bytes, name, name_bytes, &literal);
    self->offset[id] = (uint32_t)*used;
    self->length[id] = (uint32_t)count;
    self->flags[id] = (uint8_t)(VOCABULARY_PRESENT | (literal ? VOCABULARY_LITERAL : 0));
    *used += count;
    self->longest = count > self->longest ? count : self->longest;
    uint64_t hash = hash_bytes(self->seed, bytes, count);
    size_t slot = (size_t)hash & (self->slot_count - 1);
    while (self->slots[slot].id >= 0)
        slot = (slot + 1) & (self->slot_count - 1);
    self->slots[slot] = (vocabulary_slot){(uint32_t)(hash >> 32), id};
    return true;
}

int32_t vocabulary_find(const vocabulary *self, const char *bytes, size_t count, bool literal) {
    if (count > self->longest)
        return -1;
    uint64_t hash = hash_bytes(self->seed, bytes, count);
    size_t slot = (size_t)hash & (self->slot_count - 1);
    for (; self->slots[slot].id >= 0; slot = (slot + 1) & (self->slot_count - 1)) {
        int32_t id = self->slots[slot].id;
        if (self->slots[slot].tag == (uint32_t)(hash >> 32) && self->length[id] == count &&
            ((self->flags[id] & VOCABULARY_LITERAL) != 0) == literal &&
            memcmp(self->bytes + self->offset[id], bytes, count) == 0)
            return id;
    }
    return -1;
}

int32_t vocabulary_find_name(const vocabulary *self, const char *name, size_t name_bytes, char *scratch) {
    bool literal;
    size_t count = decode_name(self, scratch, name, name_bytes, &literal);
    return vocabulary_find(self, scratch, count, literal);
}
