#include "regularizer/normalized.h"

#include <math.h>

#include "base/status.h"

#define EPSILON 1e-12f

void normalized_place(normalized_term *out, arena *plan, int64_t chunk, int64_t columns) {
    out->weight = arena_place(plan, BALORA_F32, 1, columns);
    out->student = arena_place(plan, BALORA_F32, chunk, columns);
    out->teacher = arena_place(plan, BALORA_F32, chunk, columns);
    out->difference = arena_place(plan, BALORA_F32, chunk, columns);
}

balora_status normalized_prepare(normalized_term *self, allocator *memory, const backend *device,
                                 backend_queue *queue) {
    int64_t columns = self->weight.cols;
    float *host;
    self->device = device;
    self->queue = queue;
    STATUS_TRY(memory_new(memory, &host, (size_t)columns, sizeof *host, "weights of a norm"));
    for (int64_t i = 0; i < columns; i++)
        host[i] = (float)(1 / sqrt((double)columns));
    balora_status status =
        device->ops->upload(queue, self->weight.buffer, self->weight.offset, host, view_bytes(self->weight));
    memory_free(memory, host);
    return status;
}

static balora_status gather(const normalized_term *self, matrix_view to, matrix_view from, matrix_view rows) {
    const backend_ops *ops = self->device->ops;
    return view_is_none(rows) ? ops->copy(self->queue, to, from)
                              : ops->gather_rows(self->queue, to, from, rows);
}

balora_status normalized_evaluate(normalized_term *self, matrix_view student, matrix_view teacher,
                                  matrix_view rows, double scale, matrix_view value, matrix_view gradient) {
    const backend_ops *ops = self->device->ops;
    int64_t count = view_is_none(rows) ? student.rows : rows.cols;
    matrix_view s = view_rows(self->student, 0, count), t = view_rows(self->teacher, 0, count);
    matrix_view difference = view_rows(self->difference, 0, count);
    STATUS_TRY(gather(self, s, student, rows));
    STATUS_TRY(gather(self, t, teacher, rows));
    STATUS_TRY(ops->rms_norm(self->queue, s, self->weight, 0, EPSILON, difference));
    STATUS_TRY(ops->rms_norm(self->queue, t, self->weight, 0, EPSILON, t));
    STATUS_TRY(ops->scale_add(self->queue, -1, t, 1, difference));
    STATUS_TRY(ops->sum_squares(self->queue, difference, 1, value));
    if (view_is_none(gradient) || scale == 0)
        return BALORA_OK;
    STATUS_TRY(ops->scale_add(self->queue, 2 * scale, difference, 0, t));
    STATUS_TRY(ops->fill_zero(self->queue, difference));
    STATUS_TRY(ops->rms_norm_backward(self->queue, s, self->weight, 0, EPSILON, t, difference, view_none()));
    return view_is_none(rows) ? ops->scale_add(self->queue, 1, difference, 1, gradient)
                              : ops->scatter_add_rows(self->queue, gradient, difference, rows);
}
