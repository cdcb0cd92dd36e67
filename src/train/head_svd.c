#include "train/head_svd.h"

#include <math.h>

#include "base/arith.h"
#include "base/status.h"

bool head_svd_keeps(int64_t rows, int64_t vocabulary, int64_t chunk) {
    bool fits = rows * vocabulary <= HEAD_KEPT_BYTES / (int64_t)sizeof(float);
    return chunk > 0 ? chunk >= rows : fits;
}

balora_status head_svd_keep(const loss_head *self, int64_t rows) {
    const decoder *body = self->decoder;
    matrix_view kept = view_rows(self->kept, 0, rows);
    STATUS_TRY(body->ops->gemm(body->queue, 0, 1, 1, view_rows(self->hidden, 0, rows), body->student->head, 0,
                               kept));
    return head_cap(self, kept);
}

/* --- logits that are not kept --- */

typedef balora_status (*piece_body)(spectral_logits *term, matrix_view logits, matrix_view rows,
                                    int64_t first_column);

static balora_status accumulate(spectral_logits *term, matrix_view logits, matrix_view rows,
                                int64_t first_column) {
    (void)first_column;
    return spectral_logits_accumulate(term, logits, rows);
}

/* Columns of the logits of all rows, as many at a time as the memory of a chunk holds. */
static balora_status for_columns(const loss_head *self, int64_t rows, const head_svd *svd, piece_body use) {
    const decoder *body = self->decoder;
    matrix_view head = body->student->head, hidden = view_rows(self->hidden, 0, rows);
    int64_t width = arith_max(1, self->logits.rows * self->logits.cols / rows);
    for (int64_t first = 0; first < head.rows; first += width) {
        int64_t columns = arith_min(width, head.rows - first);
        matrix_view piece = view_reshape(self->logits, rows, columns);
        STATUS_TRY(body->ops->gemm(body->queue, 0, 1, 1, hidden, view_rows(head, first, columns), 0, piece));
        STATUS_TRY(head_cap(self, piece));
        STATUS_TRY(use(svd->term, piece, svd->rows, first));
    }
    return BALORA_OK;
}

/* The term's rows in [first, first + count), of which `done` come before. */
static matrix_view rows_within(const head_svd *svd, int64_t first, int64_t count, int64_t done) {
    int64_t end = done;
    while (end < svd->count && svd->host_rows[end] < first + count)
        end++;
    return view_columns(svd->chunk_rows, done, end - done);
}

/* Rows of logits, chunk by chunk, where there are more of them than columns. */
static balora_status accumulate_rows(const loss_head *self, int64_t rows, const head_svd *svd) {
    const decoder *body = self->decoder;
    int64_t done = 0;
    for (int64_t first = 0; first < rows; first += self->sizes.chunk) {
        int64_t count = arith_min(self->sizes.chunk, rows - first);
        matrix_view logits = view_rows(self->logits, 0, count), within = rows_within(svd, first, count, done);
        STATUS_TRY(body->ops->gemm(body->queue, 0, 1, 1, view_rows(self->hidden, first, count),
                                   body->student->head, 0, logits));
        STATUS_TRY(head_cap(self, logits));
        STATUS_TRY(spectral_logits_accumulate(svd->term, logits, within));
        done += within.cols;
    }
    return BALORA_OK;
}

/* --- the term --- */

static balora_status solve(const loss_head *self, int64_t rows, const head_svd *svd) {
    spectral_logits *term = svd->term;
    bool kept = self->sizes.kept;
    matrix_view logits = kept ? view_rows(self->kept, 0, rows) : view_none();
    STATUS_TRY(spectral_logits_begin(term, svd->count));
    bool by_rows = spectral_logits_by_rows(term);
    if (kept)
        STATUS_TRY(spectral_logits_accumulate(term, logits, svd->rows));
    else
        STATUS_TRY(by_rows ? for_columns(self, rows, svd, accumulate) : accumulate_rows(self, rows, svd));
    STATUS_TRY(spectral_logits_solve(term, svd->scale, svd->value));
    if (!by_rows)
        return BALORA_OK;
    return kept ? spectral_logits_project(term, logits, svd->rows, 0)
                : for_columns(self, rows, svd, spectral_logits_project);
}

balora_status head_svd_solve(const loss_head *self, int64_t rows, const head_svd *svd) {
    balora_status status = solve(self, rows, svd);
    if (status != BALORA_ERROR_NUMERIC)
        return status;
    /* Neither be the gradient, so that the step is skipped as any other whose gradient is not. */
    const decoder *body = self->decoder;
    STATUS_TRY(body->ops->scale_add(body->queue, NAN, svd->term->trace, 0, svd->value));
    return body->ops->scale_add(body->queue, NAN, svd->term->trace, 0, svd->term->gamma);
}

balora_status head_svd_add(const loss_head *self, const head_svd *svd, int64_t first,
                           const head_chunk *logits, int64_t *done) {
    int64_t count = logits->student.rows, first_row = *done;
    matrix_view within = rows_within(svd, first, count, *done);
    *done += within.cols;
    if (within.cols == 0)
        return BALORA_OK;
    return spectral_logits_add_gradient(svd->term, logits->student, within, first_row, 0,
                                        view_rows(self->dlogits, 0, count));
}
