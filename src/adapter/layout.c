#include "adapter/layout.h"

#include <string.h>

#include "base/arith.h"

static int64_t packed_rows(const adapter_module *module) {
    return module->has_initial ? 2 * module->rank : module->rank;
}

void adapter_place_factors(balora_adapter *adapter, arena *plan, bool gradients) {
    for (int64_t i = 0; i < adapter->module_count; i++) {
        adapter_module *module = &adapter->modules[i];
        matrix_view a = arena_place(plan, BALORA_F32, module->rank, module->projection->in);
        matrix_view b = arena_place(plan, BALORA_F32, module->projection->out, module->rank);
        *(gradients ? &module->gradient_a : &module->a) = a;
        *(gradients ? &module->gradient_b : &module->b) = b;
        if (adapter->use_dora)
            *(gradients ? &module->gradient_magnitude : &module->magnitude) =
                arena_place(plan, BALORA_F32, 1, module->projection->out);
    }
}

void adapter_place_initial(balora_adapter *adapter, arena *plan) {
    for (int64_t i = 0; i < adapter->module_count; i++) {
        adapter_module *module = &adapter->modules[i];
        if (!module->has_initial)
            continue;
        module->a0 = arena_place(plan, BALORA_F32, module->rank, module->projection->in);
        module->b0 = arena_place(plan, BALORA_F32, module->projection->out, module->rank);
    }
}

/* The same for a module whatever others are adapted. */
static uint32_t dropout_site(const balora_adapter *adapter, const adapter_module *module) {
    return (uint32_t)(module->layer * PROJECTION_COUNT + (module->projection - adapter->model->projections));
}

static void place_groups(balora_adapter *adapter, arena *plan) {
    int32_t dtype = adapter->packed_dtype;
    if (adapter->groups == NULL)
        return;
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
                                    .gradient_b = module->gradient_b,
                                    .gradient_magnitude = module->gradient_magnitude,
                                    .site = dropout_site(adapter, module)};
        group->rows += rows;
    }
    for (int64_t layer = 0; layer < adapter->model->config.layers; layer++)
        for (int index = 0; index < GROUP_COUNT; index++) {
            low_rank_group *group = &adapter->groups[layer * GROUP_COUNT + index];
            matrix_view weight = adapter->model->weights.layers[layer].groups[index].weight;
            if (group->rows == 0)
                continue;
            group->packed_a = arena_place(plan, dtype, group->rows, weight.cols);
            if (!adapter->use_dora)
                continue;
            group->scale = arena_place(plan, BALORA_F32, 1, weight.rows);
            group->norms = arena_place(plan, BALORA_F32, 1, weight.rows);
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

/* Room for rows of an adapted weight: what a cache holds, or one row. */
static void place_piece(balora_adapter *adapter, arena *plan) {
    int64_t most = ADAPTER_PIECE_ELEMENTS;
    for (int64_t i = 0; i < adapter->module_count; i++)
        most = arith_max(most, adapter->modules[i].projection->in);
    adapter->piece = adapter->use_dora ? arena_place(plan, BALORA_F32, 1, most) : view_none();
}

void adapter_place_packed(balora_adapter *adapter, arena *plan) {
    place_groups(adapter, plan);
    place_change(adapter, plan);
    place_piece(adapter, plan);
}
