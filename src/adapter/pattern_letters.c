/* Sets of letters: classes, ranges, escapes. */
#include <string.h>

#include "adapter/pattern_parts.h"
#include "base/status.h"

static void put(pattern_letters *set, int letter) {
    set->bits[letter >> 5] |= (uint32_t)1 << (letter & 31);
}

static void invert(pattern_letters *set) {
    for (int i = 0; i < 4; i++)
        set->bits[i] = ~set->bits[i];
}

/* What "\\d" and its kin stand for; false for other letters. */
static bool put_class(pattern_letters *set, char name) {
    pattern_letters own = {{0}};
    bool inverted = name == 'D' || name == 'W' || name == 'S';
    char kind = inverted ? (char)(name - 'A' + 'a') : name;
    if (kind != 'd' && kind != 'w' && kind != 's')
        return false;
    for (int letter = 0; letter < 128; letter++)
        if (kind == 'd' ? letter >= '0' && letter <= '9'
            : kind == 'w'
                ? pattern_is_word(letter)
                : letter == ' ' || (letter >= '\t' && letter <= '\r') || (letter >= 28 && letter <= 31))
            put(&own, letter);
    if (inverted)
        invert(&own);
    for (int i = 0; i < 4; i++)
        set->bits[i] |= own.bits[i];
    return true;
}

static bool is_letter_of_alphabet(char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z');
}

/* The one letter that "\\." or "\\n" stands for, behind the backslash at self->at. */
static balora_status read_escaped_letter(pattern_compiler *self, int *letter) {
    static const char names[] = "abfnrtv", values[] = "\a\b\f\n\r\t\v";
    char name = self->source[self->at];
    const char *known = name != '\0' ? strchr(names, name) : NULL;
    if (name == '\0')
        return pattern_malformed(self, self->at - 1, "a backslash at the end");
    if (name >= '0' && name <= '9')
        return pattern_unsupported(self, self->at - 1, "a backreference or octal escape");
    if (name == 'x' || name == 'u' || name == 'U' || name == 'N')
        return pattern_unsupported(self, self->at - 1, "an escape by a letter's number or name");
    if (is_letter_of_alphabet(name) && (known == NULL || name == 'b'))
        return pattern_malformed(self, self->at - 1, "an escape that Python does not know");
    *letter = known != NULL ? values[known - names] : name;
    self->at++;
    return BALORA_OK;
}

static balora_status read_letter(pattern_compiler *self, int *letter) {
    if (self->source[self->at] != '\\') {
        *letter = self->source[self->at++];
        return BALORA_OK;
    }
    self->at++;
    if (self->source[self->at] == 'b') { /* in a class: backspace */
        self->at++;
        *letter = '\b';
        return BALORA_OK;
    }
    return read_escaped_letter(self, letter);
}

/* One member of a class, a letter or a range, or \\d and its kin. */
static balora_status read_member(pattern_compiler *self, pattern_letters *set) {
    const char *text = self->source + self->at;
    if (text[0] == '\\' && put_class(set, text[1])) {
        self->at += 2;
        return BALORA_OK;
    }
    int low, high;
    size_t place = self->at;
    STATUS_TRY(read_letter(self, &low));
    text = self->source + self->at;
    high = low;
    if (text[0] == '-' && text[1] != ']' && text[1] != '\0') {
        pattern_letters unused = {{0}};
        self->at++;
        if (text[1] == '\\' && put_class(&unused, text[2]))
            return pattern_malformed(self, place, "a range that ends with a class");
        STATUS_TRY(read_letter(self, &high));
    }
    if (high < low)
        return pattern_malformed(self, place, "a range from a later letter to an earlier one");
    for (int letter = low; letter <= high; letter++)
        put(set, letter);
    return BALORA_OK;
}

/* "[...]" at self->at. */
balora_status pattern_read_class(pattern_compiler *self, pattern_letters *set) {
    size_t place = self->at++;
    bool inverted = self->source[self->at] == '^';
    self->at += inverted;
    for (bool first = true; first || self->source[self->at] != ']'; first = false) {
        if (self->source[self->at] == '\0')
            return pattern_malformed(self, place, "a class without its closing bracket");
        STATUS_TRY(read_member(self, set));
    }
    self->at++;
    if (inverted)
        invert(set);
    return BALORA_OK;
}

balora_status pattern_read_escape(pattern_compiler *self, pattern_letters *set) {
    int letter;
    self->at++;
    if (put_class(set, self->source[self->at])) {
        self->at++;
        return BALORA_OK;
    }
    STATUS_TRY(read_escaped_letter(self, &letter));
    put(set, letter);
    return BALORA_OK;
}
