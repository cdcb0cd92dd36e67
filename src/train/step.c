/* One optimizer step: micro-batches forward and backward, clipping, update, metrics. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/arith.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/status.h"
#include "optim/schedule.h"
#include "train/svd.h"

#define SKIPPED_STEPS_DEFAULT 10 /* for a max_skipped_steps of 0 */

/* Counts of the whole step, by which token terms are divided under the global reduction. */
typedef struct step_counts {
    int64_t micro_batches, tokens, targets, regularized;
} step_counts;

static step_counts count_step(balora_trainer *trainer) {
    step_counts counts = {.micro_batches = order_micro_batches(&trainer->order, trainer->step)};
    for (int64_t i = 0; i < counts.micro_batches; i++) {
        order_range range = order_micro_batch(&trainer->order, trainer->step, i);
        batch_counts one = batch_count(&trainer->data->set, &trainer->order, range, trainer->row_kind);
        trainer->records[i] = (micro_record){.counts = one};
        counts.tokens += one.tokens;
        counts.targets += one.targets;
        counts.regularized += one.regularized;
    }
    return counts;
}

/* One over what a micro-batch's sum is divided by, so that the micro-batches' parts add up to the step's
 * mean. */
static double share(const balora_trainer *trainer, int64_t own, int64_t step_total, int64_t micro_batches) {
    if (own == 0)
        return 0;
    if (trainer->options.loss_reduction == BALORA_REDUCTION_MEAN_OF_MEANS)
        return 1 / ((double)own * (double)micro_batches);
    return 1 / (double)step_total;
}

/* The teacher's mean entropy over ln V at the regularized rows: the one figure that the host needs inside a
 * step. */
static balora_status relative_entropy(balora_trainer *trainer, double *out) {
    pass *micro = &trainer->pass;
    const token_batch *batch = &micro->batch;
    const backend_ops *ops = micro->decoder.ops;
    int64_t rows = batch->counts.rows;
    double *host = trainer->host_sums, sum = 0;
    matrix_view entropy = view_rows(micro->head.entropy, 0, rows);
    STATUS_TRY(head_teacher_entropy(&micro->head, rows, trainer->regularizers->options.temperature));
    STATUS_TRY(ops->download(micro->queue, host, entropy.buffer, entropy.offset, view_bytes(entropy)));
    STATUS_TRY(ops->synchronize(micro->queue));
    for (int64_t row = 0; row < rows; row++)
        if (batch->row_regularized[row])
            sum += host[row];
    double scale = log((double)trainer->adapter->model->config.vocabulary);
    *out = batch->counts.regularized > 0 && scale > 0 ? sum / (double)batch->counts.regularized / scale : 0;
    return BALORA_OK;
}

static balora_status find_lambdas(balora_trainer *trainer, double lambdas[3]) {
    const balora_regularizers *set = trainer->regularizers;
    double entropy = 0;
    memset(lambdas, 0, 3 * sizeof *lambdas);
    if (set == NULL)
        return BALORA_OK;
    if (regularizers_use_teacher(set) && set->options.consistency_schedule == BALORA_CONSISTENCY_ADAPTIVE)
        STATUS_TRY(relative_entropy(trainer, &entropy));
    regularizers_weights(set, trainer->step, trainer->order.steps, entropy, lambdas);
    return BALORA_OK;
}

static balora_status run_micro_batch(balora_trainer *trainer, int64_t index, const step_counts *counts) {
    pass *micro = &trainer->pass;
    const backend_ops *ops = micro->decoder.ops;
    const balora_regularizers *set = trainer->regularizers;
    micro_record *record = &trainer->records[index];
    const batch_counts *own = &record->counts;
    order_range range = order_micro_batch(&trainer->order, trainer->step, index);
    STATUS_TRY(context_poll(trainer->adapter->model->context));
    STATUS_TRY(batch_fill(&micro->batch, &trainer->data->set, &trainer->order, range, trainer->row_kind));
    if (own->rows == 0)
        return BALORA_OK;
    micro->first_slot = range.first - order_step(&trainer->order, trainer->step).first;
    micro->decoder.dropout_seed =
        random_bits(trainer->options.seed, RANDOM_STREAM_DROPOUT, (uint64_t)trainer->step);
    STATUS_TRY(pass_load(micro));
    STATUS_TRY(pass_forward(micro));
    STATUS_TRY(find_lambdas(trainer, record->lambdas));
    double regularized = share(trainer, own->regularized, counts->regularized, counts->micro_batches);
    head_objective objective = {.task = share(trainer, own->targets, counts->targets, counts->micro_batches),
                                .consistency = record->lambdas[0] * regularized,
                                .diversity = record->lambdas[1] * regularized,
                                .temperature = set != NULL ? set->options.temperature : 1,
                                .top_k = set != NULL ? set->options.top_k : 1};
    record->has_svd = trainer_uses_svd(trainer) && own->regularized >= 2;
    record->svd_share = regularized * (double)own->regularized;
    STATUS_TRY(record->has_svd ? svd_forward_backward(trainer, index, &objective)
                               : head_forward_backward(&micro->head, own->rows, &objective));
    STATUS_TRY(ops->sum_rows(micro->queue, view_rows(micro->head.terms, 0, own->rows), 0,
                             view_rows(trainer->sums, index, 1)));
    STATUS_TRY(head_finish_backward(&micro->head, own->rows));
    return decoder_backward(&micro->decoder, &micro->shape);
}

static balora_status start_step(balora_trainer *trainer) {
    const backend_ops *ops = trainer->pass.decoder.ops;
    backend_queue *queue = trainer->pass.queue;
    STATUS_TRY(ops->fill_zero(queue, adapter_gradients(trainer->adapter)));
    STATUS_TRY(ops->fill_zero(queue, trainer->sums));
    STATUS_TRY(ops->fill_zero(queue, trainer->svd_values));
    bool head_changed = trainer->step > 0 && trainer->spectral.head_trained;
    return head_changed ? spectral_update_head(&trainer->spectral, trainer->pass.decoder.student->head)
                        : BALORA_OK;
}

/* Clip and update; the gradient's norm and all sums are on their way to the host. */
static balora_status finish_step(balora_trainer *trainer, double learning_rate) {
    const backend_ops *ops = trainer->pass.decoder.ops;
    backend_queue *queue = trainer->pass.queue;
    double *host_svd = trainer->host_sums + trainer->sums.rows * LOSS_COLUMNS;
    STATUS_TRY(ops->sum_squares(queue, adapter_gradients(trainer->adapter), 0, trainer->norm));
    STATUS_TRY(ops->clip_scale(queue, trainer->norm, trainer->options.max_grad_norm, trainer->clip));
    STATUS_TRY(optimizer_apply(trainer->optimizer, queue, learning_rate, trainer->clip));
    STATUS_TRY(adapter_refresh(trainer->adapter, queue));
    STATUS_TRY(ops->download(queue, trainer->host_sums, trainer->sums.buffer, trainer->sums.offset,
                             view_bytes(trainer->sums)));
    STATUS_TRY(ops->download(queue, host_svd, trainer->svd_values.buffer, trainer->svd_values.offset,
                             view_bytes(trainer->svd_values)));
    return ops->download(queue, &trainer->host_norm, trainer->norm.buffer, trainer->norm.offset,
                         sizeof trainer->host_norm);
}

/* All work of the step, enqueued. */
static balora_status enqueue_step(balora_trainer *trainer, const step_counts *counts, double learning_rate) {
    STATUS_TRY(start_step(trainer));
    for (int64_t i = 0; i < counts->micro_batches; i++)
        STATUS_TRY(run_micro_batch(trainer, i, counts));
    return finish_step(trainer, learning_rate);
}

/* The same as one graph of the device. The first step of a run is not recorded: the device loads and chooses its
 * kernels then. What cannot be recorded (a library that waits for the device) runs as it always did, from now on. */
static balora_status enqueue_graph(balora_trainer *trainer, const step_counts *counts, double learning_rate) {
    const backend_ops *ops = trainer->pass.decoder.ops;
    backend_queue *queue = trainer->pass.queue;
    if (!trainer->use_graph || trainer->step == 0)
        return enqueue_step(trainer, counts, learning_rate);
    STATUS_TRY(ops->capture_begin(queue));
    balora_status status = enqueue_step(trainer, counts, learning_rate);
    balora_status ended = ops->capture_end(queue, status == BALORA_OK);
    if (status == BALORA_OK && ended == BALORA_OK)
        return BALORA_OK;
    if (status == BALORA_ERROR_CANCELLED || status == BALORA_ERROR_STATE)
        return status;
    trainer->use_graph = false;
    STATUS_TRY(context_log(trainer->adapter->model->context, BALORA_LOG_WARNING,
                           "steps run without a device graph: %s", balora_error_message()));
    return enqueue_step(trainer, counts, learning_rate);
}

/* Raw terms and the weighted loss from the sums of all micro-batches. */
static void gather_metrics(const balora_trainer *trainer, const step_counts *counts,
                           balora_step_metrics *out) {
    const double *svd_values = trainer->host_sums + trainer->sums.rows * LOSS_COLUMNS;
    double consistency = 0, diversity = 0, svd = 0, weighted = 0, lambda_sum = 0;
    bool has_svd = false;
    for (int64_t i = 0; i < counts->micro_batches; i++) {
        const micro_record *record = &trainer->records[i];
        const double *sums = trainer->host_sums + i * LOSS_COLUMNS;
        double task = share(trainer, record->counts.targets, counts->targets, counts->micro_batches);
        double regularized =
            share(trainer, record->counts.regularized, counts->regularized, counts->micro_batches);
        double own_consistency = sums[LOSS_CONSISTENCY] * regularized;
        double own_svd = record->has_svd ? svd_values[i] * record->svd_share : 0;
        has_svd = has_svd || record->has_svd;
        out->task += sums[LOSS_TASK] * task;
        consistency += own_consistency;
        diversity += sums[LOSS_DIVERSITY] * regularized;
        svd += own_svd;
        weighted += record->lambdas[0] * own_consistency;
        lambda_sum += record->lambdas[0] * record->svd_share;
        out->lambda_diversity = fmax(out->lambda_diversity, record->lambdas[1]);
        out->lambda_svd = fmax(out->lambda_svd, record->lambdas[2]);
    }
    out->lambda_consistency = lambda_sum;
    out->loss = out->task + weighted + out->lambda_diversity * diversity + out->lambda_svd * svd;
    out->consistency = regularizers_use_teacher(trainer->regularizers) ? consistency : NAN;
    out->diversity = trainer_uses_diversity(trainer) ? diversity : NAN;
    out->svd = has_svd ? svd : NAN;
}

/* Of the device so far; the CPU's memory is the process's. */
static balora_status peak_memory(int64_t *out, const backend *device) {
    if (strcmp(device->ops->name, "cpu") != 0) {
        backend_memory usage;
        STATUS_TRY(device->ops->memory_usage(device->device, &usage));
        *out = usage.peak;
        return BALORA_OK;
    }
    struct rusage usage;
    *out = getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
    return BALORA_OK;
}

/* Which trained number's gradient is the first that is not finite. */
static balora_status locate_gradient(const balora_trainer *trainer, char *text, size_t capacity) {
    const balora_adapter *adapter = trainer->adapter;
    int64_t element;
    STATUS_TRY(adapter_find_non_finite(adapter, trainer->pass.queue, adapter_gradients(adapter), &element));
    if (element >= 0)
        adapter_locate(adapter, element, text, capacity);
    else
        snprintf(text, capacity, "none alone, their norm");
    return BALORA_OK;
}

static balora_status judge(balora_trainer *trainer, double norm, balora_step_metrics *metrics) {
    metrics->skipped = !isfinite(norm);
    if (!metrics->skipped) {
        optimizer_count(trainer->optimizer);
        trainer->skipped_in_a_row = 0;
        return BALORA_OK;
    }
    char place[160];
    int64_t limit = trainer->options.max_skipped_steps;
    trainer->skipped++;
    trainer->skipped_in_a_row++;
    STATUS_TRY(locate_gradient(trainer, place, sizeof place));
    if (trainer->skipped_in_a_row >= (limit > 0 ? limit : SKIPPED_STEPS_DEFAULT))
        return status_fail(
            BALORA_ERROR_NUMERIC,
            "step %lld: the gradient was not finite for %lld steps in a row, now of %s; lower the "
            "learning rate or look at the data",
            (long long)trainer->step, (long long)trainer->skipped_in_a_row, place);
    return context_log(trainer->adapter->model->context, BALORA_LOG_WARNING,
                       "step %lld: the gradient of %s is not finite; the step was skipped",
                       (long long)trainer->step, place);
}

balora_status trainer_step(balora_trainer *trainer, balora_step_metrics *metrics) {
    STATUS_TRY(trainer_check_state(trainer));
    if (trainer->step >= trainer->order.steps)
        return BALORA_DONE;
    const balora_train_options *options = &trainer->options;
    double begin = clock_seconds();
    double learning_rate = schedule_learning_rate(options->lr_schedule, options->learning_rate,
                                                  options->warmup_ratio, trainer->step, trainer->order.steps);
    step_counts counts = count_step(trainer);
    STATUS_TRY(enqueue_graph(trainer, &counts, learning_rate));
    STATUS_TRY(trainer->pass.decoder.ops->synchronize(trainer->pass.queue)); /* the only one of a step */
    double norm = sqrt(trainer->host_norm);
    trainer->step++;
    *metrics = (balora_step_metrics)BALORA_STEP_METRICS_INIT;
    gather_metrics(trainer, &counts, metrics);
    metrics->step = trainer->step;
    metrics->epoch = order_epochs(&trainer->order, trainer->step);
    metrics->grad_norm = norm;
    metrics->learning_rate = learning_rate;
    metrics->tokens = counts.tokens;
    metrics->supervised_tokens = counts.targets;
    metrics->seconds = clock_seconds() - begin;
    STATUS_TRY(peak_memory(&metrics->peak_memory_bytes, &trainer->adapter->model->device));
    return judge(trainer, norm, metrics);
}
