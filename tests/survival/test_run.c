/* Whole runs: what they tell, callbacks that stop them anywhere, early stopping, cancellation, steps that are not finite. */
#include "survival.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* What the run's callback saw, and when it stops. */
typedef struct run_witness {
    rig *rig;
    int events, stop_at; /* from 1; 0: never */
    char seen[256];      /* S start, . step, E evaluation, C checkpoint */
    int64_t started_at, last_step;
    double losses[64]; /* by step; of evaluations */
    char *best;        /* the adapter as it was at the best evaluation; owned */
    size_t best_bytes;
    bool meddles; /* calls the trainer from inside */
} run_witness;

static void meddle(run_witness *self) {
    balora_trainer *trainer = self->rig->trainer;
    expect_failure(balora_trainer_step(trainer, NULL), BALORA_ERROR_STATE, "inside balora_trainer_run");
    expect_failure(balora_trainer_run(trainer, NULL, NULL), BALORA_ERROR_STATE, "inside balora_trainer_run");
    expect_failure(balora_trainer_resume(trainer, self->rig->checkpoints, NULL), BALORA_ERROR_STATE,
                   "inside balora_trainer_run");
    if (self->last_step > 0)
        expect_done(balora_trainer_save_checkpoint(trainer, self->rig->checkpoints, 2));
}

static int watch(const balora_run_event *event, void *user) {
    run_witness *self = user;
    static const char marks[] = "?S.EC";
    assert_int_equal(event->struct_size, sizeof *event);
    self->seen[self->events++] = marks[event->kind / 10];
    self->last_step = event->step;
    switch (event->kind) {
    case BALORA_RUN_START:
        self->started_at = event->step;
        break;
    case BALORA_RUN_STEP:
        assert_int_equal(event->metrics->step, event->step);
        break;
    case BALORA_RUN_EVALUATION:
        assert_int_equal(event->evaluated_step, event->step);
        self->losses[event->step] = event->evaluation->loss;
        if (event->best_step == event->step) {
            free(self->best);
            self->best = rig_result(self->rig, &self->best_bytes);
        }
        break;
    default:
        assert_int_equal(access(event->path, F_OK), 0);
    }
    if (self->meddles)
        meddle(self);
    return self->events == self->stop_at;
}

static balora_run_options options_of(rig *self, run_witness *witness) {
    balora_run_options options = BALORA_RUN_OPTIONS_INIT;
    witness->rig = self;
    options.checkpoint_folder = self->checkpoints;
    options.save_steps = 2;
    options.callback = watch;
    options.user = witness;
    return options;
}

/* Tokens that the rows which are trained on do not teach. */
static balora_data *other_data(rig *self) {
    static const int32_t tokens[] = {40, 3, 17, 5, 22, 9, 31, 11, 2, 28, 6, 19};
    static const int64_t offsets[] = {0, 6, 12};
    balora_data *data;
    expect_done(balora_data_from_tokens(&data, self->model, tokens, NULL, offsets, 2));
    return data;
}

static void a_run_tells_what_happens(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    size_t bytes;
    char *expected = undisturbed(self, &setting, &bytes);
    run_witness witness = {0};
    balora_run_result result = BALORA_RUN_RESULT_INIT;
    rig_open(self, &setting);
    balora_run_options options = options_of(self, &witness);
    options.eval_data = other_data(self);
    options.eval_steps = 3;
    expect_done(balora_trainer_run(self->trainer, &options, &result));
    /* The checkpoint at step 3 is that of the first evaluation, which is the best so far. */
    assert_string_equal(witness.seen, "S..C.EC.C..EC");
    assert_int_equal(result.step, STEPS);
    assert_int_equal(result.resumed_step, 0);
    assert_int_equal(result.saved_step, STEPS);
    assert_int_equal(result.skipped_steps, 0);
    assert_int_equal(result.stop, BALORA_STOP_COMPLETE);
    assert_true(result.best_loss == fmin(witness.losses[3], witness.losses[6]));
    assert_int_equal(result.loaded_best, 0);
    expect_result(self, expected, bytes);
    expect_done(balora_trainer_run(self->trainer, &options, &result)); /* nothing is left to do */
    assert_int_equal(result.stop, BALORA_STOP_COMPLETE);
    expect_result(self, expected, bytes);
    balora_data_free(options.eval_data);
    free(witness.best);
    free(expected);
}

/* Stopped at every event in turn, and taken up again: in the same trainer, or from its checkpoint in another. */
static void stop_everywhere(rig *self, bool another) {
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    size_t bytes;
    char *expected = undisturbed(self, &setting, &bytes);
    int stopped = 0;
    for (int place = 1;; place++, stopped++) {
        run_witness witness = {.stop_at = place};
        balora_run_result result = BALORA_RUN_RESULT_INIT;
        rig_open(self, &setting);
        balora_run_options options = options_of(self, &witness);
        options.eval_data = other_data(self);
        options.eval_steps = 3;
        balora_status status = balora_trainer_run(self->trainer, &options, &result);
        if (status != BALORA_OK) {
            expect_failure(status, BALORA_ERROR_CANCELLED, "callback asked to stop");
            assert_int_equal(result.step, witness.last_step);
            assert_int_equal(result.saved_step, witness.last_step);
            assert_int_equal(result.stop, BALORA_STOP_NONE);
            if (another) {
                balora_data_free(options.eval_data);
                rig_close(self);
                rig_open(self, &setting);
                options.eval_data = other_data(self);
                options.resume = 1;
            }
            expect_done(balora_trainer_run(self->trainer, &options, &result));
            assert_int_equal(result.resumed_step, another ? witness.started_at : 0);
        }
        expect_result(self, expected, bytes);
        balora_data_free(options.eval_data);
        free(witness.best);
        rig_close(self);
        char words[96];
        snprintf(words, sizeof words, "rm -rf %s", self->checkpoints);
        assert_int_equal(system(words), 0);
        if (status == BALORA_OK)
            break;
    }
    assert_int_equal(stopped, 13);
    free(expected);
}

static void a_callback_stops_it_anywhere(void **state) {
    stop_everywhere(*state, false);
}

static void and_another_process_goes_on(void **state) {
    stop_everywhere(*state, true);
}

static void so_does_the_log(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    size_t bytes;
    char *expected = undisturbed(self, &setting, &bytes);
    run_witness witness = {0};
    rig_open(self, &setting);
    balora_run_options options = options_of(self, &witness);
    options.resume = 1;
    self->stop_at_message = 1; /* that there is no checkpoint yet */
    expect_failure(balora_trainer_run(self->trainer, &options, NULL), BALORA_ERROR_CANCELLED, "log callback");
    assert_non_null(strstr(self->messages, "no checkpoint to resume from"));
    assert_int_equal(witness.events, 0);
    expect_done(balora_trainer_run(self->trainer, &options, NULL));
    expect_result(self, expected, bytes);
    free(expected);
}

static void a_callback_may_save_but_not_step(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    size_t bytes;
    char *expected = undisturbed(self, &setting, &bytes);
    run_witness witness = {.meddles = true};
    rig_open(self, &setting);
    balora_run_options options = options_of(self, &witness);
    expect_done(balora_trainer_run(self->trainer, &options, NULL));
    expect_result(self, expected, bytes);
    free(expected);
}

static void wrong_options_are_named(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    rig_open(self, &setting);
    balora_data *data = other_data(self);
    const struct {
        balora_run_options options;
        const char *told;
    } cases[] = {
        {{sizeof(balora_run_options), NULL, 0, 2, 0, 2, 0, 0, NULL, NULL, NULL}, "patience needs eval_data"},
        {{sizeof(balora_run_options), NULL, 0, 2, 0, 0, 1, 0, NULL, NULL, NULL}, "load_best needs eval_data"},
        {{sizeof(balora_run_options), NULL, 0, 2, 5, 0, 0, 0, NULL, NULL, NULL},
         "eval_steps needs eval_data"},
        {{sizeof(balora_run_options), NULL, 0, 2, 0, 2, 0, 0, data, NULL, NULL}, "patience needs eval_steps"},
        {{sizeof(balora_run_options), NULL, 0, 2, 5, 0, 1, 0, data, NULL, NULL},
         "load_best needs checkpoint_folder"},
        {{sizeof(balora_run_options), NULL, 0, 2, 0, 0, 0, 1, NULL, NULL, NULL},
         "resume needs checkpoint_folder"},
        {{sizeof(balora_run_options), NULL, 0, 1, 0, 0, 0, 0, NULL, NULL, NULL}, "keep"},
        {{sizeof(balora_run_options), NULL, -1, 2, 0, 0, 0, 0, NULL, NULL, NULL}, "save_steps"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_failure(balora_trainer_run(self->trainer, &cases[i].options, NULL), BALORA_ERROR_ARGUMENT,
                       cases[i].told);
    balora_data_free(data);
    rig_step(self, 1);
}

/* Overtrained on eight rows: other tokens get worse. */
static run_setting overtrained(void) {
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    setting.train.max_steps = 60;
    setting.train.learning_rate = 0.02;
    return setting;
}

static void patience_ends_it_and_the_best_is_loaded(void **state) {
    rig *self = *state;
    run_setting setting = overtrained();
    run_witness witness = {0};
    balora_run_result result = BALORA_RUN_RESULT_INIT;
    rig_open(self, &setting);
    balora_run_options options = options_of(self, &witness);
    options.eval_data = other_data(self);
    options.eval_steps = 2;
    options.save_steps = 0;
    options.patience = 3;
    options.load_best = 1;
    expect_done(balora_trainer_run(self->trainer, &options, &result));
    assert_int_equal(result.stop, BALORA_STOP_PATIENCE);
    assert_int_equal(result.step, result.best_step + 6);
    assert_true(result.step < 60);
    assert_int_equal(result.loaded_best, 1);
    for (int64_t step = 2; step <= result.step; step += 2)
        assert_true(witness.losses[step] >= result.best_loss);
    expect_result(self, witness.best, witness.best_bytes);
    /* That is no state to go on from, until a resume. */
    expect_failure(balora_trainer_step(self->trainer, NULL), BALORA_ERROR_STATE, "adapter of its best step");
    expect_failure(balora_trainer_run(self->trainer, &options, NULL), BALORA_ERROR_STATE,
                   "adapter of its best step");
    expect_failure(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2), BALORA_ERROR_STATE,
                   "adapter of its best step");
    /* A run that asks for another patience is another run. */
    options.resume = 1;
    options.patience = 4;
    expect_failure(balora_trainer_run(self->trainer, &options, NULL), BALORA_ERROR_MISMATCH,
                   "evaluation.patience was 3, is now 4");
    options.patience = 3;
    expect_done(balora_trainer_run(self->trainer, &options, &result));
    assert_int_equal(result.stop, BALORA_STOP_PATIENCE);
    expect_result(self, witness.best, witness.best_bytes);
    balora_data_free(options.eval_data);
    free(witness.best);
}

static void the_best_checkpoint_is_never_pruned(void **state) {
    rig *self = *state;
    run_setting setting = overtrained();
    setting.train.max_steps = 30;
    run_witness witness = {0};
    balora_run_result result = BALORA_RUN_RESULT_INIT;
    rig_open(self, &setting);
    balora_run_options options = options_of(self, &witness);
    options.eval_data = other_data(self);
    options.eval_steps = 2;
    options.load_best = 1;
    expect_done(balora_trainer_run(self->trainer, &options, &result));
    char expected[96];
    assert_true(result.best_step < 28);
    snprintf(expected, sizeof expected, "step-%08d step-00000028 step-00000030", (int)result.best_step);
    assert_string_equal(names_in(self->checkpoints), expected);
    expect_result(self, witness.best, witness.best_bytes);
    balora_data_free(options.eval_data);
    free(witness.best);
}

/* --- cancellation --- */

typedef struct cancelling {
    balora_context *context;
    atomic_int over;
    int number;
} cancelling;

/* Again and again, at other moments. */
static void *cancel_often(void *user) {
    cancelling *self = user;
    for (unsigned wait = 1; !atomic_load(&self->over); wait = (wait * 73 + 11) % 4001) {
        usleep(2000 + 4 * wait);
        balora_context_cancel(self->context);
        self->number++;
    }
    return NULL;
}

/* Steps, evaluations and saves are interrupted alike. */
static void another_thread_may_cancel_it(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_BA_LORA);
    setting.train.max_steps = 16;
    size_t bytes;
    char *expected = undisturbed(self, &setting, &bytes);
    run_witness witness = {0};
    pthread_t thread;
    int cancelled = 0;
    rig_open(self, &setting);
    balora_run_options options = options_of(self, &witness);
    options.callback = NULL;
    options.eval_data = other_data(self);
    options.eval_steps = 5;
    cancelling canceller = {.context = self->context};
    assert_int_equal(pthread_create(&thread, NULL, cancel_often, &canceller), 0);
    for (balora_status status = BALORA_ERROR_CANCELLED; status != BALORA_OK;) {
        balora_context_resume(self->context);
        status = balora_trainer_run(self->trainer, &options, NULL);
        if (status != BALORA_OK)
            expect_failure(status, BALORA_ERROR_CANCELLED, "");
        cancelled += status != BALORA_OK;
    }
    atomic_store(&canceller.over, 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(cancelled > 0);
    balora_context_resume(self->context);
    expect_result(self, expected, bytes);
    balora_data_free(options.eval_data);
    free(expected);
}

static void a_forked_child_gets_an_error(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    rig_open(self, &setting);
    rig_step(self, 1);
    expect_done(balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2));
    balora_run_options options = BALORA_RUN_OPTIONS_INIT;
    pid_t child = fork();
    if (child == 0) {
        alarm(20); /* a hang is a death */
        int good =
            balora_trainer_run(self->trainer, &options, NULL) == BALORA_ERROR_STATE &&
            balora_trainer_save_checkpoint(self->trainer, self->checkpoints, 2) == BALORA_ERROR_STATE &&
            balora_trainer_resume(self->trainer, self->checkpoints, NULL) == BALORA_ERROR_STATE &&
            balora_trainer_step(self->trainer, NULL) == BALORA_ERROR_STATE &&
            strstr(balora_error_message(), "fork") != NULL;
        _exit(good ? 0 : 1);
    }
    int code = -1;
    assert_int_equal(waitpid(child, &code, 0), child);
    assert_int_equal(code, 0);
    expect_done(balora_trainer_run(self->trainer, &options, NULL));
}

/* --- steps that are not finite --- */

/* Factors of 1e25, whose product overflows from the second step on. */
static void runaway_steps_are_counted_named_and_survived(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    run_witness witness = {0};
    balora_run_result result = BALORA_RUN_RESULT_INIT;
    setting.train.learning_rate = 1e25;
    setting.train.lr_schedule = BALORA_LR_CONSTANT;
    setting.train.max_skipped_steps = 3;
    rig_open(self, &setting);
    balora_run_options options = options_of(self, &witness);
    expect_failure(balora_trainer_run(self->trainer, &options, &result), BALORA_ERROR_NUMERIC,
                   "for 3 steps in a row, now of model.layers.0.self_attn.q_proj.lora_A[0, 0]");
    assert_non_null(strstr(self->messages,
                           "step 2: the gradient of model.layers.0.self_attn.q_proj.lora_A[0, 0] is "
                           "not finite; the step was skipped"));
    assert_int_equal(result.step, 4);
    assert_int_equal(result.skipped_steps, 3);
    /* Of the steps that were skipped there is a checkpoint, with their number. */
    assert_int_equal(result.saved_step, 2);
    rig_close(self);
    rig_open(self, &setting);
    options.resume = 1;
    expect_failure(balora_trainer_run(self->trainer, &options, &result), BALORA_ERROR_NUMERIC,
                   "for 3 steps in a row");
    assert_int_equal(result.resumed_step, 2);
    assert_int_equal(result.step, 4);
    assert_int_equal(result.skipped_steps, 3);
}

/* As a process leaves it that dies between a checkpoint and the removal of older ones. */
static void what_was_to_be_removed_is_removed_by_a_resume(void **state) {
    rig *self = *state;
    run_setting setting = default_setting(BALORA_METHOD_LORA);
    run_witness witness = {0};
    rig_open(self, &setting);
    balora_run_options options = options_of(self, &witness);
    expect_done(balora_trainer_run(self->trainer, &options, NULL));
    rig_close(self);
    char old[256];
    snprintf(old, sizeof old, "%s/step-00000001", self->checkpoints);
    assert_int_equal(mkdir(old, 0777), 0);
    rig_open(self, &setting);
    options.resume = 1;
    expect_done(balora_trainer_run(self->trainer, &options, NULL));
    assert_int_not_equal(access(old, F_OK), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        RIG_TEST(a_run_tells_what_happens),
        RIG_TEST(a_callback_stops_it_anywhere),
        RIG_TEST(and_another_process_goes_on),
        RIG_TEST(so_does_the_log),
        RIG_TEST(a_callback_may_save_but_not_step),
        RIG_TEST(wrong_options_are_named),
        RIG_TEST(patience_ends_it_and_the_best_is_loaded),
        RIG_TEST(the_best_checkpoint_is_never_pruned),
        RIG_TEST(what_was_to_be_removed_is_removed_by_a_resume),
        RIG_TEST(another_thread_may_cancel_it),
        RIG_TEST(a_forked_child_gets_an_error),
        RIG_TEST(runaway_steps_are_counted_named_and_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
