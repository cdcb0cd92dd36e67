#include "text/split.h"

#include <string.h>

#include "text/spaces.h"
#include "text/unicode.h"

/* The expressions as the models' tokenizer.json have them. */
static const struct {
    const char *pattern;
    split_kind kind;
} known_patterns[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", SPLIT_GPT2},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SPLIT_LLAMA3},
    {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SPLIT_QWEN2},
};

bool split_recognise(const char *pattern, split_kind *kind) {
    for (size_t i = 0; i < sizeof known_patterns / sizeof *known_patterns; i++)
        if (strcmp(pattern, known_patterns[i].pattern) == 0) {
            *kind = known_patterns[i].kind;
            return true;
        }
    return false;
}

/* What the expressions tell apart. */
typedef enum kind_of_character { LETTER, NUMBER, SPACE, SYMBOL } kind_of_character;

/* The kind of the character at *text, stepping over it. */
static inline kind_of_character next_kind(const char **text) {
    unicode_class found = unicode_class_of(utf8_next(text));
    if (found == UNICODE_LETTER)
        return LETTER;
    if (unicode_is_number(found))
        return NUMBER;
    return found == UNICODE_SPACE ? SPACE : SYMBOL;
}

/* The end of the run of characters of one kind. */
static const char *skip_kind(kind_of_character kind, const char *text, const char *end) {
    while (text < end) {
        const char *after = text;
        if (next_kind(&after) != kind)
            break;
        text = after;
    }
    return text;
}

static bool is_line_end(char byte) {
    return byte == '\r' || byte == '\n';
}

/* [sdmt]|ll|ve|re behind an apostrophe; NULL: none. `fold` ignores case, under which U+017F is an s too. */
static const char *match_contraction(const char *text, const char *end, bool fold) {
    if (text == end)
        return NULL;
    char case_bit = fold ? 0x20 : 0;
    char first = (char)(text[0] | case_bit);
    if (first == 's' || first == 'd' || first == 'm' || first == 't')
        return text + 1;
    if (end - text < 2)
        return NULL;
    if (fold && memcmp(text, "\xC5\xBF", 2) == 0)
        return text + 2;
    char second = (char)(text[1] | case_bit);
    bool matches = (first == 'l' && second == 'l') || ((first == 'v' || first == 'r') && second == 'e');
    return matches ? text + 2 : NULL;
}

/* \s+(?!\S)|\s+ at a space: all of the run at the end of the text, else all but its last character if it has
 * two. */
static const char *match_space(const char *text, const char *end) {
    const char *after = skip_kind(SPACE, text, end);
    if (after == end)
        return after;
    const char *last = after;
    utf8_previous(&last);
    return last > text ? last : after;
}

static const char *next_gpt2(const char *text, const char *end) {
    if (*text == '\'') {
        const char *after = match_contraction(text + 1, end, false);
        if (after != NULL)
            return after;
    }
    const char *start = *text == ' ' && text + 1 < end ? text + 1 : text;
    const char *after = start;
    kind_of_character kind = next_kind(&after);
    return kind == SPACE ? match_space(text, end) : skip_kind(kind, after, end);
}

/* \s*[\r\n]+|\s+(?!\S)|\s+ at a space: up to the last line end of the run, else as match_space. */
static const char *match_space_lines(const char *text, const char *end) {
    const char *run_end = skip_kind(SPACE, text, end);
    for (const char *at = run_end; at > text; at--)
        if (is_line_end(at[-1]))
            return at;
    return match_space(text, end);
}

/* The expressions of LLaMA-3 and Qwen 2, which differ in how many digits go together. */
static const char *next_modern(const char *text, const char *end, int most_digits) {
    if (*text == '\'') {
        const char *after = match_contraction(text + 1, end, true);
        if (after != NULL)
            return after;
    }
    const char *second = text;
    kind_of_character kind = next_kind(&second);
    if (kind == LETTER)
        return skip_kind(LETTER, second, end);
    if (kind == NUMBER) {
        const char *after = second;
        for (int digits = 1; digits < most_digits && second < end && next_kind(&after) == NUMBER; digits++)
            second = after;
        return second;
    }
    if (second < end && !is_line_end(*text)) {
        const char *third = second;
        kind_of_character second_kind = next_kind(&third);
        if (second_kind == LETTER)
            return skip_kind(LETTER, third, end);
        if (*text == ' ' && second_kind == SYMBOL)
            kind = SYMBOL;
    }
    if (kind == SPACE)
        return match_space_lines(text, end);
    const char *after = skip_kind(SYMBOL, second, end);
    while (after < end && is_line_end(*after))
        after++;
    return after;
}

/* Numbers one by one or in runs, and what lies between. */
static const char *next_digits(const char *text, const char *end, bool individual) {
    const char *after = text;
    unicode_class kind = unicode_class_of(utf8_next(&after));
    bool number = unicode_is_number(kind) || kind == UNICODE_NEW_NUMBER;
    if (number && individual)
        return after;
    while (after < end) {
        text = after;
        kind = unicode_class_of(utf8_next(&after));
        if ((unicode_is_number(kind) || kind == UNICODE_NEW_NUMBER) != number)
            return text;
    }
    return after;
}

/* Up to the next U+2581 that is not the first character. */
static const char *next_mark(const char *text, const char *end) {
    utf8_next(&text);
    while (text < end && (end - text < 3 || memcmp(text, SPACE_MARK, 3) != 0))
        utf8_next(&text);
    return text;
}

const char *split_next(split_kind kind, const char *text, const char *end) {
    switch (kind) {
    case SPLIT_GPT2:
        return next_gpt2(text, end);
    case SPLIT_LLAMA3:
        return next_modern(text, end, 3);
    case SPLIT_QWEN2:
        return next_modern(text, end, 1);
    case SPLIT_MARKS:
        return next_mark(text, end);
    default:
        return next_digits(text, end, kind == SPLIT_DIGIT);
    }
}
