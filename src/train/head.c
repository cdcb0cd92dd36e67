#include "train/head.h"

#include "base/arith.h"
#include "base/status.h"

#define ROW_SHARE                                                                                            \
    ((int64_t)64 << 10) /* of the budget at least: more rows of a small vocabulary gain nothing */

int64_t head_chunk_rows(int64_t budget, int64_t vocabulary, int64_t wish, int64_t rows, int32_t copies) {
    int64_t fitting = arith_max(16, budget / (copies * vocabulary * (int64_t)sizeof(float)));
    int64_t chunk = wish > 0 ? wish : arith_min(fitting, budget / ROW_SHARE);
    return arith_max(1, arith_min(chunk, rows));
}

void head_place(loss_head *out, arena *plan, const decoder *body, const head_sizes *sizes) {
    int64_t hidden = body->config->hidden, vocabulary = body->config->vocabulary;
    int32_t dtype = body->memory->sizes.dtype;
    *out = (loss_head){.decoder = body, .sizes = *sizes};
    out->hidden = arena_place(plan, dtype, sizes->rows, hidden);
    out->dhidden = sizes->backward ? arena_place(plan, BALORA_F32, sizes->rows, hidden) : view_none();
    out->chunk = arena_place(plan, dtype, sizes->copies * sizes->chunk, hidden);
    out->logits = arena_place(plan, BALORA_F32, sizes->copies * sizes->chunk, vocabulary);
    out->dlogits = sizes->backward && dtype != BALORA_F32 ? arena_place(plan, dtype, sizes->chunk, vocabulary)
                                                          : view_none();
    out->terms = arena_place(plan, BALORA_F64, sizes->rows, LOSS_COLUMNS);
    out->entropy = arena_place(plan, BALORA_F64, sizes->rows, 1);
    out->targets = arena_place(plan, BALORA_I32, 1, sizes->rows);
    out->regularized = arena_place(plan, BALORA_I32, 1, sizes->rows);
}

balora_status head_load(const loss_head *self, const token_batch *batch) {
    const decoder *body = self->decoder;
    int64_t bytes = batch->counts.rows * (int64_t)sizeof(int32_t);
    STATUS_TRY(body->ops->upload(body->queue, self->targets.buffer, self->targets.offset, batch->row_targets,
                                 bytes));
    return body->ops->upload(body->queue, self->regularized.buffer, self->regularized.offset,
                             batch->row_regularized, bytes);
}

static balora_status final_norm(const loss_head *self, const weights *source, matrix_view x, matrix_view y) {
    const decoder *body = self->decoder;
    return body->ops->rms_norm(body->queue, x, source->final_norm, body->config->norm_weight_offset,
                               body->config->norm_epsilon, y);
}

balora_status head_normalize(const loss_head *self, int64_t rows) {
    return final_norm(self, self->decoder->student, view_rows(self->decoder->memory->output, 0, rows),
                      view_rows(self->hidden, 0, rows));
}

/* The teacher's rows of a chunk after the final norm. */
static balora_status normalize_teacher(const loss_head *self, int64_t rows, int64_t first, matrix_view out) {
    matrix_view output = view_rows(self->decoder->memory->output, rows + first, out.rows);
    return final_norm(self, self->decoder->teacher, output, out);
}

balora_status head_logits(const loss_head *self, int64_t rows, int64_t first, int64_t count,
                          matrix_view *out) {
    const decoder *body = self->decoder;
    const backend_ops *ops = body->ops;
    matrix_view student = view_rows(self->hidden, first, count);
    *out = view_rows(self->logits, 0, self->sizes.copies * count);
    if (self->sizes.copies == 1)
        return ops->gemm(body->queue, 0, 1, 1, student, body->student->head, 0, *out);
    matrix_view chunk = view_rows(self->chunk, 0, 2 * count), teacher = view_rows(chunk, count, count);
    STATUS_TRY(normalize_teacher(self, rows, first, teacher));
    if (view_same(body->student->head, body->teacher->head)) {
        STATUS_TRY(ops->copy(body->queue, view_rows(chunk, 0, count), student));
        return ops->gemm(body->queue, 0, 1, 1, chunk, body->student->head, 0, *out);
    }
    STATUS_TRY(ops->gemm(body->queue, 0, 1, 1, student, body->student->head, 0, view_rows(*out, 0, count)));
    return ops->gemm(body->queue, 0, 1, 1, teacher, body->teacher->head, 0, view_rows(*out, count, count));
}

balora_status head_chunk_loss(const loss_head *self, int64_t first, int64_t count, matrix_view logits,
                              const head_objective *objective) {
    loss_head_rows args = {.logits = view_rows(logits, 0, count),
                           .teacher = self->sizes.copies == 2 ? view_rows(logits, count, count) : view_none(),
                           .targets = view_columns(self->targets, first, count),
                           .regularized = view_columns(self->regularized, first, count),
                           .terms = view_rows(self->terms, first, count),
                           .task_weight = (float)objective->task,
                           .consistency_weight = (float)objective->consistency,
                           .diversity_weight = (float)objective->diversity,
                           .temperature = (float)objective->temperature,
                           .top_k = objective->top_k,
                           .gradient = self->sizes.backward,
                           .gradient_out = view_is_none(self->dlogits) ? view_none()
                                                                       : view_rows(self->dlogits, 0, count)};
    return self->decoder->ops->loss_head(self->decoder->queue, &args);
}

balora_status head_forward_backward(const loss_head *self, int64_t rows, const head_objective *objective) {
    const decoder *body = self->decoder;
    const backend_ops *ops = body->ops;
    matrix_view dhead = DECODER_GRADIENT(body, head);
    for (int64_t first = 0; first < rows; first += self->sizes.chunk) {
        int64_t count = arith_min(self->sizes.chunk, rows - first);
        matrix_view logits;
        STATUS_TRY(head_logits(self, rows, first, count, &logits));
        STATUS_TRY(head_chunk_loss(self, first, count, logits, objective));
        if (!self->sizes.backward)
            continue;
        matrix_view gradient = view_rows(view_is_none(self->dlogits) ? logits : self->dlogits, 0, count);
        STATUS_TRY(ops->gemm(body->queue, 0, 0, 1, gradient, body->student->head, 0,
                             view_rows(self->dhidden, first, count)));
        if (!view_is_none(dhead))
            STATUS_TRY(
                ops->gemm(body->queue, 1, 0, 1, gradient, view_rows(self->hidden, first, count), 1, dhead));
    }
    return BALORA_OK;
}

balora_status head_finish_backward(const loss_head *self, int64_t rows) {
    const decoder *body = self->decoder;
    const activations *memory = body->memory;
    matrix_view dselected = view_rows(memory->dselected, 0, rows);
    STATUS_TRY(body->ops->fill_zero(body->queue, dselected));
    return body->ops->rms_norm_backward(body->queue, view_rows(memory->output, 0, rows),
                                        body->student->final_norm, body->config->norm_weight_offset,
                                        body->config->norm_epsilon, view_rows(self->dhidden, 0, rows),
                                        dselected, DECODER_GRADIENT(body, final_norm));
}

balora_status head_teacher_entropy(const loss_head *self, int64_t rows, double temperature) {
    const decoder *body = self->decoder;
    for (int64_t first = 0; first < rows; first += self->sizes.chunk) {
        int64_t count = arith_min(self->sizes.chunk, rows - first);
        matrix_view teacher = view_rows(self->chunk, 0, count), logits = view_rows(self->logits, 0, count);
        STATUS_TRY(normalize_teacher(self, rows, first, teacher));
        STATUS_TRY(body->ops->gemm(body->queue, 0, 1, 1, teacher, body->teacher->head, 0, logits));
        STATUS_TRY(body->ops->entropy_rows(body->queue, logits, (float)temperature,
                                           view_rows(self->entropy, first, count)));
    }
    return BALORA_OK;
}
