/* For the sources of pattern.h: states, pieces of an automaton, and the compiler's place in the source. */
#ifndef ADAPTER_PATTERN_PARTS_H
#define ADAPTER_PATTERN_PARTS_H

#include "adapter/pattern.h"

enum {
    NODE_PASS,   /* on to next, and to other where there is one, without a letter */
    NODE_LETTER, /* on to next with one of `letters` */
    NODE_BEGIN,  /* on to next at the begin of the text */
    NODE_END,    /* at its end */
    NODE_BORDER, /* between a letter of a word and another one */
    NODE_INSIDE, /* where there is no such border */
};

typedef struct pattern_letters {
    uint32_t bits[4]; /* as pattern_node.letters */
} pattern_letters;

/* States [first, ...) that begin at `start` and leave through the next one of `end`, which is none yet; start -1: nothing. */
typedef struct pattern_fragment {
    int32_t first, start, end;
} pattern_fragment;

static const pattern_fragment pattern_nothing = {-1, -1, -1};

/* A group that is open: alternatives that are whole, what the present one holds, and its last piece, which a quantifier
 * may repeat. */
typedef struct pattern_group {
    int32_t first;
    size_t place; /* of its parenthesis */
    pattern_fragment alternatives, sequence, piece;
} pattern_group;

typedef struct pattern_compiler {
    pattern *out;
    const char *source;
    size_t at;
    pattern_problem *problem;
    int32_t depth;
    pattern_group groups[PATTERN_DEPTH];
} pattern_compiler;

static inline bool pattern_is_word(int letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           (letter >= '0' && letter <= '9') || letter == '_';
}

static inline balora_status pattern_unsupported(const pattern_compiler *self, size_t place,
                                                const char *what) {
    *self->problem = (pattern_problem){what, place};
    return BALORA_ERROR_UNSUPPORTED;
}

static inline balora_status pattern_malformed(const pattern_compiler *self, size_t place, const char *what) {
    *self->problem = (pattern_problem){what, place};
    return BALORA_ERROR_FORMAT;
}

/* pattern_states.c */
balora_status pattern_add_node(pattern_compiler *self, pattern_node node, int32_t *out);
/* b behind a. */
pattern_fragment pattern_join(pattern_compiler *self, pattern_fragment a, pattern_fragment b);
/* One of the two; *a may be nothing. */
balora_status pattern_alternate(pattern_compiler *self, pattern_fragment *a, pattern_fragment b);
/* low to high times; high -1: without end. The piece's states are the last ones. */
balora_status pattern_repeat(pattern_compiler *self, pattern_fragment piece, int32_t low, int32_t high,
                             pattern_fragment *out);
/* A fragment that takes no letter where there is nothing. */
balora_status pattern_make_real(pattern_compiler *self, pattern_fragment *piece);

/* pattern_letters.c: "[...]" at self->at; what a backslash at self->at stands for: a set. */
balora_status pattern_read_class(pattern_compiler *self, pattern_letters *set);
balora_status pattern_read_escape(pattern_compiler *self, pattern_letters *set);

#endif
