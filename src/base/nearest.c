#include "base/nearest.h"

#include <string.h>

enum { LONGEST_WORD = 63 };

static char folded(char c) {
    return c == '-' ? '_' : c;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Insertions, deletions, substitutions and swaps of neighbours that turn one word into the other (optimal
 * string alignment); '-' and '_' are the same. Words are at most LONGEST_WORD long. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length) {
    size_t rows[3][LONGEST_WORD + 1];
    size_t *before = rows[0], *last = rows[1], *current = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        last[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        current[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t substitution = last[j - 1] + (folded(a[i - 1]) != folded(b[j - 1]));
            current[j] = smaller(substitution, smaller(last[j], current[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                current[j] = smaller(current[j], before[j - 2] + 1);
        }
        size_t *free_row = before;
        before = last;
        last = current;
        current = free_row;
    }
    return last[b_length];
}

void nearest_start(nearest_word *self, const char *word) {
    self->word = word;
    self->best = NULL;
    /* A third of the letters may be wrong, and always one or two. */
    size_t allowed = strlen(word) / 3;
    self->distance = (allowed < 2 ? 2 : allowed) + 1;
}

void nearest_consider(nearest_word *self, const char *candidate) {
    size_t word_length = strlen(self->word), length = strlen(candidate);
    if (word_length > LONGEST_WORD || length > LONGEST_WORD)
        return;
    size_t distance = edit_distance(self->word, word_length, candidate, length);
    /* Replacing every letter is no likeness. */
    if (distance < self->distance && distance < length) {
        self->best = candidate;
        self->distance = distance;
    }
}
