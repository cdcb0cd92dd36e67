#include "train/trainer.h"

#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "train/svd.h"

bool trainer_uses_svd(const balora_trainer *trainer) {
    return trainer->regularizers != NULL && trainer->regularizers->options.lambda_svd != 0;
}

bool trainer_uses_diversity(const balora_trainer *trainer) {
    return trainer->regularizers != NULL && trainer->regularizers->options.lambda_diversity != 0;
}

static int32_t row_kind(const balora_regularizers *set) {
    if (!regularizers_any(set))
        return BATCH_ROWS_TASK;
    return set->options.positions == BALORA_POSITIONS_LABEL ? BATCH_ROWS_LABEL : BATCH_ROWS_PREDICT;
}

/* The forms for class logits need what a stream of tokens does not have: a batch of examples. */
static balora_status check_forms(const balora_regularizers *set) {
    const balora_regularizer_options *options = &set->options;
    bool kl = options->lambda_consistency == 0 || options->consistency_form == BALORA_CONSISTENCY_FORM_KL;
    bool entropy = options->lambda_diversity == 0 || options->diversity_form == BALORA_DIVERSITY_FORM_ENTROPY;
    if (!kl || !entropy)
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "regularizers: %s is for a host's class logits (balora_regularizers_evaluate); training a "
            "language model takes consistency_form kl and diversity_form entropy",
            kl ? "diversity_form covariance" : "consistency_form normalized");
    return BALORA_OK;
}

/* The given set, or for BA-LoRA the defaults. */
static balora_status choose_regularizers(balora_trainer *trainer) {
    const balora_regularizer_options defaults = BALORA_REGULARIZER_OPTIONS_INIT;
    if (trainer->options.regularizers != NULL) {
        STATUS_TRY(check_forms(trainer->options.regularizers));
        trainer->regularizers = regularizers_retain(trainer->options.regularizers);
    } else if (trainer->adapter->method == BALORA_METHOD_BA_LORA)
        STATUS_TRY(regularizers_create(&trainer->regularizers, trainer->adapter->model->context, &defaults));
    return BALORA_OK;
}

static balora_status choose_optimizer(balora_trainer *trainer) {
    const balora_optimizer_options defaults = BALORA_OPTIMIZER_OPTIONS_INIT;
    if (trainer->options.optimizer == NULL)
        return optimizer_create(&trainer->optimizer, trainer->adapter, &defaults);
    if (trainer->options.optimizer->adapter != trainer->adapter)
        return status_fail(BALORA_ERROR_MISMATCH, "the optimizer was made for another adapter");
    trainer->optimizer = optimizer_retain(trainer->options.optimizer);
    return BALORA_OK;
}

static balora_status choose_order(balora_trainer *trainer) {
    const balora_train_options *options = &trainer->options;
    order_options order = {.sequences = trainer->data->set.sequences,
                           .batch_size = options->batch_size,
                           .accumulation = options->gradient_accumulation,
                           .epochs = options->epochs,
                           .max_steps = options->max_steps,
                           .seed = options->seed,
                           .shuffle = options->shuffle != 0,
                           .packing = options->packing != 0};
    return order_init(&trainer->order, &order);
}

static balora_status make_pass(balora_trainer *trainer) {
    balora_model *model = trainer->adapter->model;
    batch_counts capacity;
    STATUS_TRY(batch_plan(&capacity, &trainer->data->set, &trainer->order, trainer->row_kind));
    svd_request svd = svd_plan(trainer, &capacity);
    pass_options options = {.model = model,
                            .adapter = trainer->adapter,
                            .data = &trainer->data->set,
                            .capacity = capacity,
                            .logit_chunk = trainer->options.logit_chunk,
                            .eigh_size = svd.eigh_size,
                            .eigh_count = svd.eigh_count,
                            .copies = regularizers_use_teacher(trainer->regularizers) ? 2 : 1,
                            .backward = true,
                            .keep_logits = svd.keep_logits,
                            .dropout = trainer->adapter->dropout};
    STATUS_TRY(pass_create(&trainer->pass, &options));
    return svd_create(trainer, &svd);
}

static void place_scalars(balora_trainer *trainer, int64_t micro_batches) {
    arena *plan = &trainer->scalars;
    int64_t rows = trainer->pass.options.capacity.rows,
            regularized = trainer->pass.options.capacity.regularized;
    trainer->sums = arena_place(plan, BALORA_F64, micro_batches, LOSS_COLUMNS);
    trainer->svd_values = arena_place(plan, BALORA_F64, 1, micro_batches);
    trainer->norm = arena_place(plan, BALORA_F64, 1, 1);
    trainer->clip = arena_place(plan, BALORA_F32, 1, 1);
    trainer->regularized_rows = arena_place(plan, BALORA_I32, 2, rows);
    trainer->regularized_hidden =
        arena_place(plan, BALORA_F32, regularized, trainer->adapter->model->config.hidden);
}

static balora_status make_scalars(balora_trainer *trainer) {
    allocator *memory = &trainer->adapter->model->context->memory;
    int64_t rows = trainer->pass.options.capacity.rows;
    /* the first step is never shorter than another one */
    int64_t micro_batches = arith_max(1, order_micro_batches(&trainer->order, 0));
    place_scalars(trainer, micro_batches);
    STATUS_TRY(arena_allocate(&trainer->scalars, &trainer->adapter->model->device));
    place_scalars(trainer, micro_batches);
    STATUS_TRY(memory_new(memory, &trainer->host_rows, (size_t)(2 * rows), sizeof *trainer->host_rows,
                          "row indices"));
    STATUS_TRY(memory_new(memory, &trainer->host_sums, (size_t)(micro_batches * (LOSS_COLUMNS + 1) + rows),
                          sizeof *trainer->host_sums, "sums of a step"));
    return memory_zeroed(memory, &trainer->records, (size_t)micro_batches, sizeof *trainer->records,
                         "records of a step");
}

/* The adaptive schedule reads the teacher's entropy inside a step: that is no graph. */
static bool wants_graph(const balora_trainer *trainer) {
    const balora_regularizers *set = trainer->regularizers;
    bool reads = set != NULL && regularizers_use_teacher(set) &&
                 set->options.consistency_schedule == BALORA_CONSISTENCY_ADAPTIVE;
    return trainer->options.device_graph && !reads && trainer->pass.decoder.ops->capture_begin != NULL;
}

static balora_status build(balora_trainer *trainer) {
    STATUS_TRY(choose_regularizers(trainer));
    STATUS_TRY(choose_order(trainer));
    STATUS_TRY(choose_optimizer(trainer));
    trainer->row_kind = row_kind(trainer->regularizers);
    if (adapter_gradients(trainer->adapter).buffer == NULL)
        STATUS_TRY(adapter_prepare_training(trainer->adapter));
    STATUS_TRY(make_pass(trainer));
    STATUS_TRY(make_scalars(trainer));
    trainer->use_graph = wants_graph(trainer);
    STATUS_TRY(trainer->pass.decoder.ops->synchronize(trainer->adapter->queue));
    return trainer->pass.decoder.ops->synchronize(trainer->pass.queue);
}

balora_status trainer_create(balora_trainer **out, balora_adapter *adapter, balora_data *data,
                             const balora_train_options *options) {
    if (data->model != adapter->model)
        return status_fail(BALORA_ERROR_MISMATCH, "adapter and data were opened with different models");
    int idle = 0;
    if (!atomic_compare_exchange_strong(&adapter->training, &idle, 1))
        return status_fail(BALORA_ERROR_STATE, "the adapter has a trainer already; free that one first");
    balora_trainer *trainer;
    balora_status status =
        memory_zeroed(&adapter->model->context->memory, &trainer, 1, sizeof *trainer, "a trainer");
    if (status != BALORA_OK) {
        atomic_store(&adapter->training, 0);
        return status;
    }
    trainer->adapter = adapter_retain(adapter);
    trainer->data = data_retain(data);
    trainer->options = *options;
    status = build(trainer);
    if (status != BALORA_OK) {
        trainer_release(trainer);
        return status;
    }
    *out = trainer;
    return BALORA_OK;
}

void trainer_release(balora_trainer *trainer) {
    if (trainer == NULL)
        return;
    balora_adapter *adapter = trainer->adapter;
    allocator *memory = &adapter->model->context->memory;
    svd_free(trainer);
    pass_free(&trainer->pass);
    arena_free(&trainer->scalars);
    memory_free(memory, trainer->host_rows);
    memory_free(memory, trainer->host_sums);
    memory_free(memory, trainer->records);
    memory_free(memory, trainer->resumed.path);
    memory_free(memory, trainer->resumed.skipped);
    optimizer_release(trainer->optimizer);
    regularizers_release(trainer->regularizers);
    data_release(trainer->data);
    memory_free(memory, trainer);
    atomic_store(&adapter->training, 0);
    adapter_release(adapter);
}

balora_status trainer_check_state(const balora_trainer *trainer) {
    if (trainer->torn)
        return status_fail(BALORA_ERROR_STATE,
                           "a resume failed in the middle and left this trainer without a "
                           "whole state; resume again, or make a new trainer");
    if (trainer->ended)
        return status_fail(BALORA_ERROR_STATE,
                           "the run has ended with the adapter of its best step; its state "
                           "does not go on");
    return BALORA_OK;
}

void trainer_describe(const balora_trainer *trainer, balora_trainer_information *out) {
    *out = (balora_trainer_information)BALORA_TRAINER_INFORMATION_INIT;
    balora_adapter_information adapter;
    adapter_describe(trainer->adapter, &adapter);
    out->total_steps = trainer->order.steps;
    out->micro_batch_tokens = trainer->pass.options.capacity.tokens;
    out->micro_batch_rows = trainer->pass.options.capacity.rows;
    out->activation_bytes = trainer->pass.arena.bytes + trainer->spectral.arena.bytes +
                            trainer->capped_svd.arena.bytes + trainer->scalars.bytes;
    out->head_bytes = trainer->pass.head_bytes;
    out->weight_bytes = trainer->adapter->model->weights.arena.bytes;
    out->adapter_bytes = adapter.device_bytes;
    out->optimizer_bytes = trainer->optimizer->arena.bytes;
}
