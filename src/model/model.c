#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

static balora_status load(balora_model *model, const balora_model_options *options) {
    balora_context *context = model->context;
    const char *device = options->device != NULL ? options->device : "cpu";
    STATUS_TRY(model_config_read(&model->config, &context->memory, model->folder));
    weights_projections(&model->config, model->projections);
    STATUS_TRY(backend_open(&model->device, &context->memory, device, context->threads));
    backend_queue *queue;
    STATUS_TRY(model->device.ops->queue_open(&queue, model->device.device));
    balora_status status = weights_load(&model->weights, &context->memory, &model->device, queue,
                                        &model->config, model->folder, options->dtype);
    if (status == BALORA_OK)
        status = model->device.ops->synchronize(queue);
    model->device.ops->queue_close(queue);
    return status;
}

balora_status model_open(balora_model **out, balora_context *context, const char *folder,
                         const balora_model_options *options) {
    balora_model *model;
    char *owned_folder;
    STATUS_TRY(memory_zeroed(&context->memory, &model, 1, sizeof *model, "a model"));
    balora_status status = memory_string(&context->memory, &owned_folder, folder);
    if (status != BALORA_OK) {
        memory_free(&context->memory, model);
        return status;
    }
    model->context = context_retain(context);
    model->folder = owned_folder;
    atomic_init(&model->references, 1);
    status = load(model, options);
    if (status != BALORA_OK) {
        model_release(model);
        return status;
    }
    *out = model;
    return BALORA_OK;
}

balora_model *model_retain(balora_model *model) {
    atomic_fetch_add(&model->references, 1);
    return model;
}

void model_release(balora_model *model) {
    if (model == NULL || atomic_fetch_sub(&model->references, 1) != 1)
        return;
    balora_context *context = model->context;
    weights_free(&model->weights);
    backend_close(&model->device);
    memory_free(&context->memory, model->folder);
    memory_free(&context->memory, model);
    context_release(context);
}

void model_describe(const balora_model *model, balora_model_information *out) {
    const model_config *config = &model->config;
    *out = (balora_model_information)BALORA_MODEL_INFORMATION_INIT;
    snprintf(out->family, sizeof out->family, "%s", config->family);
    out->parameters = model->weights.parameters;
    out->weight_bytes = model->weights.arena.bytes;
    out->layers = config->layers;
    out->hidden_size = config->hidden;
    out->intermediate_size = config->intermediate;
    out->heads = config->heads;
    out->key_value_heads = config->key_heads;
    out->head_dim = config->head_dim;
    out->vocabulary_size = config->vocabulary;
    out->maximum_positions = config->positions;
    out->dtype = model->weights.dtype;
    out->tied_embeddings = config->tied_embeddings;
}
