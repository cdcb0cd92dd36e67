/* Added tokens: texts that become one token wherever they occur, before any splitting into words. */
#ifndef TEXT_ADDED_H
#define TEXT_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

enum {
    ADDED_SINGLE_WORD = 1, /* not inside a word */
    ADDED_LSTRIP = 2,      /* takes the white space before it */
    ADDED_RSTRIP = 4,      /* takes the white space behind it */
    ADDED_NORMALIZED = 8,  /* looked for in the normalized text, in its own normalized form */
    ADDED_SPECIAL = 16     /* left out when decoding without special tokens */
};

typedef struct added_token {
    int32_t id;
    int flags;
    char *content; /* owned, with a closing NUL */
    size_t content_bytes;
    char *pattern; /* what is looked for: owned, or `content` itself */
    size_t pattern_bytes;
} added_token;

/* A tree of patterns: the children of a node are chained. Node 0 is the root. */
typedef struct added_node {
    int32_t token;           /* place in the tokens; -1: no pattern ends here */
    uint32_t child, sibling; /* 0: none */
    unsigned char byte;
} added_node;

typedef struct added_tree {
    added_node *nodes;
    uint32_t count;
    uint32_t first[256]; /* the root's children; 0: none */
} added_tree;

typedef struct added_set {
    allocator *memory;
    added_token *tokens; // [count], sorted by id
    size_t count;
    added_tree plain, normalized; /* looked for before and after normalization */
} added_set;

/*
 * Sort the tokens and build the trees. Two tokens with one id or with one pattern are BALORA_ERROR_FORMAT;
 * `origin` names the file.
 */
balora_status added_finish(added_set *self, const char *origin);
void added_free(added_set *self); /* also on a zeroed one */

/* The token of that id, or NULL. */
const added_token *added_find(const added_set *self, int32_t id);

/* Walks over a text: every piece is plain text or one added token. */
typedef struct added_walk {
    const added_set *set;
    const added_tree *tree;
    const char *text;
    size_t bytes;
    size_t at;         /* where the search goes on */
    size_t covered;    /* end of the last piece */
    size_t begin, end; /* of the token that waits behind a plain piece */
    const added_token *waiting;
} added_walk;

added_walk added_walk_start(const added_set *set, const added_tree *tree, const char *text, size_t bytes);

/* The next piece; *token is NULL for plain text. False at the end. */
bool added_walk_next(added_walk *walk, size_t *begin, size_t *end, const added_token **token);

#endif
