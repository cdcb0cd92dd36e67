/* Packed factors, which the step multiplies by, from the trained ones. */
#include "adapter/adapter.h"
#include "base/arith.h"
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

/*
 * n = the norms of the rows of W + s (B A - B0 A0), and m / n. The weight is made piece by piece, as the packed factors
 * have it, so that n is the norm of what student rows are multiplied by, at any size of the change: a sum of
 * |w|^2, 2 w . dw and |dw|^2 would save a pass over W and lose digits where they cancel.
 */
static balora_status refresh_scale(const balora_adapter *adapter, backend_queue *queue,
                                   const adapter_module *module, const low_rank_group *group,
                                   const low_rank_member *member) {
    const backend_ops *ops = adapter->model->device.ops;
    const projection *part = module->projection;
    const layer_weights *layer = &adapter->model->weights.layers[module->layer];
    matrix_view weight = view_rows(layer->groups[part->group].weight, part->first, part->out);
    matrix_view a = view_rows(group->packed_a, member->first, member->rows);
    matrix_view norms = view_columns(group->norms, part->first, part->out);
    int64_t step = arith_max(1, adapter->piece.cols / part->in);
    for (int64_t row = 0; row < part->out; row += step) {
        int64_t rows = arith_min(step, part->out - row);
        matrix_view piece = view_reshape(adapter->piece, rows, part->in);
        STATUS_TRY(ops->copy(queue, piece, view_rows(weight, row, rows)));
        STATUS_TRY(ops->gemm(queue, 0, 0, 1, view_rows(member->packed_b, row, rows), a, 1, piece));
        STATUS_TRY(ops->row_norms(queue, piece, view_columns(norms, row, rows)));
    }
    return ops->divide(queue, module->magnitude, norms, view_columns(group->scale, part->first, part->out));
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
            const low_rank_member *member = &group->members[seen[number]++];
            STATUS_TRY(refresh_module(adapter, queue, module, group, member));
            if (adapter->use_dora)
                STATUS_TRY(refresh_scale(adapter, queue, module, group, member));
        }
    }
    return BALORA_OK;
}

balora_status adapter_start_magnitudes(balora_adapter *adapter, backend_queue *queue) {
    if (!adapter->use_dora)
        return BALORA_OK;
    STATUS_TRY(adapter_refresh(adapter, queue));
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        const projection *part = module->projection;
        const low_rank_group *group = &adapter->groups[module->layer * GROUP_COUNT + part->group];
        STATUS_TRY(adapter->model->device.ops->copy(queue, module->magnitude,
                                                    view_columns(group->norms, part->first, part->out)));
    }
    return BALORA_OK;
}
