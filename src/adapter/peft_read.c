/* Adapters read from PEFT folders. */
#include <stdio.h>
#include <string.h>

#include "adapter/adapter.h"
#include "adapter/initial_mark.h"
#include "adapter/peft_config.h"
#include "adapter/peft_names.h"
#include "adapter/peft_trained.h"
#include "base/status.h"
#include "model/staging.h"

/* A PEFT folder being read for a model. */
typedef struct peft_input {
    const balora_model *model;
    peft_config config;
    tensor_files files;
} peft_input;

static balora_status check_name(const peft_input *self, const tensor_place *place) {
    const char *name = place->entry->name, *path = place->file->file.path, *module;
    size_t length;
    factor_kind kind = peft_parse_name(name, &module, &length);
    if (kind == FACTOR_MAGNITUDE && !self->config.use_dora)
        return status_fail(BALORA_ERROR_MISMATCH,
                           "%s: tensor \"%s\" is a magnitude (DoRA), but \"use_dora\" of %s is not true",
                           path, name, self->config.path);
    if (kind == FACTOR_COUNT)
        return peft_check_trained(&self->config, self->model, &self->files, place);
    if (peft_find_module(self->model, module, length) == NULL)
        return status_fail(
            BALORA_ERROR_MISMATCH,
            "%s: tensor \"%s\": the model %s has no linear layer \"%.*s\" that can be adapted; it has "
            "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj in %lld layers",
            path, name, self->model->folder, (int)length, module, (long long)self->model->config.layers);
    char whole[PEFT_NAME_BYTES];
    snprintf(whole, sizeof whole, "%.*s", (int)length, module);
    const char *key = rules_refusing_key(&self->config.rules, whole);
    if (key == NULL)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_MISMATCH, "%s: tensor \"%s\": by \"%s\" of %s its module has no factors",
                       path, name, key, self->config.path);
}

/* As the file has it. */
static void tensor_name(const peft_input *self, char name[PEFT_NAME_BYTES], const char *module,
                        factor_kind kind) {
    tensor_place found;
    peft_factor_name(name, module, kind);
    if (kind != FACTOR_MAGNITUDE || tensor_files_find(&self->files, name, &found))
        return;
    char old[PEFT_NAME_BYTES];
    peft_old_magnitude_name(old, module);
    if (tensor_files_find(&self->files, old, &found))
        memcpy(name, old, sizeof old);
}

/* The tensor and its partners, for a name that is known to be sound. */
static balora_status check_pair(const peft_input *self, const tensor_place *place) {
    const char *name;
    size_t length;
    if (peft_parse_name(place->entry->name, &name, &length) == FACTOR_COUNT)
        return BALORA_OK;
    adapter_module module = {.projection = peft_find_module(self->model, name, length),
                             .rank = self->config.rank};
    snprintf(module.name, sizeof module.name, "%.*s", (int)length, name);
    rules_set_figures(&self->config.rules, &module);
    for (int64_t i = 0; i < FACTOR_COUNT + self->config.use_dora; i++) {
        char factor[PEFT_NAME_BYTES];
        int64_t shape[2];
        tensor_place found;
        factor_kind kind = plain_kind(i);
        tensor_name(self, factor, module.name, kind);
        int32_t dimensions = plain_shape(shape, module.projection, module.rank, kind);
        STATUS_TRY(tensor_files_expect(&self->files, factor, dimensions, shape, &found));
    }
    return BALORA_OK;
}

static balora_status check_tensors(const peft_input *self) {
    if (self->files.count == 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: the weights hold no tensor; expected pairs of lora_A and lora_B",
                           self->files.folder);
    for (int64_t i = 0; i < self->files.count; i++)
        STATUS_TRY(check_name(self, &self->files.places[i]));
    for (int64_t i = 0; i < self->files.count; i++)
        STATUS_TRY(check_pair(self, &self->files.places[i]));
    return BALORA_OK;
}

/* An index may name fewer tensors than its shards hold. */
static balora_status check_nothing_hidden(const peft_input *self) {
    int64_t held = 0;
    for (int64_t i = 0; i < self->files.shard_count; i++)
        held += self->files.shards[i].count;
    if (held == self->files.count)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_FORMAT,
                       "%s: the weight files hold %lld tensors, of which the index names %lld",
                       self->files.folder, (long long)held, (long long)self->files.count);
}

static bool is_held(adapter_module *module, const void *user) {
    const peft_input *self = user;
    char factor[PEFT_NAME_BYTES];
    tensor_place found;
    peft_factor_name(factor, module->name, FACTOR_A);
    rules_set_figures(&self->config.rules, module);
    return tensor_files_find(&self->files, factor, &found);
}

static bool is_trained(const balora_adapter *adapter, const named_tensor *tensor, const void *user) {
    const peft_input *self = user;
    char module[sizeof tensor->name];
    rules_module_of(module, tensor->name);
    return peft_trains(&self->config, adapter->model, tensor->name,
                       adapter_find_module(adapter, module) != NULL);
}

static balora_status read_all(const peft_input *self, balora_adapter *adapter) {
    staging stage;
    balora_status status =
        staging_create(&stage, &adapter->model->context->memory, &adapter->model->device, adapter->queue);
    int64_t each = plain_tensors(adapter);
    for (int64_t i = 0; i < adapter->module_count * each && status == BALORA_OK; i++) {
        const adapter_module *module = &adapter->modules[i / each];
        factor_kind kind = plain_kind(i % each);
        matrix_view target = kind == FACTOR_A ? module->a : kind == FACTOR_B ? module->b : module->magnitude;
        char name[PEFT_NAME_BYTES];
        tensor_place place;
        tensor_name(self, name, module->name, kind);
        tensor_files_find(&self->files, name, &place);
        status = staging_read(&stage, &place, 0, target, true);
    }
    if (status == BALORA_OK)
        status = peft_read_trained(&self->config, &self->files, adapter, &stage);
    if (status == BALORA_OK)
        status = adapter_refresh(adapter, adapter->queue);
    if (status == BALORA_OK)
        status = adapter->model->device.ops->synchronize(adapter->queue);
    staging_free(&stage);
    return status;
}

balora_status adapter_open(balora_adapter **out, balora_model *model, const char *folder) {
    allocator *memory = &model->context->memory;
    peft_input input = {.model = model};
    balora_adapter *adapter = NULL;
    balora_status status;
    STATUS_GOTO(peft_config_read(&input.config, model->context, folder));
    STATUS_GOTO(tensor_files_open(&input.files, memory, folder, PEFT_WEIGHTS_STEM));
    STATUS_GOTO(check_nothing_hidden(&input));
    STATUS_GOTO(check_tensors(&input));
    adapter_shape shape = {
        .method = input.config.use_dora ? BALORA_METHOD_DORA : BALORA_METHOD_LORA,
        .use_rslora = input.config.use_rslora,
        .use_dora = input.config.use_dora,
        .dropout = input.config.dropout,
        .rank = input.config.rank,
        .alpha = input.config.alpha,
        /* B A may be a small difference of large products: B A - B0 A0, as PiSSA's results are saved */
        .exact = true,
        .any_rank = true,
        .choose = is_held,
        .trains = is_trained,
        .untied = !input.config.tying,
        .user = &input};
    STATUS_GOTO(adapter_allocate(&adapter, model, &shape));
    STATUS_GOTO(read_all(&input, adapter));
    rules_give(&input.config.rules, adapter);
    initial_mark_read(adapter, &input.files);
    *out = adapter;
    adapter = NULL;
fail:
    adapter_release(adapter);
    tensor_files_close(&input.files);
    peft_config_free(&input.config, memory);
    return status;
}
