/* The choice of modules of a PEFT configuration. */
#include <math.h>
#include <string.h>
#include <strings.h>

#include "adapter/peft_config.h"
#include "base/status.h"

static balora_status wrong_type(const peft_config *self, const char *key, const char *expected,
                                const json_t *found) {
    return status_fail(BALORA_ERROR_FORMAT, "%s: \"%s\": expected %s, found %s", self->path, key, expected,
                       json_type_name(found));
}

static balora_status bad_pattern(const peft_config *self, const char *key, const char *source,
                                 balora_status status, pattern_problem problem) {
    if (status == BALORA_ERROR_UNSUPPORTED)
        return status_fail(
            status,
            "%s: \"%s\": the pattern \"%.200s\" has, at byte %zu, %s: this version cannot match that; "
            "list the names of the modules instead",
            self->path, key, source, problem.place, problem.what);
    if (status == BALORA_ERROR_FORMAT)
        return status_fail(status, "%s: \"%s\": the pattern \"%.200s\" has, at byte %zu, %s", self->path, key,
                           source, problem.place, problem.what);
    return status;
}

static balora_status read_list(const peft_config *self, allocator *memory, const char *key,
                               const json_t *list, name_set *out) {
    out->kind = NAMES_LIST;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        if (!json_is_string(entry))
            return status_fail(BALORA_ERROR_FORMAT, "%s: \"%s\"[%zu]: expected a string, found %s",
                               self->path, key, i, json_type_name(entry));
        STATUS_TRY(name_set_add(out, memory, json_string_value(entry), json_string_length(entry)));
    }
    return BALORA_OK;
}

/* A pattern, "all-linear" or a list; *out stays as it is where the key is absent. */
static balora_status read_set(const peft_config *self, allocator *memory, const char *key, name_set *out) {
    const json_t *value = json_object_get(self->document, key);
    if (value == NULL || json_is_null(value))
        return BALORA_OK;
    if (json_is_array(value))
        return read_list(self, memory, key, value, out);
    if (!json_is_string(value))
        return wrong_type(self, key, "a string or an array", value);
    const char *text = json_string_value(value);
    if (strcasecmp(text, "all-linear") == 0) {
        out->kind = NAMES_ALL;
        return BALORA_OK;
    }
    pattern_problem problem;
    balora_status status = pattern_compile(&out->pattern, memory, text, &problem);
    if (status != BALORA_OK)
        return bad_pattern(self, key, text, status, problem);
    out->kind = NAMES_PATTERN;
    return BALORA_OK;
}

static balora_status add_figure(const peft_config *self, allocator *memory, const char *key,
                                const char *source, double value, name_figures *out) {
    pattern_problem problem;
    return bad_pattern(self, key, source, name_figures_add(out, memory, source, value, &problem), problem);
}

static balora_status read_figures(const peft_config *self, allocator *memory, const char *key, bool whole,
                                  name_figures *out) {
    const json_t *value = json_object_get(self->document, key);
    const char *source;
    json_t *figure;
    if (value == NULL || json_is_null(value))
        return BALORA_OK;
    if (!json_is_object(value))
        return wrong_type(self, key, "an object", value);
    json_object_foreach((json_t *)value, source, figure) {
        double number = json_number_value(figure);
        bool fits = whole ? json_is_integer(figure) && number >= 1 && number <= PEFT_RANK_LIMIT
                          : json_is_number(figure) && number > 0 && isfinite(number);
        if (!fits)
            return status_fail(BALORA_ERROR_FORMAT, "%s: \"%s\": \"%.200s\": expected %s", self->path, key,
                               source, whole ? "a whole number from 1 to 65536" : "a number above 0");
        STATUS_TRY(add_figure(self, memory, key, source, number, out));
    }
    return BALORA_OK;
}

static balora_status read_layers(peft_config *self, allocator *memory) {
    const json_t *value = json_object_get(self->document, "layers_to_transform");
    module_rules *rules = &self->rules;
    if (value == NULL || json_is_null(value) || (json_is_array(value) && json_array_size(value) == 0))
        return BALORA_OK;
    if (!json_is_array(value) && !json_is_integer(value))
        return wrong_type(self, "layers_to_transform", "a whole number or an array of them", value);
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    STATUS_TRY(memory_new(memory, &rules->layers, count, sizeof *rules->layers, "a list of layers"));
    rules->by_layer = true;
    for (size_t i = 0; i < count; i++) {
        const json_t *layer = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(layer) || json_integer_value(layer) < 0)
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: \"layers_to_transform\": expected whole numbers from 0 on", self->path);
        rules->layers[rules->layer_count++] = json_integer_value(layer);
    }
    return BALORA_OK;
}

static balora_status read_layer_patterns(peft_config *self, allocator *memory) {
    static const char key[] = "layers_pattern";
    const json_t *value = json_object_get(self->document, key);
    bool is_list = json_is_array(value);
    if (value == NULL || json_is_null(value) || (is_list && json_array_size(value) == 0))
        return BALORA_OK;
    if (!is_list && !json_is_string(value))
        return wrong_type(self, key, "a string or an array of strings", value);
    if (!self->rules.by_layer)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: \"layers_pattern\" stands without \"layers_to_transform\"", self->path);
    for (size_t i = 0; i < (is_list ? json_array_size(value) : 1); i++) {
        const json_t *entry = is_list ? json_array_get(value, i) : value;
        if (!json_is_string(entry))
            return wrong_type(self, key, "strings in the array", entry);
        STATUS_TRY(add_figure(self, memory, key, json_string_value(entry), 0, &self->rules.layer_patterns));
    }
    return BALORA_OK;
}

static balora_status read_bias(peft_config *self) {
    const char *bias = "none";
    STATUS_TRY(json_member_string(self->document, "bias", self->path, false, &bias));
    if (strcmp(bias, "none") == 0)
        self->rules.bias = BALORA_BIAS_NONE;
    else if (strcmp(bias, "all") == 0)
        self->rules.bias = BALORA_BIAS_ALL;
    else if (strcmp(bias, "lora_only") == 0)
        self->rules.bias = BALORA_BIAS_LORA_ONLY;
    else
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: \"bias\" is \"%.100s\"; expected \"none\", \"all\" or \"lora_only\"",
                           self->path, bias);
    return BALORA_OK;
}

static balora_status read_saved(peft_config *self, allocator *memory) {
    const json_t *value = json_object_get(self->document, "modules_to_save");
    STATUS_TRY(json_member_boolean(self->document, "ensure_weight_tying", self->path, &self->tying));
    if (value == NULL || json_is_null(value))
        return BALORA_OK;
    if (!json_is_array(value))
        return wrong_type(self, "modules_to_save", "an array", value);
    return read_list(self, memory, "modules_to_save", value, &self->rules.saved);
}

balora_status peft_rules_read(peft_config *self, allocator *memory) {
    module_rules *rules = &self->rules;
    rules->memory = memory;
    rules->targets.kind = NAMES_ALL; /* old configurations leave the choice to the model's family */
    STATUS_TRY(read_set(self, memory, "target_modules", &rules->targets));
    STATUS_TRY(read_set(self, memory, "exclude_modules", &rules->excluded));
    STATUS_TRY(read_layers(self, memory));
    STATUS_TRY(read_layer_patterns(self, memory));
    if (rules->by_layer && json_is_string(json_object_get(self->document, "target_modules")))
        return status_fail(
            BALORA_ERROR_FORMAT,
            "%s: \"layers_to_transform\" cannot stand beside a \"target_modules\" that is a string",
            self->path);
    STATUS_TRY(read_figures(self, memory, "rank_pattern", true, &rules->ranks));
    STATUS_TRY(read_figures(self, memory, "alpha_pattern", false, &rules->alphas));
    STATUS_TRY(read_saved(self, memory));
    return read_bias(self);
}
