#include "train/evaluate.h"

#include <math.h>
#include <string.h>

#include "base/arith.h"
#include "base/clock.h"
#include "base/status.h"

#define TOKEN_BUDGET ((int64_t)2048) /* tokens of a micro-batch, unless one sequence has more */

typedef struct evaluation {
    pass pass;
    const dataset *data;
    balora_logits_callback logits;
    void *user;
    float *host_logits;       /* [chunk, vocabulary]; NULL without callback */
    double *terms;            /* [rows, LOSS_COLUMNS] */
    double *entropy;          /* [rows] */
    balora_evaluation totals; /* sums until the end */
} evaluation;

static balora_status allocate(evaluation *self, balora_model *model, balora_adapter *adapter) {
    int32_t rows = self->logits != NULL ? BATCH_ROWS_ALL : BATCH_ROWS_PREDICT;
    batch_counts capacity;
    STATUS_TRY(batch_plan_spans(&capacity, self->data, TOKEN_BUDGET, rows));
    pass_options options = {.model = model,
                            .adapter = adapter,
                            .data = self->data,
                            .capacity = capacity,
                            .copies = adapter != NULL ? 2 : 1};
    STATUS_TRY(pass_create(&self->pass, &options));
    allocator *memory = self->pass.memory;
    size_t count = (size_t)capacity.rows;
    STATUS_TRY(
        memory_new(memory, &self->terms, count * LOSS_COLUMNS, sizeof(double), "terms of an evaluation"));
    STATUS_TRY(memory_new(memory, &self->entropy, count, sizeof(double), "entropies of an evaluation"));
    if (self->logits == NULL)
        return BALORA_OK;
    size_t vocabulary = (size_t)model->config.vocabulary;
    return memory_new(memory, &self->host_logits, (size_t)self->pass.head.sizes.chunk * vocabulary,
                      sizeof(float), "logits of an evaluation");
}

static void release(evaluation *self) {
    if (self->pass.memory == NULL)
        return;
    memory_free(self->pass.memory, self->terms);
    memory_free(self->pass.memory, self->entropy);
    memory_free(self->pass.memory, self->host_logits);
    pass_free(&self->pass);
}

static balora_status hand_over(evaluation *self, matrix_view logits) {
    const backend_ops *ops = self->pass.decoder.ops;
    STATUS_TRY(
        ops->download(self->pass.queue, self->host_logits, logits.buffer, logits.offset, view_bytes(logits)));
    STATUS_TRY(ops->synchronize(self->pass.queue));
    if (self->logits(self->host_logits, logits.rows, logits.cols, self->user) != 0)
        return status_fail(BALORA_ERROR_CANCELLED, "the logits callback asked to stop");
    return BALORA_OK;
}

static balora_status evaluate_chunk(evaluation *self, int64_t rows, int64_t first, int64_t count) {
    pass *micro = &self->pass;
    const backend_ops *ops = micro->decoder.ops;
    head_chunk logits;
    STATUS_TRY(head_logits(&micro->head, rows, first, count, &logits));
    if (self->logits != NULL)
        STATUS_TRY(hand_over(self, logits.student));
    STATUS_TRY(
        ops->entropy_rows(micro->queue, logits.student, 1, view_rows(micro->head.entropy, first, count)));
    head_objective objective = {.temperature = 1, .top_k = 1};
    return head_chunk_loss(&micro->head, first, count, &logits, &objective);
}

static balora_status fetch(evaluation *self, int64_t rows) {
    pass *micro = &self->pass;
    const backend_ops *ops = micro->decoder.ops;
    matrix_view terms = view_rows(micro->head.terms, 0, rows),
                entropy = view_rows(micro->head.entropy, 0, rows);
    STATUS_TRY(ops->download(micro->queue, self->terms, terms.buffer, terms.offset, view_bytes(terms)));
    STATUS_TRY(
        ops->download(micro->queue, self->entropy, entropy.buffer, entropy.offset, view_bytes(entropy)));
    return ops->synchronize(micro->queue);
}

/* Add the rows of a micro-batch to the totals, sequence by sequence. */
static void add_rows(evaluation *self) {
    const token_batch *batch = &self->pass.batch;
    balora_evaluation *totals = &self->totals;
    int64_t row = 0;
    for (int64_t s = 0; s < batch->counts.sequences; s++) {
        int64_t targets = 0, correct = 0;
        for (; row < batch->counts.rows && batch->row_indices[row] < batch->offsets[s + 1]; row++) {
            if (batch->row_targets[row] < 0)
                continue;
            const double *terms = self->terms + row * LOSS_COLUMNS;
            targets++;
            correct += terms[LOSS_CORRECT] > 0;
            totals->loss += terms[LOSS_TASK];
            totals->drift += terms[LOSS_CONSISTENCY];
            totals->entropy += self->entropy[row];
        }
        totals->supervised_tokens += targets;
        totals->token_accuracy += (double)correct;
        totals->sequences += targets > 0;
        totals->sequence_accuracy += targets > 0 && correct == targets;
    }
    totals->tokens += batch->counts.tokens;
}

static balora_status evaluate_span(evaluation *self, int64_t first, int64_t count) {
    pass *micro = &self->pass;
    int32_t kind = self->logits != NULL ? BATCH_ROWS_ALL : BATCH_ROWS_PREDICT;
    STATUS_TRY(context_poll(micro->options.model->context));
    batch_clear(&micro->batch);
    for (int64_t i = 0; i < count; i++)
        STATUS_TRY(batch_append(&micro->batch, self->data, first + i, kind));
    int64_t rows = micro->batch.counts.rows;
    if (rows > 0) {
        STATUS_TRY(pass_load(micro));
        STATUS_TRY(pass_forward(micro));
        for (int64_t row = 0; row < rows; row += micro->head.sizes.chunk)
            STATUS_TRY(evaluate_chunk(self, rows, row, arith_min(micro->head.sizes.chunk, rows - row)));
        STATUS_TRY(fetch(self, rows));
    }
    add_rows(self);
    return BALORA_OK;
}

static void finish(evaluation *self, balora_evaluation *out) {
    *out = self->totals;
    double count = (double)arith_max(1, out->supervised_tokens);
    out->loss /= count;
    out->drift /= count;
    out->entropy /= count;
    out->token_accuracy /= count;
    out->sequence_accuracy /= (double)arith_max(1, out->sequences);
    out->perplexity = exp(out->loss);
}

balora_status evaluate_model(balora_evaluation *out, balora_model *model, balora_adapter *adapter,
                             balora_data *data, balora_logits_callback logits, void *user) {
    if (data->model != model || (adapter != NULL && adapter->model != model))
        return status_fail(BALORA_ERROR_MISMATCH,
                           "adapter and data must be opened with the model that is evaluated");
    double begin = clock_seconds();
    evaluation self = {.data = &data->set, .logits = logits, .user = user};
    self.totals = (balora_evaluation)BALORA_EVALUATION_INIT;
    balora_status status;
    STATUS_GOTO(allocate(&self, model, adapter));
    for (int64_t first = 0, count; first < self.data->sequences; first += count) {
        count = batch_span(self.data, first, TOKEN_BUDGET);
        STATUS_GOTO(evaluate_span(&self, first, count));
    }
    finish(&self, out);
    out->seconds = clock_seconds() - begin;
fail:
    release(&self);
    return status;
}
