#include "optim/optimizer.h"

#include "base/status.h"

static balora_status take_moments(balora_optimizer *optimizer) {
    const backend *device = &optimizer->adapter->model->device;
    backend_queue *queue = optimizer->adapter->queue;
    int64_t count = adapter_parameters(optimizer->adapter).cols;
    for (int pass = 0; pass < 2; pass++) {
        optimizer->first = arena_place(&optimizer->moments, BALORA_F32, 1, count);
        optimizer->second = arena_place(&optimizer->moments, BALORA_F32, 1, count);
        if (pass == 0)
            STATUS_TRY(arena_allocate(&optimizer->moments, device));
    }
    STATUS_TRY(device->ops->fill_zero(queue, optimizer->first));
    STATUS_TRY(device->ops->fill_zero(queue, optimizer->second));
    return device->ops->synchronize(queue);
}

balora_status optimizer_create(balora_optimizer **out, balora_adapter *adapter,
                               const balora_optimizer_options *options) {
    balora_optimizer *optimizer;
    allocator *memory = &adapter->model->context->memory;
    STATUS_TRY(memory_zeroed(memory, &optimizer, 1, sizeof *optimizer, "an optimizer"));
    atomic_init(&optimizer->references, 1);
    optimizer->adapter = adapter_retain(adapter);
    optimizer->options = *options;
    balora_status status = take_moments(optimizer);
    if (status != BALORA_OK) {
        optimizer_release(optimizer);
        return status;
    }
    *out = optimizer;
    return BALORA_OK;
}

balora_optimizer *optimizer_retain(balora_optimizer *optimizer) {
    atomic_fetch_add(&optimizer->references, 1);
    return optimizer;
}

void optimizer_release(balora_optimizer *optimizer) {
    if (optimizer == NULL || atomic_fetch_sub(&optimizer->references, 1) != 1)
        return;
    balora_adapter *adapter = optimizer->adapter;
    arena_free(&optimizer->moments);
    memory_free(&adapter->model->context->memory, optimizer);
    adapter_release(adapter);
}

balora_status optimizer_apply(balora_optimizer *optimizer, backend_queue *queue, double learning_rate,
                              matrix_view scale) {
    const balora_optimizer_options *options = &optimizer->options;
    adamw_update update = {.parameter = adapter_parameters(optimizer->adapter),
                           .gradient = adapter_gradients(optimizer->adapter),
                           .first_moment = optimizer->first,
                           .second_moment = optimizer->second,
                           .scale = scale,
                           .learning_rate = learning_rate,
                           .beta1 = options->beta1,
                           .beta2 = options->beta2,
                           .epsilon = options->epsilon,
                           .weight_decay = options->weight_decay,
                           .step = optimizer->steps + 1};
    return optimizer->adapter->model->device.ops->adamw(queue, &update);
}

void optimizer_count(balora_optimizer *optimizer) {
    optimizer->steps++;
}

int32_t optimizer_state(const balora_optimizer *optimizer, optimizer_array out[OPTIMIZER_STATE_LIMIT]) {
    out[0] = (optimizer_array){"first_moment", optimizer->first};
    out[1] = (optimizer_array){"second_moment", optimizer->second};
    return 2;
}
