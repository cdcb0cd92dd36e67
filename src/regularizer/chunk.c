#include "regularizer/chunk.h"

#include <math.h>

#include "base/arith.h"
#include "base/status.h"

/* A chunk of the tensors' rows, and the valid ones among them. */
typedef struct row_chunk {
    int64_t first, count;
    int64_t first_valid, valid; /* in the order of the valid rows */
    matrix_view rows;           /* I32 [1, valid]: their places in the chunk; none: all rows of it */
    matrix_view student, teacher, gradient;
} row_chunk;

/* --- numbers in and out --- */

/* Packed numbers of the host's as a view in `room`, whose elements are as large or larger. */
static balora_status send_piece(const evaluator *room, const tensor_rows *source, const tensor_piece *piece,
                                matrix_view place, matrix_view *out) {
    *out = place;
    out->dtype = source->tensor.dtype;
    *out = view_reshape(*out, piece->count, piece->columns);
    tensor_rows_pack(source, piece, room->stage);
    return room->device.ops->upload(room->queue, out->buffer, out->offset, room->stage, view_bytes(*out));
}

/* Rows of a tensor as F32: in place where they are that already, else in `place`; 16 bits that are moved pass through
 * `raw`. */
static balora_status load_rows(const evaluator *room, const tensor_rows *source, const row_chunk *chunk,
                               matrix_view place, matrix_view raw, matrix_view *out) {
    const backend_ops *ops = room->device.ops;
    bool wide = source->tensor.dtype == BALORA_F32;
    tensor_piece piece = {NULL, chunk->first, chunk->count, 0, source->columns};
    matrix_view held;
    if (tensor_rows_in_place(source))
        held = view_rows(source->view, chunk->first, chunk->count);
    else
        STATUS_TRY(send_piece(room, source, &piece, wide ? place : raw, &held));
    *out = held;
    if (wide)
        return BALORA_OK;
    *out = view_rows(place, 0, chunk->count);
    return ops->copy(room->queue, *out, held);
}

/* The chunk's gradient, F32 in `room->gradient`, to the host's tensor. The student's and the teacher's rows are not
 * needed any more. */
static balora_status store_gradient(const evaluation *run, const row_chunk *chunk) {
    const evaluator *room = run->room;
    const backend_ops *ops = room->device.ops;
    const tensor_rows *target = &run->gradient;
    matrix_view old, packed = view_rows(room->student, 0, chunk->count);
    if (run->request->accumulate) {
        STATUS_TRY(load_rows(room, target, chunk, room->teacher, room->student, &old));
        STATUS_TRY(ops->scale_add(room->queue, 1, old, 1, chunk->gradient));
    }
    if (tensor_rows_in_place(target))
        return ops->copy(room->queue, view_rows(target->view, chunk->first, chunk->count), chunk->gradient);
    tensor_piece piece = {NULL, chunk->first, chunk->count, 0, target->columns};
    packed.dtype = target->tensor.dtype;
    STATUS_TRY(ops->copy(room->queue, packed, chunk->gradient));
    STATUS_TRY(ops->download(room->queue, room->stage, packed.buffer, packed.offset, view_bytes(packed)));
    STATUS_TRY(ops->synchronize(room->queue));
    tensor_rows_unpack(target, &piece, room->stage);
    return BALORA_OK;
}

/* The gradient can be written where it belongs: it replaces what is there, is F32, and does not lie upon the student,
 * which terms still read. */
static bool writes_in_place(const evaluation *run) {
    const tensor_rows *target = &run->gradient;
    return tensor_rows_in_place(target) && target->tensor.dtype == BALORA_F32 && !run->request->accumulate &&
           target->tensor.data != run->student.tensor.data;
}

/* --- parts of the whole matrix --- */

static balora_status for_columns(evaluation *run, part_body body) {
    const evaluator *room = run->room;
    int64_t columns = run->student.columns, rows = run->valid.count;
    int64_t width = arith_max(1, room->sizes.chunk * columns / rows); /* rows <= columns: it fits */
    for (int64_t first = 0; first < columns; first += width) {
        tensor_piece piece = {run->valid.rows, 0, rows, first, arith_min(width, columns - first)};
        logit_part part = {.rows = view_none(), .first_column = first};
        STATUS_TRY(send_piece(room, &run->student, &piece, room->student, &part.logits));
        STATUS_TRY(body(run, &part));
    }
    return BALORA_OK;
}

static balora_status for_rows(evaluation *run, part_body body) {
    const evaluator *room = run->room;
    for (int64_t first = 0; first < run->valid.count; first += room->sizes.chunk) {
        int64_t count = arith_min(room->sizes.chunk, run->valid.count - first);
        tensor_piece piece = {run->valid.rows + first, 0, count, 0, run->student.columns};
        logit_part part = {.rows = view_none()};
        STATUS_TRY(send_piece(room, &run->student, &piece, room->student, &part.logits));
        STATUS_TRY(body(run, &part));
    }
    return BALORA_OK;
}

balora_status chunk_for_parts(evaluation *run, bool by_rows, part_body body) {
    if (!tensor_rows_in_place(&run->student))
        return by_rows ? for_columns(run, body) : for_rows(run, body);
    bool all = run->valid.count == run->valid.all;
    logit_part part = {.logits = run->student.view,
                       .rows = all ? view_none() : view_columns(run->room->rows, 0, run->valid.count)};
    return body(run, &part);
}

/* --- chunks of rows --- */

/* The chunk that begins at row `first`. */
static row_chunk chunk_at(const evaluation *run, int64_t first) {
    row_chunk chunk = {.first = first, .count = arith_min(run->room->sizes.chunk, run->student.rows - first)};
    chunk.first_valid = selection_find(&run->valid, first);
    chunk.valid = selection_find(&run->valid, first + chunk.count) - chunk.first_valid;
    return chunk;
}

balora_status chunk_teacher_entropy(evaluation *run, double *out) {
    evaluator *room = run->room;
    const backend_ops *ops = room->device.ops;
    double sum = 0, scale = log((double)run->student.columns);
    row_chunk chunk;
    for (int64_t first = 0; first < run->student.rows; first += chunk.count) {
        chunk = chunk_at(run, first);
        matrix_view entropy = view_rows(room->entropy, 0, chunk.count);
        if (chunk.valid == 0)
            continue;
        STATUS_TRY(load_rows(room, &run->teacher, &chunk, room->teacher, room->gradient, &chunk.teacher));
        STATUS_TRY(ops->entropy_rows(room->queue, chunk.teacher, (float)run->options->temperature, entropy));
        STATUS_TRY(ops->download(room->queue, room->host_terms, entropy.buffer, entropy.offset,
                                 view_bytes(entropy)));
        STATUS_TRY(ops->synchronize(room->queue));
        for (int64_t i = 0; i < chunk.valid; i++)
            sum += room->host_terms[run->valid.rows[chunk.first_valid + i] - first];
    }
    *out = run->valid.count > 0 && scale > 0 ? sum / (double)run->valid.count / scale : 0;
    if (!isfinite(*out))
        return status_fail(BALORA_ERROR_NUMERIC, "the entropy of the teacher's logits is not finite");
    return BALORA_OK;
}

/* Flags and places of the valid rows. */
static balora_status mark_rows(const evaluation *run, row_chunk *chunk) {
    const evaluator *room = run->room;
    const backend_ops *ops = room->device.ops;
    matrix_view flags = view_columns(room->flags, 0, chunk->count);
    const int32_t *valid = run->valid.rows + chunk->first_valid;
    for (int64_t i = 0; i < chunk->count; i++)
        room->host_rows[i] = 0;
    for (int64_t i = 0; i < chunk->valid; i++)
        room->host_rows[valid[i] - chunk->first] = 1;
    STATUS_TRY(ops->upload(room->queue, flags.buffer, flags.offset, room->host_rows, view_bytes(flags)));
    chunk->rows = view_none();
    if (chunk->valid == chunk->count)
        return BALORA_OK;
    for (int64_t i = 0; i < chunk->valid; i++)
        room->host_rows[i] = (int32_t)(valid[i] - chunk->first);
    chunk->rows = view_columns(room->chunk_rows, 0, chunk->valid);
    return ops->upload(room->queue, chunk->rows.buffer, chunk->rows.offset, room->host_rows,
                       view_bytes(chunk->rows));
}

/* Divergence and entropy, whose gradient begins the chunk's. */
static balora_status run_loss_head(evaluation *run, const row_chunk *chunk) {
    const evaluator *room = run->room;
    const backend_ops *ops = room->device.ops;
    matrix_view terms = view_rows(room->terms, 0, chunk->count);
    double share = run->request->scale / (double)run->valid.count;
    bool gradient = !view_is_none(chunk->gradient);
    if (!run->divergence && !run->entropy)
        return gradient ? ops->fill_zero(room->queue, chunk->gradient) : BALORA_OK;
    loss_head_rows args = {
        .logits = chunk->student,
        .teacher = run->divergence ? chunk->teacher : view_none(),
        .targets = view_columns(room->targets, 0, chunk->count),
        .regularized = view_columns(room->flags, 0, chunk->count),
        .terms = terms,
        .consistency_weight = run->divergence ? (float)(run->lambdas[0] * share) : 0,
        .diversity_weight = run->entropy ? (float)(run->lambdas[1] * share) : 0,
        .temperature = (float)run->options->temperature,
        .top_k = run->entropy ? run->options->top_k : 1,
        .gradient = gradient,
        .gradient_out = chunk->gradient,
    };
    STATUS_TRY(ops->loss_head(room->queue, &args));
    STATUS_TRY(ops->download(room->queue, room->host_terms, terms.buffer, terms.offset, view_bytes(terms)));
    STATUS_TRY(ops->synchronize(room->queue));
    for (int64_t row = 0; row < chunk->count; row++) {
        const double *one = room->host_terms + row * LOSS_COLUMNS;
        double consistency = run->divergence ? one[LOSS_CONSISTENCY] : 0;
        double diversity = run->entropy ? one[LOSS_DIVERSITY] : 0;
        run->sums[LOSS_CONSISTENCY] += consistency;
        run->sums[LOSS_DIVERSITY] += diversity;
        if (!isfinite(consistency + diversity) && run->first_not_finite < 0)
            run->first_not_finite = chunk->first + row;
    }
    return BALORA_OK;
}

/* What rows that take no part hold may be anything, and so may what came of it. */
static balora_status clear_other_rows(const evaluation *run, const row_chunk *chunk) {
    const int32_t *valid = run->valid.rows + chunk->first_valid;
    int64_t row = 0;
    for (int64_t i = 0; i <= chunk->valid; i++) {
        int64_t next = i < chunk->valid ? valid[i] - chunk->first : chunk->count;
        if (next > row)
            STATUS_TRY(run->room->device.ops->fill_zero(run->room->queue,
                                                        view_rows(chunk->gradient, row, next - row)));
        row = next + 1;
    }
    return BALORA_OK;
}

static balora_status add_other_terms(evaluation *run, const row_chunk *chunk) {
    evaluator *room = run->room;
    double rows = (double)run->valid.count, scale = run->request->scale;
    bool gradient = !view_is_none(chunk->gradient);
    if (run->normalized)
        STATUS_TRY(normalized_evaluate(&room->normalized, chunk->student, chunk->teacher, chunk->rows,
                                       run->lambdas[0] * scale / (rows * (double)run->student.columns),
                                       view_columns(room->values, EVALUATOR_NORMALIZED, 1), chunk->gradient));
    if (gradient && run->svd && rows >= 2 && run->lambdas[2] != 0)
        STATUS_TRY(spectral_logits_add_gradient(&room->spectral, chunk->student, chunk->rows,
                                                chunk->first_valid, 0, chunk->gradient));
    if (gradient && run->covariance && rows >= 2 && run->lambdas[1] != 0)
        STATUS_TRY(covariance_add_gradient(&room->covariance, chunk->student, chunk->rows,
                                           run->lambdas[1] * scale, chunk->gradient));
    return BALORA_OK;
}

/* No valid row: the gradient is 0. */
static balora_status clear_gradient(const evaluation *run, row_chunk *chunk) {
    if (run->gradient.rows == 0 || run->request->accumulate)
        return BALORA_OK;
    chunk->gradient = view_rows(run->room->gradient, 0, chunk->count);
    STATUS_TRY(run->room->device.ops->fill_zero(run->room->queue, chunk->gradient));
    return store_gradient(run, chunk);
}

static balora_status run_chunk(evaluation *run, row_chunk *chunk) {
    evaluator *room = run->room;
    bool wanted = run->gradient.rows > 0, in_place = wanted && writes_in_place(run);
    if (chunk->valid == 0)
        return clear_gradient(run, chunk);
    STATUS_TRY(load_rows(room, &run->student, chunk, room->student, room->gradient, &chunk->student));
    if (run->active[0])
        STATUS_TRY(load_rows(room, &run->teacher, chunk, room->teacher, room->gradient, &chunk->teacher));
    STATUS_TRY(mark_rows(run, chunk));
    if (wanted)
        chunk->gradient = in_place ? view_rows(run->gradient.view, chunk->first, chunk->count)
                                   : view_rows(room->gradient, 0, chunk->count);
    STATUS_TRY(run_loss_head(run, chunk));
    if (wanted)
        STATUS_TRY(clear_other_rows(run, chunk));
    STATUS_TRY(add_other_terms(run, chunk));
    return wanted && !in_place ? store_gradient(run, chunk) : BALORA_OK;
}

balora_status chunk_run_all(evaluation *run) {
    row_chunk chunk;
    if (run->gradient.rows == 0 && !run->divergence && !run->entropy && !run->normalized)
        return BALORA_OK;
    for (int64_t first = 0; first < run->student.rows; first += chunk.count) {
        chunk = chunk_at(run, first);
        STATUS_TRY(context_poll(run->set->context));
        STATUS_TRY(run_chunk(run, &chunk));
    }
    return BALORA_OK;
}
