/* UTF-8 and the character classes that split patterns and added tokens need. */
#ifndef TEXT_UNICODE_H
#define TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "text/unicode_tables.h"

/*
 * One class a code point. The regular expressions of `tokenizers` follow Unicode 16.0; its pre-tokenizer
 * Digits follows 17.0, whose additional numbers are a class of their own.
 */
typedef enum unicode_class {
    UNICODE_OTHER,
    UNICODE_LETTER,      /* \p{L} */
    UNICODE_NUMBER_WORD, /* \p{Nd} and \p{Nl}: numbers that \w has too */
    UNICODE_NUMBER,      /* \p{No} */
    UNICODE_SPACE,       /* \s */
    UNICODE_WORD,        /* the rest of \w: marks, connectors, joiners, circled letters */
    UNICODE_NEW_NUMBER   /* numbers since 17.0 */
} unicode_class;

#define UNICODE_NFC_UNSAFE 8 /* may change under NFC, or make a character before it change */

/* The class, with UNICODE_NFC_UNSAFE added where it holds. `code` is below 0x110000. */
static inline int unicode_property(uint32_t code) {
    return unicode_properties[unicode_block[code / UNICODE_BLOCK_SIZE]][code % UNICODE_BLOCK_SIZE] - 'a';
}

static inline unicode_class unicode_class_of(uint32_t code) {
    return (unicode_class)(unicode_property(code) & (UNICODE_NFC_UNSAFE - 1));
}

/* \p{N} of the regular expressions. */
static inline bool unicode_is_number(unicode_class kind) {
    return kind == UNICODE_NUMBER_WORD || kind == UNICODE_NUMBER;
}

/* \w of the regular expressions. */
static inline bool unicode_is_word(unicode_class kind) {
    return kind == UNICODE_LETTER || kind == UNICODE_NUMBER_WORD || kind == UNICODE_WORD;
}

/* Decode the character at `text`, which is valid UTF-8, and step over it. */
static inline uint32_t utf8_next(const char **text) {
    const unsigned char *byte = (const unsigned char *)*text;
    if (byte[0] < 0x80) {
        *text += 1;
        return byte[0];
    }
    if (byte[0] < 0xE0) {
        *text += 2;
        return (uint32_t)(byte[0] & 0x1F) << 6 | (byte[1] & 0x3F);
    }
    if (byte[0] < 0xF0) {
        *text += 3;
        return (uint32_t)(byte[0] & 0x0F) << 12 | (uint32_t)(byte[1] & 0x3F) << 6 | (byte[2] & 0x3F);
    }
    *text += 4;
    return (uint32_t)(byte[0] & 0x07) << 18 | (uint32_t)(byte[1] & 0x3F) << 12 |
           (uint32_t)(byte[2] & 0x3F) << 6 | (byte[3] & 0x3F);
}

/* Decode the character that ends before `text`; `*text` steps back to its first byte. */
static inline uint32_t utf8_previous(const char **text) {
    do
        *text -= 1;
    while ((**text & 0xC0) == 0x80);
    const char *start = *text;
    return utf8_next(&start);
}

/* Write `code` as UTF-8 into four bytes of room; returns how many it took. */
size_t utf8_write(char *out, uint32_t code);

/* Offset of the first byte that is not part of well-formed UTF-8; `bytes` when all is well. */
size_t utf8_check(const char *text, size_t bytes);

#endif
