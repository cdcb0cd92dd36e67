#include "adapter/peft_config.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/status.h"

#define CONFIG_BYTES_LIMIT ((uint64_t)8 << 20)

/* Keys that are read here, and keys that do not change what the tensors mean whatever they say. */
static const char *const harmless_keys[] = {
    /* read */
    "alpha_pattern", "bias", "ensure_weight_tying", "exclude_modules", "init_lora_weights", "layers_pattern",
    "layers_to_transform", "lora_alpha", "lora_dropout", "modules_to_save", "peft_type", "r", "rank_pattern",
    "target_modules", "use_dora", "use_rslora",
    /* where the adapter came from and how it is meant */
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_version", "revision", "task_type",
    /* details of starts and variants; what would switch them on is checked by its own key */
    "corda_config", "eva_config", "loftq_config", "lora_ga_config", "megatron_core", "qalora_group_size"};

/* Known keys that may only be off, and what they mean. */
static const struct {
    const char *key, *meaning;
} unsupported_keys[] = {
    {"alora_invocation_tokens", "an adapter that acts behind invocation tokens only (aLoRA)"},
    {"arrow_config", "routing between several adapters"},
    {"fan_in_fan_out", "weights stored as [in, out]"},
    {"kasa_config", "the KaSA variant"},
    {"layer_replication", "layers that are used more than once"},
    {"lora_bias", "a bias beside B"},
    {"megatron_config", "Megatron's parallel layers"},
    {"monteclora_config", "the MonteCLoRA variant"},
    {"target_parameters", "factors on parameters that are not linear layers"},
    {"trainable_token_indices", "trained rows of the embedding"},
    {"use_bdlora", "block-diagonal factors"},
    {"use_qalora", "the QA-LoRA variant"},
    {"velora_config", "the VeLoRA variant"},
};

#define LENGTH(list) (sizeof(list) / sizeof((list)[0]))

static bool is_off(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return json_object_size(value) == 0;
    case JSON_ARRAY:
        return json_array_size(value) == 0;
    default:
        return json_is_null(value) || json_is_false(value);
    }
}

static bool is_harmless(const char *key) {
    for (size_t i = 0; i < LENGTH(harmless_keys); i++)
        if (strcmp(harmless_keys[i], key) == 0)
            return true;
    return false;
}

static const char *unsupported_meaning(const char *key) {
    for (size_t i = 0; i < LENGTH(unsupported_keys); i++)
        if (strcmp(unsupported_keys[i].key, key) == 0)
            return unsupported_keys[i].meaning;
    return NULL;
}

static balora_status check_keys(const peft_config *self) {
    const char *key;
    json_t *value;
    json_object_foreach(self->document, key, value) {
        if (is_off(value) || is_harmless(key))
            continue;
        const char *meaning = unsupported_meaning(key);
        if (meaning != NULL)
            return status_fail(BALORA_ERROR_UNSUPPORTED,
                               "%s: \"%s\" asks for %s, which this version cannot do", self->path, key,
                               meaning);
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "%s: the key \"%.200s\" is newer than what this version knows, and it is switched on", self->path,
            key);
    }
    return BALORA_OK;
}

static balora_status check_kind(const peft_config *self) {
    const char *kind = NULL;
    STATUS_TRY(json_member_string(self->document, "peft_type", self->path, true, &kind));
    if (strcmp(kind, "LORA") != 0)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: \"peft_type\" is \"%.100s\"; only \"LORA\" is supported", self->path, kind);
    return BALORA_OK;
}

/*
 * PEFT starts an adapter anew whenever it loads it, and some starts change the base weights: such factors
 * belong to the changed weights, not to the untouched ones that are used here.
 */
static balora_status check_start(const peft_config *self) {
    static const char *const harmless[] = {"gaussian", "eva", "orthogonal"};
    const json_t *value = json_object_get(self->document, "init_lora_weights");
    if (value == NULL || json_is_boolean(value) || json_is_null(value))
        return BALORA_OK;
    const char *start = json_string_value(value);
    for (size_t i = 0; start != NULL && i < LENGTH(harmless); i++)
        if (strcmp(harmless[i], start) == 0)
            return BALORA_OK;
    return status_fail(
        BALORA_ERROR_UNSUPPORTED,
        "%s: \"init_lora_weights\" is %s%.100s: the factors belong to base weights that this start "
        "changes; convert the adapter to plain LoRA first (PEFT: save_pretrained with "
        "path_initial_model_for_weight_conversion)",
        self->path, start != NULL ? "" : json_type_name(value), start != NULL ? start : "");
}

static balora_status read_numbers(peft_config *self) {
    self->rank = 8; /* PEFT's defaults */
    self->alpha = 8;
    STATUS_TRY(json_member_integer(self->document, "r", self->path, false, 1, PEFT_RANK_LIMIT, &self->rank));
    STATUS_TRY(json_member_number(self->document, "lora_alpha", self->path, false, &self->alpha));
    if (!(self->alpha > 0) || !isfinite(self->alpha))
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"lora_alpha\" is %g; expected a number above 0",
                           self->path, self->alpha);
    STATUS_TRY(json_member_number(self->document, "lora_dropout", self->path, false, &self->dropout));
    if (!(self->dropout >= 0 && self->dropout < 1))
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"lora_dropout\" is %g; expected 0 to below 1",
                           self->path, self->dropout);
    STATUS_TRY(json_member_boolean(self->document, "use_dora", self->path, &self->use_dora));
    return json_member_boolean(self->document, "use_rslora", self->path, &self->use_rslora);
}

balora_status peft_config_read(peft_config *out, balora_context *context, const char *folder) {
    *out = (peft_config){0};
    balora_status status;
    STATUS_GOTO(file_join(&context->memory, &out->path, folder, PEFT_CONFIG_FILE));
    STATUS_GOTO(json_read_object(&out->document, &context->memory, out->path, CONFIG_BYTES_LIMIT));
    STATUS_GOTO(check_kind(out));
    STATUS_GOTO(check_start(out));
    STATUS_GOTO(check_keys(out));
    STATUS_GOTO(read_numbers(out));
    STATUS_GOTO(peft_rules_read(out, &context->memory));
    return BALORA_OK;
fail:
    peft_config_free(out, &context->memory);
    return status;
}

void peft_config_free(peft_config *self, allocator *memory) {
    json_decref(self->document);
    rules_free(&self->rules);
    memory_free(memory, self->path);
    *self = (peft_config){0};
}
