/* The writing half of peft_config.h: only keys that differ from PEFT's defaults, or that every version demands. */
#include <math.h>
#include <string.h>

#include "adapter/peft_config.h"
#include "adapter/plain.h"
#include "base/file.h"
#include "base/status.h"

/* Short names where every layer's module of that name is adapted, else full names. */
static json_t *list_targets(const balora_adapter *adapter) {
    const balora_model *model = adapter->model;
    int64_t counts[PROJECTION_COUNT] = {0};
    bool failed = false;
    json_t *list = json_array();
    for (int64_t i = 0; i < adapter->module_count; i++)
        counts[adapter->modules[i].projection - model->projections]++;
    for (int p = 0; p < PROJECTION_COUNT; p++)
        if (counts[p] == model->config.layers)
            failed |= json_array_append_new(list, json_string(model->projections[p].name)) != 0;
    for (int64_t i = 0; i < adapter->module_count; i++)
        if (counts[adapter->modules[i].projection - model->projections] != model->config.layers)
            failed |= json_array_append_new(list, json_string(adapter->modules[i].name)) != 0;
    if (!failed)
        return list;
    json_decref(list);
    return NULL;
}

/* PEFT declares lora_alpha an integer; any number works. */
static json_t *number(double value) {
    return value == floor(value) && fabs(value) < 1e15 ? json_integer((json_int_t)value) : json_real(value);
}

typedef struct written_form {
    const balora_adapter *adapter;
    bool trained_only; /* see plain.h */
} written_form;

/* What a module has, of the figures that a object may give it. */
typedef double (*module_figure)(const written_form *form, const adapter_module *module);

static double figure_rank(const written_form *form, const adapter_module *module) {
    return (double)plain_rank(module, form->trained_only);
}

static double figure_alpha(const written_form *form, const adapter_module *module) {
    return plain_alpha(module, form->adapter->use_rslora != 0, form->trained_only);
}

/* What most modules have; the first of equals. */
static double most_common(const written_form *form, module_figure figure) {
    double best = 0;
    for (int64_t i = 0, most = 0; i < form->adapter->module_count; i++) {
        double value = figure(form, &form->adapter->modules[i]);
        int64_t count = 0;
        for (int64_t k = 0; k < form->adapter->module_count; k++)
            count += figure(form, &form->adapter->modules[k]) == value;
        if (count > most) {
            most = count;
            best = value;
        }
    }
    return best;
}

/* Have all modules of the same projection this value? */
static bool is_uniform(const written_form *form, module_figure figure, const projection *part, double value) {
    for (int64_t i = 0; i < form->adapter->module_count; i++)
        if (form->adapter->modules[i].projection == part && figure(form, &form->adapter->modules[i]) != value)
            return false;
    return true;
}

/* The modules that differ from `common`: by short names where all of that name have the same, else by full ones. */
static json_t *list_pattern(const written_form *form, module_figure figure, double common) {
    json_t *object = json_object();
    bool failed = object == NULL;
    for (int64_t i = 0; i < form->adapter->module_count && !failed; i++) {
        const adapter_module *module = &form->adapter->modules[i];
        double value = figure(form, module);
        if (value == common)
            continue;
        bool uniform = is_uniform(form, figure, module->projection, value);
        failed = json_object_set_new(object, uniform ? module->projection->name : module->name,
                                     number(value)) != 0;
    }
    if (!failed)
        return object;
    json_decref(object);
    return NULL;
}

static int set_pattern(json_t *document, const char *key, const written_form *form, module_figure figure,
                       double common) {
    json_t *object = list_pattern(form, figure, common);
    if (object != NULL && json_object_size(object) > 0)
        return json_object_set_new(document, key, object);
    json_decref(object);
    return object == NULL ? -1 : 0;
}

static json_t *list_saved(const balora_adapter *adapter) {
    json_t *list = json_array();
    bool failed = list == NULL;
    for (int64_t i = 0; i < adapter->saved.count && !failed; i++)
        failed = json_array_append_new(list, json_string(adapter->saved.entries[i])) != 0;
    if (!failed)
        return list;
    json_decref(list);
    return NULL;
}

/* Keys of what is trained beside the factors. */
static int set_trained(json_t *document, const balora_adapter *adapter) {
    int failed = 0;
    if (adapter->bias != BALORA_BIAS_NONE)
        failed |= json_object_set_new(document, "bias",
                                      json_string(adapter->bias == BALORA_BIAS_ALL ? "all" : "lora_only"));
    if (adapter->saved.count > 0)
        failed |= json_object_set_new(document, "modules_to_save", list_saved(adapter));
    if (adapter_ties_head(adapter))
        failed |= json_object_set_new(document, "ensure_weight_tying", json_true());
    return failed;
}

/* Magnitudes, and dropout for those who train on. */
static int set_variant(json_t *document, const balora_adapter *adapter) {
    int failed = 0;
    if (adapter->use_dora)
        failed |= json_object_set_new(document, "use_dora", json_true());
    if (adapter->dropout > 0)
        failed |= json_object_set_new(document, "lora_dropout", json_real(adapter->dropout));
    return failed;
}

static json_t *make_document(const written_form *form, const char *base_model) {
    double rank = most_common(form, figure_rank), alpha = most_common(form, figure_alpha);
    json_t *document = json_pack("{s:s, s:b, s:b, s:o, s:s, s:I, s:o, s:s}", "base_model_name_or_path",
                                 base_model, "inference_mode", 1, "init_lora_weights", 1, "lora_alpha",
                                 number(alpha), "peft_type", "LORA", "r", (json_int_t)rank, "target_modules",
                                 list_targets(form->adapter), "task_type", "CAUSAL_LM");
    if (document == NULL)
        return NULL;
    bool failed = form->adapter->use_rslora && json_object_set_new(document, "use_rslora", json_true()) != 0;
    failed = failed || set_trained(document, form->adapter) != 0;
    failed = failed || set_variant(document, form->adapter) != 0;
    failed = failed || set_pattern(document, "rank_pattern", form, figure_rank, rank) != 0;
    failed = failed || set_pattern(document, "alpha_pattern", form, figure_alpha, alpha) != 0;
    if (!failed)
        return document;
    json_decref(document);
    return NULL;
}

/* A name that jansson takes unchecked only is not UTF-8; anything else was refused memory. */
static balora_status explain_failure(const char *folder, const char *base_model) {
    json_t *unchecked = json_string_nocheck(base_model), *checked = json_string(base_model);
    bool not_utf8 = unchecked != NULL && checked == NULL;
    json_decref(unchecked);
    json_decref(checked);
    if (not_utf8)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s/%s: the base model's name is not UTF-8", folder,
                           PEFT_CONFIG_FILE);
    return status_fail(BALORA_ERROR_MEMORY, "%s/%s: out of memory for the configuration", folder,
                       PEFT_CONFIG_FILE);
}

balora_status peft_config_write(const balora_adapter *adapter, bool trained_only, const char *folder,
                                const char *base_model) {
    allocator *memory = &adapter->model->context->memory;
    json_t *document = make_document(&(written_form){adapter, trained_only}, base_model);
    char *path = NULL;
    balora_status status;
    if (document == NULL)
        STATUS_GOTO(explain_failure(folder, base_model));
    STATUS_GOTO(file_join(memory, &path, folder, PEFT_CONFIG_FILE));
    status = json_write_file(memory, path, document, true);
fail:
    memory_free(memory, path);
    json_decref(document);
    return status;
}
