/* The nearest known word to a mistyped one, for messages. Stands alone: the command uses this file too. */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

typedef struct nearest_word {
    const char *word; /* as typed */
    const char *best; /* NULL while nothing considered was near enough */
    size_t distance;
} nearest_word;

/* Start the search for `word`, which is borrowed. */
void nearest_start(nearest_word *self, const char *word);

/* Consider one candidate, which is borrowed; the first of equally near ones is kept. */
void nearest_consider(nearest_word *self, const char *candidate);

#endif
