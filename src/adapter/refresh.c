/* Packed factors, which the step multiplies by, from the trained ones. */
#include "adapter/adapter.h"
#include "base/status.h"

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

/* Fields that the student reads as copies. */
static balora_status refresh_copies(const balora_adapter *adapter, backend_queue *queue) {
    for (int64_t i = 0; i < adapter->trained_count; i++) {
        const trained_tensor *trained = &adapter->trained[i];
        const trained_field *field = &adapter->fields[trained->field];
        if (!field->whole)
            STATUS_TRY(adapter->model->device.ops->copy(queue, weights_part(trained->tensor, field->value),
                                                        trained->value));
    }
    return BALORA_OK;
}

balora_status adapter_refresh(balora_adapter *adapter, backend_queue *queue) {
    int64_t index = 0;
    STATUS_TRY(refresh_copies(adapter, queue));
    if (adapter->groups == NULL)
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
