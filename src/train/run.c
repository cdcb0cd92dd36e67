#include "train/run.h"

#include <math.h>

#include "base/status.h"
#include "train/checkpoint_files.h"
#include "train/evaluate.h"
#include "train/identity.h"

typedef struct run {
    balora_trainer *trainer;
    const balora_run_options *options;
    checkpoint_request request;
    int64_t resumed_step;
} run;

static balora_status check_options(const balora_run_options *options) {
    if (options->eval_data == NULL &&
        (options->patience > 0 || options->load_best != 0 || options->eval_steps > 0))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s needs eval_data",
                           options->patience > 0     ? "patience"
                           : options->load_best != 0 ? "load_best"
                                                     : "eval_steps");
    if (options->patience > 0 && options->eval_steps == 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "patience needs eval_steps above 0");
    if ((options->load_best != 0 || options->resume != 0) && options->checkpoint_folder == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s needs checkpoint_folder",
                           options->load_best != 0 ? "load_best" : "resume");
    return BALORA_OK;
}

static balora_status tell(run *self, balora_run_event *event) {
    const balora_trainer *trainer = self->trainer;
    event->struct_size = sizeof *event;
    event->step = trainer->step;
    event->evaluated_step = trainer->run.evaluated_step;
    event->best_step = trainer->run.best_step;
    if (self->options->callback == NULL || self->options->callback(event, self->options->user) == 0)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_CANCELLED, "the run's callback asked to stop");
}

/* From a checkpoint, from the beginning, or from wherever the trainer stands. */
static balora_status start(run *self) {
    balora_trainer *trainer = self->trainer;
    balora_resume_information found = BALORA_RESUME_INFORMATION_INIT;
    if (self->options->resume != 0) {
        balora_status status = checkpoint_resume(trainer, &self->request, &found);
        if (status == BALORA_ERROR_NOT_FOUND)
            status = context_log(trainer->adapter->model->context, BALORA_LOG_WARNING,
                                 "%s: no checkpoint to resume from; the run starts from the beginning",
                                 self->request.folder);
        STATUS_TRY(status);
        /* A process may have died between a checkpoint and the removal of older ones. With a damaged one among the newest
         * the older ones stay, until the next is written. */
        if (found.step > 0 && found.skipped_checkpoints == 0)
            STATUS_TRY(checkpoint_prune(trainer, &self->request));
        self->resumed_step = found.step;
    }
    STATUS_TRY(trainer_check_state(trainer));
    balora_run_event event = {.kind = BALORA_RUN_START, .path = found.path};
    return tell(self, &event);
}

static bool is_last(const run *self) {
    return self->trainer->step >= self->trainer->order.steps;
}

static bool out_of_patience(const run *self) {
    return self->options->patience > 0 && self->trainer->run.stale >= self->options->patience;
}

static bool evaluation_is_due(const run *self) {
    int64_t step = self->trainer->step, every = self->options->eval_steps;
    if (self->options->eval_data == NULL || step == 0 || self->trainer->run.evaluated_step == step)
        return false;
    return is_last(self) || (every > 0 && step % every == 0);
}

static balora_status evaluate_if_due(run *self) {
    balora_trainer *trainer = self->trainer;
    run_state *state = &trainer->run;
    if (!evaluation_is_due(self))
        return BALORA_OK;
    balora_evaluation found = BALORA_EVALUATION_INIT;
    STATUS_TRY(evaluate_model(&found, trainer->adapter->model, trainer->adapter, self->options->eval_data,
                              NULL, NULL));
    state->evaluated_step = trainer->step;
    state->stale++;
    if (isfinite(found.loss) && (state->best_step == 0 || found.loss < state->best_loss)) {
        state->best_step = trainer->step;
        state->best_loss = found.loss;
        state->stale = 0;
    }
    balora_run_event event = {.kind = BALORA_RUN_EVALUATION, .evaluation = &found};
    return tell(self, &event);
}

static balora_status save(run *self, bool heed_cancel) {
    self->request.heed_cancel = heed_cancel;
    return checkpoint_save(self->trainer, &self->request);
}

/* Every save_steps, and at the best evaluation so far while there are steps that may make it worse. */
static balora_status save_if_due(run *self) {
    int64_t step = self->trainer->step, every = self->options->save_steps;
    bool best = self->options->eval_steps > 0 && self->trainer->run.best_step == step && !is_last(self);
    if (self->request.folder == NULL || step == 0 || self->trainer->saved_step == step ||
        !(best || (every > 0 && step % every == 0)))
        return BALORA_OK;
    STATUS_TRY(save(self, true));
    char *path;
    allocator *memory = &self->trainer->adapter->model->context->memory;
    STATUS_TRY(checkpoint_path(memory, &path, self->request.folder, step));
    balora_run_event event = {.kind = BALORA_RUN_CHECKPOINT, .path = path};
    balora_status status = tell(self, &event);
    memory_free(memory, path);
    return status;
}

/* A log callback may stop in the very end of a step, which is done then and must be told. */
static balora_status step(run *self) {
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    int64_t before = self->trainer->step;
    balora_status status = trainer_step(self->trainer, &metrics);
    if (self->trainer->step == before)
        return status;
    balora_run_event event = {.kind = BALORA_RUN_STEP, .metrics = &metrics};
    if (status == BALORA_OK)
        return tell(self, &event);
    status_detail first;
    status_keep(&first);
    tell(self, &event);
    status_put_back(&first);
    return status;
}

static balora_status loop(run *self) {
    STATUS_TRY(start(self));
    for (;;) {
        STATUS_TRY(evaluate_if_due(self));
        STATUS_TRY(save_if_due(self));
        if (is_last(self) || out_of_patience(self))
            return BALORA_OK;
        STATUS_TRY(step(self));
    }
}

static balora_status finish(run *self) {
    const run_state *state = &self->trainer->run;
    if (self->options->load_best == 0 || state->best_step == 0 || state->best_step == self->trainer->step)
        return BALORA_OK;
    balora_status status = checkpoint_load_adapter(self->trainer, self->request.folder, state->best_step);
    return status == BALORA_OK ? status : status_prefix(status, "the best adapter cannot be loaded");
}

/* What was trained must not be lost with the process: its end is why the run was stopped, as a rule. */
static balora_status save_stopped(run *self) {
    balora_trainer *trainer = self->trainer;
    if (self->request.folder == NULL || trainer->step == 0 || trainer->saved_step == trainer->step ||
        trainer_check_state(trainer) != BALORA_OK)
        return BALORA_OK;
    balora_status status = save(self, false);
    return status == BALORA_OK
               ? status
               : status_prefix(status, "the run was stopped, and its checkpoint cannot be written");
}

static void report(const run *self, balora_status status, balora_run_result *out) {
    const balora_trainer *trainer = self->trainer;
    *out = (balora_run_result)BALORA_RUN_RESULT_INIT;
    out->step = trainer->step;
    out->resumed_step = self->resumed_step;
    out->saved_step = trainer->saved_step;
    out->skipped_steps = trainer->skipped;
    out->best_step = trainer->run.best_step;
    out->best_loss = trainer->run.best_loss;
    out->loaded_best = trainer->ended;
    if (status == BALORA_OK)
        out->stop = out_of_patience(self) && !is_last(self) ? BALORA_STOP_PATIENCE : BALORA_STOP_COMPLETE;
}

balora_status run_execute(balora_trainer *trainer, const balora_run_options *options, json_t *identity,
                          balora_run_result *result) {
    run self = {.trainer = trainer,
                .options = options,
                .request = {.folder = options->checkpoint_folder,
                            .keep = options->keep,
                            .options = identity,
                            .whole_run = true}};
    STATUS_TRY(check_options(options));
    STATUS_TRY(identity_add_evaluation(identity, options));
    trainer->run_options = identity;
    balora_status status = loop(&self);
    if (status == BALORA_OK)
        status = finish(&self);
    if (status == BALORA_ERROR_CANCELLED) {
        status_detail stopped;
        status_keep(&stopped);
        balora_status saved = save_stopped(&self);
        status = saved == BALORA_OK ? status : saved;
        if (saved == BALORA_OK)
            status_put_back(&stopped);
    }
    trainer->run_options = NULL;
    report(&self, status, result);
    return status;
}
