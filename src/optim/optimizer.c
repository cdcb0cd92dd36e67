#include "optim/optimizer.h"

#include "base/arith.h"
#include "base/status.h"
#include "optim/dynamic_map.h"
#include "optim/host.h"

int32_t optimizer_kind(const balora_optimizer *optimizer) {
    switch (optimizer->options.optimizer) {
    case BALORA_OPTIMIZER_LION:
        return OPTIMIZER_LION;
    case BALORA_OPTIMIZER_ADAMW_8BIT:
        return OPTIMIZER_ADAMW_8BIT;
    default:
        return OPTIMIZER_ADAMW;
    }
}

/* --- memory --- */

static void place(balora_optimizer *self) {
    arena *plan = &self->arena;
    int32_t kind = optimizer_kind(self), dtype = kind == OPTIMIZER_ADAMW_8BIT ? BALORA_U8 : BALORA_F32;
    self->first = arena_place(plan, dtype, 1, self->count);
    if (kind != OPTIMIZER_LION)
        self->second = arena_place(plan, dtype, 1, self->count);
    if (kind == OPTIMIZER_ADAMW_8BIT) {
        self->first_scales = arena_place(plan, BALORA_F32, 1, self->blocks);
        self->second_scales = arena_place(plan, BALORA_F32, 1, self->blocks);
        self->first_map = arena_place(plan, BALORA_F32, 1, DYNAMIC_MAP_CODES);
        self->second_map = arena_place(plan, BALORA_F32, 1, DYNAMIC_MAP_CODES);
    }
    if (self->listed) {
        self->block_starts = arena_place(plan, BALORA_I64, 1, self->blocks + 1);
        self->block_groups = arena_place(plan, BALORA_U8, 1, self->blocks);
    }
}

static balora_status upload(const balora_optimizer *self, matrix_view view, const void *host) {
    return self->device->ops->upload(self->queue, view.buffer, view.offset, host, view_bytes(view));
}

static balora_status upload_map(const balora_optimizer *self, matrix_view view, bool is_signed) {
    float map[DYNAMIC_MAP_CODES];
    dynamic_map(is_signed, map);
    return upload(self, view, map);
}

/* Zeros everywhere: with scales of 0 any code stands for 0. */
static balora_status fill(const balora_optimizer *self, const block_table *table) {
    const backend_ops *ops = self->device->ops;
    matrix_view all =
        view_make(self->arena.buffer, 0, BALORA_F32, 1, self->arena.bytes / (int64_t)sizeof(float));
    STATUS_TRY(ops->fill_zero(self->queue, all));
    if (self->listed) {
        STATUS_TRY(upload(self, self->block_starts, table->starts));
        STATUS_TRY(upload(self, self->block_groups, table->groups));
    }
    if (optimizer_kind(self) == OPTIMIZER_ADAMW_8BIT) {
        STATUS_TRY(upload_map(self, self->first_map, true));
        STATUS_TRY(upload_map(self, self->second_map, false));
    }
    return ops->synchronize(self->queue);
}

balora_status optimizer_take_memory(balora_optimizer *self, const block_table *table) {
    place(self);
    STATUS_TRY(arena_allocate(&self->arena, self->device));
    place(self);
    return fill(self, table);
}

/* --- the handle --- */

balora_status optimizer_new(balora_optimizer **out, balora_context *context,
                            const balora_optimizer_options *options) {
    balora_optimizer *optimizer;
    STATUS_TRY(memory_zeroed(&context->memory, &optimizer, 1, sizeof *optimizer, "an optimizer"));
    atomic_init(&optimizer->references, 1);
    optimizer->context = context_retain(context);
    optimizer->options = *options;
    balora_status status = groups_read(&optimizer->groups, options);
    if (status != BALORA_OK) {
        optimizer_release(optimizer);
        return status;
    }
    *out = optimizer;
    return BALORA_OK;
}

/* The adapter's tensors, with their groups; *out is the caller's. */
static balora_status list_ranges(balora_optimizer *self, block_range **out, int64_t *count) {
    trained_range range;
    *count = 0;
    while (adapter_trained_range(self->adapter, *count, &range))
        ++*count;
    STATUS_TRY(memory_new(&self->context->memory, out, (size_t)*count, sizeof **out, "a table of tensors"));
    for (int64_t i = 0; i < *count; i++) {
        adapter_trained_range(self->adapter, i, &range);
        (*out)[i] = (block_range){range.first, range.count, groups_find(&self->groups, range.name)};
        self->layout = blocks_hash(self->layout, range.first, range.count);
    }
    return BALORA_OK;
}

/* Blocks are listed where something depends on their borders. */
static balora_status build(balora_optimizer *self) {
    block_range *ranges = NULL;
    block_table table = {0};
    balora_status status;
    int64_t count;
    STATUS_GOTO(list_ranges(self, &ranges, &count));
    self->listed = optimizer_kind(self) == OPTIMIZER_ADAMW_8BIT || self->groups.count > 1;
    if (self->listed)
        STATUS_GOTO(blocks_cut(&table, &self->context->memory, ranges, count, self->count));
    self->blocks = table.blocks;
    status = optimizer_take_memory(self, &table);
fail:
    blocks_free(&table);
    memory_free(&self->context->memory, ranges);
    self->options.parameter_groups = NULL; /* the caller's text */
    return status;
}

balora_status optimizer_create(balora_optimizer **out, balora_adapter *adapter,
                               const balora_optimizer_options *options) {
    balora_optimizer *optimizer;
    STATUS_TRY(optimizer_new(&optimizer, adapter->model->context, options));
    optimizer->adapter = adapter_retain(adapter);
    optimizer->device = &adapter->model->device;
    optimizer->queue = adapter->queue;
    optimizer->count = adapter_parameters(adapter).cols;
    balora_status status = build(optimizer);
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
    balora_context *context = optimizer->context;
    arena_free(&optimizer->arena);
    host_tensors_free(optimizer);
    adapter_release(optimizer->adapter);
    memory_free(&context->memory, optimizer);
    context_release(context);
}

/* --- steps --- */

optimizer_update optimizer_next(const balora_optimizer *optimizer, double learning_rate) {
    const balora_optimizer_options *options = &optimizer->options;
    int32_t kind = optimizer_kind(optimizer);
    optimizer_update update = {.kind = kind,
                               .group_count = optimizer->groups.count,
                               .first_map = optimizer->first_map,
                               .second_map = optimizer->second_map,
                               .beta1 = options->beta1,
                               .beta2 = kind == OPTIMIZER_LION ? options->lion_beta2 : options->beta2,
                               .epsilon = options->epsilon,
                               .step = optimizer->steps + 1};
    groups_rates(&optimizer->groups, learning_rate, update.groups);
    return update;
}

balora_status optimizer_apply(balora_optimizer *optimizer, backend_queue *queue, double learning_rate,
                              matrix_view scale) {
    optimizer_update update = optimizer_next(optimizer, learning_rate);
    update.parameter = adapter_parameters(optimizer->adapter);
    update.gradient = adapter_gradients(optimizer->adapter);
    update.first_moment = optimizer->first;
    update.second_moment = optimizer->second;
    update.first_scales = optimizer->first_scales;
    update.second_scales = optimizer->second_scales;
    update.block_starts = optimizer->block_starts;
    update.block_groups = optimizer->block_groups;
    update.scale = scale;
    return optimizer->device->ops->optimizer_step(queue, &update);
}

void optimizer_count(balora_optimizer *optimizer) {
    optimizer->steps++;
}

int32_t optimizer_state(const balora_optimizer *optimizer, optimizer_array out[OPTIMIZER_STATE_LIMIT]) {
    const optimizer_array all[] = {{"first_moment", optimizer->first},
                                   {"second_moment", optimizer->second},
                                   {"first_scales", optimizer->first_scales},
                                   {"second_scales", optimizer->second_scales}};
    int32_t count = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (!view_is_none(all[i].view))
            out[count++] = all[i];
    return count;
}
