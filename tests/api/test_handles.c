/* Handles over a small model: opened, described, used, refused, and freed in any order. */
#include "api.h"

#include <unistd.h>

/* Everything that a run needs, in the order of its making. */
typedef struct handles {
    balora_context *context;
    balora_model *model;
    balora_data *data;
    balora_adapter *adapter;
    balora_regularizers *regularizers;
    balora_optimizer *optimizer;
    balora_trainer *trainer;
} handles;

static const int32_t tokens[] = {3, 5, 7, 9, 11, 4, 6, 8};
static const int64_t offsets[] = {0, 5, 8};

static void open_model(handles *self) {
    expect_done(balora_context_create(&self->context, NULL));
    expect_done(balora_model_open(&self->model, self->context, fixture("llama/model"), NULL));
}

static void open_all(handles *self) {
    balora_adapter_options adapter = BALORA_ADAPTER_OPTIONS_INIT;
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    adapter.rank = 4;
    open_model(self);
    expect_done(balora_data_from_tokens(&self->data, self->model, tokens, NULL, offsets, 2));
    expect_done(balora_adapter_create(&self->adapter, self->model, &adapter));
    expect_done(balora_regularizers_create(&self->regularizers, self->context, NULL));
    expect_done(balora_optimizer_create(&self->optimizer, self->adapter, NULL));
    train.regularizers = self->regularizers;
    train.optimizer = self->optimizer;
    train.max_steps = 2;
    train.batch_size = 2;
    expect_done(balora_trainer_create(&self->trainer, self->adapter, self->data, &train));
}

static void free_part(handles *self, int part) {
    switch (part) {
    case 0:
        balora_context_free(self->context);
        break;
    case 1:
        balora_model_free(self->model);
        break;
    case 2:
        balora_data_free(self->data);
        break;
    case 3:
        balora_adapter_free(self->adapter);
        break;
    case 4:
        balora_regularizers_free(self->regularizers);
        break;
    case 5:
        balora_optimizer_free(self->optimizer);
        break;
    default:
        balora_trainer_free(self->trainer);
    }
}

static void handles_are_freed_in_any_order(void **state) {
    (void)state;
    static const int orders[][7] = {{0, 1, 2, 3, 4, 5, 6}, {6, 5, 4, 3, 2, 1, 0}, {3, 0, 5, 6, 1, 4, 2},
                                    {1, 3, 2, 0, 6, 5, 4}, {5, 4, 2, 1, 0, 3, 6}, {2, 6, 0, 3, 1, 5, 4}};
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        handles self = {0};
        open_all(&self);
        for (int part = 0; part < 7; part++)
            free_part(&self, orders[i][part]);
    }
}

/* The trainer alone keeps alive what it works on. */
static void a_trainer_keeps_its_parents(void **state) {
    (void)state;
    handles self = {0};
    open_all(&self);
    for (int part = 0; part < 6; part++)
        free_part(&self, part);
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    expect_done(balora_trainer_step(self.trainer, &metrics));
    assert_int_equal(metrics.step, 1);
    assert_int_equal(metrics.tokens, 8);
    expect_done(balora_trainer_step(self.trainer, NULL));
    assert_int_equal(balora_trainer_step(self.trainer, NULL), BALORA_DONE);
    balora_trainer_free(self.trainer);
}

static void a_run_is_described(void **state) {
    (void)state;
    handles self = {0};
    open_all(&self);
    balora_model_information model = BALORA_MODEL_INFORMATION_INIT;
    balora_adapter_information adapter = BALORA_ADAPTER_INFORMATION_INIT;
    balora_data_information data = BALORA_DATA_INFORMATION_INIT;
    balora_trainer_information trainer = BALORA_TRAINER_INFORMATION_INIT;
    expect_done(balora_model_describe(self.model, &model));
    expect_done(balora_adapter_describe(self.adapter, &adapter));
    expect_done(balora_data_describe(self.data, &data));
    expect_done(balora_trainer_describe(self.trainer, &trainer));
    assert_string_equal(model.family, "llama");
    assert_true(model.struct_size == sizeof model);
    assert_true(model.parameters > 0 && model.weight_bytes >= 2 * model.parameters);
    assert_int_equal(adapter.rank, 4);
    assert_int_equal(adapter.modules, model.layers * 7);
    assert_int_equal(data.sequences, 2);
    assert_int_equal(data.tokens, 8);
    assert_int_equal(data.longest_sequence, 5);
    assert_int_equal(trainer.total_steps, 2);
    assert_true(trainer.activation_bytes > 0 && trainer.head_bytes > 0);
    for (int part = 0; part < 7; part++)
        free_part(&self, part);
}

static void sequences_are_borrowed(void **state) {
    (void)state;
    handles self = {0};
    open_model(&self);
    expect_done(balora_data_from_tokens(&self.data, self.model, tokens, NULL, offsets, 2));
    const int32_t *ids, *labels;
    int64_t length;
    expect_done(balora_data_sequence(self.data, 1, &ids, &labels, &length));
    assert_int_equal(length, 3);
    assert_memory_equal(ids, tokens + 5, 3 * sizeof *ids);
    assert_memory_equal(labels, tokens + 5, 3 * sizeof *ids);
    expect_failure(balora_data_sequence(self.data, 2, &ids, &labels, &length), BALORA_ERROR_ARGUMENT, "2");
    assert_null(ids);
    expect_failure(balora_data_sequence(self.data, -1, &ids, &labels, &length), BALORA_ERROR_ARGUMENT, "-1");
    balora_data_free(self.data);
    balora_model_free(self.model);
    balora_context_free(self.context);
}

static void wrong_data_is_refused(void **state) {
    (void)state;
    handles self = {0};
    open_model(&self);
    static const int32_t strange[] = {3, 1000000, 7};
    static const int64_t backwards[] = {0, 2, 1};
    static const int64_t late[] = {1, 2};
    static const int64_t one[] = {0, 3};
    expect_failure(balora_data_from_tokens(&self.data, self.model, strange, NULL, one, 1),
                   BALORA_ERROR_MISMATCH, "1000000");
    assert_null(self.data);
    expect_failure(balora_data_from_tokens(&self.data, self.model, tokens, NULL, backwards, 2),
                   BALORA_ERROR_ARGUMENT, "offsets");
    expect_failure(balora_data_from_tokens(&self.data, self.model, tokens, NULL, late, 1),
                   BALORA_ERROR_ARGUMENT, "offsets");
    expect_failure(balora_data_from_tokens(&self.data, self.model, tokens, NULL, offsets, 0),
                   BALORA_ERROR_ARGUMENT, "sequences is 0");
    expect_failure(balora_data_open(&self.data, self.model, "nowhere.safetensors", NULL),
                   BALORA_ERROR_NOT_FOUND, "nowhere.safetensors");
    expect_failure(balora_data_open(&self.data, self.model, "rows.csv", NULL), BALORA_ERROR_UNSUPPORTED,
                   "rows.csv");
    balora_model_free(self.model);
    balora_context_free(self.context);
}

static void wrong_adapters_are_refused(void **state) {
    (void)state;
    handles self = {0};
    open_model(&self);
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    options.target_modules = "q_prj";
    expect_failure(balora_adapter_create(&self.adapter, self.model, &options), BALORA_ERROR_ARGUMENT,
                   "q_proj");
    options = (balora_adapter_options)BALORA_ADAPTER_OPTIONS_INIT;
    options.rank = 4096; /* the fixture's sides are far smaller */
    expect_failure(balora_adapter_create(&self.adapter, self.model, &options), BALORA_ERROR_ARGUMENT, "rank");
    options = (balora_adapter_options)BALORA_ADAPTER_OPTIONS_INIT;
    options.method = 35;
    expect_failure(balora_adapter_create(&self.adapter, self.model, &options), BALORA_ERROR_ARGUMENT,
                   "ba-lora|pissa|lora|dora|full");
    assert_null(self.adapter);
    expect_failure(balora_adapter_open(&self.adapter, self.model, "no/adapter"), BALORA_ERROR_NOT_FOUND,
                   "no/adapter");
    assert_null(self.adapter);
    balora_model_free(self.model);
    balora_context_free(self.context);
}

static void an_unknown_device_is_told(void **state) {
    (void)state;
    handles self = {0};
    balora_model_options options = BALORA_MODEL_OPTIONS_INIT;
    options.device = "cuda:0";
    expect_done(balora_context_create(&self.context, NULL));
    expect_failure(balora_model_open(&self.model, self.context, fixture("llama/model"), &options),
                   BALORA_ERROR_UNSUPPORTED, "cuda:0");
    assert_null(self.model);
    balora_context_free(self.context);
}

static void an_adapter_has_one_trainer(void **state) {
    (void)state;
    handles self = {0};
    balora_trainer *second;
    open_all(&self);
    expect_failure(balora_trainer_create(&second, self.adapter, self.data, NULL), BALORA_ERROR_STATE,
                   "trainer");
    assert_null(second);
    balora_trainer_free(self.trainer);
    expect_done(balora_trainer_create(&self.trainer, self.adapter, self.data, NULL));
    for (int part = 0; part < 7; part++)
        free_part(&self, part);
}

static void data_of_another_model_is_refused(void **state) {
    (void)state;
    handles self = {0}, other = {0};
    open_model(&self);
    open_model(&other);
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    options.method = BALORA_METHOD_LORA;
    expect_done(balora_adapter_create(&self.adapter, self.model, &options));
    expect_done(balora_data_from_tokens(&other.data, other.model, tokens, NULL, offsets, 2));
    expect_failure(balora_trainer_create(&self.trainer, self.adapter, other.data, NULL),
                   BALORA_ERROR_MISMATCH, "model");
    balora_evaluation found = BALORA_EVALUATION_INIT;
    expect_failure(balora_evaluate(&found, other.model, self.adapter, other.data, NULL, NULL),
                   BALORA_ERROR_MISMATCH, "model");
    balora_adapter_free(self.adapter);
    balora_model_free(self.model);
    balora_context_free(self.context);
    balora_data_free(other.data);
    balora_model_free(other.model);
    balora_context_free(other.context);
}

static void a_cancelled_step_changes_nothing(void **state) {
    (void)state;
    handles self = {0};
    open_all(&self);
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    balora_context_cancel(self.context);
    expect_failure(balora_trainer_step(self.trainer, &metrics), BALORA_ERROR_CANCELLED, "cancel");
    assert_int_equal(metrics.step, 0);
    balora_context_resume(self.context);
    expect_done(balora_trainer_step(self.trainer, &metrics));
    assert_int_equal(metrics.step, 1);
    for (int part = 0; part < 7; part++)
        free_part(&self, part);
}

static int stop_at_once(const float *logits, int64_t rows, int64_t vocabulary, void *user) {
    assert_non_null(logits);
    *(int64_t *)user += rows * vocabulary;
    return 1;
}

static void a_logits_callback_can_stop(void **state) {
    (void)state;
    handles self = {0};
    open_all(&self);
    int64_t numbers = 0;
    balora_evaluation found = BALORA_EVALUATION_INIT;
    expect_failure(balora_evaluate(&found, self.model, self.adapter, self.data, stop_at_once, &numbers),
                   BALORA_ERROR_CANCELLED, "callback");
    assert_true(numbers > 0);
    expect_done(balora_evaluate(&found, self.model, NULL, self.data, NULL, NULL));
    assert_int_equal(found.tokens, 8);
    assert_int_equal(found.supervised_tokens, 6);
    assert_true(found.drift == 0.0 && found.loss > 0.0 && found.perplexity > 1.0);
    for (int part = 0; part < 7; part++)
        free_part(&self, part);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handles_are_freed_in_any_order),
        cmocka_unit_test(a_trainer_keeps_its_parents),
        cmocka_unit_test(a_run_is_described),
        cmocka_unit_test(sequences_are_borrowed),
        cmocka_unit_test(wrong_data_is_refused),
        cmocka_unit_test(wrong_adapters_are_refused),
        cmocka_unit_test(an_unknown_device_is_told),
        cmocka_unit_test(an_adapter_has_one_trainer),
        cmocka_unit_test(data_of_another_model_is_refused),
        cmocka_unit_test(a_cancelled_step_changes_nothing),
        cmocka_unit_test(a_logits_callback_can_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
