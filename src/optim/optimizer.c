#include "optim/optimizer.h"

#include "base/arith.h"
#include "base/status.h"
#include "optim/dynamic_map.h"

static int32_t kind_of(const balora_optimizer *optimizer) {
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
    int32_t kind = kind_of(self), dtype = kind == OPTIMIZER_ADAMW_8BIT ? BALORA_U8 : BALORA_F32;
    self->first = arena_place(plan, dtype, 1, self->count);
    if (kind != OPTIMIZER_LION)
        self->second = arena_place(plan, dtype, 1, self->count);
    if (kind == OPTIMIZER_ADAMW_8BIT) {
        self->first_scales = arena_place(plan, BALORA_F32, 1, self->blocks);
        self->second_scales = arena_place(plan, BALORA_F32, 1, self->blocks);
        self->first_map = arena_place(plan, BALORA_F32, 1, DYNAMIC_MAP_CODES);
        self->second_map = arena_place(plan, BALORA_F32, 1, DYNAMIC_MAP_CODES);
    }
    if (self->blocks > 0) {
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
    if (self->blocks > 0) {
        STATUS_TRY(upload(self, self->block_starts, table->starts));
        STATUS_TRY(upload(self, self->block_groups, table->groups));
    }
    if (kind_of(self) == OPTIMIZER_ADAMW_8BIT) {
        STATUS_TRY(upload_map(self, self->first_map, true));
        STATUS_TRY(upload_map(self, self->second_map, false));
    }
    return ops->synchronize(self->queue);
}

/* Blocks are listed where something depends on their borders. */
static balora_status take_memory(balora_optimizer *self, block_range *ranges, int64_t range_count) {
    block_table table = {0};
    balora_status status = BALORA_OK;
    if (kind_of(self) == OPTIMIZER_ADAMW_8BIT || self->groups.count > 1)
        STATUS_GOTO(blocks_cut(&table, &self->context->memory, ranges, range_count, self->count));
    self->blocks = table.blocks;
    place(self);
    STATUS_GOTO(arena_allocate(&self->arena, self->device));
    place(self);
    status = fill(self, &table);
fail:
    blocks_free(&table);
    return status;
}

/* --- the handle --- */

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
    }
    return BALORA_OK;
}

static balora_status build(balora_optimizer *self) {
    block_range *ranges = NULL;
    int64_t count;
    STATUS_TRY(groups_read(&self->groups, &self->options));
    balora_status status = list_ranges(self, &ranges, &count);
    if (status == BALORA_OK)
        status = take_memory(self, ranges, count);
    memory_free(&self->context->memory, ranges);
    self->options.parameter_groups = NULL; /* the caller's text */
    return status;
}

balora_status optimizer_create(balora_optimizer **out, balora_adapter *adapter,
                               const balora_optimizer_options *options) {
    balora_optimizer *optimizer;
    balora_context *context = adapter->model->context;
    STATUS_TRY(memory_zeroed(&context->memory, &optimizer, 1, sizeof *optimizer, "an optimizer"));
    atomic_init(&optimizer->references, 1);
    optimizer->context = context_retain(context);
    optimizer->adapter = adapter_retain(adapter);
    optimizer->device = &adapter->model->device;
    optimizer->queue = adapter->queue;
    optimizer->options = *options;
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
    adapter_release(optimizer->adapter);
    memory_free(&context->memory, optimizer);
    context_release(context);
}

/* --- steps --- */

balora_status optimizer_apply(balora_optimizer *optimizer, backend_queue *queue, double learning_rate,
                              matrix_view scale) {
    const balora_optimizer_options *options = &optimizer->options;
    int32_t kind = kind_of(optimizer);
    optimizer_update update = {.kind = kind,
                               .group_count = optimizer->groups.count,
                               .parameter = adapter_parameters(optimizer->adapter),
                               .gradient = adapter_gradients(optimizer->adapter),
                               .first_moment = optimizer->first,
                               .second_moment = optimizer->second,
                               .first_scales = optimizer->first_scales,
                               .second_scales = optimizer->second_scales,
                               .first_map = optimizer->first_map,
                               .second_map = optimizer->second_map,
                               .block_starts = optimizer->block_starts,
                               .block_groups = optimizer->block_groups,
                               .scale = scale,
                               .beta1 = options->beta1,
                               .beta2 = kind == OPTIMIZER_LION ? options->lion_beta2 : options->beta2,
                               .epsilon = options->epsilon,
                               .step = optimizer->steps + 1};
    groups_rates(&optimizer->groups, learning_rate, update.groups);
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
