#include "adapter/adapter.h"

#include "adapter/layout.h"
#include "base/status.h"

static matrix_view flat(const arena *memory) {
    return view_make(memory->buffer, 0, BALORA_F32, 1, memory->bytes / (int64_t)sizeof(float));
}

static balora_status take_zeroed(balora_adapter *adapter, arena *memory) {
    int64_t bytes = memory->bytes;
    STATUS_TRY(arena_allocate(memory, &adapter->model->device));
    matrix_view all = view_make(memory->buffer, 0, BALORA_F32, 1, bytes / (int64_t)sizeof(float));
    return adapter->model->device.ops->fill_zero(adapter->queue, all);
}

static balora_status list_all(balora_adapter *adapter, const adapter_shape *shape) {
    const balora_model *model = adapter->model;
    if (shape->choose != NULL) {
        STATUS_TRY(adapter_list_modules(adapter, shape));
        STATUS_TRY(memory_zeroed(&model->context->memory, &adapter->groups,
                                 (size_t)(model->config.layers * GROUP_COUNT), sizeof *adapter->groups,
                                 "a table of low-rank groups"));
    }
    return shape->trains != NULL ? adapter_list_trained(adapter, shape) : BALORA_OK;
}

static void place_parameters(balora_adapter *adapter) {
    adapter_place_factors(adapter, &adapter->parameters, false);
    adapter_place_trained(adapter, &adapter->parameters, false);
}

static void place_gradients(balora_adapter *adapter) {
    adapter_place_factors(adapter, &adapter->gradients, true);
    adapter_place_trained(adapter, &adapter->gradients, true);
}

static void place_packed(balora_adapter *adapter) {
    adapter_place_packed(adapter, &adapter->packed);
    adapter_place_copies(adapter, &adapter->packed);
}

/* Scales are 1 where a group has members without factors. */
static balora_status start_scales(balora_adapter *adapter) {
    allocator *memory = &adapter->model->context->memory;
    for (int64_t i = 0; adapter->use_dora && i < adapter->model->config.layers * GROUP_COUNT; i++) {
        matrix_view scale = adapter->groups[i].scale;
        float *ones;
        if (view_is_none(scale))
            continue;
        STATUS_TRY(memory_new(memory, &ones, (size_t)scale.cols, sizeof *ones, "scales of a group"));
        for (int64_t k = 0; k < scale.cols; k++)
            ones[k] = 1;
        balora_status status = adapter_upload(adapter, scale, ones);
        memory_free(memory, ones);
        STATUS_TRY(status);
    }
    return BALORA_OK;
}

/* The papers train factors that start from the weight's own singular vectors without dropout. */
static balora_status check_dropout(const balora_adapter *adapter) {
    for (int64_t i = 0; adapter->dropout > 0 && i < adapter->module_count; i++)
        if (adapter->modules[i].has_initial)
            return status_fail(
                BALORA_ERROR_ARGUMENT,
                "lora_dropout is %g, but %s starts from singular vectors of its weight (PiSSA), which is "
                "trained "
                "without dropout, as in the paper: set lora_dropout to 0, or method to lora or dora",
                adapter->dropout, adapter->modules[i].name);
    return BALORA_OK;
}

static balora_status take(balora_adapter *adapter, const adapter_shape *shape) {
    STATUS_TRY(list_all(adapter, shape));
    STATUS_TRY(check_dropout(adapter));
    place_parameters(adapter);
    STATUS_TRY(take_zeroed(adapter, &adapter->parameters));
    place_parameters(adapter);
    adapter_place_initial(adapter, &adapter->initial);
    if (adapter->initial.bytes > 0) {
        STATUS_TRY(take_zeroed(adapter, &adapter->initial));
        adapter_place_initial(adapter, &adapter->initial);
    }
    place_packed(adapter);
    if (adapter->packed.bytes > 0) {
        STATUS_TRY(take_zeroed(adapter, &adapter->packed));
        place_packed(adapter);
    }
    STATUS_TRY(start_scales(adapter));
    return adapter_start_trained(adapter);
}

balora_status adapter_allocate(balora_adapter **out, balora_model *model, const adapter_shape *shape) {
    balora_adapter *adapter;
    STATUS_TRY(memory_zeroed(&model->context->memory, &adapter, 1, sizeof *adapter, "an adapter"));
    atomic_init(&adapter->references, 1);
    atomic_init(&adapter->training, 0);
    adapter->model = model_retain(model);
    adapter->method = shape->method;
    adapter->use_rslora = shape->use_rslora;
    adapter->rank = shape->rank;
    adapter->alpha = shape->alpha;
    adapter->use_dora = shape->use_dora;
    adapter->dropout = shape->dropout;
    adapter->packed_dtype = shape->exact ? BALORA_F32 : model->activation_dtype;
    balora_status status = model_queue(model, &adapter->queue);
    if (status == BALORA_OK)
        status = take(adapter, shape);
    if (status != BALORA_OK) {
        adapter_release(adapter);
        return status;
    }
    *out = adapter;
    return BALORA_OK;
}

balora_adapter *adapter_retain(balora_adapter *adapter) {
    atomic_fetch_add(&adapter->references, 1);
    return adapter;
}

void adapter_release(balora_adapter *adapter) {
    if (adapter == NULL || atomic_fetch_sub(&adapter->references, 1) != 1)
        return;
    balora_model *model = adapter->model;
    allocator *memory = &model->context->memory;
    arena_free(&adapter->parameters);
    arena_free(&adapter->gradients);
    arena_free(&adapter->initial);
    arena_free(&adapter->packed);
    weights_free(&adapter->student);
    weights_free(&adapter->gradient_views);
    name_set_free(&adapter->saved);
    memory_free(memory, adapter->trained);
    memory_free(memory, adapter->fields);
    memory_free(memory, adapter->trained_groups);
    memory_free(memory, adapter->modules);
    memory_free(memory, adapter->groups);
    if (adapter->queue != NULL)
        model->device.ops->queue_close(adapter->queue);
    memory_free(memory, adapter);
    model_release(model);
}

matrix_view adapter_parameters(const balora_adapter *adapter) {
    return flat(&adapter->parameters);
}

matrix_view adapter_gradients(const balora_adapter *adapter) {
    return flat(&adapter->gradients);
}

void adapter_describe(const balora_adapter *adapter, balora_adapter_information *out) {
    *out = (balora_adapter_information)BALORA_ADAPTER_INFORMATION_INIT;
    out->method = adapter->method;
    out->use_rslora = adapter->use_rslora;
    out->use_dora = adapter->use_dora;
    out->lora_dropout = adapter->dropout;
    out->modules = adapter->module_count;
    out->creation_seconds = adapter->creation_seconds;
    if (adapter->module_count > 0) {
        out->rank = adapter->rank;
        out->alpha = adapter->alpha;
    }
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        out->trainable_parameters += module->rank * (module->projection->in + module->projection->out);
        out->trainable_parameters += adapter->use_dora ? module->projection->out : 0;
    }
    for (int64_t i = 0; i < adapter->trained_count; i++)
        out->trainable_parameters += adapter->trained[i].value.rows * adapter->trained[i].value.cols;
    out->device_bytes =
        adapter->parameters.bytes + adapter->gradients.bytes + adapter->initial.bytes + adapter->packed.bytes;
}

balora_status adapter_prepare_training(balora_adapter *adapter) {
    for (int64_t i = 0; i < adapter->module_count; i++) /* trained on, they are that no longer */
        adapter->modules[i].ends_with_initial = false;
    place_gradients(adapter);
    STATUS_TRY(take_zeroed(adapter, &adapter->gradients));
    place_gradients(adapter);
    adapter->packed.bytes = 0;
    place_packed(adapter);
    adapter_connect_gradients(adapter);
    return BALORA_OK;
}

balora_status adapter_download(balora_adapter *adapter, matrix_view factor, float *host) {
    const backend_ops *ops = adapter->model->device.ops;
    STATUS_TRY(ops->download(adapter->queue, host, factor.buffer, factor.offset, view_bytes(factor)));
    return ops->synchronize(adapter->queue);
}

balora_status adapter_upload(balora_adapter *adapter, matrix_view factor, const float *host) {
    const backend_ops *ops = adapter->model->device.ops;
    STATUS_TRY(ops->upload(adapter->queue, factor.buffer, factor.offset, host, view_bytes(factor)));
    return ops->synchronize(adapter->queue);
}
