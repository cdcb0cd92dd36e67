#include "adapter/adapter.h"

#include <stdio.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"

static int64_t packed_rows(const adapter_module *module) {
    return module->has_initial ? 2 * module->rank : module->rank;
}

/* The projection of a layer as a module, when the shape chooses it. */
static bool chosen(const balora_adapter *adapter, const adapter_shape *shape, int64_t layer, int index,
                   adapter_module *out) {
    const projection *part = &adapter->model->projections[index];
    *out =
        (adapter_module){.layer = layer, .projection = part, .rank = adapter->rank, .alpha = adapter->alpha};
    snprintf(out->name, sizeof out->name, "model.layers.%lld.%s", (long long)layer, part->module);
    if (!shape->choose(out, shape->user))
        return false;
    double rank = (double)out->rank;
    out->scale = out->alpha / (adapter->use_rslora ? __builtin_sqrt(rank) : rank);
    return true;
}

static balora_status check_rank(const adapter_module *module, bool any_rank) {
    const projection *part = module->projection;
    int64_t limit = arith_min(part->in, part->out);
    if (module->rank <= limit || any_rank)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_ARGUMENT, "rank is %lld; %s [%lld, %lld] allows 1 to %lld",
                       (long long)module->rank, module->name, (long long)part->out, (long long)part->in,
                       (long long)limit);
}

static balora_status list_modules(balora_adapter *adapter, const adapter_shape *shape) {
    int64_t layers = adapter->model->config.layers;
    adapter_module one;
    for (int64_t layer = 0; layer < layers; layer++)
        for (int p = 0; p < PROJECTION_COUNT; p++)
            adapter->module_count += chosen(adapter, shape, layer, p, &one);
    if (adapter->module_count == 0)
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "target_modules selects nothing; this model has q_proj, k_proj, v_proj, o_proj, gate_proj, "
            "up_proj, down_proj (or all-linear)");
    STATUS_TRY(memory_zeroed(&adapter->model->context->memory, &adapter->modules,
                             (size_t)adapter->module_count, sizeof *adapter->modules, "a table of modules"));
    adapter_module *next = adapter->modules;
    for (int64_t layer = 0; layer < layers; layer++)
        for (int p = 0; p < PROJECTION_COUNT; p++) {
            if (!chosen(adapter, shape, layer, p, &one))
                continue;
            STATUS_TRY(check_rank(&one, shape->any_rank));
            *next++ = one;
        }
    return BALORA_OK;
}

static void place_factors(balora_adapter *adapter, arena *plan, bool gradients) {
    for (int64_t i = 0; i < adapter->module_count; i++) {
        adapter_module *module = &adapter->modules[i];
        matrix_view a = arena_place(plan, BALORA_F32, module->rank, module->projection->in);
        matrix_view b = arena_place(plan, BALORA_F32, module->projection->out, module->rank);
        *(gradients ? &module->gradient_a : &module->a) = a;
        *(gradients ? &module->gradient_b : &module->b) = b;
    }
}

static void place_initial(balora_adapter *adapter, arena *plan) {
    for (int64_t i = 0; i < adapter->module_count; i++) {
        adapter_module *module = &adapter->modules[i];
        if (!module->has_initial)
            continue;
        module->a0 = arena_place(plan, BALORA_F32, module->rank, module->projection->in);
        module->b0 = arena_place(plan, BALORA_F32, module->projection->out, module->rank);
    }
}

static void place_packed(balora_adapter *adapter, arena *plan) {
    int32_t dtype = adapter->packed_dtype;
    memset(adapter->groups, 0,
           (size_t)(adapter->model->config.layers * GROUP_COUNT) * sizeof *adapter->groups);
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        low_rank_group *group = &adapter->groups[module->layer * GROUP_COUNT + module->projection->group];
        low_rank_member *member = &group->members[group->member_count++];
        int64_t rows = packed_rows(module);
        *member = (low_rank_member){.out_first = module->projection->first,
                                    .out = module->projection->out,
                                    .first = group->rows,
                                    .rows = rows,
                                    .rank = module->rank,
                                    .scale = (float)module->scale,
                                    .packed_b = arena_place(plan, dtype, module->projection->out, rows),
                                    .gradient_a = module->gradient_a,
                                    .gradient_b = module->gradient_b};
        group->rows += rows;
    }
    for (int64_t layer = 0; layer < adapter->model->config.layers; layer++)
        for (int index = 0; index < GROUP_COUNT; index++) {
            low_rank_group *group = &adapter->groups[layer * GROUP_COUNT + index];
            int64_t in = adapter->model->weights.layers[layer].groups[index].weight.cols;
            if (group->rows > 0)
                group->packed_a = arena_place(plan, dtype, group->rows, in);
        }
}

/* Room for one factor's change in F32, where packed factors have 16 bits. */
static void place_change(balora_adapter *adapter, arena *plan) {
    int64_t most = 0;
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        const projection *part = module->projection;
        if (module->has_initial)
            most = arith_max(most, module->rank * arith_max(part->in, part->out));
    }
    bool needed = most > 0 && adapter->packed_dtype != BALORA_F32;
    adapter->change = needed ? arena_place(plan, BALORA_F32, 1, most) : view_none();
}

static matrix_view flat(const arena *memory) {
    return view_make(memory->buffer, 0, BALORA_F32, 1, memory->bytes / (int64_t)sizeof(float));
}

static balora_status take_zeroed(balora_adapter *adapter, arena *memory) {
    int64_t bytes = memory->bytes;
    STATUS_TRY(arena_allocate(memory, &adapter->model->device));
    matrix_view all = view_make(memory->buffer, 0, BALORA_F32, 1, bytes / (int64_t)sizeof(float));
    return adapter->model->device.ops->fill_zero(adapter->queue, all);
}

static balora_status take_low_rank(balora_adapter *adapter, const adapter_shape *shape) {
    balora_model *model = adapter->model;
    STATUS_TRY(list_modules(adapter, shape));
    STATUS_TRY(memory_zeroed(&model->context->memory, &adapter->groups,
                             (size_t)(model->config.layers * GROUP_COUNT), sizeof *adapter->groups,
                             "a table of low-rank groups"));
    place_factors(adapter, &adapter->parameters, false);
    STATUS_TRY(take_zeroed(adapter, &adapter->parameters));
    place_factors(adapter, &adapter->parameters, false);
    place_initial(adapter, &adapter->initial);
    if (adapter->initial.bytes > 0) {
        STATUS_TRY(take_zeroed(adapter, &adapter->initial));
        place_initial(adapter, &adapter->initial);
    }
    place_packed(adapter, &adapter->packed);
    place_change(adapter, &adapter->packed);
    STATUS_TRY(take_zeroed(adapter, &adapter->packed));
    place_packed(adapter, &adapter->packed);
    place_change(adapter, &adapter->packed);
    return BALORA_OK;
}

static balora_status take_full(balora_adapter *adapter) {
    balora_model *model = adapter->model;
    STATUS_TRY(
        weights_create(&adapter->full, &model->context->memory, &model->device, &model->config, BALORA_F32));
    STATUS_TRY(model->device.ops->fill_zero(adapter->queue, flat(&adapter->full.arena)));
    return weights_copy(&adapter->full, &model->weights, adapter->queue);
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
    adapter->packed_dtype = shape->exact ? BALORA_F32 : model->activation_dtype;
    balora_status status = model_queue(model, &adapter->queue);
    if (status == BALORA_OK)
        status = shape->method == BALORA_METHOD_FULL ? take_full(adapter) : take_low_rank(adapter, shape);
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
    weights_free(&adapter->full);
    weights_free(&adapter->full_gradients);
    memory_free(memory, adapter->modules);
    memory_free(memory, adapter->groups);
    if (adapter->queue != NULL)
        model->device.ops->queue_close(adapter->queue);
    memory_free(memory, adapter);
    model_release(model);
}

static bool is_full(const balora_adapter *adapter) {
    return adapter->method == BALORA_METHOD_FULL;
}

matrix_view adapter_parameters(const balora_adapter *adapter) {
    return flat(is_full(adapter) ? &adapter->full.arena : &adapter->parameters);
}

matrix_view adapter_gradients(const balora_adapter *adapter) {
    return flat(is_full(adapter) ? &adapter->full_gradients.arena : &adapter->gradients);
}

void adapter_describe(const balora_adapter *adapter, balora_adapter_information *out) {
    *out = (balora_adapter_information)BALORA_ADAPTER_INFORMATION_INIT;
    out->method = adapter->method;
    out->use_rslora = adapter->use_rslora;
    out->modules = adapter->module_count;
    out->creation_seconds = adapter->creation_seconds;
    if (is_full(adapter)) {
        out->trainable_parameters = adapter->full.parameters;
        out->device_bytes = adapter->full.arena.bytes + adapter->full_gradients.arena.bytes;
        return;
    }
    out->rank = adapter->rank;
    out->alpha = adapter->alpha;
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        out->trainable_parameters += module->rank * (module->projection->in + module->projection->out);
    }
    out->device_bytes =
        adapter->parameters.bytes + adapter->gradients.bytes + adapter->initial.bytes + adapter->packed.bytes;
}

balora_status adapter_prepare_training(balora_adapter *adapter) {
    balora_model *model = adapter->model;
    if (is_full(adapter)) {
        STATUS_TRY(weights_create(&adapter->full_gradients, &model->context->memory, &model->device,
                                  &model->config, BALORA_F32));
        return model->device.ops->fill_zero(adapter->queue, adapter_gradients(adapter));
    }
    place_factors(adapter, &adapter->gradients, true);
    STATUS_TRY(take_zeroed(adapter, &adapter->gradients));
    place_factors(adapter, &adapter->gradients, true);
    adapter->packed.bytes = 0;
    place_packed(adapter, &adapter->packed);
    place_change(adapter, &adapter->packed);
    return BALORA_OK;
}

/* out = factor (x - x0): the difference first, so that it is exactly 0 where nothing has changed. */
static balora_status pack_change(const balora_adapter *adapter, backend_queue *queue, double factor,
                                 matrix_view x, matrix_view x0, matrix_view out) {
    const backend_ops *ops = adapter->model->device.ops;
    bool direct = out.dtype == BALORA_F32;
    matrix_view wide = direct ? out : view_reshape(adapter->change, x.rows, x.cols);
    STATUS_TRY(ops->copy(queue, wide, x));
    STATUS_TRY(ops->scale_add(queue, -1, x0, 1, wide));
    if (!direct)
        return ops->scale_add(queue, factor, wide, 0, out);
    return factor == 1 ? BALORA_OK : ops->scale_add(queue, 0, x0, factor, out);
}

/* The packed factors of one module, see linear.h. */
static balora_status refresh_module(const balora_adapter *adapter, backend_queue *queue,
                                    const adapter_module *module, const low_rank_group *group,
                                    const low_rank_member *member) {
    const backend_ops *ops = adapter->model->device.ops;
    int64_t rank = module->rank;
    matrix_view a = view_rows(group->packed_a, member->first, rank),
                b = view_columns(member->packed_b, 0, rank);
    STATUS_TRY(ops->copy(queue, a, module->a));
    if (!module->has_initial)
        return ops->scale_add(queue, module->scale, module->b, 0, b);
    matrix_view a_change = view_rows(group->packed_a, member->first + rank, rank);
    matrix_view b0 = view_columns(member->packed_b, rank, rank);
    STATUS_TRY(pack_change(adapter, queue, 1, module->a, module->a0, a_change));
    STATUS_TRY(pack_change(adapter, queue, module->scale, module->b, module->b0, b));
    return ops->scale_add(queue, module->scale, module->b0, 0, b0);
}

balora_status adapter_refresh(balora_adapter *adapter, backend_queue *queue) {
    int64_t index = 0;
    if (is_full(adapter))
        return BALORA_OK;
    for (int64_t layer = 0; layer < adapter->model->config.layers; layer++) {
        int64_t seen[GROUP_COUNT] = {0};
        for (; index < adapter->module_count && adapter->modules[index].layer == layer; index++) {
            const adapter_module *module = &adapter->modules[index];
            int32_t number = module->projection->group;
            const low_rank_group *group = &adapter->groups[layer * GROUP_COUNT + number];
            STATUS_TRY(refresh_module(adapter, queue, module, group, &group->members[seen[number]++]));
        }
    }
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
