/* Cutting text into the words that byte-pair encoding works on. */
#ifndef TEXT_SPLIT_H
#define TEXT_SPLIT_H

#include <stdbool.h>
#include <stddef.h>

typedef enum split_kind {
    SPLIT_GPT2,   /* GPT-2's expression, also that of ByteLevel with use_regex */
    SPLIT_LLAMA3, /* LLaMA-3's: numbers in pieces of up to three */
    SPLIT_QWEN2,  /* Qwen 2 to 3's: numbers one by one */
    SPLIT_DIGIT,  /* Digits with individual_digits: every number a piece */
    SPLIT_DIGITS, /* Digits without: runs of numbers */
    SPLIT_MARKS   /* Metaspace: before each U+2581 */
} split_kind;

/* The kind whose regular expression is exactly `pattern`. False: none. */
bool split_recognise(const char *pattern, split_kind *kind);

/* Where the first piece of `text` (valid UTF-8, not empty) ends. The whole text is the piece's surroundings.
 */
const char *split_next(split_kind kind, const char *text, const char *end);

#endif
