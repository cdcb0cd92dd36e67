/* From the source of a pattern to its automaton (Thompson's construction), left to right with a stack of groups. */
#include "adapter/pattern.h"

#include <string.h>

#include "adapter/pattern_parts.h"
#include "base/status.h"

#define REPEAT_LIMIT 1000

static bool read_number(const char **text, int32_t *out) {
    if (**text < '0' || **text > '9')
        return false;
    for (*out = 0; **text >= '0' && **text <= '9'; ++*text)
        *out = *out > REPEAT_LIMIT ? *out : 10 * *out + (**text - '0');
    return true;
}

/* "{2}", "{2,}", "{,3}" or "{2,3}" at `text`: its length; 0 where the brace is a letter like any other. */
static size_t read_counts(const char *text, int32_t *low, int32_t *high) {
    const char *at = text + 1;
    bool has_low = read_number(&at, low), has_comma = *at == ',';
    at += has_comma;
    bool has_high = has_comma && read_number(&at, high);
    if (*at != '}' || at == text + 1)
        return 0;
    *low = has_low ? *low : 0;
    if (!has_high)
        *high = has_comma ? -1 : *low;
    return (size_t)(at + 1 - text);
}

static size_t read_quantifier(const char *text, int32_t *low, int32_t *high) {
    *low = *text == '+';
    *high = *text == '?' ? 1 : -1;
    if (*text == '*' || *text == '+' || *text == '?')
        return 1;
    return *text == '{' ? read_counts(text, low, high) : 0;
}

static balora_status apply_quantifier(pattern_compiler *self, size_t length, int32_t low, int32_t high) {
    pattern_group *group = &self->groups[self->depth];
    /* Python repeats no place such as ^, but a group of one. */
    const pattern_node *piece = group->piece.start < 0 ? NULL : &self->out->nodes[group->piece.start];
    bool is_place = piece != NULL && group->piece.end == group->piece.start && piece->kind >= NODE_BEGIN;
    if (piece == NULL || (is_place && self->source[self->at - 1] != ')'))
        return pattern_malformed(self, self->at, "nothing to repeat");
    if (low > REPEAT_LIMIT || high > REPEAT_LIMIT)
        return pattern_unsupported(self, self->at, "a repetition of more than 1000 times");
    if (high >= 0 && high < low)
        return pattern_malformed(self, self->at, "a repetition whose least is above its most");
    STATUS_TRY(pattern_repeat(self, group->piece, low, high, &group->piece));
    self->at += length;
    if (self->source[self->at] == '+')
        return pattern_unsupported(self, self->at, "a possessive quantifier");
    self->at += self->source[self->at] == '?';
    if (read_quantifier(self->source + self->at, &low, &high) > 0)
        return pattern_malformed(self, self->at, "a quantifier behind a quantifier");
    return BALORA_OK;
}

/* --- groups --- */

static void open_group(pattern_compiler *self, size_t place) {
    self->groups[self->depth] = (pattern_group){.first = self->out->count,
                                                .place = place,
                                                .alternatives = pattern_nothing,
                                                .sequence = pattern_nothing,
                                                .piece = pattern_nothing};
}

/* The last piece becomes part of the sequence: nothing repeats it any more. */
static void settle(pattern_compiler *self) {
    pattern_group *group = &self->groups[self->depth];
    group->sequence = pattern_join(self, group->sequence, group->piece);
    group->piece = pattern_nothing;
}

static balora_status end_alternative(pattern_compiler *self) {
    pattern_group *group = &self->groups[self->depth];
    settle(self);
    STATUS_TRY(pattern_alternate(self, &group->alternatives, group->sequence));
    group->sequence = pattern_nothing;
    return BALORA_OK;
}

/* What "(?" begins; the length of its head where it is a plain group. */
static balora_status read_group_head(pattern_compiler *self, size_t *length) {
    static const struct {
        const char *head, *what;
    } refused[] = {{"(?=", "a lookahead"},         {"(?!", "a lookahead"},
                   {"(?<", "a lookbehind"},        {"(?P=", "a backreference"},
                   {"(?(", "a conditional group"}, {"(?#", "a comment"},
                   {"(?>", "an atomic group"},     {"(?", "a flag"}};
    const char *text = self->source + self->at;
    *length = strncmp(text, "(?:", 3) == 0 ? 3 : 1;
    if (strncmp(text, "(?P<", 4) == 0) {
        const char *end = strchr(text, '>');
        if (end == NULL)
            return pattern_malformed(self, self->at, "a group's name without its end");
        *length = (size_t)(end + 1 - text);
    }
    if (*length > 1)
        return BALORA_OK;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (strncmp(text, refused[i].head, strlen(refused[i].head)) == 0)
            return pattern_unsupported(self, self->at, refused[i].what);
    return BALORA_OK;
}

static balora_status begin_group(pattern_compiler *self) {
    size_t length, place = self->at;
    STATUS_TRY(read_group_head(self, &length));
    if (self->depth + 1 == PATTERN_DEPTH)
        return pattern_unsupported(self, place, "more than 64 groups in each other");
    settle(self);
    self->depth++;
    open_group(self, place);
    self->at += length;
    return BALORA_OK;
}

static balora_status end_group(pattern_compiler *self) {
    if (self->depth == 0)
        return pattern_malformed(self, self->at, "a closing parenthesis without its opening one");
    STATUS_TRY(end_alternative(self));
    const pattern_group *group = &self->groups[self->depth--];
    self->groups[self->depth].piece =
        (pattern_fragment){group->first, group->alternatives.start, group->alternatives.end};
    self->at++;
    return BALORA_OK;
}

/* --- pieces --- */

static balora_status add_piece(pattern_compiler *self, pattern_node node) {
    int32_t state;
    settle(self);
    STATUS_TRY(pattern_add_node(self, node, &state));
    self->groups[self->depth].piece = (pattern_fragment){state, state, state};
    return BALORA_OK;
}

/* "^", "$" and their kin at self->at: their length; 0 for anything else. */
static size_t read_place(const char *text, int32_t *kind) {
    static const struct {
        const char *source;
        int32_t kind;
    } places[] = {{"^", NODE_BEGIN}, {"$", NODE_END},      {"\\A", NODE_BEGIN},
                  {"\\Z", NODE_END}, {"\\b", NODE_BORDER}, {"\\B", NODE_INSIDE}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (strncmp(text, places[i].source, strlen(places[i].source)) == 0) {
            *kind = places[i].kind;
            return strlen(places[i].source);
        }
    return 0;
}

static balora_status read_letters(pattern_compiler *self) {
    pattern_letters set = {{0}};
    unsigned char letter = (unsigned char)self->source[self->at];
    pattern_node node = {.kind = NODE_LETTER, .next = -1, .other = -1};
    if (letter == '[') {
        STATUS_TRY(pattern_read_class(self, &set));
    } else if (letter == '\\') {
        STATUS_TRY(pattern_read_escape(self, &set));
    } else {
        for (int i = 0; i < 4 && letter == '.'; i++)
            set.bits[i] = ~(uint32_t)0;
        if (letter == '.')
            set.bits['\n' >> 5] &= ~((uint32_t)1 << ('\n' & 31));
        else
            set.bits[letter >> 5] = (uint32_t)1 << (letter & 31);
        self->at++;
    }
    memcpy(node.letters, set.bits, sizeof node.letters);
    return add_piece(self, node);
}

static balora_status read_one(pattern_compiler *self) {
    const char *text = self->source + self->at;
    int32_t low = 0, high = 0, kind = 0;
    size_t length = read_quantifier(text, &low, &high);
    if (length > 0)
        return apply_quantifier(self, length, low, high);
    length = read_place(text, &kind);
    if (length > 0) {
        self->at += length;
        return add_piece(self, (pattern_node){.kind = kind, .next = -1, .other = -1});
    }
    if (*text == '(')
        return begin_group(self);
    if (*text == ')')
        return end_group(self);
    if (*text != '|')
        return read_letters(self);
    self->at++;
    return end_alternative(self);
}

static balora_status compile(pattern_compiler *self) {
    size_t length = strlen(self->source);
    if (length > PATTERN_BYTES)
        return pattern_unsupported(self, PATTERN_BYTES, "a pattern of more than 4096 bytes");
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)self->source[i] >= 128)
            return pattern_unsupported(self, i, "a letter that is not ASCII");
    open_group(self, 0);
    while (self->at < length)
        STATUS_TRY(read_one(self));
    if (self->depth > 0)
        return pattern_malformed(self, self->groups[self->depth].place,
                                 "an opening parenthesis without its closing one");
    STATUS_TRY(end_alternative(self));
    pattern *out = self->out;
    pattern_fragment end = pattern_nothing;
    STATUS_TRY(pattern_make_real(self, &end));
    out->start = pattern_join(self, self->groups[0].alternatives, end).start;
    out->end = end.end;
    return memory_zeroed(out->memory, &out->states, 4 * (size_t)out->count, sizeof *out->states, "a pattern");
}

balora_status pattern_compile(pattern *out, allocator *memory, const char *source, pattern_problem *problem) {
    *out = (pattern){.memory = memory, .capacity = 64};
    pattern_compiler self = {.out = out, .source = source, .problem = problem};
    balora_status status =
        memory_new(memory, &out->nodes, (size_t)out->capacity, sizeof *out->nodes, "a pattern");
    if (status == BALORA_OK)
        status = compile(&self);
    if (status != BALORA_OK)
        pattern_free(out);
    return status;
}

void pattern_free(pattern *self) {
    if (self->memory == NULL)
        return;
    memory_free(self->memory, self->nodes);
    memory_free(self->memory, self->states);
    *self = (pattern){0};
}
