#include "model/linear.h"

#include "backend/composed.h"
#include "base/status.h"

static int has_low_rank(const linear_group *group) {
    return group->low_rank != NULL && group->low_rank->rows > 0;
}

static int has_magnitudes(const linear_group *group) {
    return has_low_rank(group) && !view_is_none(group->low_rank->scale);
}

static int has_dropout(const linear_group *group) {
    return has_low_rank(group) && group->dropout.probability > 0;
}

static matrix_view columns_of(const low_rank_member *member, matrix_view y) {
    return view_columns(y, member->out_first, member->out);
}

/* The member's part of the frozen weight, [out, in]. */
static matrix_view weight_of(const linear_group *group, const low_rank_member *member) {
    return view_rows(group->student->weight, member->out_first, member->out);
}

static matrix_view factor_of(const linear_group *group, const low_rank_member *member) {
    return view_rows(group->low_rank->packed_a, member->first, member->rows);
}

static balora_status multiply(const backend_ops *ops, backend_queue *queue, const linear_weights *linear,
                              matrix_view x, double beta, matrix_view y) {
    return view_is_none(linear->bias)
               ? ops->gemm(queue, 0, 1, 1, x, linear->weight, beta, y)
               : composed_gemm_bias(ops, queue, 0, 1, 1, x, linear->weight, beta, y, linear->bias);
}

/* y = beta y + mask of this member o x / (1 - p) */
static balora_status drop(const linear_group *group, backend_queue *queue, const low_rank_member *member,
                          matrix_view x, float beta, matrix_view y) {
    dropout_rows args = {.x = x,
                         .y = y,
                         .keys = view_columns(group->dropout.keys, 0, x.rows),
                         .seed = group->dropout.seed,
                         .site = member->site,
                         .beta = beta,
                         .probability = group->dropout.probability};
    return group->ops->dropout(queue, &args);
}

static matrix_view dropped_rows(const linear_group *group, matrix_view x) {
    return view_columns(view_rows(group->dropout.scratch, 0, x.rows), 0, x.cols);
}

/* --- forward --- */

static int same_weights(const linear_group *group) {
    return view_same(group->student->weight, group->teacher->weight) &&
           view_same(group->student->bias, group->teacher->bias);
}

static balora_status forward_teacher(const linear_group *group, backend_queue *queue, matrix_view x,
                                     int64_t students, double beta, matrix_view y) {
    int64_t teachers = x.rows - students;
    if (teachers == 0)
        return BALORA_OK;
    return multiply(group->ops, queue, group->teacher, view_rows(x, students, teachers), beta,
                    view_rows(y, students, teachers));
}

/* The frozen product of all rows. */
static balora_status forward_frozen(const linear_group *group, backend_queue *queue, matrix_view x,
                                    int64_t students, double beta, matrix_view y) {
    if (same_weights(group) || students == x.rows)
        return multiply(group->ops, queue, group->student, x, beta, y);
    STATUS_TRY(multiply(group->ops, queue, group->student, view_rows(x, 0, students), beta,
                        view_rows(y, 0, students)));
    return forward_teacher(group, queue, x, students, beta, y);
}

/* y += the low-rank path of x, without dropout. */
static balora_status add_low_rank(const linear_group *group, backend_queue *queue, matrix_view x,
                                  matrix_view y, matrix_view projected) {
    const backend_ops *ops = group->ops;
    const low_rank_group *low_rank = group->low_rank;
    STATUS_TRY(ops->gemm(queue, 0, 1, 1, x, low_rank->packed_a, 0, projected));
    for (int64_t i = 0; i < low_rank->member_count; i++) {
        const low_rank_member *member = &low_rank->members[i];
        STATUS_TRY(ops->gemm(queue, 0, 1, 1, view_columns(projected, member->first, member->rows),
                             member->packed_b, 1, columns_of(member, y)));
    }
    return BALORA_OK;
}

/* y = beta y + (m / n) o z + bias of the student's rows. */
static balora_status forward_decomposed(const linear_group *group, backend_queue *queue, matrix_view x,
                                        double beta, matrix_view y, matrix_view projected) {
    const backend_ops *ops = group->ops;
    matrix_view z = view_rows(group->kept, 0, x.rows);
    STATUS_TRY(ops->gemm(queue, 0, 1, 1, x, group->student->weight, 0, z));
    STATUS_TRY(add_low_rank(group, queue, x, z, projected));
    STATUS_TRY(ops->scale_columns(queue, z, group->low_rank->scale, beta, y));
    return view_is_none(group->student->bias) ? BALORA_OK : ops->add_row(queue, y, group->student->bias);
}

/* y += (m / n - 1) o (x' W^T) + (m / n) o (x' dW^T) = (m / n) o z - x' W^T */
static balora_status add_decomposed(const linear_group *group, backend_queue *queue,
                                    const low_rank_member *member, matrix_view dropped, matrix_view projected,
                                    matrix_view y) {
    const backend_ops *ops = group->ops;
    matrix_view z = columns_of(member, view_rows(group->kept, 0, dropped.rows));
    STATUS_TRY(ops->gemm(queue, 0, 1, 1, dropped, weight_of(group, member), 0, z));
    STATUS_TRY(ops->scale_add(queue, -1, z, 1, y));
    STATUS_TRY(ops->gemm(queue, 0, 1, 1, projected, member->packed_b, 1, z));
    return ops->scale_columns(queue, z, columns_of(member, group->low_rank->scale), 1, y);
}

/* y += the low-rank path of x', which each member drops for itself. */
static balora_status add_dropped(const linear_group *group, backend_queue *queue, matrix_view x,
                                 matrix_view y, matrix_view projected) {
    const backend_ops *ops = group->ops;
    matrix_view dropped = dropped_rows(group, x);
    for (int64_t i = 0; i < group->low_rank->member_count; i++) {
        const low_rank_member *member = &group->low_rank->members[i];
        matrix_view u = view_columns(projected, member->first, member->rows), own = columns_of(member, y);
        STATUS_TRY(drop(group, queue, member, x, 0, dropped));
        STATUS_TRY(ops->gemm(queue, 0, 1, 1, dropped, factor_of(group, member), 0, u));
        STATUS_TRY(has_magnitudes(group) ? add_decomposed(group, queue, member, dropped, u, own)
                                         : ops->gemm(queue, 0, 1, 1, u, member->packed_b, 1, own));
    }
    return BALORA_OK;
}

balora_status linear_forward(const linear_group *group, backend_queue *queue, matrix_view x, int64_t students,
                             double beta, matrix_view y, matrix_view projected) {
    matrix_view own_x = view_rows(x, 0, students), own_y = view_rows(y, 0, students);
    if (has_magnitudes(group) && !has_dropout(group)) {
        STATUS_TRY(forward_teacher(group, queue, x, students, beta, y));
        return forward_decomposed(group, queue, own_x, beta, own_y, projected);
    }
    STATUS_TRY(forward_frozen(group, queue, x, students, beta, y));
    if (!has_low_rank(group))
        return BALORA_OK;
    return has_dropout(group) ? add_dropped(group, queue, own_x, own_y, projected)
                              : add_low_rank(group, queue, own_x, own_y, projected);
}

/* --- backward --- */

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

/* dm += sum(dy o z) / n; *scaled = (m / n) o dy, the gradient of z. */
static balora_status magnitude_backward(const linear_group *group, backend_queue *queue, matrix_view dy,
                                        matrix_view *scaled) {
    const backend_ops *ops = group->ops;
    const low_rank_group *low_rank = group->low_rank;
    matrix_view z = view_rows(group->kept, 0, dy.rows);
    for (int64_t i = 0; i < low_rank->member_count; i++) {
        const low_rank_member *member = &low_rank->members[i];
        STATUS_TRY(ops->dot_columns(queue, columns_of(member, dy), columns_of(member, z),
                                    columns_of(member, low_rank->norms), member->gradient_magnitude));
    }
    *scaled = view_columns(view_rows(group->scaled, 0, dy.rows), 0, dy.cols);
    return ops->scale_columns(queue, dy, low_rank->scale, 0, *scaled);
}

/* v = dz packed_b, dA = (s B)^T dz^T x, dB = s dz^T (x A^T); v stays in `scratch` for the gradient of the input. dz is
 * dy, scaled where there are magnitudes. */
static balora_status low_rank_backward(const linear_group *group, backend_queue *queue, matrix_view x,
                                       matrix_view dz, matrix_view projected, matrix_view scratch) {
    const backend_ops *ops = group->ops;
    const low_rank_group *low_rank = group->low_rank;
    for (int64_t i = 0; i < low_rank->member_count; i++) {
        const low_rank_member *member = &low_rank->members[i];
        matrix_view dz_member = columns_of(member, dz), seen = x;
        matrix_view v = view_columns(scratch, member->first, member->rows);
        matrix_view u = view_columns(projected, member->first, member->rank), whole;
        if (has_dropout(group)) {
            seen = dropped_rows(group, x);
            STATUS_TRY(drop(group, queue, member, x, 0, seen));
        }
        STATUS_TRY(ops->gemm(queue, 0, 0, 1, dz_member, member->packed_b, 0, v));
        STATUS_TRY(sum_halves(group, queue, member, v, scratch, &whole));
        STATUS_TRY(ops->gemm(queue, 1, 0, 1, whole, seen, 1, member->gradient_a));
        STATUS_TRY(ops->gemm(queue, 1, 0, member->scale, dz_member, u, 1, member->gradient_b));
    }
    return BALORA_OK;
}

static balora_status trained_backward(const linear_group *group, backend_queue *queue, matrix_view x,
                                      matrix_view dy) {
    const backend_ops *ops = group->ops;
    for (int64_t i = 0; group->trained != NULL && i < group->trained->count; i++) {
        const trained_part *part = &group->trained->parts[i];
        matrix_view dy_part = view_columns(dy, part->first, part->out);
        if (!view_is_none(part->weight))
            STATUS_TRY(ops->gemm(queue, 1, 0, 1, dy_part, x, 1, part->weight));
        if (!view_is_none(part->bias))
            STATUS_TRY(ops->sum_rows(queue, dy_part, 1, part->bias));
    }
    return BALORA_OK;
}

/* dx += mask o (gradient of x') of every member; `scaled` becomes (m / n - 1) o dy where there are magnitudes. */
static balora_status dropped_backward(const linear_group *group, backend_queue *queue, matrix_view dy,
                                      matrix_view scaled, matrix_view v, matrix_view dx) {
    const backend_ops *ops = group->ops;
    matrix_view dropped = dropped_rows(group, dx);
    for (int64_t i = 0; i < group->low_rank->member_count; i++) {
        const low_rank_member *member = &group->low_rank->members[i];
        matrix_view rest = columns_of(member, scaled);
        if (has_magnitudes(group)) {
            STATUS_TRY(ops->scale_add(queue, -1, columns_of(member, dy), 1, rest));
            STATUS_TRY(ops->gemm(queue, 0, 0, 1, rest, weight_of(group, member), 0, dropped));
        }
        STATUS_TRY(ops->gemm(queue, 0, 0, 1, view_columns(v, member->first, member->rows),
                             factor_of(group, member), has_magnitudes(group), dropped));
        STATUS_TRY(drop(group, queue, member, dropped, 1, dx));
    }
    return BALORA_OK;
}

balora_status linear_backward(const linear_group *group, backend_queue *queue, matrix_view x, matrix_view dy,
                              matrix_view projected, matrix_view dx, matrix_view scratch) {
    const backend_ops *ops = group->ops;
    matrix_view dz = dy;
    if (has_magnitudes(group))
        STATUS_TRY(magnitude_backward(group, queue, dy, &dz));
    if (has_low_rank(group))
        STATUS_TRY(low_rank_backward(group, queue, x, dz, projected, scratch));
    STATUS_TRY(trained_backward(group, queue, x, dy));
    if (view_is_none(dx))
        return BALORA_OK;
    STATUS_TRY(ops->gemm(queue, 0, 0, 1, has_dropout(group) ? dy : dz, group->student->weight, 0, dx));
    if (!has_low_rank(group))
        return BALORA_OK;
    matrix_view v = view_columns(scratch, 0, group->low_rank->rows);
    if (has_dropout(group))
        return dropped_backward(group, queue, dy, dz, v, dx);
    return ops->gemm(queue, 0, 0, 1, v, group->low_rank->packed_a, 1, dx);
}
