/*
 * What the headers say of threads: contexts are independent, a model is shared, a tokenizer is used by many at a time, cancellation
 * and descriptions come from any thread, and the detail of a failure is the thread's own. Also the program for the thread sanitizer
 * (scripts/check-memory): contexts have one thread each there, because OpenMP's own synchronization is invisible to it.
 */
#include "../api/api.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>

enum { WORKERS = 2, STEPS = 4 };

/* Called by each worker; `index` tells them apart. */
typedef void *(*worker_body)(void *user);

typedef struct worker {
    int index;
    balora_context *context;
    balora_model *model;
    balora_tokenizer *tokenizer;
    balora_trainer *trainer;
    double losses[STEPS], norms[STEPS];
    balora_status status;
    char message[256];
    atomic_int *stop;
} worker;

/* assert_... of cmocka belongs to the main thread: workers keep their first failure. */
static int keep(worker *self, balora_status status) {
    if (status == BALORA_OK)
        return 1;
    if (self->status == BALORA_OK) {
        self->status = status;
        snprintf(self->message, sizeof self->message, "%s", balora_error_message());
    }
    return 0;
}

static void run_workers(worker *workers, int count, worker_body body) {
    pthread_t threads[WORKERS];
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, body, &workers[i]), 0);
    for (int i = 0; i < count; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void expect_workers_done(const worker *workers, int count) {
    for (int i = 0; i < count; i++)
        if (workers[i].status != BALORA_OK)
            fail_msg("worker %d: %s \"%s\"", i, balora_status_name(workers[i].status), workers[i].message);
}

static balora_status make_context(balora_context **out) {
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    return balora_context_create(out, &options);
}

static balora_status open_model(balora_model **out, balora_context *context) {
    char path[1024];
    const char *folder = getenv("BALORA_FIXTURES");
    snprintf(path, sizeof path, "%s/llama/model", folder != NULL ? folder : "tests/oracle/fixtures");
    return balora_model_open(out, context, path, NULL);
}

/* Sixteen sequences of twelve tokens. */
static balora_status make_data(balora_data **out, balora_model *model) {
    enum { SEQUENCES = 16, LENGTH = 12 };
    int32_t ids[SEQUENCES * LENGTH];
    int64_t offsets[SEQUENCES + 1];
    for (int i = 0; i < SEQUENCES * LENGTH; i++)
        ids[i] = (i * 37 + i / 7) % 160;
    for (int i = 0; i <= SEQUENCES; i++)
        offsets[i] = i * LENGTH;
    return balora_data_from_tokens(out, model, ids, NULL, offsets, SEQUENCES);
}

/* Worker 0 trains BA-LoRA of rank 4, worker 1 LoRA of rank 2. The trainer keeps everything else alive. */
static balora_status make_trainer(balora_trainer **out, balora_model *model, int index) {
    balora_adapter_options shape = BALORA_ADAPTER_OPTIONS_INIT;
    balora_train_options options = BALORA_TRAIN_OPTIONS_INIT;
    balora_adapter *adapter = NULL;
    balora_data *data = NULL;
    shape.method = index == 0 ? BALORA_METHOD_BA_LORA : BALORA_METHOD_LORA;
    shape.rank = index == 0 ? 4 : 2;
    options.learning_rate = 1e-3;
    options.max_steps = STEPS;
    *out = NULL;
    balora_status status = balora_adapter_create(&adapter, model, &shape);
    if (status == BALORA_OK)
        status = make_data(&data, model);
    if (status == BALORA_OK)
        status = balora_trainer_create(out, adapter, data, &options);
    balora_data_free(data);
    balora_adapter_free(adapter);
    return status;
}

static void train(worker *self, balora_model *model) {
    balora_trainer *trainer;
    if (!keep(self, make_trainer(&trainer, model, self->index)))
        return;
    for (int i = 0; i < STEPS; i++) {
        balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
        keep(self, balora_trainer_step(trainer, &metrics));
        self->losses[i] = metrics.loss;
        self->norms[i] = metrics.grad_norm;
    }
    balora_trainer_free(trainer);
}

static void *train_alone(void *user) {
    worker *self = user;
    balora_context *context;
    balora_model *model;
    if (!keep(self, make_context(&context)))
        return NULL;
    if (keep(self, open_model(&model, context))) {
        train(self, model);
        balora_model_free(model);
    }
    balora_context_free(context);
    return NULL;
}

static void *train_shared(void *user) {
    worker *self = user;
    train(self, self->model);
    return NULL;
}

/* What each worker gives alone. */
static void train_in_turn(worker *expected) {
    for (int i = 0; i < WORKERS; i++) {
        expected[i] = (worker){.index = i};
        run_workers(&expected[i], 1, train_alone);
    }
    expect_workers_done(expected, WORKERS);
}

static void expect_equal_runs(const worker *found, const worker *expected) {
    expect_workers_done(found, WORKERS);
    for (int i = 0; i < WORKERS; i++)
        for (int s = 0; s < STEPS; s++) {
            if (found[i].losses[s] != expected[i].losses[s] || found[i].norms[s] != expected[i].norms[s])
                fail_msg("worker %d, step %d: loss %.17g, alone %.17g", i, s, found[i].losses[s],
                         expected[i].losses[s]);
            assert_true(isfinite(found[i].losses[s]) && found[i].losses[s] > 0);
        }
}

static void contexts_are_independent(void **state) {
    (void)state;
    worker expected[WORKERS], found[WORKERS] = {{.index = 0}, {.index = 1}};
    train_in_turn(expected);
    run_workers(found, WORKERS, train_alone);
    expect_equal_runs(found, expected);
}

static void trainers_share_a_model(void **state) {
    (void)state;
    balora_context *context;
    balora_model *model;
    worker expected[WORKERS];
    train_in_turn(expected);
    expect_done(make_context(&context));
    expect_done(open_model(&model, context));
    worker found[WORKERS] = {{.index = 0, .model = model}, {.index = 1, .model = model}};
    run_workers(found, WORKERS, train_shared);
    balora_model_free(model);
    balora_context_free(context);
    expect_equal_runs(found, expected);
}

/* Steps until something other than a done step comes. */
static void *step_until_stopped(void *user) {
    worker *self = user;
    do
        self->status = balora_trainer_step(self->trainer, NULL);
    while (self->status == BALORA_OK);
    snprintf(self->message, sizeof self->message, "%s", balora_error_message());
    return NULL;
}

static void *cancel(void *user) {
    worker *self = user;
    balora_context_cancel(self->context);
    return NULL;
}

static void another_thread_cancels(void **state) {
    (void)state;
    balora_context *context;
    balora_model *model;
    balora_trainer *trainer;
    pthread_t threads[2];
    expect_done(make_context(&context));
    expect_done(open_model(&model, context));
    expect_done(make_trainer(&trainer, model, 1));
    worker stepping = {.trainer = trainer}, cancelling = {.context = context};
    assert_int_equal(pthread_create(&threads[1], NULL, cancel, &cancelling), 0);
    assert_int_equal(pthread_create(&threads[0], NULL, step_until_stopped, &stepping), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    /* The run may have come to its end first; the next step is cancelled in any case. */
    assert_true(stepping.status == BALORA_ERROR_CANCELLED || stepping.status == BALORA_DONE);
    if (stepping.status == BALORA_ERROR_CANCELLED)
        assert_non_null(strstr(stepping.message, "cancel"));
    balora_context_resume(context);
    stepping.status = BALORA_OK;
    step_until_stopped(&stepping);
    assert_int_equal(stepping.status, BALORA_DONE);
    balora_trainer_free(trainer);
    balora_model_free(model);
    balora_context_free(context);
}

static void *look_on(void *user) {
    worker *self = user;
    do {
        balora_memory_statistics memory = BALORA_MEMORY_STATISTICS_INIT;
        balora_model_information model = BALORA_MODEL_INFORMATION_INIT;
        char *text = NULL;
        keep(self, balora_context_memory(self->context, &memory));
        keep(self, balora_model_describe(self->model, &model));
        keep(self, balora_context_describe(&text, self->context));
        balora_string_free(self->context, text);
    } while (atomic_load(self->stop) == 0);
    return NULL;
}

static void descriptions_come_during_training(void **state) {
    (void)state;
    balora_context *context;
    balora_model *model;
    atomic_int stop = 0;
    pthread_t looking;
    expect_done(make_context(&context));
    expect_done(open_model(&model, context));
    worker watcher = {.context = context, .model = model, .stop = &stop};
    worker training = {.index = 0, .model = model};
    assert_int_equal(pthread_create(&looking, NULL, look_on, &watcher), 0);
    run_workers(&training, 1, train_shared);
    atomic_store(&stop, 1);
    assert_int_equal(pthread_join(looking, NULL), 0);
    expect_workers_done(&training, 1);
    expect_workers_done(&watcher, 1);
    balora_model_free(model);
    balora_context_free(context);
}

static void *encode(void *user) {
    worker *self = user;
    static const char *const texts[WORKERS] = {"Hello, world! 12345", "  another text\n\nwith lines"};
    for (int i = 0; i < 50; i++) {
        int32_t ids[64];
        int64_t count;
        char text[256];
        int64_t bytes;
        keep(self, balora_tokenizer_encode(self->tokenizer, texts[self->index], -1, 0, ids, 64, &count));
        keep(self, balora_tokenizer_decode(self->tokenizer, ids, count, 0, text, sizeof text, &bytes));
        if (self->status == BALORA_OK && strcmp(text, texts[self->index]) != 0) {
            self->status = BALORA_ERROR_INTERNAL;
            snprintf(self->message, sizeof self->message, "\"%s\" came back", text);
        }
    }
    return NULL;
}

static void a_tokenizer_is_shared(void **state) {
    (void)state;
    char path[1024];
    balora_context *context;
    balora_tokenizer *tokenizer;
    const char *folder = getenv("BALORA_TOKENIZER_FIXTURES");
    snprintf(path, sizeof path, "%s/smollm2", folder != NULL ? folder : "tests/fixtures/tokenizer");
    expect_done(make_context(&context));
    expect_done(balora_tokenizer_open(&tokenizer, context, path));
    worker workers[WORKERS] = {{.index = 0, .tokenizer = tokenizer}, {.index = 1, .tokenizer = tokenizer}};
    run_workers(workers, WORKERS, encode);
    expect_workers_done(workers, WORKERS);
    balora_tokenizer_free(tokenizer);
    balora_context_free(context);
}

/* Each thread fails over and over, and must always read its own failure. */
static void *fail_often(void *user) {
    worker *self = user;
    for (int i = 0; i < 200; i++) {
        char path[64];
        balora_model *model;
        snprintf(path, sizeof path, "/nowhere/%d/%d", self->index, i);
        balora_status status = balora_model_open(&model, self->context, path, NULL);
        if (status != BALORA_ERROR_NOT_FOUND || strstr(balora_error_message(), path) == NULL)
            keep(self, BALORA_ERROR_INTERNAL);
    }
    return NULL;
}

static void failures_belong_to_threads(void **state) {
    (void)state;
    balora_context *context;
    expect_done(make_context(&context));
    worker workers[WORKERS] = {{.index = 0, .context = context}, {.index = 1, .context = context}};
    run_workers(workers, WORKERS, fail_often);
    expect_workers_done(workers, WORKERS);
    balora_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_are_independent), cmocka_unit_test(trainers_share_a_model),
        cmocka_unit_test(another_thread_cancels),   cmocka_unit_test(descriptions_come_during_training),
        cmocka_unit_test(a_tokenizer_is_shared),    cmocka_unit_test(failures_belong_to_threads),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
