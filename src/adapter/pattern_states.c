/* States of a pattern: pieces, one behind another, one beside another, repeated. */
#include "adapter/pattern_parts.h"
#include "base/status.h"

balora_status pattern_add_node(pattern_compiler *self, pattern_node node, int32_t *out) {
    pattern *whole = self->out;
    if (whole->count == PATTERN_NODES)
        return pattern_unsupported(self, self->at, "a repetition too large for this version");
    if (whole->count == whole->capacity) {
        int32_t capacity = 2 * whole->capacity;
        STATUS_TRY(memory_grow(whole->memory, &whole->nodes, (size_t)whole->capacity, (size_t)capacity,
                               sizeof *whole->nodes, "a pattern"));
        whole->capacity = capacity;
    }
    whole->nodes[whole->count] = node;
    *out = whole->count++;
    return BALORA_OK;
}

static balora_status add_pass(pattern_compiler *self, int32_t next, int32_t other, int32_t *out) {
    return pattern_add_node(self, (pattern_node){.kind = NODE_PASS, .next = next, .other = other}, out);
}

static void link_states(pattern_compiler *self, int32_t from, int32_t to) {
    self->out->nodes[from].next = to;
}

pattern_fragment pattern_join(pattern_compiler *self, pattern_fragment a, pattern_fragment b) {
    if (a.start < 0)
        return b;
    if (b.start < 0)
        return a;
    link_states(self, a.end, b.start);
    return (pattern_fragment){a.first, a.start, b.end};
}

/* A pattern_fragment that takes no letter where there is pattern_nothing. */
balora_status pattern_alternate(pattern_compiler *self, pattern_fragment *a, pattern_fragment b) {
    int32_t begin, end;
    STATUS_TRY(pattern_make_real(self, &b));
    if (a->start < 0) {
        *a = b;
        return BALORA_OK;
    }
    STATUS_TRY(add_pass(self, -1, -1, &end));
    STATUS_TRY(add_pass(self, a->start, b.start, &begin));
    link_states(self, a->end, end);
    link_states(self, b.end, end);
    *a = (pattern_fragment){a->first, begin, end};
    return BALORA_OK;
}

balora_status pattern_make_real(pattern_compiler *self, pattern_fragment *piece) {
    if (piece->start >= 0)
        return BALORA_OK;
    int32_t state;
    STATUS_TRY(add_pass(self, -1, -1, &state));
    *piece = (pattern_fragment){state, state, state};
    return BALORA_OK;
}

/* A second copy of a piece, whose states are those from its first up to `behind`. */
static balora_status copy_piece(pattern_compiler *self, pattern_fragment piece, int32_t behind,
                                pattern_fragment *out) {
    int32_t shift = self->out->count - piece.first;
    for (int32_t i = piece.first; i < behind; i++) {
        pattern_node node = self->out->nodes[i];
        int32_t state;
        node.next += node.next >= 0 ? shift : 0;
        node.other += node.other >= 0 ? shift : 0;
        STATUS_TRY(pattern_add_node(self, node, &state));
    }
    *out = (pattern_fragment){piece.first + shift, piece.start + shift, piece.end + shift};
    return BALORA_OK;
}

/* A piece that ends in a state of its own, leading nowhere, with a way past it (`skips`) or back to its start. */
static balora_status loosen(pattern_compiler *self, pattern_fragment piece, bool skips, bool again,
                            pattern_fragment *out) {
    int32_t end, begin;
    STATUS_TRY(add_pass(self, -1, -1, &end));
    STATUS_TRY(add_pass(self, piece.start, skips ? end : -1, &begin));
    int32_t behind = end;
    if (again)
        STATUS_TRY(add_pass(self, end, piece.start, &behind));
    link_states(self, piece.end, behind);
    *out = (pattern_fragment){piece.first, begin, end};
    return BALORA_OK;
}

/* Copies come before the piece itself, which stays as it is until the last one is made. */
balora_status pattern_repeat(pattern_compiler *self, pattern_fragment piece, int32_t low, int32_t high,
                             pattern_fragment *out) {
    int32_t behind = self->out->count, copies = high < 0 ? (low > 1 ? low : 1) : high;
    pattern_fragment all = pattern_nothing;
    for (int32_t i = 0; i < copies; i++) {
        bool last = i + 1 == copies, again = last && high < 0;
        pattern_fragment one = piece;
        if (!last)
            STATUS_TRY(copy_piece(self, piece, behind, &one));
        if (i >= low || again)
            STATUS_TRY(loosen(self, one, i >= low, again, &one));
        all = pattern_join(self, all, one);
    }
    STATUS_TRY(pattern_make_real(self, &all));
    *out = (pattern_fragment){piece.first, all.start, all.end};
    return BALORA_OK;
}
