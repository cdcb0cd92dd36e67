#include "adapter/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

#define MODULE_BYTES sizeof((named_tensor *)0)->name

void rules_free(module_rules *self) {
    name_set_free(&self->targets);
    name_set_free(&self->excluded);
    name_set_free(&self->saved);
    name_set_free(&self->principal);
    name_figures_free(&self->layer_patterns);
    name_figures_free(&self->ranks);
    name_figures_free(&self->alphas);
    if (self->memory != NULL)
        memory_free(self->memory, self->layers);
    *self = (module_rules){0};
}

/* A name's first number that stands between dots, behind two names at least, as "model.layers.3."; -1: none. */
static int64_t layer_of(const char *name, size_t *place) {
    const char *dot = strchr(name, '.');
    for (dot = dot != NULL ? strchr(dot + 1, '.') : NULL; dot != NULL; dot = strchr(dot + 1, '.')) {
        char *end;
        if (dot[1] < '0' || dot[1] > '9')
            continue;
        int64_t layer = strtoll(dot + 1, &end, 10);
        *place = (size_t)(dot - name);
        if (*end == '.')
            return layer;
    }
    return -1;
}

/* Does one of the patterns stand before the number, at the name's begin or behind a dot? */
static bool pattern_stands(const name_figures *patterns, const char *name, size_t place) {
    for (int64_t i = 0; i < patterns->count; i++)
        for (size_t first = 0; first < place; first++)
            if ((first == 0 || name[first - 1] == '.') &&
                pattern_matches(&patterns->items[i].pattern, name, strlen(name), first, place))
                return true;
    return patterns->count == 0;
}

static bool in_layers(const module_rules *self, const char *name) {
    size_t place;
    int64_t layer = layer_of(name, &place);
    if (layer < 0 || !pattern_stands(&self->layer_patterns, name, place))
        return false;
    for (int64_t i = 0; i < self->layer_count; i++)
        if (self->layers[i] == layer)
            return true;
    return false;
}

const char *rules_refusing_key(const module_rules *self, const char *name) {
    if (name_set_holds(&self->excluded, name))
        return "exclude_modules";
    if (rules_save(self, name))
        return "modules_to_save";
    if (!name_set_holds(&self->targets, name))
        return "target_modules";
    /* A name that is listed as a whole needs no layer. */
    bool chosen = !self->by_layer || name_set_lists(&self->targets, name) || in_layers(self, name);
    return chosen ? NULL : "layers_to_transform";
}

void rules_set_figures(const module_rules *self, adapter_module *module) {
    const name_figure *rank = name_figures_find(&self->ranks, module->name);
    const name_figure *alpha = name_figures_find(&self->alphas, module->name);
    if (rank != NULL)
        module->rank = (int64_t)rank->value;
    if (alpha != NULL)
        module->alpha = alpha->value;
}

static bool ends_so(const name_set *set, const char *name, size_t length) {
    for (int64_t i = 0; i < set->count; i++) {
        size_t own = strlen(set->entries[i]);
        if (own > 0 && own <= length && memcmp(name + length - own, set->entries[i], own) == 0)
            return true;
    }
    return false;
}

bool rules_save(const module_rules *self, const char *module) {
    for (size_t i = 1; self->saved.count > 0; i++) {
        if ((module[i] == '.' || module[i] == '\0') && ends_so(&self->saved, module, i))
            return true;
        if (module[i] == '\0')
            return false;
    }
    return false;
}

void rules_module_of(char module[MODULE_BYTES], const char *tensor) {
    const char *dot = strrchr(tensor, '.');
    snprintf(module, MODULE_BYTES, "%.*s", dot != NULL ? (int)(dot - tensor) : 0, tensor);
}

bool rules_train(const module_rules *self, const char *tensor, bool adapted) {
    char module[MODULE_BYTES];
    rules_module_of(module, tensor);
    if (rules_save(self, module))
        return true;
    bool is_bias = strcmp(tensor + strlen(module), ".bias") == 0;
    return is_bias && (self->bias == BALORA_BIAS_ALL || (self->bias == BALORA_BIAS_LORA_ONLY && adapted));
}

void rules_give(module_rules *self, balora_adapter *adapter) {
    adapter->saved = self->saved;
    adapter->bias = self->bias;
    self->saved = (name_set){0};
}
