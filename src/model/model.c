#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

/* How the device wants activations and logits for the weights that were read. */
static balora_status choose_arithmetic(balora_model *model) {
    backend_properties properties;
    STATUS_TRY(model->device.ops->device_properties(model->device.device, &properties));
    bool narrow = properties.bf16_activations && model->weights.dtype == BALORA_BF16;
    model->activation_dtype = narrow ? BALORA_BF16 : BALORA_F32;
    model->logit_bytes = properties.logit_bytes;
    return BALORA_OK;
}

static balora_status read_weights(balora_model *model, backend_queue *queue, int32_t dtype) {
    return weights_load(&model->weights, &model->context->memory, &model->device, queue, &model->config,
                        model->folder, dtype);
}

static balora_status build(balora_model *model, const balora_model_options *options, model_loader load) {
    balora_context *context = model->context;
    const char *device = options->device != NULL ? options->device : "cpu";
    STATUS_TRY(model_config_read(&model->config, &context->memory, model->folder));
    weights_projections(&model->config, model->projections);
    STATUS_TRY(
        backend_open(&model->device, &context->memory, device, context->plugin_path, context->threads));
    model->tf32 = options->tf32;
    backend_queue *queue;
    STATUS_TRY(model_queue(model, &queue));
    balora_status status = load(model, queue, options->dtype);
    if (status == BALORA_OK)
        status = model->device.ops->synchronize(queue);
    model->device.ops->queue_close(queue);
    return status == BALORA_OK ? choose_arithmetic(model) : status;
}

balora_status model_build(balora_model **out, balora_context *context, const char *folder,
                          const balora_model_options *options, model_loader load) {
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
    status = build(model, options, load);
    if (status != BALORA_OK) {
        model_release(model);
        return status;
    }
    *out = model;
    return BALORA_OK;
}

balora_status model_open(balora_model **out, balora_context *context, const char *folder,
                         const balora_model_options *options) {
    return model_build(out, context, folder, options, read_weights);
}

balora_status model_queue(balora_model *model, backend_queue **out) {
    const backend_ops *ops = model->device.ops;
    STATUS_TRY(ops->queue_open(out, model->device.device));
    balora_status status = model->tf32 ? ops->allow_tf32(*out, 1) : BALORA_OK;
    if (status != BALORA_OK) {
        ops->queue_close(*out);
        *out = NULL;
    }
    return status;
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
