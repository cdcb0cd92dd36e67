/* Options by key: what is described is settable, and every wrong value is refused with a message that helps.
 */
#include "api.h"

#include <locale.h>
#include <math.h>

/* Every option struct with its _INIT value. */
typedef union any_options {
    balora_context_options context;
    balora_model_options model;
    balora_adapter_options adapter;
    balora_regularizer_options regularizer;
    balora_optimizer_options optimizer;
    balora_data_options data;
    balora_train_options train;
    balora_run_options run;
    balora_pissa_options pissa;
    balora_export_options export;
} any_options;

static const struct {
    int32_t options;
    int64_t keys; /* the fields that have a key */
    any_options start;
} structs[] = {
    {BALORA_OPTIONS_CONTEXT, 3, {.context = BALORA_CONTEXT_OPTIONS_INIT}},
    {BALORA_OPTIONS_MODEL, 3, {.model = BALORA_MODEL_OPTIONS_INIT}},
    {BALORA_OPTIONS_ADAPTER, 17, {.adapter = BALORA_ADAPTER_OPTIONS_INIT}},
    {BALORA_OPTIONS_REGULARIZER, 16, {.regularizer = BALORA_REGULARIZER_OPTIONS_INIT}},
    {BALORA_OPTIONS_OPTIMIZER, 8, {.optimizer = BALORA_OPTIMIZER_OPTIONS_INIT}},
    {BALORA_OPTIONS_DATA, 2, {.data = BALORA_DATA_OPTIONS_INIT}},
    {BALORA_OPTIONS_TRAIN, 15, {.train = BALORA_TRAIN_OPTIONS_INIT}},
    {BALORA_OPTIONS_RUN, 7, {.run = BALORA_RUN_OPTIONS_INIT}},
    {BALORA_OPTIONS_PISSA, 4, {.pissa = BALORA_PISSA_OPTIONS_INIT}},
    {BALORA_OPTIONS_EXPORT, 3, {.export = BALORA_EXPORT_OPTIONS_INIT}},
};
enum { STRUCTS = sizeof structs / sizeof structs[0] };

typedef void (*option_visitor)(int32_t options, any_options *object,
                               const balora_option_description *description);

static void visit(option_visitor visitor) {
    for (size_t i = 0; i < STRUCTS; i++) {
        balora_option_description description = BALORA_OPTION_DESCRIPTION_INIT;
        int64_t count = 0;
        balora_status status;
        while ((status = balora_options_describe(structs[i].options, count, &description)) == BALORA_OK) {
            any_options object = structs[i].start;
            visitor(structs[i].options, &object, &description);
            count++;
        }
        assert_int_equal(status, BALORA_DONE);
        assert_int_equal(count, structs[i].keys);
    }
}

static void describe_one(int32_t options, any_options *object, const balora_option_description *description) {
    char text[64];
    assert_non_null(description->help);
    assert_true(strlen(description->help) > 10);
    assert_int_equal(description->choices != NULL, description->type == BALORA_OPTION_CHOICE);
    /* The default of the description is the default of the _INIT macro. */
    expect_done(balora_options_get(options, object, description->key, text, sizeof text));
    assert_string_equal(text, description->default_value);
    expect_done(balora_options_set(options, object, description->key, description->default_value));
    expect_done(balora_options_get(options, object, description->key, text, sizeof text));
    assert_string_equal(text, description->default_value);
}

static void every_key_is_described_and_has_its_default(void **state) {
    (void)state;
    visit(describe_one);
}

static void every_choice_is_settable(void **state) {
    (void)state;
    any_options object = structs[3].start;
    char text[64];
    static const char *const schedules[] = {"constant", "two_phase", "linear_warmup", "quadratic_warmup"};
    for (size_t i = 0; i < 4; i++) {
        expect_done(balora_options_set(BALORA_OPTIONS_REGULARIZER, &object, "focus_schedule", schedules[i]));
        expect_done(
            balora_options_get(BALORA_OPTIONS_REGULARIZER, &object, "focus_schedule", text, sizeof text));
        assert_string_equal(text, schedules[i]);
    }
    assert_int_equal(object.regularizer.focus_schedule, BALORA_FOCUS_QUADRATIC_WARMUP);
}

static void set_choices(int32_t options, any_options *object, const balora_option_description *description) {
    if (description->type != BALORA_OPTION_CHOICE)
        return;
    char choices[128], text[64];
    snprintf(choices, sizeof choices, "%s", description->choices);
    int count = 0;
    for (char *rest = choices, *choice; (choice = strtok_r(rest, "|", &rest)) != NULL; count++) {
        expect_done(balora_options_set(options, object, description->key, choice));
        expect_done(balora_options_get(options, object, description->key, text, sizeof text));
        assert_string_equal(text, choice);
    }
    assert_true(count >= 2);
    expect_failure(balora_options_set(options, object, description->key, "nonsense"), BALORA_ERROR_ARGUMENT,
                   description->choices);
    expect_failure(balora_options_set(options, object, description->key, ""), BALORA_ERROR_ARGUMENT,
                   description->key);
}

static void choices_are_what_is_taken(void **state) {
    (void)state;
    visit(set_choices);
}

static void set_bounds(int32_t options, any_options *object, const balora_option_description *description) {
    char text[64];
    if (description->type != BALORA_OPTION_INTEGER && description->type != BALORA_OPTION_NUMBER)
        return;
    any_options before = *object;
    static const char *const never[] = {"",    "x",   "1x",   " 1",  "1 ", "0x10",
                                        "nan", "inf", "-inf", "--1", "1e", "1,5"};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        expect_failure(balora_options_set(options, object, description->key, never[i]), BALORA_ERROR_ARGUMENT,
                       description->key);
    if (description->type == BALORA_OPTION_INTEGER)
        expect_failure(balora_options_set(options, object, description->key, "1.5"), BALORA_ERROR_ARGUMENT,
                       "an integer");
    if (isfinite(description->minimum) && description->minimum > -1e300) {
        snprintf(text, sizeof text, "%.0f", floor(description->minimum) - 1);
        expect_failure(balora_options_set(options, object, description->key, text), BALORA_ERROR_ARGUMENT,
                       description->key);
    }
    if (isfinite(description->maximum)) {
        snprintf(text, sizeof text, "%.0f", description->maximum * 2 + 1);
        expect_failure(balora_options_set(options, object, description->key, text), BALORA_ERROR_ARGUMENT,
                       description->key);
    }
    assert_memory_equal(object, &before, sizeof before);
}

static void values_out_of_bounds_are_refused(void **state) {
    (void)state;
    visit(set_bounds);
}

static void messages_say_what_was_expected(void **state) {
    (void)state;
    balora_adapter_options adapter = BALORA_ADAPTER_OPTIONS_INIT;
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    balora_optimizer_options optimizer = BALORA_OPTIMIZER_OPTIONS_INIT;
    expect_failure(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "rank", "0"), BALORA_ERROR_ARGUMENT,
                   "rank is \"0\"; expected an integer of at least 1 and at most 65536");
    expect_failure(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "alpha", "0"), BALORA_ERROR_ARGUMENT,
                   "expected a finite number greater than 0");
    expect_failure(balora_options_set(BALORA_OPTIONS_OPTIMIZER, &optimizer, "beta1", "1"),
                   BALORA_ERROR_ARGUMENT, "of at least 0 and below 1");
    expect_failure(balora_options_set(BALORA_OPTIONS_TRAIN, &train, "shuffle", "yes"), BALORA_ERROR_ARGUMENT,
                   "0 or 1, false or true");
    expect_failure(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "seed", "-1"), BALORA_ERROR_ARGUMENT,
                   "at most 18446744073709551615");
    expect_failure(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "rnak", "1"), BALORA_ERROR_NOT_FOUND,
                   "did you mean \"rank\"");
    expect_failure(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "struct_size", "1"),
                   BALORA_ERROR_NOT_FOUND, "no option");
    expect_failure(balora_options_set(99, &adapter, "rank", "1"), BALORA_ERROR_ARGUMENT, "options is 99");
}

static void values_are_stored(void **state) {
    (void)state;
    balora_adapter_options adapter = BALORA_ADAPTER_OPTIONS_INIT;
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    expect_done(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "rank", "32"));
    expect_done(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "seed", "18446744073709551615"));
    expect_done(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "use_rslora", "true"));
    expect_done(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "target_modules", "q_proj"));
    expect_done(balora_options_set(BALORA_OPTIONS_TRAIN, &train, "learning_rate", "2.5e-4"));
    assert_int_equal(adapter.rank, 32);
    assert_true(adapter.seed == UINT64_MAX);
    assert_int_equal(adapter.use_rslora, 1);
    assert_string_equal(adapter.target_modules, "q_proj");
    assert_true(train.learning_rate == 2.5e-4);
    expect_done(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "target_modules", ""));
    assert_null(adapter.target_modules);
}

static void a_small_buffer_is_refused(void **state) {
    (void)state;
    balora_adapter_options adapter = BALORA_ADAPTER_OPTIONS_INIT;
    char text[8];
    expect_done(balora_options_get(BALORA_OPTIONS_ADAPTER, &adapter, "method", text, sizeof text));
    assert_string_equal(text, "ba-lora");
    expect_failure(balora_options_get(BALORA_OPTIONS_ADAPTER, &adapter, "method", text, 7),
                   BALORA_ERROR_ARGUMENT, "8 bytes");
    assert_string_equal(text, "");
}

/* A host with a decimal comma: numbers are read and written with a point all the same. */
static void locale_does_not_matter(void **state) {
    (void)state;
    static const char *const commas[] = {"de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "de_DE"};
    const char *found = NULL;
    for (size_t i = 0; i < 4 && found == NULL; i++)
        found = setlocale(LC_ALL, commas[i]);
    if (found == NULL)
        skip();
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    char text[64];
    expect_done(balora_options_set(BALORA_OPTIONS_TRAIN, &train, "warmup_ratio", "0.25"));
    assert_true(train.warmup_ratio == 0.25);
    expect_done(balora_options_get(BALORA_OPTIONS_TRAIN, &train, "warmup_ratio", text, sizeof text));
    setlocale(LC_ALL, "C");
    assert_string_equal(text, "0.25");
}

/* method.md's defaults of understanding, in both forms. */
static void presets_are_the_papers(void **state) {
    (void)state;
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT,
                               init = BALORA_REGULARIZER_OPTIONS_INIT;
    options.lambda_svd = 7;
    expect_done(balora_regularizer_options_preset(&options, BALORA_PRESET_GENERATION));
    assert_memory_equal(&options, &init, sizeof init);
    expect_done(balora_regularizer_options_preset(&options, BALORA_PRESET_UNDERSTANDING));
    assert_true(options.lambda_consistency == 0.15 && options.lambda_diversity == 0.03 &&
                options.lambda_svd == 0.03 && options.svd_k == 5 && options.svd_norm == BALORA_SVD_NUCLEAR &&
                options.consistency_form == BALORA_CONSISTENCY_FORM_KL &&
                options.diversity_form == BALORA_DIVERSITY_FORM_COVARIANCE && options.temperature == 2);
    expect_done(balora_regularizer_options_preset(&options, BALORA_PRESET_UNDERSTANDING_2024));
    assert_true(options.lambda_consistency == 1e-4 && options.lambda_diversity == 3e-4 &&
                options.lambda_svd == 1e-4 &&
                options.consistency_form == BALORA_CONSISTENCY_FORM_NORMALIZED &&
                options.consistency_schedule == BALORA_CONSISTENCY_CONSTANT);
    init = options;
    expect_failure(balora_regularizer_options_preset(&options, 5), BALORA_ERROR_ARGUMENT, "preset is 5");
    assert_memory_equal(&options, &init, sizeof init);
    options.struct_size = 104; /* of a program that does not know the forms */
    expect_done(balora_regularizer_options_preset(&options, BALORA_PRESET_GENERATION));
    assert_true(options.struct_size == 104 && options.diversity_form == BALORA_DIVERSITY_FORM_COVARIANCE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_are_the_papers),
        cmocka_unit_test(every_key_is_described_and_has_its_default),
        cmocka_unit_test(every_choice_is_settable),
        cmocka_unit_test(choices_are_what_is_taken),
        cmocka_unit_test(values_out_of_bounds_are_refused),
        cmocka_unit_test(messages_say_what_was_expected),
        cmocka_unit_test(values_are_stored),
        cmocka_unit_test(a_small_buffer_is_refused),
        cmocka_unit_test(locale_does_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
