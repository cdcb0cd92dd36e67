#include "text/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "text/unicode.h"

static int compare_ids(const void *left, const void *right) {
    int32_t a = ((const added_token *)left)->id, b = ((const added_token *)right)->id;
    return (a > b) - (a < b);
}

static uint32_t find_child(const added_tree *tree, uint32_t node, unsigned char byte) {
    if (node == 0)
        return tree->first[byte];
    uint32_t child = tree->nodes[node].child;
    while (child != 0 && tree->nodes[child].byte != byte)
        child = tree->nodes[child].sibling;
    return child;
}

static uint32_t add_child(added_tree *tree, uint32_t node, unsigned char byte) {
    uint32_t child = tree->count++;
    tree->nodes[child] = (added_node){.token = -1, .byte = byte};
    if (node == 0) {
        tree->first[byte] = child;
    } else {
        tree->nodes[child].sibling = tree->nodes[node].child;
        tree->nodes[node].child = child;
    }
    return child;
}

static balora_status add_pattern(added_set *self, added_tree *tree, size_t place, const char *origin) {
    const added_token *token = &self->tokens[place];
    uint32_t node = 0;
    for (size_t i = 0; i < token->pattern_bytes; i++) {
        unsigned char byte = (unsigned char)token->pattern[i];
        uint32_t child = find_child(tree, node, byte);
        node = child != 0 ? child : add_child(tree, node, byte);
    }
    if (tree->nodes[node].token >= 0)
        return status_fail(
            BALORA_ERROR_FORMAT,
            "%s: added_tokens: \"%s\" (id %d) is looked for as the same text as id %d; remove one", origin,
            token->content, token->id, self->tokens[tree->nodes[node].token].id);
    tree->nodes[node].token = (int32_t)place;
    return BALORA_OK;
}

static balora_status build_tree(added_set *self, added_tree *tree, bool normalized, const char *origin) {
    size_t nodes = 1;
    for (size_t i = 0; i < self->count; i++)
        if (((self->tokens[i].flags & ADDED_NORMALIZED) != 0) == normalized &&
            !arith_add(nodes, self->tokens[i].pattern_bytes, &nodes))
            return status_fail(BALORA_ERROR_FORMAT, "%s: added_tokens: too long together", origin);
    if (nodes > INT32_MAX)
        return status_fail(BALORA_ERROR_FORMAT, "%s: added_tokens: %zu bytes of text together, too many",
                           origin, nodes);
    STATUS_TRY(memory_new(self->memory, &tree->nodes, nodes, sizeof *tree->nodes, "added tokens"));
    tree->nodes[0] = (added_node){.token = -1};
    tree->count = 1;
    for (size_t i = 0; i < self->count; i++)
        if (((self->tokens[i].flags & ADDED_NORMALIZED) != 0) == normalized &&
            self->tokens[i].pattern_bytes > 0)
            STATUS_TRY(add_pattern(self, tree, i, origin));
    return BALORA_OK;
}

balora_status added_finish(added_set *self, const char *origin) {
    if (self->count > 0)
        qsort(self->tokens, self->count, sizeof *self->tokens, compare_ids);
    for (size_t i = 1; i < self->count; i++)
        if (self->tokens[i - 1].id == self->tokens[i].id)
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: added_tokens: id %d is given to \"%s\" and to \"%s\"", origin,
                               self->tokens[i].id, self->tokens[i - 1].content, self->tokens[i].content);
    STATUS_TRY(build_tree(self, &self->plain, false, origin));
    return build_tree(self, &self->normalized, true, origin);
}

void added_free(added_set *self) {
    if (self->memory == NULL)
        return;
    for (size_t i = 0; i < self->count; i++) {
        if (self->tokens[i].pattern != self->tokens[i].content)
            memory_free(self->memory, self->tokens[i].pattern);
        memory_free(self->memory, self->tokens[i].content);
    }
    memory_free(self->memory, self->tokens);
    memory_free(self->memory, self->plain.nodes);
    memory_free(self->memory, self->normalized.nodes);
    *self = (added_set){0};
}

const added_token *added_find(const added_set *self, int32_t id) {
    const added_token key = {.id = id};
    return self->count == 0 ? NULL : bsearch(&key, self->tokens, self->count, sizeof key, compare_ids);
}

added_walk added_walk_start(const added_set *set, const added_tree *tree, const char *text, size_t bytes) {
    return (added_walk){.set = set, .tree = tree, .text = text, .bytes = bytes};
}

/* The longest pattern at the leftmost place from walk->at on. */
static const added_token *find_pattern(added_walk *walk, size_t *begin, size_t *end) {
    if (walk->tree->count == 1)
        return NULL;
    for (size_t start = walk->at; start < walk->bytes; start++) {
        const added_token *found = NULL;
        uint32_t node = walk->tree->first[(unsigned char)walk->text[start]];
        for (size_t i = start + 1; node != 0; i++) {
            if (walk->tree->nodes[node].token >= 0) {
                found = &walk->set->tokens[walk->tree->nodes[node].token];
                *end = i;
            }
            node = i < walk->bytes ? find_child(walk->tree, node, (unsigned char)walk->text[i]) : 0;
        }
        if (found != NULL) {
            *begin = start;
            return found;
        }
    }
    return NULL;
}

static bool is_inside_word(const added_walk *walk, size_t begin, size_t end) {
    const char *before = walk->text + begin, *behind = walk->text + end;
    return (begin > 0 && unicode_is_word(unicode_class_of(utf8_previous(&before)))) ||
           (end < walk->bytes && unicode_is_word(unicode_class_of(utf8_next(&behind))));
}

static size_t strip_left(const added_walk *walk, size_t begin) {
    const char *at = walk->text + begin;
    while (at > walk->text) {
        const char *before = at;
        if (unicode_class_of(utf8_previous(&before)) != UNICODE_SPACE)
            break;
        at = before;
    }
    size_t stripped = (size_t)(at - walk->text);
    return stripped > walk->covered ? stripped : walk->covered;
}

static size_t strip_right(const added_walk *walk, size_t end) {
    const char *at = walk->text + end, *limit = walk->text + walk->bytes;
    while (at < limit) {
        const char *behind = at;
        if (unicode_class_of(utf8_next(&behind)) != UNICODE_SPACE)
            break;
        at = behind;
    }
    return (size_t)(at - walk->text);
}

/*
 * As in `tokenizers`, the search goes on behind the pattern itself, not behind the white space that it takes:
 * a token that is white space may be found again inside.
 */
static const added_token *find_token(added_walk *walk, size_t *begin, size_t *end) {
    const added_token *token;
    while ((token = find_pattern(walk, begin, end)) != NULL) {
        walk->at = *end;
        if ((token->flags & ADDED_SINGLE_WORD) != 0 && is_inside_word(walk, *begin, *end))
            continue;
        if ((token->flags & ADDED_LSTRIP) != 0)
            *begin = strip_left(walk, *begin);
        if ((token->flags & ADDED_RSTRIP) != 0)
            *end = strip_right(walk, *end);
        return token;
    }
    return NULL;
}

bool added_walk_next(added_walk *walk, size_t *begin, size_t *end, const added_token **token) {
    if (walk->waiting == NULL) {
        walk->waiting = find_token(walk, &walk->begin, &walk->end);
        size_t limit = walk->waiting != NULL ? walk->begin : walk->bytes;
        if (walk->covered < limit) {
            *begin = walk->covered;
            *end = walk->covered = limit;
            *token = NULL;
            return true;
        }
    }
    if (walk->waiting == NULL)
        return false;
    *begin = walk->begin;
    *end = walk->covered = walk->end;
    *token = walk->waiting;
    walk->waiting = NULL;
    return true;
}
