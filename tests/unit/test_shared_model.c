/*
 * Several adapters on one immutable model: what trains, evaluates or starts in threads beside each other is, byte for
 * byte, what it is alone.
 */
#include <pthread.h>

#include "adapters.h"
#include "balora/balora.h"

#define RUNS  3
#define STEPS 12

/* One adapter, trained and evaluated: all of it in one thread. */
typedef struct job {
    balora_context *context;
    balora_model *model;
    const char *data;
    int32_t method;
    const char *keys[4], *values[4];
    balora_status status;
    char failure[1024];
    float *parameters; /* after the last step */
    int64_t count;
    double losses[STEPS];
    balora_evaluation evaluation; /* between steps, of the adapter as it is then */
    balora_evaluation base;       /* of the bare model */
} job;

static balora_status run_steps(job *self, balora_trainer *trainer, balora_adapter *adapter,
                               balora_data *data) {
    for (int step = 0; step < STEPS; step++) {
        balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
        STATUS_TRY(balora_trainer_step(trainer, &metrics));
        self->losses[step] = metrics.loss;
        if (step != STEPS / 2)
            continue;
        self->evaluation = self->base = (balora_evaluation)BALORA_EVALUATION_INIT;
        STATUS_TRY(balora_evaluate(&self->evaluation, self->model, adapter, data, NULL, NULL));
        STATUS_TRY(balora_evaluate(&self->base, self->model, NULL, data, NULL, NULL));
    }
    return BALORA_OK;
}

static balora_status work(job *self) {
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    balora_adapter *adapter = NULL;
    balora_data *data = NULL;
    balora_trainer *trainer = NULL;
    balora_status status = BALORA_OK;
    options.method = self->method;
    options.rank = 4;
    train.learning_rate = 1e-2;
    train.max_steps = STEPS;
    for (int i = 0; i < 4 && self->keys[i] != NULL; i++)
        STATUS_GOTO(balora_options_set(BALORA_OPTIONS_ADAPTER, &options, self->keys[i], self->values[i]));
    STATUS_GOTO(balora_adapter_create(&adapter, self->model, &options));
    STATUS_GOTO(balora_data_open(&data, self->model, self->data, NULL));
    STATUS_GOTO(balora_trainer_create(&trainer, adapter, data, &train));
    STATUS_GOTO(run_steps(self, trainer, adapter, data));
    self->count = adapter_parameters(adapter).cols;
    self->parameters = calloc((size_t)self->count, sizeof *self->parameters);
    STATUS_GOTO(adapter_download(adapter, adapter_parameters(adapter), self->parameters));
fail:
    balora_trainer_free(trainer);
    balora_data_free(data);
    balora_adapter_free(adapter);
    return status;
}

static void *run(void *argument) {
    job *self = argument;
    self->status = work(self);
    snprintf(self->failure, sizeof self->failure, "%s", balora_error_message()); /* it is the thread's own */
    return NULL;
}

static void make_jobs(job jobs[RUNS], balora_context *context, balora_model *model, const char *data) {
    const job kinds[RUNS] = {{.method = BALORA_METHOD_BA_LORA,
                              .keys = {"modules_to_save", "seed"},
                              .values = {"lm_head,norm", "3"}},
                             {.method = BALORA_METHOD_LORA,
                              .keys = {"bias", "target_modules"},
                              .values = {"lora_only", "q_proj,up_proj"}},
                             {.method = BALORA_METHOD_FULL}};
    for (int i = 0; i < RUNS; i++) {
        jobs[i] = kinds[i];
        jobs[i].context = context;
        jobs[i].model = model;
        jobs[i].data = data;
    }
}

static void expect_same(const job *beside, const job *alone) {
    if (beside->status != BALORA_OK || alone->status != BALORA_OK)
        fail_msg("%s / %s", beside->failure, alone->failure);
    assert_true(alone->count > 0 && beside->count == alone->count);
    assert_memory_equal(beside->losses, alone->losses, sizeof alone->losses);
    assert_true(alone->losses[STEPS - 1] != alone->losses[0]); /* it has trained */
    assert_memory_equal(beside->parameters, alone->parameters, (size_t)alone->count * sizeof(float));
    assert_true(beside->evaluation.loss == alone->evaluation.loss && alone->evaluation.drift > 0);
    assert_true(beside->evaluation.drift == alone->evaluation.drift);
    assert_true(beside->base.loss == alone->base.loss && alone->base.drift == 0);
}

static void threads_on_one_model_do_not_meet(void **state) {
    (void)state;
    char folder[600], data[600];
    balora_context_options settings = BALORA_CONTEXT_OPTIONS_INIT;
    balora_model_options options = test_model_options();
    balora_context *context;
    balora_model *model;
    job alone[RUNS], beside[RUNS];
    pthread_t threads[RUNS];
    settings.threads = 1;
    snprintf(folder, sizeof folder, "%s", fixture_path("llama-biases/model"));
    snprintf(data, sizeof data, "%s", fixture_path("llama-biases/data.safetensors"));
    expect_ok(balora_context_create(&context, &settings));
    expect_ok(balora_model_open(&model, context, folder, &options));
    make_jobs(alone, context, model, data);
    make_jobs(beside, context, model, data);
    for (int i = 0; i < RUNS; i++)
        run(&alone[i]);
    for (int i = 0; i < RUNS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run, &beside[i]), 0);
    for (int i = 0; i < RUNS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < RUNS; i++) {
        expect_same(&beside[i], &alone[i]);
        free(alone[i].parameters);
        free(beside[i].parameters);
    }
    balora_model_free(model);
    balora_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(threads_on_one_model_do_not_meet)};
    return cmocka_run_group_tests_name("shared_model", tests, NULL, NULL);
}
