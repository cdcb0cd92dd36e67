/* Thompson's simulation: all states that the letters so far lead to, at once. */
#include "adapter/pattern_parts.h"

static bool holds_letter(const uint32_t letters[4], int letter) {
    return letter < 128 && (letters[letter >> 5] >> (letter & 31) & 1) != 0;
}

/* A set of states: those in it, and where each is in there. */
typedef struct state_set {
    int32_t *members, *places;
    int32_t count;
} state_set;

static bool holds(const state_set *set, int32_t state) {
    int32_t place = set->places[state];
    return place >= 0 && place < set->count && set->members[place] == state;
}

static void add(state_set *set, int32_t state) {
    if (state < 0 || holds(set, state))
        return;
    set->places[state] = set->count;
    set->members[set->count++] = state;
}

static bool is_border(const char *text, size_t length, size_t at) {
    bool before = at > 0 && pattern_is_word((unsigned char)text[at - 1]);
    bool behind = at < length && pattern_is_word((unsigned char)text[at]);
    return before != behind;
}

/* Follow everything that takes no letter at place `at`; members are their own list of what is left to do. */
static void close_set(const pattern *self, state_set *set, const char *text, size_t length, size_t at) {
    for (int32_t i = 0; i < set->count; i++) {
        const pattern_node *node = &self->nodes[set->members[i]];
        bool passes = node->kind == NODE_PASS || (node->kind == NODE_BEGIN && at == 0) ||
                      (node->kind == NODE_END && at == length) ||
                      (node->kind == NODE_BORDER && is_border(text, length, at)) ||
                      (node->kind == NODE_INSIDE && !is_border(text, length, at));
        if (!passes)
            continue;
        add(set, node->next);
        add(set, node->other);
    }
}

bool pattern_matches(const pattern *self, const char *text, size_t length, size_t first, size_t last) {
    state_set now = {.members = self->states, .places = self->states + self->count};
    state_set then = {.members = self->states + 2 * (int64_t)self->count,
                      .places = self->states + 3 * (int64_t)self->count};
    add(&now, self->start);
    for (size_t at = first;; at++) {
        close_set(self, &now, text, length, at);
        if (at == last)
            return holds(&now, self->end);
        then.count = 0;
        for (int32_t i = 0; i < now.count; i++) {
            const pattern_node *node = &self->nodes[now.members[i]];
            if (node->kind == NODE_LETTER && holds_letter(node->letters, (unsigned char)text[at]))
                add(&then, node->next);
        }
        state_set swap = now;
        now = then;
        then = swap;
    }
}
