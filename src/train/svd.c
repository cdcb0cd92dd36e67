#include "train/svd.h"

#include <math.h>

#include "base/status.h"
#include "train/head_svd.h"

svd_request svd_plan(const balora_trainer *trainer, const batch_counts *capacity) {
    svd_request request = {.wanted = trainer_uses_svd(trainer) && capacity->regularized >= 2};
    if (!request.wanted)
        return request;
    const model_config *config = &trainer->adapter->model->config;
    const balora_regularizer_options *options = &trainer->regularizers->options;
    request.by_logits = config->logit_soft_cap > 0;
    if (request.by_logits) {
        request.logits = (spectral_logits_options){.rows = capacity->regularized,
                                                   .columns = config->vocabulary,
                                                   .top = options->svd_k,
                                                   .norm = options->svd_norm};
        request.keep_logits =
            head_svd_keeps(capacity->rows, config->vocabulary, trainer->options.logit_chunk);
        request.eigh_size = spectral_logits_problem_size(&request.logits);
        request.eigh_count = spectral_logits_pair_count(&request.logits);
        return request;
    }
    request.hidden = (spectral_options){.hidden = config->hidden,
                                        .rows = capacity->regularized,
                                        .top = options->svd_k,
                                        .norm = options->svd_norm,
                                        .head_trained = adapter_trains_head(trainer->adapter)};
    request.eigh_size = spectral_problem_size(&request.hidden);
    request.eigh_count = spectral_pair_count(&request.hidden);
    return request;
}

balora_status svd_create(balora_trainer *trainer, const svd_request *request) {
    balora_model *model = trainer->adapter->model;
    if (!request->wanted)
        return BALORA_OK;
    return request->by_logits
               ? spectral_logits_create(&trainer->capped_svd, &model->device, trainer->pass.queue,
                                        &request->logits)
               : spectral_create(&trainer->spectral, &model->context->memory, &model->device,
                                 trainer->pass.queue, trainer->pass.decoder.student->head, &request->hidden);
}

void svd_free(balora_trainer *trainer) {
    spectral_free(&trainer->spectral);
    spectral_logits_free(&trainer->capped_svd);
}

/* No singular values, since a hidden state is not finite: neither be the term and its gradient, so that the step is
 * skipped as any other whose gradient is not. */
static balora_status void_svd_term(balora_trainer *trainer, matrix_view hidden, matrix_view value) {
    const backend_ops *ops = trainer->pass.decoder.ops;
    matrix_view gradient = view_rows(trainer->spectral.narrow, 0, hidden.rows);
    STATUS_TRY(ops->scale_add(trainer->pass.queue, NAN, trainer->norm, 0, value));
    return ops->scale_add(trainer->pass.queue, NAN, hidden, 0, gradient);
}

/* The regularized rows among the needed ones, on the host and on the device; and each within its chunk. */
static balora_status list_regularized(balora_trainer *trainer, int64_t *count) {
    pass *micro = &trainer->pass;
    const token_batch *batch = &micro->batch;
    int64_t capacity = trainer->regularized_rows.cols;
    int32_t *rows = trainer->host_rows, *within = rows + capacity;
    *count = 0;
    for (int64_t row = 0; row < batch->counts.rows; row++)
        if (batch->row_regularized[row]) {
            rows[*count] = (int32_t)row;
            within[(*count)++] = (int32_t)(row % micro->head.sizes.chunk);
        }
    for (int64_t i = 0; i < 2; i++) {
        matrix_view target = view_rows(trainer->regularized_rows, i, 1);
        STATUS_TRY(micro->decoder.ops->upload(micro->queue, target.buffer, target.offset, rows + i * capacity,
                                              *count * (int64_t)sizeof *rows));
    }
    return BALORA_OK;
}

/* The term by hidden states, behind the loss head. */
static balora_status add_svd_term(balora_trainer *trainer, matrix_view value, double scale) {
    pass *micro = &trainer->pass;
    const decoder *body = &micro->decoder;
    const backend_ops *ops = body->ops;
    int64_t all = micro->batch.counts.rows, count;
    STATUS_TRY(list_regularized(trainer, &count));
    matrix_view rows = view_columns(view_rows(trainer->regularized_rows, 0, 1), 0, count);
    matrix_view hidden = view_rows(trainer->regularized_hidden, 0, count);
    matrix_view student = view_rows(micro->head.hidden, 0, all);
    matrix_view dstudent = view_rows(micro->head.dhidden, 0, all);
    STATUS_TRY(ops->gather_rows(micro->queue, hidden, student, rows));
    balora_status status = spectral_evaluate(&trainer->spectral, hidden, scale, value, body->student->head,
                                             DECODER_GRADIENT(body, head));
    STATUS_TRY(status == BALORA_ERROR_NUMERIC ? void_svd_term(trainer, hidden, value) : status);
    return ops->scatter_add_rows(micro->queue, dstudent, view_rows(trainer->spectral.narrow, 0, count), rows);
}

/* The term by logits, inside the loss head. */
static balora_status request_capped_svd(balora_trainer *trainer, matrix_view value, double scale,
                                        head_svd *out) {
    int64_t count;
    STATUS_TRY(list_regularized(trainer, &count));
    *out = (head_svd){.term = &trainer->capped_svd,
                      .count = count,
                      .host_rows = trainer->host_rows,
                      .rows = view_columns(view_rows(trainer->regularized_rows, 0, 1), 0, count),
                      .chunk_rows = view_columns(view_rows(trainer->regularized_rows, 1, 1), 0, count),
                      .value = value,
                      .scale = scale};
    return BALORA_OK;
}

balora_status svd_forward_backward(balora_trainer *trainer, int64_t index, head_objective *objective) {
    const loss_head *head = &trainer->pass.head;
    const micro_record *record = &trainer->records[index];
    int64_t rows = record->counts.rows;
    double scale = record->lambdas[2] * record->svd_share;
    matrix_view value = view_columns(trainer->svd_values, index, 1);
    if (trainer->adapter->model->config.logit_soft_cap > 0) {
        head_svd svd;
        STATUS_TRY(request_capped_svd(trainer, value, scale, &svd));
        objective->svd = &svd;
        balora_status status = head_forward_backward(head, rows, objective);
        objective->svd = NULL;
        return status;
    }
    STATUS_TRY(head_forward_backward(head, rows, objective));
    return add_svd_term(trainer, value, scale);
}
