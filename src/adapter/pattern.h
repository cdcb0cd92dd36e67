/*
 * Regular expressions as PEFT's configurations hold them: Python's, matched against the names of modules.
 *
 * Own code instead of libc's, since a configuration is not trusted: no recursion, no locale, memory within
 * PATTERN_NODES, and time within nodes times letters whatever the pattern. Only whether a name matches is asked, so
 * lazy quantifiers are the same as greedy ones. What looks around (lookahead, backreferences) or changes the rules
 * (flags) is refused.
 */
#ifndef ADAPTER_PATTERN_H
#define ADAPTER_PATTERN_H

#include <stdbool.h>

#include "base/memory.h"

#define PATTERN_BYTES 4096 /* of the source */
#define PATTERN_NODES 8192 /* of the automaton: counted repetitions copy what they repeat */
#define PATTERN_DEPTH 64   /* of groups */

/* A state of the automaton. */
typedef struct pattern_node {
    int32_t kind;
    int32_t next, other; /* states behind it; -1: none */
    uint32_t letters[4]; /* of NODE_LETTER: a bit for each of ASCII's */
} pattern_node;

typedef struct pattern {
    allocator *memory;
    pattern_node *nodes;
    int32_t count, capacity;
    int32_t start, end;
    int32_t *states; /* [4 count], for matching: so a pattern serves one thread at a time */
} pattern;

/* Why a source cannot be compiled. */
typedef struct pattern_problem {
    const char *what; /* "a lookahead" */
    size_t place;     /* byte in the source */
} pattern_problem;

/*
 * FORMAT (Python would not take it either) or UNSUPPORTED with *problem filled: the caller, who knows file and key, makes
 * the message. MEMORY comes with one.
 */
balora_status pattern_compile(pattern *out, allocator *memory, const char *source, pattern_problem *problem);
void pattern_free(pattern *self); /* also on a zeroed one */

/* Does text[first, last) match, `text` having `length` letters? */
bool pattern_matches(const pattern *self, const char *text, size_t length, size_t first, size_t last);

#endif
