/* Which linear layers of the model an adapter has, and their ranks and scales. */
#include <stdio.h>
#include <string.h>

#include "adapter/layout.h"
#include "base/arith.h"
#include "base/status.h"

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

const adapter_module *adapter_find_module(const balora_adapter *adapter, const char *name) {
    for (int64_t i = 0; i < adapter->module_count; i++)
        if (strcmp(adapter->modules[i].name, name) == 0)
            return &adapter->modules[i];
    return NULL;
}

balora_status adapter_list_modules(balora_adapter *adapter, const adapter_shape *shape) {
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
