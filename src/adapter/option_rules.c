#include "adapter/option_rules.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

#define RANK_LIMIT     65536
#define PATTERN_PREFIX "re:"
#define MODULE_BYTES   sizeof((adapter_module *)0)->name

static const char there_are[] =
    "this model has q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj";

static bool is_given(const char *text) {
    return text != NULL && text[0] != '\0';
}

/* --- forms --- */

static balora_status bad_pattern(const char *key, const char *source, balora_status status,
                                 pattern_problem problem) {
    if (status != BALORA_ERROR_FORMAT && status != BALORA_ERROR_UNSUPPORTED)
        return status;
    return status_fail(BALORA_ERROR_ARGUMENT, "%s: the pattern \"%.200s\" has, at byte %zu, %s", key, source,
                       problem.place, problem.what);
}

static balora_status read_list(const char *key, const char *text, allocator *memory, name_set *out) {
    for (const char *entry = text; *entry != '\0';) {
        size_t length = strcspn(entry, ",");
        if (length == 0 || (entry[length] == ',' && entry[length + 1] == '\0'))
            return status_fail(
                BALORA_ERROR_ARGUMENT,
                "%s \"%s\": expected names separated by single commas, or all-linear, or re: and a "
                "pattern that a module's whole name matches",
                key, text);
        STATUS_TRY(name_set_add(out, memory, entry, length));
        entry += length + (entry[length] == ',');
    }
    return BALORA_OK;
}

static balora_status read_set(const char *key, const char *text, allocator *memory, name_set *out) {
    if (!is_given(text))
        return BALORA_OK;
    if (strcmp(text, "all-linear") == 0) {
        out->kind = NAMES_ALL;
        return BALORA_OK;
    }
    if (strncmp(text, PATTERN_PREFIX, strlen(PATTERN_PREFIX)) != 0)
        return read_list(key, text, memory, out);
    pattern_problem problem;
    const char *source = text + strlen(PATTERN_PREFIX);
    STATUS_TRY(bad_pattern(key, source, pattern_compile(&out->pattern, memory, source, &problem), problem));
    out->kind = NAMES_PATTERN;
    return BALORA_OK;
}

/* A number in JSON's form, whatever the locale; NAN for anything else. */
static double read_number(const char *text, size_t length) {
    json_t *value = json_loadb(text, length, JSON_DECODE_ANY, NULL);
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    json_decref(value);
    return number;
}

static balora_status read_figure(const char *key, const char *entry, size_t length, bool whole,
                                 allocator *memory, name_figures *out) {
    char source[PATTERN_BYTES + 1];
    size_t split = length;
    while (split > 0 && entry[split] != '=')
        split--;
    double value = split > 0 ? read_number(entry + split + 1, length - split - 1) : NAN;
    bool fits =
        whole ? value == floor(value) && value >= 1 && value <= RANK_LIMIT : value > 0 && isfinite(value);
    if (!fits || split >= sizeof source)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: \"%.*s\": expected NAME=NUMBER, the number %s", key,
                           (int)(length < 200 ? length : 200), entry,
                           whole ? "a whole one from 1 to 65536" : "above 0");
    pattern_problem problem;
    snprintf(source, sizeof source, "%.*s", (int)split, entry);
    return bad_pattern(key, source, name_figures_add(out, memory, source, value, &problem), problem);
}

static balora_status read_figures(const char *key, const char *text, bool whole, allocator *memory,
                                  name_figures *out) {
    for (const char *entry = is_given(text) ? text : ""; *entry != '\0';) {
        size_t length = strcspn(entry, ",");
        STATUS_TRY(read_figure(key, entry, length, whole, memory, out));
        entry += length + (entry[length] == ',');
    }
    return BALORA_OK;
}

static bool read_index(const char **text, int64_t *out) {
    const char *begin = *text;
    for (*out = 0; **text >= '0' && **text <= '9' && *out < INT32_MAX; ++*text)
        *out = 10 * *out + (**text - '0');
    return *text > begin;
}

/* "0,1,4-7" */
static balora_status read_layers(module_rules *self, const char *text, int64_t layers) {
    if (!is_given(text))
        return BALORA_OK;
    STATUS_TRY(
        memory_new(self->memory, &self->layers, (size_t)layers, sizeof *self->layers, "a list of layers"));
    self->by_layer = true;
    for (const char *at = text; *at != '\0';) {
        int64_t first, last;
        bool sound = read_index(&at, &first);
        last = first;
        if (sound && *at == '-') {
            at++;
            sound = read_index(&at, &last);
        }
        if (!sound || (*at != '\0' && (*at != ',' || at[1] == '\0')))
            return status_fail(BALORA_ERROR_ARGUMENT,
                               "layers_to_transform \"%s\": expected numbers of layers such as 0,1,4-7",
                               text);
        if (last < first || last >= layers || self->layer_count + last - first >= layers)
            return status_fail(BALORA_ERROR_ARGUMENT,
                               "layers_to_transform \"%s\": expected layers from 0 to %lld, each once", text,
                               (long long)layers - 1);
        while (first <= last)
            self->layers[self->layer_count++] = first++;
        at += *at == ',';
    }
    return BALORA_OK;
}

/* --- whether they choose anything --- */

static bool holds_a_module(const balora_model *model, const name_set *set) {
    char name[MODULE_BYTES];
    for (int64_t layer = 0; layer < model->config.layers; layer++)
        for (int p = 0; p < PROJECTION_COUNT; p++) {
            snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer,
                     model->projections[p].module);
            if (name_set_holds(set, name))
                return true;
        }
    return false;
}

static balora_status check_set(const char *key, const char *text, const balora_model *model,
                               const name_set *set) {
    if (set->kind == NAMES_PATTERN && !holds_a_module(model, set))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: no module's whole name matches \"%s\"; %s", key, text,
                           there_are);
    for (int64_t i = 0; i < set->count; i++) {
        const name_set one = {.kind = NAMES_LIST, .entries = &set->entries[i], .count = 1};
        if (!holds_a_module(model, &one))
            return status_fail(BALORA_ERROR_ARGUMENT, "%s: no module is called \"%s\"; %s (or all-linear)",
                               key, set->entries[i], there_are);
    }
    return BALORA_OK;
}

static balora_status check_saved(const balora_model *model, const name_set *saved) {
    for (int64_t i = 0; i < saved->count; i++) {
        const module_rules one = {.saved = {.kind = NAMES_LIST, .entries = &saved->entries[i], .count = 1}};
        bool found = rules_save(&one, "lm_head");
        for (int64_t k = 0; k < model->weights.tensor_count && !found; k++) {
            char module[sizeof((named_tensor *)0)->name];
            rules_module_of(module, model->weights.tensors[k].name);
            found = rules_save(&one, module);
        }
        if (!found)
            return status_fail(
                BALORA_ERROR_ARGUMENT,
                "modules_to_save: no module's name ends in \"%s\"; expected such as embed_tokens, "
                "lm_head, norm or input_layernorm",
                saved->entries[i]);
    }
    return BALORA_OK;
}

static balora_status check_figures(const char *key, const balora_model *model, const module_rules *rules,
                                   const name_figures *figures) {
    char name[MODULE_BYTES];
    for (int64_t i = 0; i < figures->count; i++) {
        const name_figures one = {.items = &figures->items[i], .count = 1};
        bool found = false;
        for (int64_t layer = 0; layer < model->config.layers && !found; layer++)
            for (int p = 0; p < PROJECTION_COUNT && !found; p++) {
                snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer,
                         model->projections[p].module);
                found = rules_refusing_key(rules, name) == NULL && name_figures_find(&one, name) != NULL;
            }
        if (!found)
            return status_fail(BALORA_ERROR_ARGUMENT, "%s: no adapted module is called \"%s\"; %s", key,
                               figures->items[i].source, there_are);
    }
    return BALORA_OK;
}

static bool starts_principal(const balora_adapter_options *options) {
    bool by_method = options->method == BALORA_METHOD_BA_LORA || options->method == BALORA_METHOD_PISSA;
    return options->init == BALORA_INIT_PISSA || (options->init == BALORA_INIT_AUTO && by_method);
}

static balora_status read_principal(module_rules *self, const balora_adapter_options *options,
                                    const balora_model *model) {
    const char *text = options->pissa_modules;
    if (is_given(text) && !starts_principal(options))
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "pissa_modules needs a start from the weights' singular vectors: method ba-lora or pissa, or "
            "init pissa");
    self->principal.kind = starts_principal(options) ? NAMES_ALL : NAMES_NONE;
    STATUS_TRY(read_set("pissa_modules", text, self->memory, &self->principal));
    return check_set("pissa_modules", text, model, &self->principal);
}

balora_status option_rules_read(module_rules *out, const balora_model *model,
                                const balora_adapter_options *options) {
    allocator *memory = &model->context->memory;
    *out = (module_rules){.memory = memory, .targets.kind = NAMES_ALL, .bias = options->bias};
    STATUS_TRY(read_set("target_modules", options->target_modules, memory, &out->targets));
    STATUS_TRY(check_set("target_modules", options->target_modules, model, &out->targets));
    STATUS_TRY(read_set("exclude_modules", options->exclude_modules, memory, &out->excluded));
    STATUS_TRY(check_set("exclude_modules", options->exclude_modules, model, &out->excluded));
    STATUS_TRY(read_layers(out, options->layers_to_transform, model->config.layers));
    if (is_given(options->modules_to_save))
        STATUS_TRY(read_list("modules_to_save", options->modules_to_save, memory, &out->saved));
    STATUS_TRY(check_saved(model, &out->saved));
    STATUS_TRY(read_figures("rank_pattern", options->rank_pattern, true, memory, &out->ranks));
    STATUS_TRY(check_figures("rank_pattern", model, out, &out->ranks));
    STATUS_TRY(read_figures("alpha_pattern", options->alpha_pattern, false, memory, &out->alphas));
    STATUS_TRY(check_figures("alpha_pattern", model, out, &out->alphas));
    return read_principal(out, options, model);
}
