/* NULL arguments, the context's allocator, messages, cancellation. */
#include "api.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void null_arguments_are_named(void **state) {
    (void)state;
    balora_context *context = NULL;
    balora_model *model = NULL;
    balora_adapter *adapter = NULL;
    balora_data *data = NULL;
    balora_trainer *trainer = NULL;
    balora_regularizers *set = NULL;
    balora_optimizer *optimizer = NULL;
    balora_tensor tensor = BALORA_TENSOR_INIT;
    balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
    balora_regularizer_terms terms = BALORA_REGULARIZER_TERMS_INIT;
    struct DLManagedTensor *plain;
    struct DLManagedTensorVersioned *versioned;
    char *text = NULL;
    const int32_t *ids, *labels;
    const int64_t offsets[2] = {0, 1};
    const int32_t token = 0;
    int64_t length;
    double lambdas[3];
    expect_done(balora_context_create(&context, NULL));
#define EXPECT_NULL(call, name) expect_failure(call, BALORA_ERROR_ARGUMENT, name " is NULL")
    EXPECT_NULL(balora_context_create(NULL, NULL), "balora_context_create: out");
    EXPECT_NULL(balora_context_memory(NULL, NULL), "balora_context_memory: context");
    EXPECT_NULL(balora_context_memory(context, NULL), "balora_context_memory: out");
    EXPECT_NULL(balora_context_describe(NULL, context), "balora_context_describe: out");
    EXPECT_NULL(balora_context_describe(&text, NULL), "balora_context_describe: context");
    EXPECT_NULL(balora_model_open(NULL, context, "x", NULL), "balora_model_open: out");
    EXPECT_NULL(balora_model_open(&model, NULL, "x", NULL), "balora_model_open: context");
    EXPECT_NULL(balora_model_open(&model, context, NULL, NULL), "balora_model_open: folder");
    EXPECT_NULL(balora_model_describe(NULL, NULL), "balora_model_describe: model");
    EXPECT_NULL(balora_adapter_create(NULL, model, NULL), "balora_adapter_create: out");
    EXPECT_NULL(balora_adapter_create(&adapter, NULL, NULL), "balora_adapter_create: model");
    EXPECT_NULL(balora_adapter_open(&adapter, NULL, "x"), "balora_adapter_open: model");
    EXPECT_NULL(balora_adapter_save(NULL, "x", NULL), "balora_adapter_save: adapter");
    EXPECT_NULL(balora_adapter_merge(NULL, "x"), "balora_adapter_merge: adapter");
    EXPECT_NULL(balora_adapter_export(NULL, "x", NULL), "balora_adapter_export: adapter");
    EXPECT_NULL(balora_adapter_describe(NULL, NULL), "balora_adapter_describe: adapter");
    EXPECT_NULL(balora_data_open(&data, NULL, "x", NULL), "balora_data_open: model");
    EXPECT_NULL(balora_data_from_tokens(&data, NULL, &token, NULL, offsets, 1),
                "balora_data_from_tokens: model");
    EXPECT_NULL(balora_data_describe(NULL, NULL), "balora_data_describe: data");
    EXPECT_NULL(balora_data_sequence(NULL, 0, &ids, &labels, &length), "balora_data_sequence: data");
    EXPECT_NULL(balora_regularizers_create(&set, NULL, NULL), "balora_regularizers_create: context");
    EXPECT_NULL(balora_regularizers_weights(NULL, 0, 1, 0, lambdas),
                "balora_regularizers_weights: regularizers");
    EXPECT_NULL(balora_regularizers_evaluate(NULL, &inputs, &terms),
                "balora_regularizers_evaluate: regularizers");
    EXPECT_NULL(balora_regularizer_options_preset(NULL, 0), "balora_regularizer_options_preset: out");
    EXPECT_NULL(balora_optimizer_create(&optimizer, NULL, NULL), "balora_optimizer_create: adapter");
    EXPECT_NULL(balora_tensor_contiguous(NULL, NULL, BALORA_F32, 0, NULL), "balora_tensor_contiguous: out");
    EXPECT_NULL(balora_tensor_contiguous(&tensor, NULL, BALORA_F32, 1, NULL),
                "balora_tensor_contiguous: shape");
    EXPECT_NULL(balora_tensor_from_dlpack(NULL, NULL), "balora_tensor_from_dlpack: out");
    EXPECT_NULL(balora_tensor_from_dlpack(&tensor, NULL), "balora_tensor_from_dlpack: managed");
    EXPECT_NULL(balora_tensor_from_dlpack_versioned(&tensor, NULL),
                "balora_tensor_from_dlpack_versioned: managed");
    EXPECT_NULL(balora_tensor_to_dlpack(NULL, context, &tensor, NULL, NULL), "balora_tensor_to_dlpack: out");
    EXPECT_NULL(balora_tensor_to_dlpack(&plain, NULL, &tensor, NULL, NULL),
                "balora_tensor_to_dlpack: context");
    EXPECT_NULL(balora_tensor_to_dlpack_versioned(&versioned, context, NULL, NULL, NULL),
                "balora_tensor_to_dlpack_versioned: tensor");
    EXPECT_NULL(balora_trainer_create(&trainer, NULL, NULL, NULL), "balora_trainer_create: adapter");
    EXPECT_NULL(balora_trainer_step(NULL, NULL), "balora_trainer_step: trainer");
    EXPECT_NULL(balora_trainer_describe(NULL, NULL), "balora_trainer_describe: trainer");
    EXPECT_NULL(balora_evaluate(NULL, NULL, NULL, NULL, NULL, NULL), "balora_evaluate: out");
    EXPECT_NULL(balora_options_describe(BALORA_OPTIONS_TRAIN, 0, NULL), "balora_options_describe: out");
    EXPECT_NULL(balora_options_set(BALORA_OPTIONS_TRAIN, NULL, "epochs", "1"), "balora_options_set: object");
    EXPECT_NULL(balora_options_get(BALORA_OPTIONS_TRAIN, NULL, "epochs", NULL, 0),
                "balora_options_get: object");
    balora_context_free(context);
}

static void freeing_nothing_is_allowed(void **state) {
    (void)state;
    balora_context_free(NULL);
    balora_model_free(NULL);
    balora_adapter_free(NULL);
    balora_data_free(NULL);
    balora_regularizers_free(NULL);
    balora_optimizer_free(NULL);
    balora_trainer_free(NULL);
    balora_string_free(NULL, NULL);
    balora_context_cancel(NULL);
    balora_context_resume(NULL);
    assert_non_null(balora_error_message()); /* and the thread's message is never NULL */
}

static void out_is_null_after_a_failure(void **state) {
    (void)state;
    balora_context *context;
    expect_done(balora_context_create(&context, NULL));
    balora_model *model = (balora_model *)&context;
    expect_failure(balora_model_open(&model, context, "no/such/folder", NULL), BALORA_ERROR_NOT_FOUND,
                   "no/such/folder");
    assert_null(model);
    balora_regularizers *set;
    expect_done(balora_regularizers_create(&set, context, NULL));
    double lambdas[3];
    expect_failure(balora_regularizers_weights(set, 5, 5, 0, lambdas), BALORA_ERROR_ARGUMENT,
                   "step is 5 of 5");
    expect_failure(balora_regularizers_weights(set, -1, 5, 0, lambdas), BALORA_ERROR_ARGUMENT, "step is -1");
    expect_failure(balora_regularizers_weights(set, 0, 5, 1.5, lambdas), BALORA_ERROR_ARGUMENT,
                   "1.5; expected 0 to 1");
    balora_regularizers_free(set);
    balora_context_free(context);
}

typedef struct counts {
    int64_t taken, given, bytes;
} counts;

static void *take(uint64_t bytes, uint64_t alignment, void *user) {
    counts *self = user;
    self->taken++;
    self->bytes += (int64_t)bytes;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void give(void *memory, uint64_t bytes, void *user) {
    counts *self = user;
    self->given++;
    self->bytes -= (int64_t)bytes;
    free(memory);
}

static void *refuse(uint64_t bytes, uint64_t alignment, void *user) {
    (void)bytes;
    (void)alignment;
    (void)user;
    return NULL;
}

static void memory_comes_from_the_context(void **state) {
    (void)state;
    counts found = {0, 0, 0};
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.allocate = take;
    balora_context *context;
    expect_failure(balora_context_create(&context, &options), BALORA_ERROR_ARGUMENT, "allocate and release");
    options.release = give;
    options.allocator_user = &found;
    expect_done(balora_context_create(&context, &options));
    char *text;
    expect_done(balora_context_describe(&text, context));
    assert_true(found.taken >= 2);
    assert_non_null(strstr(text, "\"version\""));
    balora_string_free(context, text);
    balora_context_free(context);
    assert_true(found.taken == found.given);
    assert_true(found.bytes == 0);
    options.allocate = refuse;
    expect_failure(balora_context_create(&context, &options), BALORA_ERROR_MEMORY, "context");
}

static void the_description_is_json_with_this_machine(void **state) {
    (void)state;
    balora_context *context;
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    char place[] = "/nowhere/plugin.so"; /* copied by the context */
    options.plugin_path = place;
    expect_done(balora_context_create(&context, &options));
    memset(place, 'x', sizeof place - 1);
    char *text;
    expect_done(balora_context_describe(&text, context));
    static const char *const parts[] = {
        "\"backends\":[\"cpu\"", "\"features\":[\"",
        "\"threads\":1",         "\"abi\":0",
        "\"OpenBLAS\":\"",       "\"state\":\"not found\",\"searched\":\"/nowhere/plugin.so\""};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (strstr(text, parts[i]) == NULL)
            fail_msg("%s lacks %s", text, parts[i]);
    assert_non_null(strstr(text, balora_version()));
    balora_string_free(context, text);
    /* A plugin that is absent is no failure of the call, which leaves the last one's detail alone. */
    expect_failure(balora_context_describe(&text, NULL), BALORA_ERROR_ARGUMENT, "context");
    expect_done(balora_context_describe(&text, context));
    expect_failure(balora_error_status(), BALORA_ERROR_ARGUMENT, "balora_context_describe: context is NULL");
    balora_string_free(context, text);
    balora_context_free(context);
}

static void a_cancelled_context_refuses_until_resumed(void **state) {
    (void)state;
    balora_context *context;
    balora_regularizers *set;
    expect_done(balora_context_create(&context, NULL));
    balora_context_cancel(context);
    expect_failure(balora_regularizers_create(&set, context, NULL), BALORA_ERROR_CANCELLED,
                   "balora_context_cancel");
    assert_null(set);
    balora_context_resume(context);
    expect_done(balora_regularizers_create(&set, context, NULL));
    balora_context_free(context); /* the set keeps it alive */
    balora_regularizers_free(set);
}

static void a_forked_child_gets_an_error(void **state) {
    (void)state;
    balora_context *context;
    balora_regularizers *set;
    expect_done(balora_context_create(&context, NULL));
    pid_t child = fork();
    if (child == 0)
        _exit(balora_regularizers_create(&set, context, NULL) == BALORA_ERROR_STATE ? 0 : 1);
    int found = -1;
    assert_int_equal(waitpid(child, &found, 0), child);
    assert_int_equal(found, 0);
    balora_context_free(context);
}

static void versions_and_names(void **state) {
    (void)state;
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", BALORA_VERSION_MAJOR, BALORA_VERSION_MINOR,
             BALORA_VERSION_PATCH);
    assert_string_equal(balora_version(), expected);
    assert_int_equal(balora_abi_version(), BALORA_ABI_VERSION);
    assert_string_equal(balora_status_name(BALORA_ERROR_FORMAT), "BALORA_ERROR_FORMAT");
    assert_string_equal(balora_status_name(-5), "unknown status");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_arguments_are_named),
        cmocka_unit_test(freeing_nothing_is_allowed),
        cmocka_unit_test(out_is_null_after_a_failure),
        cmocka_unit_test(memory_comes_from_the_context),
        cmocka_unit_test(the_description_is_json_with_this_machine),
        cmocka_unit_test(a_cancelled_context_refuses_until_resumed),
        cmocka_unit_test(a_forked_child_gets_an_error),
        cmocka_unit_test(versions_and_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
