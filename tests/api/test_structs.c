/* Structs of older and newer callers, and of callers who forgot _INIT. */
#include "api.h"

#include <math.h>

/* An option struct as a newer header would have it. */
typedef struct newer_regularizer_options {
    balora_regularizer_options known;
    double appended[2];
} newer_regularizer_options;

static balora_context *context;

static int setup(void **state) {
    (void)state;
    return balora_context_create(&context, NULL) == BALORA_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    balora_context_free(context);
    return 0;
}

/* The weight of the consistency term at the first step shows what was imported. */
static double first_weight(const balora_regularizer_options *options) {
    balora_regularizers *set;
    double lambdas[3];
    expect_done(balora_regularizers_create(&set, context, options));
    expect_done(balora_regularizers_weights(set, 0, 100, 0.0, lambdas));
    balora_regularizers_free(set);
    return lambdas[0];
}

static void expect_weight(double found, double expected) {
    if (fabs(found - expected) > 1e-15)
        fail_msg("found %.17g, expected %.17g", found, expected);
}

static void null_means_defaults(void **state) {
    (void)state;
    expect_weight(first_weight(NULL), 0.025);
}

static void an_older_struct_keeps_the_defaults_of_what_it_lacks(void **state) {
    (void)state;
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    options.struct_size =
        offsetof(balora_regularizer_options, lambda_diversity); /* knows the first field only */
    options.lambda_consistency = 0.5;
    options.lambda_diversity = -7; /* out of bounds, but not the caller's */
    options.consistency_schedule = 99;
    expect_weight(first_weight(&options), 0.5);
}

static void a_newer_struct_is_taken_while_its_tail_is_zero(void **state) {
    (void)state;
    newer_regularizer_options options = {BALORA_REGULARIZER_OPTIONS_INIT, {0, 0}};
    options.known.struct_size = sizeof options;
    options.known.lambda_consistency = 0.25;
    expect_weight(first_weight(&options.known), 0.25);
    options.appended[1] = 1.0;
    balora_regularizers *set = (balora_regularizers *)&options;
    expect_failure(balora_regularizers_create(&set, context, &options.known), BALORA_ERROR_ABI,
                   "newer header");
    assert_null(set);
}

static void a_forgotten_init_is_told(void **state) {
    (void)state;
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_regularizers *set;
    static const uint64_t wrong[] = {0, 1, 8, 20, 1 << 20, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        options.struct_size = wrong[i];
        expect_failure(balora_regularizers_create(&set, context, &options), BALORA_ERROR_ABI, "struct_size");
        assert_null(set);
    }
}

static void padding_must_be_zero(void **state) {
    (void)state;
    balora_train_options options = BALORA_TRAIN_OPTIONS_INIT;
    balora_model *model;
    balora_adapter *adapter;
    balora_data *data;
    balora_trainer *trainer;
    expect_done(balora_model_open(&model, context, fixture("llama/model"), NULL));
    expect_done(balora_adapter_create(&adapter, model, NULL));
    expect_done(balora_data_open(&data, model, fixture("llama/data.safetensors"), NULL));
    options.reserved = 1;
    expect_failure(balora_trainer_create(&trainer, adapter, data, &options), BALORA_ERROR_ABI, "reserved");
    balora_data_free(data);
    balora_adapter_free(adapter);
    balora_model_free(model);
}

static void bounds_hold_for_structs_too(void **state) {
    (void)state;
    balora_regularizers *set;
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    options.temperature = 0.0;
    expect_failure(balora_regularizers_create(&set, context, &options), BALORA_ERROR_ARGUMENT,
                   "temperature is 0; expected a finite number greater than 0");
    options = (balora_regularizer_options)BALORA_REGULARIZER_OPTIONS_INIT;
    options.svd_norm = 1;
    expect_failure(balora_regularizers_create(&set, context, &options), BALORA_ERROR_ARGUMENT,
                   "svd_norm is 1; expected one of frobenius|nuclear");
    options = (balora_regularizer_options)BALORA_REGULARIZER_OPTIONS_INIT;
    options.consistency_schedule = BALORA_CONSISTENCY_ADAPTIVE;
    options.adaptive_minimum = 0.3;
    options.adaptive_maximum = 0.2;
    expect_failure(balora_regularizers_create(&set, context, &options), BALORA_ERROR_ARGUMENT,
                   "adaptive_maximum");
    balora_context *other;
    balora_context_options machine = BALORA_CONTEXT_OPTIONS_INIT;
    machine.threads = 1025;
    expect_failure(balora_context_create(&other, &machine), BALORA_ERROR_ARGUMENT, "threads is 1025");
    assert_null(other);
}

/* A program of the time before plugin_path. */
static void an_older_context_searches_for_its_plugins(void **state) {
    (void)state;
    balora_context *older;
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.struct_size = offsetof(balora_context_options, plugin_path);
    options.plugin_path = (const char *)&options; /* not the caller's */
    expect_done(balora_context_create(&older, &options));
    balora_context_free(older);
}

static void tf32_is_a_flag(void **state) {
    (void)state;
    balora_model *model;
    balora_model_options options = BALORA_MODEL_OPTIONS_INIT;
    options.tf32 = 2;
    expect_failure(balora_model_open(&model, context, "nowhere", &options), BALORA_ERROR_ARGUMENT,
                   "tf32 is 2; expected 0 or 1");
    assert_null(model);
}

static void information_follows_the_callers_size(void **state) {
    (void)state;
    struct {
        balora_memory_statistics known;
        uint64_t appended;
    } newer = {BALORA_MEMORY_STATISTICS_INIT, 77};
    newer.known.struct_size = sizeof newer;
    balora_regularizers *set; /* something that takes memory */
    expect_done(balora_regularizers_create(&set, context, NULL));
    expect_done(balora_context_memory(context, &newer.known));
    assert_true(newer.known.struct_size == sizeof newer);
    assert_true(newer.known.peak_bytes > 0);
    assert_true(newer.appended == 0);

    balora_memory_statistics older = BALORA_MEMORY_STATISTICS_INIT;
    older.struct_size = offsetof(balora_memory_statistics, peak_bytes);
    older.peak_bytes = 12345; /* beyond the caller's struct: stays */
    expect_done(balora_context_memory(context, &older));
    assert_true(older.current_bytes > 0);
    assert_true(older.peak_bytes == 12345);

    balora_regularizers_free(set);
    older.struct_size = 0;
    expect_failure(balora_context_memory(context, &older), BALORA_ERROR_ABI, "balora_memory_statistics");
}

static void options_of_an_older_struct_lack_newer_keys(void **state) {
    (void)state;
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    options.struct_size = offsetof(balora_adapter_options, alpha);
    char text[32];
    expect_done(balora_options_set(BALORA_OPTIONS_ADAPTER, &options, "rank", "3"));
    assert_int_equal(options.rank, 3);
    expect_failure(balora_options_set(BALORA_OPTIONS_ADAPTER, &options, "alpha", "3"), BALORA_ERROR_ABI,
                   "older");
    expect_failure(balora_options_get(BALORA_OPTIONS_ADAPTER, &options, "full_svd", text, sizeof text),
                   BALORA_ERROR_ABI, "older");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(null_means_defaults),
        cmocka_unit_test(an_older_struct_keeps_the_defaults_of_what_it_lacks),
        cmocka_unit_test(a_newer_struct_is_taken_while_its_tail_is_zero),
        cmocka_unit_test(a_forgotten_init_is_told),
        cmocka_unit_test(padding_must_be_zero),
        cmocka_unit_test(bounds_hold_for_structs_too),
        cmocka_unit_test(an_older_context_searches_for_its_plugins),
        cmocka_unit_test(tf32_is_a_flag),
        cmocka_unit_test(information_follows_the_callers_size),
        cmocka_unit_test(options_of_an_older_struct_lack_newer_keys),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
