#include "train/head_svd.h"

#include "base/arith.h"
#include "base/status.h"

#define ROW_SHARE                                                                                            \
    ((int64_t)64 << 10) /* of the budget at least: more rows of a small vocabulary gain nothing */

/* Whatever they take: a head of 16-bit weights is widened once a chunk, which fewer rows do not pay for. */
#define ROWS_LEAST ((int64_t)64)

int64_t head_chunk_rows(int64_t budget, int64_t vocabulary, int64_t wish, int64_t rows, int64_t planes) {
    int64_t fitting = arith_max(ROWS_LEAST, budget / (planes * vocabulary * (int64_t)sizeof(float)));
    int64_t chunk = wish > 0 ? wish : arith_min(fitting, budget / ROW_SHARE);
    return arith_max(1, arith_min(chunk, rows));
}

/* Under a cap the gradient cannot take the logits' place: it needs them to the end. */
static bool has_gradients_apart(const decoder *body, const head_sizes *sizes) {
    return sizes->backward && (body->memory->sizes.dtype != BALORA_F32 || body->config->logit_soft_cap > 0);
}

/* Rows of `logits` for each row of a chunk. */
static int64_t logit_copies(const head_sizes *sizes) {
    return sizes->kept ? sizes->copies - 1 : sizes->copies;
}

int64_t head_planes(const decoder *body, const head_sizes *sizes) {
    bool apart = has_gradients_apart(body, sizes) && body->memory->sizes.dtype == BALORA_F32;
    return arith_max(1, logit_copies(sizes) + apart);
}

void head_place(loss_head *out, arena *plan, const decoder *body, const head_sizes *sizes) {
    int64_t hidden = body->config->hidden, vocabulary = body->config->vocabulary;
    int32_t dtype = body->memory->sizes.dtype;
    *out = (loss_head){.decoder = body, .sizes = *sizes};
    out->hidden = arena_place(plan, dtype, sizes->rows, hidden);
    out->dhidden = sizes->backward ? arena_place(plan, BALORA_F32, sizes->rows, hidden) : view_none();
    out->chunk = arena_place(plan, dtype, sizes->copies * sizes->chunk, hidden);
    out->logits = arena_place(plan, BALORA_F32, logit_copies(sizes) * sizes->chunk, vocabulary);
    out->kept = sizes->kept ? arena_place(plan, BALORA_F32, sizes->rows, vocabulary) : view_none();
    out->dlogits =
        has_gradients_apart(body, sizes) ? arena_place(plan, dtype, sizes->chunk, vocabulary) : view_none();
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

balora_status head_cap(const loss_head *self, matrix_view x) {
    const decoder *body = self->decoder;
    float cap = body->config->logit_soft_cap;
    return cap > 0 ? body->ops->soft_cap(body->queue, cap, x, x) : BALORA_OK;
}

/* Both kinds of rows, through one product where they have one head. */
static balora_status multiply(const loss_head *self, matrix_view student, matrix_view teacher,
                              matrix_view chunk, matrix_view out) {
    const decoder *body = self->decoder;
    const backend_ops *ops = body->ops;
    int64_t count = student.rows;
    if (view_same(body->student->head, body->teacher->head)) {
        STATUS_TRY(ops->copy(body->queue, view_rows(chunk, 0, count), student));
        return ops->gemm(body->queue, 0, 1, 1, chunk, body->student->head, 0, out);
    }
    STATUS_TRY(ops->gemm(body->queue, 0, 1, 1, student, body->student->head, 0, view_rows(out, 0, count)));
    return ops->gemm(body->queue, 0, 1, 1, teacher, body->teacher->head, 0, view_rows(out, count, count));
}

balora_status head_logits(const loss_head *self, int64_t rows, int64_t first, int64_t count,
                          head_chunk *out) {
    const decoder *body = self->decoder;
    const backend_ops *ops = body->ops;
    bool kept = self->sizes.kept;
    matrix_view student = view_rows(self->hidden, first, count);
    matrix_view all = view_rows(self->logits, 0, logit_copies(&self->sizes) * count);
    out->student = kept ? view_rows(self->kept, first, count) : view_rows(all, 0, count);
    out->teacher = view_none();
    if (self->sizes.copies == 1) {
        if (kept)
            return BALORA_OK;
        STATUS_TRY(ops->gemm(body->queue, 0, 1, 1, student, body->student->head, 0, all));
        return head_cap(self, all);
    }
    matrix_view chunk = view_rows(self->chunk, 0, 2 * count), teacher = view_rows(chunk, count, count);
    STATUS_TRY(normalize_teacher(self, rows, first, teacher));
    STATUS_TRY(kept ? ops->gemm(body->queue, 0, 1, 1, teacher, body->teacher->head, 0, all)
                    : multiply(self, student, teacher, chunk, all));
    out->teacher = kept ? all : view_rows(all, count, count);
    return head_cap(self, all);
}

balora_status head_chunk_loss(const loss_head *self, int64_t first, int64_t count, const head_chunk *logits,
                              const head_objective *objective) {
    loss_head_rows args = {.logits = logits->student,
                           .teacher = logits->teacher,
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

/* From the gradient of a chunk's capped logits to dhidden and the head's. */
static balora_status chunk_backward(const loss_head *self, int64_t first, int64_t count,
                                    const head_chunk *logits) {
    const decoder *body = self->decoder;
    const backend_ops *ops = body->ops;
    matrix_view dhead = DECODER_GRADIENT(body, head);
    matrix_view gradient = view_is_none(self->dlogits) ? logits->student : view_rows(self->dlogits, 0, count);
    float cap = body->config->logit_soft_cap;
    if (cap > 0)
        STATUS_TRY(ops->soft_cap_backward(body->queue, cap, logits->student, gradient, gradient));
    STATUS_TRY(ops->gemm(body->queue, 0, 0, 1, gradient, body->student->head, 0,
                         view_rows(self->dhidden, first, count)));
    if (view_is_none(dhead))
        return BALORA_OK;
    return ops->gemm(body->queue, 1, 0, 1, gradient, view_rows(self->hidden, first, count), 1, dhead);
}

balora_status head_forward_backward(const loss_head *self, int64_t rows, const head_objective *objective) {
    int64_t svd_rows = 0;
    if (self->sizes.kept)
        STATUS_TRY(head_svd_keep(self, rows));
    if (objective->svd != NULL)
        STATUS_TRY(head_svd_solve(self, rows, objective->svd));
    for (int64_t first = 0; first < rows; first += self->sizes.chunk) {
        int64_t count = arith_min(self->sizes.chunk, rows - first);
        head_chunk logits;
        STATUS_TRY(head_logits(self, rows, first, count, &logits));
        STATUS_TRY(head_chunk_loss(self, first, count, &logits, objective));
        if (!self->sizes.backward)
            continue;
        if (objective->svd != NULL)
            STATUS_TRY(head_svd_add(self, objective->svd, first, &logits, &svd_rows));
        STATUS_TRY(chunk_backward(self, first, count, &logits));
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
        STATUS_TRY(head_cap(self, logits));
        STATUS_TRY(body->ops->entropy_rows(body->queue, logits, (float)temperature,
                                           view_rows(self->entropy, first, count)));
    }
    return BALORA_OK;
}
