#include "train/checkpoint_state.h"

#include <math.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "train/checkpoint_files.h"
#include "train/identity.h"

static int64_t sequences_taken(const balora_trainer *trainer, int64_t step) {
    return arith_min(step * trainer->order.step_size, trainer->order.places);
}

trainer_numbers trainer_numbers_of(const balora_trainer *trainer) {
    return (trainer_numbers){.step = trainer->step,
                             .sequences = sequences_taken(trainer, trainer->step),
                             .optimizer_steps = trainer->optimizer->steps,
                             .skipped = trainer->skipped,
                             .skipped_in_a_row = trainer->skipped_in_a_row,
                             .run = trainer->run};
}

void trainer_numbers_take(balora_trainer *trainer, const trainer_numbers *numbers) {
    trainer->step = trainer->saved_step = numbers->step;
    trainer->optimizer->steps = numbers->optimizer_steps;
    trainer->skipped = numbers->skipped;
    trainer->skipped_in_a_row = numbers->skipped_in_a_row;
    trainer->run = numbers->run;
}

static json_t *numbers_value(const trainer_numbers *numbers) {
    const run_state *run = &numbers->run;
    json_t *best = run->best_step > 0 ? json_real(run->best_loss) : json_null();
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:{s:I, s:I, s:o, s:I}}", "step", (json_int_t)numbers->step,
                     "sequences", (json_int_t)numbers->sequences, "optimizer_steps",
                     (json_int_t)numbers->optimizer_steps, "skipped_steps", (json_int_t)numbers->skipped,
                     "skipped_in_a_row", (json_int_t)numbers->skipped_in_a_row, "evaluation",
                     "evaluated_step", (json_int_t)run->evaluated_step, "best_step",
                     (json_int_t)run->best_step, "best_loss", best, "evaluations_since",
                     (json_int_t)run->stale);
}

balora_status trainer_state_write(balora_trainer *trainer, const checkpoint_request *request,
                                  const char *path) {
    allocator *memory = &trainer->adapter->model->context->memory;
    trainer_numbers numbers = trainer_numbers_of(trainer);
    json_t *identity = NULL, *environment = NULL, *state = NULL;
    balora_status status;
    STATUS_GOTO(identity_make(&identity, trainer, request));
    STATUS_GOTO(identity_environment(&environment, trainer));
    state = numbers_value(&numbers);
    if (json_object_set(state, "identity", identity) != 0 ||
        json_object_set(state, "environment", environment) != 0)
        STATUS_GOTO(status_fail(BALORA_ERROR_MEMORY, "%s: no memory for the trainer's state", path));
    status = json_write_file(memory, path, state, false);
fail:
    json_decref(identity);
    json_decref(environment);
    json_decref(state);
    return status;
}

static balora_status read_run(run_state *out, const json_t *run, const char *origin, int64_t step) {
    *out = (run_state){0};
    if (!json_is_object(run))
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"evaluation\": expected an object", origin);
    STATUS_TRY(json_member_integer(run, "evaluated_step", origin, true, 0, step, &out->evaluated_step));
    STATUS_TRY(json_member_integer(run, "best_step", origin, true, 0, out->evaluated_step, &out->best_step));
    STATUS_TRY(json_member_integer(run, "evaluations_since", origin, true, 0, step, &out->stale));
    return json_member_number(run, "best_loss", origin, out->best_step > 0, &out->best_loss);
}

static balora_status read_numbers(trainer_numbers *out, const json_t *state, const char *origin,
                                  int64_t step) {
    const int64_t limit = INT64_MAX / 2;
    STATUS_TRY(json_member_integer(state, "step", origin, true, step, step, &out->step));
    STATUS_TRY(json_member_integer(state, "sequences", origin, true, 1, limit, &out->sequences));
    STATUS_TRY(json_member_integer(state, "optimizer_steps", origin, true, 0, limit, &out->optimizer_steps));
    STATUS_TRY(json_member_integer(state, "skipped_steps", origin, true, 0, step, &out->skipped));
    STATUS_TRY(json_member_integer(state, "skipped_in_a_row", origin, true, 0, out->skipped,
                                   &out->skipped_in_a_row));
    return read_run(&out->run, json_object_get(state, "evaluation"), origin, step);
}

/* An object whose members are all strings. */
static balora_status read_texts(json_t **out, const json_t *state, const char *key, const char *origin) {
    const char *name;
    json_t *value;
    *out = json_object_get(state, key);
    if (!json_is_object(*out))
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"%s\": expected an object", origin, key);
    json_object_foreach(*out, name, value) {
        if (!json_is_string(value))
            return status_fail(BALORA_ERROR_FORMAT, "%s: \"%s\": \"%.64s\": expected a string", origin, key,
                               name);
    }
    return BALORA_OK;
}

/* A step by hand after balora_trainer_run: how that evaluated is not this caller's. */
static void drop_evaluation(json_t *identity) {
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(identity, next, key, value) {
        if (strncmp(key, "evaluation.", 11) == 0)
            json_object_del(identity, key);
    }
}

static balora_status check_identity(balora_trainer *trainer, const checkpoint_request *request,
                                    const json_t *state, const char *origin) {
    char text[1024];
    json_t *saved, *current;
    STATUS_TRY(read_texts(&saved, state, "identity", origin));
    STATUS_TRY(identity_make(&current, trainer, request));
    if (!request->whole_run)
        drop_evaluation(saved);
    int count = identity_differences(saved, current, text, sizeof text);
    json_decref(current);
    if (count == 0)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_MISMATCH,
                       "%s: this is another run: %s; go on with what it was made with, or start anew in "
                       "another folder",
                       origin, text);
}

static balora_status check_place(const balora_trainer *trainer, const trainer_numbers *numbers,
                                 const char *origin) {
    if (numbers->step > trainer->order.steps)
        return status_fail(BALORA_ERROR_MISMATCH, "%s: %lld steps are done; this run has only %lld", origin,
                           (long long)numbers->step, (long long)trainer->order.steps);
    int64_t expected = sequences_taken(trainer, numbers->step);
    if (numbers->sequences != expected)
        return status_fail(BALORA_ERROR_MISMATCH,
                           "%s: %lld sequences were taken in %lld steps; this run would have taken %lld: its "
                           "length or batches are others",
                           origin, (long long)numbers->sequences, (long long)numbers->step,
                           (long long)expected);
    return BALORA_OK;
}

static balora_status compare_environment(const balora_trainer *trainer, const json_t *state,
                                         const char *origin, char *warning, size_t capacity) {
    json_t *saved, *current;
    STATUS_TRY(read_texts(&saved, state, "environment", origin));
    STATUS_TRY(identity_environment(&current, trainer));
    identity_differences(saved, current, warning, capacity);
    json_decref(current);
    return BALORA_OK;
}

balora_status trainer_state_read(trainer_numbers *out, balora_trainer *trainer,
                                 const checkpoint_request *request, const char *path, int64_t step,
                                 char *warning, size_t capacity) {
    json_t *state;
    STATUS_TRY(
        json_read_object(&state, &trainer->adapter->model->context->memory, path, CHECKPOINT_JSON_LIMIT));
    balora_status status;
    STATUS_GOTO(read_numbers(out, state, path, step));
    STATUS_GOTO(check_identity(trainer, request, state, path));
    STATUS_GOTO(check_place(trainer, out, path));
    status = compare_environment(trainer, state, path, warning, capacity);
fail:
    json_decref(state);
    return status;
}
