#include "adapter/peft_trained.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

static const char head_module[] = "lm_head";
static const char embedding_module[] = "model.embed_tokens";
static const char head_tensor[] = "lm_head.weight";
static const char embedding_tensor[] = "model.embed_tokens.weight";

/* With a head that stays tied, either of the two names trains the one matrix. */
bool peft_trains(const peft_config *config, const balora_model *model, const char *tensor, bool adapted) {
    bool tied = config->tying && model->config.tied_embeddings;
    bool is_pair = strcmp(tensor, embedding_tensor) == 0 || strcmp(tensor, head_tensor) == 0;
    return rules_train(&config->rules, tensor, adapted) ||
           (tied && is_pair &&
            (rules_save(&config->rules, head_module) || rules_save(&config->rules, embedding_module)));
}

static bool model_has(const balora_model *model, const char *tensor) {
    for (int64_t i = 0; i < model->weights.tensor_count; i++)
        if (strcmp(model->weights.tensors[i].name, tensor) == 0)
            return true;
    return strcmp(tensor, head_tensor) == 0;
}

static bool holds_factors(const tensor_files *files, const char *module) {
    char factor[PEFT_NAME_BYTES];
    tensor_place found;
    peft_factor_name(factor, module, FACTOR_A);
    return tensor_files_find(files, factor, &found);
}

/* "model.X.q_proj.bias" of "base_model.model.model.X.q_proj.base_layer.bias"; false for names of another form. */
static bool parse_trained(const tensor_files *files, const char *name, char tensor[PEFT_NAME_BYTES],
                          bool *adapted) {
    static const char wrapped[] = ".base_layer.bias";
    const size_t prefix = sizeof PEFT_NAME_PREFIX - 1, suffix = sizeof wrapped - 1;
    size_t length = strlen(name);
    if (length <= prefix || length >= PEFT_NAME_BYTES || memcmp(name, PEFT_NAME_PREFIX, prefix) != 0)
        return false;
    snprintf(tensor, PEFT_NAME_BYTES, "%s", name + prefix);
    length -= prefix;
    bool is_wrapped = length > suffix && strcmp(tensor + length - suffix, wrapped) == 0;
    if (is_wrapped)
        memcpy(tensor + length - suffix, ".bias", sizeof ".bias");
    char module[PEFT_NAME_BYTES];
    snprintf(module, sizeof module, "%s", tensor);
    char *dot = strrchr(module, '.');
    if (dot == NULL)
        return false;
    *dot = '\0';
    *adapted = holds_factors(files, module);
    return *adapted || !is_wrapped;
}

balora_status peft_check_trained(const peft_config *config, const balora_model *model,
                                 const tensor_files *files, const tensor_place *place) {
    char tensor[PEFT_NAME_BYTES];
    bool adapted = false;
    if (parse_trained(files, place->entry->name, tensor, &adapted) && model_has(model, tensor) &&
        peft_trains(config, model, tensor, adapted))
        return BALORA_OK;
    return status_fail(
        BALORA_ERROR_UNSUPPORTED,
        "%s: tensor \"%s\": expected " PEFT_NAME_PREFIX
        "MODULE.lora_A.weight or .lora_B.weight, or a tensor that \"modules_to_save\" or \"bias\" of %s "
        "names; this version cannot do what others stand for",
        place->file->file.path, place->entry->name, config->path);
}

void peft_trained_name(char name[PEFT_NAME_BYTES], const balora_adapter *adapter, const char *tensor) {
    char module[sizeof((named_tensor *)0)->name];
    rules_module_of(module, tensor);
    bool wrapped = adapter_find_module(adapter, module) != NULL;
    snprintf(name, PEFT_NAME_BYTES, PEFT_NAME_PREFIX "%s%s%s", module, wrapped ? ".base_layer" : "",
             tensor + strlen(module));
}

/* Some versions of PEFT write the bias of an adapted layer as if the layer had no factors. */
static bool find_plain(const tensor_files *files, const trained_tensor *trained, tensor_place *out) {
    char name[PEFT_NAME_BYTES];
    snprintf(name, sizeof name, PEFT_NAME_PREFIX "%s", trained->tensor->name);
    return tensor_files_find(files, name, out);
}

static balora_status check_entries(const peft_config *config, const balora_adapter *adapter) {
    const name_set *saved = &config->rules.saved;
    for (int64_t i = 0; i < saved->count; i++) {
        const module_rules one = {.saved = {.kind = NAMES_LIST, .entries = &saved->entries[i], .count = 1}};
        bool found = strcmp(saved->entries[i], head_module) == 0;
        for (int64_t k = 0; k < adapter->trained_count && !found; k++) {
            char module[sizeof((named_tensor *)0)->name];
            rules_module_of(module, adapter->trained[k].tensor->name);
            found = rules_save(&one, module);
        }
        if (!found)
            return status_fail(
                BALORA_ERROR_MISMATCH,
                "%s: \"modules_to_save\": the model %s has no module whose name ends in \"%.200s\"",
                config->path, adapter->model->folder, saved->entries[i]);
    }
    return BALORA_OK;
}

/* The saved head of a tied model is the embedding once more. */
static balora_status check_head(const tensor_files *files, const staging *stage) {
    tensor_place head, embedding;
    if (!tensor_files_find(files, PEFT_NAME_PREFIX "lm_head.weight", &head) ||
        !tensor_files_find(files, PEFT_NAME_PREFIX "model.embed_tokens.weight", &embedding))
        return BALORA_OK;
    char *first = stage->host, *second = first + STAGING_BYTES / 2;
    bool same = head.entry->dtype == embedding.entry->dtype && head.entry->bytes == embedding.entry->bytes;
    for (uint64_t at = 0, bytes; same && at < head.entry->bytes; at += bytes) {
        bytes = head.entry->bytes - at < STAGING_BYTES / 2 ? head.entry->bytes - at : STAGING_BYTES / 2;
        STATUS_TRY(safetensors_read_part(head.file, head.entry, at, bytes, first));
        STATUS_TRY(safetensors_read_part(embedding.file, embedding.entry, at, bytes, second));
        same = memcmp(first, second, bytes) == 0;
    }
    if (same)
        return BALORA_OK;
    return status_fail(
        BALORA_ERROR_MISMATCH,
        "%s: \"%s\" and \"%s\" differ, but \"ensure_weight_tying\" says that they are one matrix",
        head.file->file.path, head.entry->name, embedding.entry->name);
}

static balora_status read_one(const tensor_files *files, const balora_adapter *adapter,
                              const trained_tensor *trained, bool may_lack, staging *stage, bool *lacked) {
    const named_tensor *tensor = trained->tensor;
    char name[PEFT_NAME_BYTES];
    tensor_place place;
    int64_t shape[2] = {trained->value.rows, trained->value.cols};
    peft_trained_name(name, adapter, tensor->name);
    if (!tensor_files_find(files, name, &place)) {
        if (find_plain(files, trained, &place))
            snprintf(name, sizeof name, PEFT_NAME_PREFIX "%s", tensor->name);
        else if (adapter_ties_head(adapter) && strcmp(tensor->name, embedding_tensor) == 0)
            snprintf(name, sizeof name, PEFT_NAME_PREFIX "%s", head_tensor);
        else if (may_lack) {
            *lacked = true;
            return BALORA_OK;
        }
    }
    STATUS_TRY(tensor_files_expect(files, name, tensor->rank, tensor->rank == 1 ? shape + 1 : shape, &place));
    return staging_read(stage, &place, 0, trained->value, true);
}

balora_status peft_read_trained(const peft_config *config, const tensor_files *files, balora_adapter *adapter,
                                staging *stage) {
    bool lacked = false;
    STATUS_TRY(check_entries(config, adapter));
    if (adapter_ties_head(adapter))
        STATUS_TRY(check_head(files, stage));
    for (int64_t i = 0; i < adapter->trained_count; i++) {
        const trained_tensor *trained = &adapter->trained[i];
        char module[sizeof((named_tensor *)0)->name];
        rules_module_of(module, trained->tensor->name);
        bool is_bias = config->rules.bias != BALORA_BIAS_NONE && !rules_save(&config->rules, module);
        STATUS_TRY(read_one(files, adapter, trained, is_bias, stage, &lacked));
    }
    if (!lacked)
        return BALORA_OK;
    return context_log(adapter->model->context, BALORA_LOG_WARNING,
                       "%s: \"bias\" trains biases that the file does not hold; they start as the model's",
                       config->path);
}
