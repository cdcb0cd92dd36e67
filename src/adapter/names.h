/* Choices of modules by their names, as PEFT's target_modules and its kin make them, and figures for some of them. */
#ifndef ADAPTER_NAMES_H
#define ADAPTER_NAMES_H

#include "adapter/pattern.h"

#define NAMES_PATTERNS_LIMIT 16384              /* of one key of a configuration */
#define NAMES_NODES_LIMIT    ((int64_t)1 << 18) /* states of all of them */

typedef enum name_set_kind { NAMES_NONE, NAMES_ALL, NAMES_PATTERN, NAMES_LIST } name_set_kind;

typedef struct name_set {
    allocator *memory;
    name_set_kind kind;
    pattern pattern; /* the whole name matches */
    char **entries;  /* a whole name, or its end behind a dot */
    int64_t count, capacity;
} name_set;

/* Becomes a list with one entry more. */
balora_status name_set_add(name_set *self, allocator *memory, const char *entry, size_t length);
void name_set_free(name_set *self); /* also on a zeroed one */

bool name_set_holds(const name_set *self, const char *name);
/* Is `name` an entry as it is? */
bool name_set_lists(const name_set *self, const char *name);
/* Does an entry hold `name`, as name_set_holds does it for lists? */
bool name_ends_with(const char *name, const char *entry);

/* A figure of their own for modules whose name, or its end behind a dot, matches. The first match counts. */
typedef struct name_figure {
    pattern pattern;
    char *source;
    double value;
    int64_t used; /* by how many modules */
} name_figure;

typedef struct name_figures {
    allocator *memory;
    name_figure *items;
    int64_t count, capacity, nodes;
} name_figures;

/* FORMAT or UNSUPPORTED with *problem filled, as pattern_compile. */
balora_status name_figures_add(name_figures *self, allocator *memory, const char *source, double value,
                               pattern_problem *problem);
void name_figures_free(name_figures *self); /* also on a zeroed one */

/* NULL: none matches. */
const name_figure *name_figures_find(const name_figures *self, const char *name);

#endif
