#include "adapter/peft_names.h"

#include <stdio.h>
#include <string.h>

static const char *const factor_suffixes[FACTOR_COUNT] = {".lora_A.weight", ".lora_B.weight"};

void peft_factor_name(char name[PEFT_NAME_BYTES], const char *module, factor_kind kind) {
    snprintf(name, PEFT_NAME_BYTES, PEFT_NAME_PREFIX "%s%s", module, factor_suffixes[kind]);
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
    for (int kind = 0; kind < FACTOR_COUNT; kind++) {
        size_t suffix = strlen(factor_suffixes[kind]);
        if (full <= prefix + suffix || memcmp(name, PEFT_NAME_PREFIX, prefix) != 0 ||
            strcmp(name + full - suffix, factor_suffixes[kind]) != 0)
            continue;
        *module = name + prefix;
        *length = full - prefix - suffix;
        return (factor_kind)kind;
    }
    return FACTOR_COUNT;
}
