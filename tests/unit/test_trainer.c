/*
 * How the trainer behaves, through the public interface: steps that are not finite, cancellation, states, repetition.
 *
 * The models are the oracle's fixtures. In a poisoned copy the embedding of one token is NaN, so that a sequence with
 * that token has no finite gradient and every other sequence trains as usual.
 */
#include "scratch.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

#include "../device.h"
#include "balora/balora.h"
#include "format/safetensors.h"

enum { POISON = 7, SEQUENCE_TOKENS = 9, VOCABULARY = 160, SEQUENCES_MOST = 40 };

typedef struct run {
    balora_context *context;
    balora_model *model;
    balora_adapter *adapter;
    balora_data *data;
    balora_regularizers *regularizers;
    balora_trainer *trainer;
    balora_train_options train;
    int32_t stop_at_level; /* the log callback asks to stop at messages of this level */
    char warning[512];     /* the last one */
} run;

static const char *fixture_file(const char *name, const char *file) {
    static char paths[4][1024];
    static unsigned next;
    const char *root = getenv("BALORA_FIXTURES");
    assert_non_null(root);
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s/%s", root, name, file);
    return path;
}

static int take_message(int32_t level, const char *message, void *user) {
    run *self = user;
    if (level == BALORA_LOG_WARNING)
        snprintf(self->warning, sizeof self->warning, "%s", message);
    return level == self->stop_at_level;
}

/* A context, a model and a new adapter. Schedules do not follow the length of the run, and the data not a random order,
 * so that runs of different lengths can be compared. */
static void open_run(run *self, const char *model, int32_t method, int32_t threads) {
    balora_context_options context = BALORA_CONTEXT_OPTIONS_INIT;
    balora_adapter_options adapter = BALORA_ADAPTER_OPTIONS_INIT;
    balora_regularizer_options regularizers = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_model_options where = test_model_options();
    *self = (run){.train = BALORA_TRAIN_OPTIONS_INIT};
    context.threads = threads;
    context.log = take_message;
    context.log_user = self;
    adapter.method = method;
    adapter.rank = 4;
    regularizers.consistency_schedule = BALORA_CONSISTENCY_CONSTANT;
    regularizers.focus_schedule = BALORA_FOCUS_CONSTANT;
    self->train.learning_rate = 1e-3;
    self->train.lr_schedule = BALORA_LR_CONSTANT;
    self->train.shuffle = 0;
    self->train.batch_size = 1;
    expect_ok(balora_context_create(&self->context, &context));
    expect_ok(balora_model_open(&self->model, self->context, model, &where));
    expect_ok(balora_adapter_create(&self->adapter, self->model, &adapter));
    expect_ok(balora_regularizers_create(&self->regularizers, self->context, &regularizers));
    if (method == BALORA_METHOD_BA_LORA)
        self->train.regularizers = self->regularizers;
}

static void close_run(run *self) {
    balora_trainer_free(self->trainer);
    balora_regularizers_free(self->regularizers);
    balora_data_free(self->data);
    balora_adapter_free(self->adapter);
    balora_model_free(self->model);
    balora_context_free(self->context);
}

/* One sequence a letter: 'p' holds the poisoned token, any other letter is a sequence of its own. */
static void open_sequences(run *self, const char *letters) {
    int32_t ids[SEQUENCES_MOST * SEQUENCE_TOKENS];
    int64_t offsets[SEQUENCES_MOST + 1], count = (int64_t)strlen(letters);
    assert_in_range(count, 1, SEQUENCES_MOST);
    for (int64_t i = 0; i <= count; i++)
        offsets[i] = i * SEQUENCE_TOKENS;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < SEQUENCE_TOKENS; j++) {
            bool poisoned = letters[i] == 'p' && j == 3;
            ids[i * SEQUENCE_TOKENS + j] =
                poisoned ? POISON : (int32_t)(10 + (31 * letters[i] + 17 * j * j) % (VOCABULARY - 10));
        }
    expect_ok(balora_data_from_tokens(&self->data, self->model, ids, NULL, offsets, count));
}

static void start(run *self) {
    expect_ok(balora_trainer_create(&self->trainer, self->adapter, self->data, &self->train));
}

static balora_step_metrics step(run *self) {
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    expect_ok(balora_trainer_step(self->trainer, &metrics));
    return metrics;
}

static void expect_done(run *self) {
    assert_int_equal(balora_trainer_step(self->trainer, NULL), BALORA_DONE);
}

static void finish(run *self) {
    balora_status status;
    do
        status = balora_trainer_step(self->trainer, NULL);
    while (status == BALORA_OK);
    if (status != BALORA_DONE)
        expect_ok(status);
}

/* --- what an adapter holds --- */

typedef struct snapshot {
    char *bytes;
    uint64_t count;
} snapshot;

static snapshot read_snapshot(scratch *base, const char *folder) {
    char path[512];
    snapshot out;
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", folder);
    expect_ok(file_read_all(&out.bytes, &out.count, &base->memory, path, 1 << 24));
    return out;
}

static snapshot take_snapshot(scratch *base, balora_adapter *adapter) {
    const char *folder = scratch_path(base, "snapshot");
    expect_ok(balora_adapter_save(adapter, folder, NULL));
    return read_snapshot(base, folder);
}

static bool same(const snapshot *a, const snapshot *b) {
    return a->count == b->count && memcmp(a->bytes, b->bytes, a->count) == 0;
}

static void drop(scratch *base, snapshot *self) {
    memory_free(&base->memory, self->bytes);
}

/* The adapter is, bit for bit, as it was in the snapshot. */
static void expect_same(scratch *base, balora_adapter *adapter, const snapshot *expected) {
    snapshot now = take_snapshot(base, adapter);
    assert_true(same(&now, expected));
    drop(base, &now);
}

static void expect_changed(scratch *base, balora_adapter *adapter, const snapshot *before) {
    snapshot now = take_snapshot(base, adapter);
    assert_false(same(&now, before));
    drop(base, &now);
}

/* --- steps that are not finite --- */

static void poison(scratch *base, const char *path) {
    safetensors_file file;
    float row[VOCABULARY];
    expect_ok(safetensors_open(&file, &base->memory, path));
    const safetensors_entry *entry = safetensors_find(&file, "model.embed_tokens.weight");
    assert_non_null(entry);
    assert_int_equal(entry->dtype, BALORA_F32);
    assert_int_equal(entry->shape[0], VOCABULARY);
    int64_t hidden = entry->shape[1];
    assert_in_range(hidden, 1, VOCABULARY);
    for (int64_t i = 0; i < hidden; i++)
        row[i] = NAN;
    FILE *stream = fopen(path, "r+b");
    assert_non_null(stream);
    long place = (long)entry->offset + POISON * (long)hidden * (long)sizeof(float);
    assert_int_equal(fseek(stream, place, SEEK_SET), 0);
    assert_int_equal(fwrite(row, sizeof(float), (size_t)hidden, stream), (size_t)hidden);
    assert_int_equal(fclose(stream), 0);
    safetensors_close(&file);
}

static const char *poisoned_model(scratch *base) {
    const char *folder = scratch_path(base, "model");
    char command[2048], weights[512];
    snprintf(command, sizeof command, "cp -r %s %s", fixture_file("llama", "model"), folder);
    assert_int_equal(system(command), 0);
    snprintf(weights, sizeof weights, "%s/model.safetensors", folder);
    poison(base, weights);
    return folder;
}

static snapshot train_on(scratch *base, const char *model, int32_t method, const char *letters) {
    run self;
    open_run(&self, model, method, 1);
    open_sequences(&self, letters);
    start(&self);
    finish(&self);
    snapshot out = take_snapshot(base, self.adapter);
    close_run(&self);
    return out;
}

static void expect_skipped(run *self) {
    balora_step_metrics metrics = step(self);
    assert_int_equal(metrics.skipped, 1);
    assert_true(!isfinite(metrics.grad_norm));
    assert_non_null(strstr(self->warning, "skipped"));
}

/* The run goes on as if the poisoned sequence had never been there: parameters, moments and bias correction. */
static void check_no_trace(scratch *base, int32_t method) {
    const char *model = poisoned_model(base);
    snapshot expected = train_on(base, model, method, "abcd");
    run self;
    open_run(&self, model, method, 1);
    open_sequences(&self, "abpcppd");
    start(&self);
    assert_int_equal(step(&self).skipped, 0);
    assert_int_equal(step(&self).skipped, 0);
    snapshot before = take_snapshot(base, self.adapter);
    expect_skipped(&self);
    expect_same(base, self.adapter, &before);
    balora_step_metrics metrics = step(&self);
    assert_int_equal(metrics.skipped, 0);
    assert_int_equal(metrics.step, 4);
    assert_true(isfinite(metrics.loss));
    expect_skipped(&self);
    expect_skipped(&self);
    assert_int_equal(step(&self).skipped, 0);
    expect_done(&self);
    expect_same(base, self.adapter, &expected);
    drop(base, &before);
    drop(base, &expected);
    close_run(&self);
}

static void a_step_that_is_not_finite_leaves_no_trace(void **state) {
    check_no_trace(*state, BALORA_METHOD_LORA);
}

static void nor_does_it_with_every_term(void **state) {
    check_no_trace(*state, BALORA_METHOD_BA_LORA);
}

/* One poisoned micro-batch among finite ones: the whole step is skipped. */
static void one_micro_batch_spoils_its_step(void **state) {
    run self;
    open_run(&self, poisoned_model(*state), BALORA_METHOD_BA_LORA, 1);
    open_sequences(&self, "abpcdefg");
    self.train.gradient_accumulation = 4;
    start(&self);
    snapshot before = take_snapshot(*state, self.adapter);
    expect_skipped(&self);
    expect_same(*state, self.adapter, &before);
    assert_int_equal(step(&self).skipped, 0);
    expect_changed(*state, self.adapter, &before);
    drop(*state, &before);
    close_run(&self);
}

static void check_ten_in_a_row(scratch *base, int32_t method) {
    run self;
    open_run(&self, poisoned_model(base), method, 1);
    open_sequences(&self, "pppppppppapppppppppppp"); /* nine, one finite step, ten */
    start(&self);
    for (int i = 0; i < 9; i++)
        expect_skipped(&self);
    assert_int_equal(step(&self).skipped, 0);
    snapshot before = take_snapshot(base, self.adapter);
    for (int i = 0; i < 9; i++)
        expect_skipped(&self);
    expect_failure(balora_trainer_step(self.trainer, NULL), BALORA_ERROR_NUMERIC, "10 steps in a row");
    expect_same(base, self.adapter, &before);
    drop(base, &before);
    close_run(&self);
}

static void ten_such_steps_in_a_row_end_the_run(void **state) {
    check_ten_in_a_row(*state, BALORA_METHOD_LORA);
}

static void also_with_every_term(void **state) {
    check_ten_in_a_row(*state, BALORA_METHOD_BA_LORA);
}

/* The first step makes factors of 1e25, whose product overflows from the second step on. */
static void check_runaway(scratch *base, int32_t method) {
    run self;
    open_run(&self, fixture_file("llama", "model"), method, 1);
    open_sequences(&self, "abcdefghijklmno");
    self.train.learning_rate = 1e25;
    start(&self);
    assert_int_equal(step(&self).skipped, 0);
    snapshot before = take_snapshot(base, self.adapter);
    for (int i = 0; i < 9; i++)
        expect_skipped(&self);
    expect_failure(balora_trainer_step(self.trainer, NULL), BALORA_ERROR_NUMERIC, "learning rate");
    expect_same(base, self.adapter, &before);
    drop(base, &before);
    close_run(&self);
}

static void a_learning_rate_without_measure_is_told(void **state) {
    check_runaway(*state, BALORA_METHOD_LORA);
    check_runaway(*state, BALORA_METHOD_BA_LORA);
}

/* --- cancellation --- */

static void the_log_callback_cancels(void **state) {
    const char *model = poisoned_model(*state);
    snapshot expected = train_on(*state, model, BALORA_METHOD_BA_LORA, "ab");
    run self;
    open_run(&self, model, BALORA_METHOD_BA_LORA, 1);
    open_sequences(&self, "apb");
    start(&self);
    step(&self);
    snapshot before = take_snapshot(*state, self.adapter);
    self.stop_at_level = BALORA_LOG_WARNING;
    expect_failure(balora_trainer_step(self.trainer, NULL), BALORA_ERROR_CANCELLED, "log callback");
    expect_same(*state, self.adapter, &before);
    self.stop_at_level = 0;
    assert_int_equal(step(&self).skipped, 0);
    expect_done(&self);
    expect_same(*state, self.adapter, &expected);
    drop(*state, &before);
    drop(*state, &expected);
    close_run(&self);
}

static void the_context_cancels_until_it_is_resumed(void **state) {
    const char *model = fixture_file("llama", "model");
    snapshot expected = train_on(*state, model, BALORA_METHOD_BA_LORA, "abcd");
    run self;
    open_run(&self, model, BALORA_METHOD_BA_LORA, 1);
    open_sequences(&self, "abcd");
    start(&self);
    step(&self);
    snapshot before = take_snapshot(*state, self.adapter);
    balora_context_cancel(self.context);
    for (int i = 0; i < 3; i++)
        expect_failure(balora_trainer_step(self.trainer, NULL), BALORA_ERROR_CANCELLED,
                       "balora_context_cancel");
    balora_context_resume(self.context);
    expect_same(*state, self.adapter, &before);
    assert_int_equal(step(&self).step, 2);
    finish(&self);
    expect_same(*state, self.adapter, &expected);
    drop(*state, &before);
    drop(*state, &expected);
    close_run(&self);
}

static balora_context *to_cancel;

static void cancel_on_signal(int number) {
    (void)number;
    balora_context_cancel(to_cancel);
}

/* Cancel from a signal handler `microseconds` from now; 0: never mind. */
static void set_alarm(suseconds_t microseconds) {
    struct itimerval timer = {.it_value = {.tv_usec = microseconds}};
    assert_int_equal(setitimer(ITIMER_REAL, &timer, NULL), 0);
}

static void open_long_run(run *self) {
    open_run(self, fixture_file("llama", "model"), BALORA_METHOD_BA_LORA, 2);
    open_sequences(self, "abcdefghijklmnoqrst");
    self->train.gradient_accumulation = 32;
    self->train.max_steps = 12;
    start(self);
}

/* Wherever inside a step the signal comes: the steps before it count, the step itself leaves no trace. */
static void check_signal(scratch *base, suseconds_t microseconds) {
    run cancelled, reference;
    int64_t steps = 0;
    balora_status status;
    open_long_run(&cancelled);
    open_long_run(&reference);
    to_cancel = cancelled.context;
    set_alarm(microseconds);
    while ((status = balora_trainer_step(cancelled.trainer, NULL)) == BALORA_OK)
        steps++;
    set_alarm(0);
    balora_context_resume(cancelled.context);
    assert_true(status == BALORA_ERROR_CANCELLED || (status == BALORA_DONE && steps == 12));
    for (int64_t i = 0; i < steps; i++)
        step(&reference);
    snapshot expected = take_snapshot(base, reference.adapter);
    expect_same(base, cancelled.adapter, &expected);
    drop(base, &expected);
    finish(&cancelled);
    finish(&reference);
    expected = take_snapshot(base, reference.adapter);
    expect_same(base, cancelled.adapter, &expected);
    drop(base, &expected);
    close_run(&cancelled);
    close_run(&reference);
}

static void a_signal_handler_cancels_in_the_middle_of_a_step(void **state) {
    struct sigaction action = {.sa_handler = cancel_on_signal, .sa_flags = SA_RESTART}, before;
    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    static const suseconds_t times[] = {500, 7000, 23000};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        check_signal(*state, times[i]);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
}

/* --- states --- */

static void an_adapter_has_one_trainer_at_a_time(void **state) {
    (void)state;
    run self;
    balora_trainer *second;
    open_run(&self, fixture_file("llama", "model"), BALORA_METHOD_LORA, 1);
    open_sequences(&self, "abc");
    start(&self);
    step(&self);
    expect_failure(balora_trainer_create(&second, self.adapter, self.data, &self.train), BALORA_ERROR_STATE,
                   "has a trainer already");
    assert_null(second);
    step(&self); /* the first one is not disturbed */
    balora_trainer_free(self.trainer);
    start(&self);
    assert_int_equal(step(&self).step, 1);
    close_run(&self);
}

static void parts_of_different_models_do_not_mix(void **state) {
    (void)state;
    run self, other;
    balora_optimizer *optimizer;
    balora_trainer *trainer;
    open_run(&self, fixture_file("llama", "model"), BALORA_METHOD_LORA, 1);
    open_run(&other, fixture_file("llama", "model"), BALORA_METHOD_LORA, 1);
    open_sequences(&self, "abc");
    open_sequences(&other, "abc");
    expect_failure(balora_trainer_create(&trainer, self.adapter, other.data, &self.train),
                   BALORA_ERROR_MISMATCH, "different models");
    assert_null(trainer);
    expect_ok(balora_optimizer_create(&optimizer, other.adapter, NULL));
    self.train.optimizer = optimizer;
    expect_failure(balora_trainer_create(&trainer, self.adapter, self.data, &self.train),
                   BALORA_ERROR_MISMATCH, "another adapter");
    assert_null(trainer);
    self.train.optimizer = NULL;
    start(&self); /* the refusals did not leave the adapter taken */
    balora_optimizer_free(optimizer);
    close_run(&self);
    close_run(&other);
}

/* Class logits are a host's: a stream of tokens has no batch of examples. */
static void forms_of_understanding_are_refused(void **state) {
    (void)state;
    static const struct {
        int32_t preset;
        const char *part;
    } presets[] = {{BALORA_PRESET_UNDERSTANDING, "diversity_form covariance"},
                   {BALORA_PRESET_UNDERSTANDING_2024, "consistency_form normalized"}};
    run self;
    balora_trainer *trainer;
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    open_run(&self, fixture_file("llama", "model"), BALORA_METHOD_BA_LORA, 1);
    open_sequences(&self, "abc");
    for (int i = 0; i < 2; i++) {
        balora_regularizers *set;
        expect_ok(balora_regularizer_options_preset(&options, presets[i].preset));
        expect_ok(balora_regularizers_create(&set, self.context, &options));
        self.train.regularizers = set;
        expect_failure(balora_trainer_create(&trainer, self.adapter, self.data, &self.train),
                       BALORA_ERROR_UNSUPPORTED, presets[i].part);
        assert_null(trainer);
        balora_regularizers_free(set);
    }
    self.train.regularizers = NULL;
    start(&self); /* the refusals did not leave the adapter taken */
    close_run(&self);
}

static void a_run_ends_with_done(void **state) {
    run self;
    balora_trainer_information information = BALORA_TRAINER_INFORMATION_INIT;
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    open_run(&self, fixture_file("llama", "model"), BALORA_METHOD_BA_LORA, 1);
    open_sequences(&self, "abcde");
    self.train.batch_size = 2;
    self.train.epochs = 2;
    start(&self);
    expect_ok(balora_trainer_describe(self.trainer, &information));
    assert_int_equal(information.total_steps, 5);
    for (int64_t i = 1; i <= 5; i++) {
        metrics = step(&self);
        assert_int_equal(metrics.step, i);
        assert_int_equal(metrics.tokens, 2 * SEQUENCE_TOKENS);
        assert_true(fabs(metrics.epoch - 0.4 * (double)i) <= 1e-12);
    }
    snapshot before = take_snapshot(*state, self.adapter);
    metrics.step = -1;
    for (int i = 0; i < 3; i++)
        assert_int_equal(balora_trainer_step(self.trainer, &metrics), BALORA_DONE);
    assert_int_equal(metrics.step, -1); /* nothing was done, nothing is told */
    expect_same(*state, self.adapter, &before);
    drop(*state, &before);
    close_run(&self);
}

/* --- repetition --- */

/* One training on a shared model; without assertions, as it may run on a thread of its own. */
typedef struct job {
    balora_model *model;
    const char *data;
    int32_t method;
    uint64_t seed;
    int32_t device_graph;
    char folder[300];
    balora_status status;
    char failure[1024];
} job;

static balora_status train_job(const job *self, balora_adapter **adapter, balora_data **data,
                               balora_trainer **trainer) {
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    options.method = self->method;
    options.rank = 4;
    options.seed = self->seed;
    train.seed = self->seed;
    train.batch_size = 3;
    train.max_steps = 6;
    train.learning_rate = 1e-3;
    train.device_graph = self->device_graph;
    STATUS_TRY(balora_adapter_create(adapter, self->model, &options));
    STATUS_TRY(balora_data_open(data, self->model, self->data, NULL));
    STATUS_TRY(balora_trainer_create(trainer, *adapter, *data, &train));
    balora_status status;
    do
        status = balora_trainer_step(*trainer, NULL);
    while (status == BALORA_OK);
    return status == BALORA_DONE ? balora_adapter_save(*adapter, self->folder, NULL) : status;
}

static void *run_job(void *user) {
    job *self = user;
    balora_adapter *adapter = NULL;
    balora_data *data = NULL;
    balora_trainer *trainer = NULL;
    self->status = train_job(self, &adapter, &data, &trainer);
    if (self->status != BALORA_OK)
        snprintf(self->failure, sizeof self->failure, "%s: %s", balora_status_name(self->status),
                 balora_error_message());
    balora_trainer_free(trainer);
    balora_data_free(data);
    balora_adapter_free(adapter);
    return NULL;
}

static job make_job(scratch *base, balora_model *model, const char *name, int32_t method, uint64_t seed) {
    job out = {
        .model = model, .data = fixture_file("llama", "data.safetensors"), .method = method, .seed = seed};
    snprintf(out.folder, sizeof out.folder, "%s", scratch_path(base, name));
    return out;
}

static void expect_equal_jobs(scratch *base, const job *a, const job *b) {
    if (a->status != BALORA_OK || b->status != BALORA_OK)
        fail_msg("%s%s", a->failure, b->failure);
    snapshot first = read_snapshot(base, a->folder), second = read_snapshot(base, b->folder);
    assert_true(same(&first, &second));
    drop(base, &first);
    drop(base, &second);
}

static void open_shared(balora_context **context, balora_model **model, int32_t threads) {
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    balora_model_options where = test_model_options();
    options.threads = threads;
    expect_ok(balora_context_create(context, &options));
    expect_ok(balora_model_open(model, *context, fixture_file("llama", "model"), &where));
}

static void check_neighbours(scratch *base, int32_t threads) {
    balora_context *context;
    balora_model *model;
    pthread_t workers[2];
    open_shared(&context, &model, threads);
    job alone[2] = {make_job(base, model, "alone-0", BALORA_METHOD_BA_LORA, 1),
                    make_job(base, model, "alone-1", BALORA_METHOD_LORA, 2)};
    job together[2] = {make_job(base, model, "together-0", BALORA_METHOD_BA_LORA, 1),
                       make_job(base, model, "together-1", BALORA_METHOD_LORA, 2)};
    for (int i = 0; i < 2; i++)
        run_job(&alone[i]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&workers[i], NULL, run_job, &together[i]), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(workers[i], NULL), 0);
    for (int i = 0; i < 2; i++)
        expect_equal_jobs(base, &alone[i], &together[i]);
    balora_model_free(model);
    balora_context_free(context);
}

static void trainers_side_by_side_do_not_disturb_each_other(void **state) {
    check_neighbours(*state, 1);
}

static void nor_with_two_threads_each(void **state) {
    check_neighbours(*state, 2);
}

static void check_repetition(scratch *base, int32_t threads) {
    static const int32_t methods[] = {BALORA_METHOD_BA_LORA, BALORA_METHOD_LORA};
    for (int i = 0; i < 2; i++) {
        job jobs[2];
        for (int k = 0; k < 2; k++) {
            balora_context *context;
            balora_model *model;
            open_shared(&context, &model, threads);
            jobs[k] = make_job(base, model, k == 0 ? "first" : "second", methods[i], 3);
            run_job(&jobs[k]);
            balora_model_free(model);
            balora_context_free(context);
        }
        expect_equal_jobs(base, &jobs[0], &jobs[1]);
    }
}

static void a_run_repeats_to_the_bit(void **state) {
    check_repetition(*state, 1);
    check_repetition(*state, 2);
}

/* Ragged sequences in a random order: the graph changes its form from step to step. */
static void a_device_graph_changes_nothing(void **state) {
    balora_context *context;
    balora_model *model;
    open_shared(&context, &model, 2);
    job plain = make_job(*state, model, "plain", BALORA_METHOD_BA_LORA, 5);
    job graph = make_job(*state, model, "graph", BALORA_METHOD_BA_LORA, 5);
    graph.device_graph = 1;
    run_job(&plain);
    run_job(&graph);
    expect_equal_jobs(*state, &plain, &graph);
    balora_model_free(model);
    balora_context_free(context);
}

/* An argument filters tests by name. */
int main(int count, char **words) {
    if (count > 1)
        cmocka_set_test_filter(words[1]);
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(a_step_that_is_not_finite_leaves_no_trace),
        SCRATCH_TEST(nor_does_it_with_every_term),
        SCRATCH_TEST(one_micro_batch_spoils_its_step),
        SCRATCH_TEST(ten_such_steps_in_a_row_end_the_run),
        SCRATCH_TEST(also_with_every_term),
        SCRATCH_TEST(a_learning_rate_without_measure_is_told),
        SCRATCH_TEST(the_log_callback_cancels),
        SCRATCH_TEST(the_context_cancels_until_it_is_resumed),
        SCRATCH_TEST(a_signal_handler_cancels_in_the_middle_of_a_step),
        SCRATCH_TEST(an_adapter_has_one_trainer_at_a_time),
        SCRATCH_TEST(parts_of_different_models_do_not_mix),
        SCRATCH_TEST(forms_of_understanding_are_refused),
        SCRATCH_TEST(a_run_ends_with_done),
        SCRATCH_TEST(trainers_side_by_side_do_not_disturb_each_other),
        SCRATCH_TEST(nor_with_two_threads_each),
        SCRATCH_TEST(a_run_repeats_to_the_bit),
        SCRATCH_TEST(a_device_graph_changes_nothing),
    };
    return cmocka_run_group_tests_name("trainer", tests, NULL, NULL);
}
