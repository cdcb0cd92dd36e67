#include "adapter/peft_names.h"

#include <stdio.h>
#include <string.h>

/* The last: what some versions of PEFT wrote for the magnitude. */
static const struct {
    factor_kind kind;
    const char *text;
} suffixes[] = {{FACTOR_A, ".lora_A.weight"},
                {FACTOR_B, ".lora_B.weight"},
                {FACTOR_MAGNITUDE, ".lora_magnitude_vector"},
                {FACTOR_MAGNITUDE, ".lora_magnitude_vector.weight"}};

enum { SUFFIXES = sizeof suffixes / sizeof suffixes[0] };

void peft_factor_name(char name[PEFT_NAME_BYTES], const char *module, factor_kind kind) {
    int i = 0;
    while (suffixes[i].kind != kind)
        i++;
    snprintf(name, PEFT_NAME_BYTES, PEFT_NAME_PREFIX "%s%s", module, suffixes[i].text);
}

void peft_old_magnitude_name(char name[PEFT_NAME_BYTES], const char *module) {
    snprintf(name, PEFT_NAME_BYTES, PEFT_NAME_PREFIX "%s%s", module, suffixes[SUFFIXES - 1].text);
}

const projection *peft_find_module(const balora_model *model, const char *name, size_t length) {
    static const char prefix[] = "model.layers.";
    const size_t start = sizeof prefix - 1;
    if (length <= start || memcmp(name, prefix, start) != 0)
        return NULL;
    int64_t layer = 0;
    size_t at = start;
    for (; at < length && name[at] >= '0' && name[at] <= '9' && layer < model->config.layers; at++)
        layer = 10 * layer + (name[at] - '0');
    if (at == start || layer >= model->config.layers)
        return NULL;
    for (int p = 0; p < PROJECTION_COUNT; p++) {
        /* Rebuilt, so that "layers.007" is not taken for layer 7. */
        char exact[PEFT_NAME_BYTES];
        int written = snprintf(exact, sizeof exact, "%s%lld.%s", prefix, (long long)layer,
                               model->projections[p].module);
        if ((size_t)written == length && memcmp(name, exact, length) == 0)
            return &model->projections[p];
    }
    return NULL;
}

factor_kind peft_parse_name(const char *name, const char **module, size_t *length) {
    size_t full = strlen(name), prefix = sizeof PEFT_NAME_PREFIX - 1;
    *module = name;
    *length = full;
    for (int i = 0; i < SUFFIXES; i++) {
        size_t suffix = strlen(suffixes[i].text);
        if (full <= prefix + suffix || memcmp(name, PEFT_NAME_PREFIX, prefix) != 0 ||
            strcmp(name + full - suffix, suffixes[i].text) != 0)
            continue;
        *module = name + prefix;
        *length = full - prefix - suffix;
        return suffixes[i].kind;
    }
    return FACTOR_COUNT;
}
