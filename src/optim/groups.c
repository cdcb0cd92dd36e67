#include "optim/groups.h"

#include <math.h>
#include <string.h>

#include "base/number.h"
#include "base/status.h"

static balora_status wrong_rule(const char *rule, size_t length) {
    return status_fail(
        BALORA_ERROR_ARGUMENT,
        "parameter_groups: \"%.*s\" is no group; expected PATTERN=FACTOR or PATTERN=FACTOR:DECAY with a "
        "part of a tensor's name and numbers of at least 0, as in lora_A=0.5,bias=1:0",
        (int)(length < 80 ? length : 80), rule);
}

/* A number of at least 0 from a part of a text. */
static bool read_number(const char *text, size_t length, double *out) {
    char copy[NUMBER_TEXT_LIMIT + 1];
    if (length > NUMBER_TEXT_LIMIT)
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    return number_scan(copy, out) && isfinite(*out) && *out >= 0;
}

static balora_status read_rule(group_rule *out, const char *text, size_t length, double weight_decay) {
    const char *end = text + length, *equals = memchr(text, '=', length);
    if (equals == NULL || equals == text)
        return wrong_rule(text, length);
    const char *numbers = equals + 1, *colon = memchr(numbers, ':', (size_t)(end - numbers));
    const char *factor_end = colon != NULL ? colon : end;
    *out = (group_rule){text, (size_t)(equals - text), 1, weight_decay};
    if (!read_number(numbers, (size_t)(factor_end - numbers), &out->factor) ||
        (colon != NULL && !read_number(colon + 1, (size_t)(end - colon - 1), &out->weight_decay)))
        return wrong_rule(text, length);
    return BALORA_OK;
}

static int32_t group_of(group_set *self, double factor, double weight_decay) {
    for (int32_t i = 0; i < self->count; i++)
        if (self->groups[i].factor == factor && self->groups[i].weight_decay == weight_decay)
            return i;
    self->groups[self->count].factor = factor;
    self->groups[self->count].weight_decay = weight_decay;
    return self->count++;
}

balora_status groups_read(group_set *out, const balora_optimizer_options *options) {
    const char *text = options->parameter_groups;
    memset(out, 0, sizeof *out);
    out->lora_plus_ratio = options->lora_plus_ratio != 0 ? options->lora_plus_ratio : 1;
    out->weight_decay = options->weight_decay;
    group_of(out, 1, options->weight_decay); /* 0: of numbers that have no name */
    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, ",");
        if (out->rule_count == GROUP_RULES)
            return status_fail(BALORA_ERROR_ARGUMENT, "parameter_groups: more than %d groups", GROUP_RULES);
        STATUS_TRY(read_rule(&out->rules[out->rule_count++], text, length, options->weight_decay));
        text += length;
        if (*text == ',' && *++text == '\0')
            return wrong_rule(text, 0);
    }
    return BALORA_OK;
}

/* Does `name` hold the rule's pattern? */
static bool rule_matches(const group_rule *rule, const char *name) {
    for (; *name != '\0'; name++)
        if (strncmp(name, rule->pattern, rule->length) == 0)
            return true;
    return false;
}

int32_t groups_find(group_set *self, const char *name) {
    double factor = 1, weight_decay = self->weight_decay;
    for (int i = 0; i < self->rule_count; i++)
        if (rule_matches(&self->rules[i], name)) {
            factor = self->rules[i].factor;
            weight_decay = self->rules[i].weight_decay;
            break;
        }
    if (strstr(name, "lora_B") != NULL || strstr(name, "lora_embedding_B") != NULL)
        factor *= self->lora_plus_ratio;
    return group_of(self, factor, weight_decay);
}

void groups_rates(const group_set *self, double learning_rate, optimizer_group out[OPTIMIZER_GROUPS]) {
    for (int32_t i = 0; i < self->count; i++)
        out[i] = (optimizer_group){learning_rate * self->groups[i].factor, self->groups[i].weight_decay};
}
