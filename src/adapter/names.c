#include "adapter/names.h"

#include <string.h>

#include "base/status.h"

#define FIRST_CAPACITY 8

balora_status name_set_add(name_set *self, allocator *memory, const char *entry, size_t length) {
    if (self->count == self->capacity) {
        int64_t capacity = self->capacity > 0 ? 2 * self->capacity : FIRST_CAPACITY;
        STATUS_TRY(memory_grow(memory, &self->entries, (size_t)self->capacity, (size_t)capacity,
                               sizeof *self->entries, "a list of names"));
        self->capacity = capacity;
    }
    self->memory = memory;
    self->kind = NAMES_LIST;
    STATUS_TRY(memory_string_n(memory, &self->entries[self->count], entry, length));
    self->count++;
    return BALORA_OK;
}

void name_set_free(name_set *self) {
    pattern_free(&self->pattern);
    if (self->memory != NULL) {
        for (int64_t i = 0; i < self->count; i++)
            memory_free(self->memory, self->entries[i]);
        memory_free(self->memory, self->entries);
    }
    *self = (name_set){0};
}

bool name_ends_with(const char *name, const char *entry) {
    size_t whole = strlen(name), length = strlen(entry);
    return length > 0 && length <= whole && memcmp(name + whole - length, entry, length) == 0 &&
           (length == whole || name[whole - length - 1] == '.');
}

bool name_set_lists(const name_set *self, const char *name) {
    for (int64_t i = 0; i < self->count; i++)
        if (strcmp(self->entries[i], name) == 0)
            return true;
    return false;
}

bool name_set_holds(const name_set *self, const char *name) {
    size_t length = strlen(name);
    if (self->kind == NAMES_PATTERN)
        return pattern_matches(&self->pattern, name, length, 0, length);
    for (int64_t i = 0; i < self->count; i++)
        if (name_ends_with(name, self->entries[i]))
            return true;
    return self->kind == NAMES_ALL;
}

balora_status name_figures_add(name_figures *self, allocator *memory, const char *source, double value,
                               pattern_problem *problem) {
    if (self->count == self->capacity) {
        int64_t capacity = self->capacity > 0 ? 2 * self->capacity : FIRST_CAPACITY;
        STATUS_TRY(memory_grow(memory, &self->items, (size_t)self->capacity, (size_t)capacity,
                               sizeof *self->items, "a list of patterns"));
        self->capacity = capacity;
    }
    self->memory = memory;
    name_figure item = {.value = value};
    STATUS_TRY(pattern_compile(&item.pattern, memory, source, problem));
    balora_status status = memory_string(memory, &item.source, source);
    if (status != BALORA_OK) {
        pattern_free(&item.pattern);
        return status;
    }
    self->items[self->count++] = item;
    self->nodes += item.pattern.count;
    if (self->count <= NAMES_PATTERNS_LIMIT && self->nodes <= NAMES_NODES_LIMIT)
        return BALORA_OK;
    *problem = (pattern_problem){"more, or longer, patterns before it than this version takes", 0};
    return BALORA_ERROR_UNSUPPORTED;
}

void name_figures_free(name_figures *self) {
    for (int64_t i = 0; i < self->count; i++) {
        pattern_free(&self->items[i].pattern);
        memory_free(self->memory, self->items[i].source);
    }
    if (self->memory != NULL)
        memory_free(self->memory, self->items);
    *self = (name_figures){0};
}

static bool matches_an_end(const pattern *self, const char *name) {
    size_t length = strlen(name);
    for (size_t first = 0; first < length; first++)
        if ((first == 0 || name[first - 1] == '.') && pattern_matches(self, name, length, first, length))
            return true;
    return false;
}

const name_figure *name_figures_find(const name_figures *self, const char *name) {
    for (int64_t i = 0; i < self->count; i++)
        if (matches_an_end(&self->items[i].pattern, name))
            return &self->items[i];
    return NULL;
}
