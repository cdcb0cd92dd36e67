#include "regularizer/logit_tile.h"

#include "base/status.h"

balora_status logit_tile_load(const backend_ops *ops, backend_queue *queue, matrix_view logits,
                              matrix_view rows, matrix_view tile, matrix_view narrow) {
    if (view_is_none(rows))
        return ops->copy(queue, tile, logits);
    STATUS_TRY(ops->gather_rows(queue, narrow, logits, rows));
    return ops->copy(queue, tile, narrow);
}

balora_status logit_tile_add(const backend_ops *ops, backend_queue *queue, matrix_view tile, matrix_view rows,
                             matrix_view narrow, matrix_view gradient) {
    narrow.dtype = view_is_none(rows) ? BALORA_F32 : gradient.dtype; /* what scatter_add_rows takes */
    STATUS_TRY(ops->copy(queue, narrow, tile));
    if (view_is_none(rows))
        return ops->scale_add(queue, 1, narrow, 1, gradient);
    return ops->scatter_add_rows(queue, gradient, narrow, rows);
}
