#include "model/linear.h"

#include "backend/composed.h"
#include "base/status.h"

static int has_low_rank(const linear_group *group) {
    return group->low_rank != NULL && group->low_rank->rows > 0;
}

static balora_status multiply(const backend_ops *ops, backend_queue *queue, const linear_weights *linear,
                              matrix_view x, double beta, matrix_view y) {
    return view_is_none(linear->bias)
               ? ops->gemm(queue, 0, 1, 1, x, linear->weight, beta, y)
               : composed_gemm_bias(ops, queue, 0, 1, 1, x, linear->weight, beta, y, linear->bias);
}

static int same_weights(const linear_group *group) {
    return view_same(group->student->weight, group->teacher->weight) &&
           view_same(group->student->bias, group->teacher->bias);
}

balora_status linear_forward(const linear_group *group, backend_queue *queue, matrix_view x, int64_t students,
                             double beta, matrix_view y, matrix_view projected) {
    const backend_ops *ops = group->ops;
    if (same_weights(group) || students == x.rows) {
        STATUS_TRY(multiply(ops, queue, group->student, x, beta, y));
    } else {
        int64_t teachers = x.rows - students;
        STATUS_TRY(
            multiply(ops, queue, group->student, view_rows(x, 0, students), beta, view_rows(y, 0, students)));
        STATUS_TRY(multiply(ops, queue, group->teacher, view_rows(x, students, teachers), beta,
                            view_rows(y, students, teachers)));
    }
    if (!has_low_rank(group))
        return BALORA_OK;
    const low_rank_group *low_rank = group->low_rank;
    x = view_rows(x, 0, students);
    y = view_rows(y, 0, students);
    STATUS_TRY(ops->gemm(queue, 0, 1, 1, x, low_rank->packed_a, 0, projected));
    for (int64_t i = 0; i < low_rank->member_count; i++) {
        const low_rank_member *member = &low_rank->members[i];
        STATUS_TRY(ops->gemm(queue, 0, 1, 1, view_columns(projected, member->first, member->rows),
                             member->packed_b, 1, view_columns(y, member->out_first, member->out)));
    }
    return BALORA_OK;
}

/* What dA = (s B)^T dy^T x multiplies x by: v itself, or the sum of its halves dy s (B - B0) and dy s B0. */
static balora_status sum_halves(const linear_group *group, backend_queue *queue,
                                const low_rank_member *member, matrix_view v, matrix_view scratch,
                                matrix_view *out) {
    *out = v;
    if (member->rows == member->rank)
        return BALORA_OK;
    *out = view_columns(scratch, group->low_rank->rows, member->rank);
    STATUS_TRY(group->ops->copy(queue, *out, view_columns(v, 0, member->rank)));
    return group->ops->scale_add(queue, 1, view_columns(v, member->rank, member->rank), 1, *out);
}

/* v = dy packed_b, dA = (s B)^T dy^T x, dB = s dy^T (x A^T); v stays in `scratch` for the gradient of the input. */
static balora_status low_rank_backward(const linear_group *group, backend_queue *queue, matrix_view x,
                                       matrix_view dy, matrix_view projected, matrix_view scratch) {
    const backend_ops *ops = group->ops;
    const low_rank_group *low_rank = group->low_rank;
    for (int64_t i = 0; i < low_rank->member_count; i++) {
        const low_rank_member *member = &low_rank->members[i];
        matrix_view dy_member = view_columns(dy, member->out_first, member->out);
        matrix_view v = view_columns(scratch, member->first, member->rows);
        matrix_view u = view_columns(projected, member->first, member->rank), whole;
        STATUS_TRY(ops->gemm(queue, 0, 0, 1, dy_member, member->packed_b, 0, v));
        STATUS_TRY(sum_halves(group, queue, member, v, scratch, &whole));
        STATUS_TRY(ops->gemm(queue, 1, 0, 1, whole, x, 1, member->gradient_a));
        STATUS_TRY(ops->gemm(queue, 1, 0, member->scale, dy_member, u, 1, member->gradient_b));
    }
    return BALORA_OK;
}

balora_status linear_backward(const linear_group *group, backend_queue *queue, matrix_view x, matrix_view dy,
                              matrix_view projected, matrix_view dx, matrix_view scratch) {
    const backend_ops *ops = group->ops;
    if (has_low_rank(group))
        STATUS_TRY(low_rank_backward(group, queue, x, dy, projected, scratch));
    for (int64_t i = 0; group->trained != NULL && i < group->trained->count; i++) {
        const trained_part *part = &group->trained->parts[i];
        matrix_view dy_part = view_columns(dy, part->first, part->out);
        if (!view_is_none(part->weight))
            STATUS_TRY(ops->gemm(queue, 1, 0, 1, dy_part, x, 1, part->weight));
        if (!view_is_none(part->bias))
            STATUS_TRY(ops->sum_rows(queue, dy_part, 1, part->bias));
    }
    if (view_is_none(dx))
        return BALORA_OK;
    STATUS_TRY(ops->gemm(queue, 0, 0, 1, dy, group->student->weight, 0, dx));
    if (!has_low_rank(group))
        return BALORA_OK;
    matrix_view v = view_columns(scratch, 0, group->low_rank->rows);
    return ops->gemm(queue, 0, 0, 1, v, group->low_rank->packed_a, 1, dx);
}
