/*
 * The library against PyTorch, Transformers and PEFT: every fixture, every property, one test each. README.md
 * says what the fixtures hold and how they are to be compared.
 */
#include <dirent.h>
#include <math.h>

#include "../device.h"
#include "model/model.h"
#include "oracle.h"

#define CASES_LIMIT    64
#define TERM_TOLERANCE 1e-4 /* relative, at step 1; grows with the step */
#define NEAR_ZERO      1e-6 /* absolute, for the consistency term, which starts at 0 */
#define TORCH_BF16     2e-2
#define RESULT         5e-3 /* of the norm of what training changed */
#define LOGITS         1e-4 /* of the largest logit */
#define SAME           1e-5 /* the library against itself in F32 */
#define ROUNDED_MODEL  2e-2 /* a merged model in 16 bits */
#define ROUNDED_DELTA                                                                                        \
    0.1 /* after steps with BF16 activations: AdamW divides each gradient by its own size, so that
                               the rounding of a small one moves its factor as far as a large gradient does */

typedef struct oracle_case {
    oracle_run run;
    char name[64];
    bool started;
    json_t *expected;         /* expected.json */
    safetensors_file tensors; /* expected.safetensors */
} oracle_case;

static allocator memory;
static oracle_case cases[CASES_LIMIT];

static void expect_ok(balora_status status) {
    if (status != BALORA_OK)
        fail_msg("%s: %s", balora_status_name(status), balora_error_message());
}

/* The case's run, made by the first test that asks for it. */
static oracle_case *start(void **state) {
    oracle_case *self = *state;
    if (!self->started) {
        self->started = true;
        oracle_start(&self->run, getenv("BALORA_FIXTURES"), self->name, NULL);
        if (json_read_object(&self->expected, &memory, oracle_path(&self->run, "expected.json"), 1 << 24) !=
                BALORA_OK ||
            safetensors_open(&self->tensors, &memory, oracle_path(&self->run, "expected.safetensors")) !=
                BALORA_OK)
            fail_msg("%s", balora_error_message());
    }
    if (self->run.status != BALORA_OK)
        fail_msg("step %lld: %s", (long long)self->run.step_count + 1, self->run.failure);
    return self;
}

/* On a device that computes BF16 models with BF16 activations they are held to torch's own bfloat16 arithmetic, whose
 * rounding is that tolerance; everything else to F32. */
static double allowed(const oracle_case *self, double tolerance) {
    return self->run.model->activation_dtype == BALORA_BF16 ? TORCH_BF16 : tolerance;
}

static void finish(oracle_case *self) {
    if (!self->started)
        return;
    safetensors_close(&self->tensors);
    json_decref(self->expected);
    oracle_finish(&self->run);
}

/* --- steps --- */

/* Is the term part of the run? The library does not compute one whose weight is 0. */
static bool has_term(const oracle_case *self, const char *term) {
    char key[32];
    snprintf(key, sizeof key, "lambda_%s", term);
    return oracle_option(&self->run, key) > 0;
}

/* Largest deviation of a step over its tolerance. */
static double compare(const char *what, int64_t step, double found, double expected, double relative,
                      double absolute) {
    double tolerance = relative * fabs(expected) + absolute;
    if (!(fabs(found - expected) <= tolerance))
        fail_msg("step %lld: %s is %.9g; expected %.9g, tolerance %.2g, found a difference of %.2g",
                 (long long)step, what, found, expected, tolerance, fabs(found - expected));
    return fabs(found - expected) / tolerance;
}

static double compare_steps(const oracle_case *self, const json_t *steps, double at_first, double near_zero) {
    double worst = 0;
    assert_int_equal(self->run.step_count, json_array_size(steps));
    for (int64_t i = 0; i < self->run.step_count; i++) {
        const balora_step_metrics *found = &self->run.steps[i];
        const json_t *step = json_array_get(steps, (size_t)i);
        const struct {
            const char *name;
            double found, absolute;
            bool counts;
        } terms[] = {{"task", found->task, 0, true},
                     {"consistency", found->consistency, near_zero, has_term(self, "consistency")},
                     {"diversity", found->diversity, 0, has_term(self, "diversity")},
                     {"svd", found->svd, 0, has_term(self, "svd")},
                     {"loss", found->loss, 0, true},
                     {"grad_norm", found->grad_norm, 0, true}};
        for (size_t t = 0; t < sizeof terms / sizeof terms[0]; t++)
            if (terms[t].counts)
                worst = fmax(worst, compare(terms[t].name, i + 1, terms[t].found,
                                            json_number_value(json_object_get(step, terms[t].name)),
                                            at_first * (double)(i + 1), terms[t].absolute));
    }
    return worst;
}

static void terms_agree(void **state) {
    const oracle_case *self = start(state);
    double worst = compare_steps(self, json_object_get(self->expected, "steps"),
                                 allowed(self, TERM_TOLERANCE), allowed(self, NEAR_ZERO));
    print_message("%s: terms within %.1e of their tolerances\n", self->name, worst);
}

/* The same training in torch's own bfloat16 arithmetic: its rounding is the tolerance. */
static void terms_agree_with_torch_in_bfloat16(void **state) {
    const oracle_case *self = start(state);
    const json_t *steps = json_object_get(self->expected, "terms_torch_bf16");
    double worst = 0;
    for (int64_t i = 0; i < self->run.step_count; i++) {
        const balora_step_metrics *found = &self->run.steps[i];
        const json_t *step = json_array_get(steps, (size_t)i);
        worst = fmax(worst, compare("task", i + 1, found->task,
                                    json_number_value(json_object_get(step, "task")), TORCH_BF16, 0));
        worst = fmax(worst, compare("diversity", i + 1, found->diversity,
                                    json_number_value(json_object_get(step, "diversity")), TORCH_BF16, 0));
        worst = fmax(worst, compare("svd", i + 1, found->svd, json_number_value(json_object_get(step, "svd")),
                                    TORCH_BF16, 0));
        worst = fmax(worst, compare("loss", i + 1, found->loss,
                                    json_number_value(json_object_get(step, "loss")), TORCH_BF16, 0));
        /* A small difference of two large terms: its own size is no measure of its rounding. */
        worst = fmax(worst, compare("consistency", i + 1, found->consistency,
                                    json_number_value(json_object_get(step, "consistency")), 0, TORCH_BF16));
        worst = fmax(worst, compare("grad_norm", i + 1, found->grad_norm,
                                    json_number_value(json_object_get(step, "grad_norm")), TORCH_BF16, 0));
    }
    print_message("%s: terms within %.1e of torch's bfloat16 tolerance\n", self->name, worst);
}

/* What does not depend on arithmetic in 32 bits agrees to the last digits. */
static void schedules_and_counts_agree(void **state) {
    const oracle_case *self = start(state);
    const json_t *steps = json_object_get(self->expected, "steps");
    bool adaptive = strcmp(json_string_value(json_object_get(self->run.options, "consistency_schedule")),
                           "adaptive") == 0;
    assert_int_equal(self->run.step_count, json_array_size(steps));
    for (int64_t i = 0; i < self->run.step_count; i++) {
        const balora_step_metrics *found = &self->run.steps[i];
        const json_t *step = json_array_get(steps, (size_t)i);
        assert_int_equal(found->step, i + 1);
        assert_int_equal(found->skipped, 0);
        assert_int_equal(found->tokens, json_integer_value(json_object_get(step, "tokens")));
        assert_int_equal(found->supervised_tokens,
                         json_integer_value(json_object_get(step, "supervised_tokens")));
        compare("learning_rate", i + 1, found->learning_rate,
                json_number_value(json_object_get(step, "learning_rate")), 1e-12, 1e-18);
        /* The adaptive weight follows the teacher's entropy. */
        compare("lambda_consistency", i + 1, found->lambda_consistency,
                json_number_value(json_object_get(step, "lambda_consistency")), adaptive ? 1e-5 : 1e-12, 0);
        compare("lambda_diversity", i + 1, found->lambda_diversity,
                json_number_value(json_object_get(step, "lambda_diversity")), 1e-12, 0);
        compare("lambda_svd", i + 1, found->lambda_svd,
                json_number_value(json_object_get(step, "lambda_svd")), 1e-12, 0);
    }
}

/* --- the result --- */

static double compare_delta(const oracle_case *self, const char *tensor) {
    char module[128];
    int64_t count = 0, found_count = 0;
    snprintf(module, sizeof module, "%.*s", (int)(strlen(tensor) - strlen(".delta")), tensor);
    double *expected = oracle_tensor(&self->tensors, tensor, &count);
    double *found = oracle_saved_delta(&self->run, "adapter", module, &found_count);
    assert_int_equal(found_count, count);
    double distance = oracle_distance(found, expected, count) / oracle_norm(expected, count);
    bool rounded = self->run.model->activation_dtype == BALORA_BF16;
    if (!(distance <= (rounded ? ROUNDED_DELTA : RESULT)))
        fail_msg("%s: s (B A - B0 A0) differs from the expected one by %.2e of its norm", module, distance);
    free(expected);
    free(found);
    return distance;
}

/* As a file's tensor [out]; relative to what training changed of it. */
static double compare_magnitude(const oracle_case *self, const char *tensor) {
    char module[128], name[256];
    int64_t count = 0, first_count = 0, found_count = 0;
    safetensors_file saved;
    snprintf(module, sizeof module, "%.*s", (int)(strlen(tensor) - strlen(".magnitude")), tensor);
    snprintf(name, sizeof name, "%s.first_magnitude", module);
    double *expected = oracle_tensor(&self->tensors, tensor, &count);
    double *first = oracle_tensor(&self->tensors, name, &first_count);
    expect_ok(safetensors_open(&saved, &memory,
                               oracle_scratch_path(&self->run, "adapter/adapter_model.safetensors")));
    snprintf(name, sizeof name, "base_model.model.%s.lora_magnitude_vector", module);
    double *found = oracle_tensor(&saved, name, &found_count);
    safetensors_close(&saved);
    assert_true(first != NULL && found != NULL && first_count == count && found_count == count);
    double change = oracle_distance(expected, first, count);
    double distance = oracle_distance(found, expected, count) / change;
    bool rounded = self->run.model->activation_dtype == BALORA_BF16;
    if (!(change > 0 && distance <= (rounded ? ROUNDED_DELTA : RESULT)))
        fail_msg("%s: the magnitude differs from the expected one by %.2e of what training changed", module,
                 distance);
    free(expected);
    free(first);
    free(found);
    return distance;
}

static void saved_delta_agrees(void **state) {
    oracle_case *self = start(state);
    int64_t compared = 0, magnitudes = 0;
    double worst = 0, worst_magnitude = 0;
    balora_adapter_information information = BALORA_ADAPTER_INFORMATION_INIT;
    expect_ok(balora_adapter_describe(self->run.adapter, &information));
    expect_ok(oracle_save(&self->run, "adapter"));
    for (int64_t i = 0; i < self->tensors.count; i++) {
        const char *name = self->tensors.entries[i].name;
        if (strstr(name, ".delta") != NULL) {
            worst = fmax(worst, compare_delta(self, name));
            compared++;
        } else if (strstr(name, ".magnitude") != NULL) {
            worst_magnitude = fmax(worst_magnitude, compare_magnitude(self, name));
            magnitudes++;
        }
    }
    assert_int_equal(compared, information.modules);
    assert_int_equal(magnitudes, information.use_dora ? information.modules : 0);
    print_message("%s: delta within %.1e of its norm, magnitudes within %.1e of their change\n", self->name,
                  worst, worst_magnitude);
}

/* Method full: relative to what training changed; a tensor that nothing changed must not move. */
static double compare_weight(const safetensors_file *expected, const safetensors_file *base,
                             const safetensors_file *trained, const char *name) {
    int64_t count = 0, base_count = 0, trained_count = 0;
    double *wanted = oracle_tensor(expected, name, &count), *before = oracle_tensor(base, name, &base_count);
    double *after = oracle_tensor(trained, name, &trained_count);
    assert_true(before != NULL && after != NULL && base_count == count && trained_count == count);
    double change = oracle_distance(wanted, before, count), distance = oracle_distance(after, wanted, count);
    if (!(distance <= RESULT * change))
        fail_msg("%s: differs from the expected weights by %.2e; training changed %.2e", name, distance,
                 change);
    free(wanted);
    free(before);
    free(after);
    return change > 0 ? distance / change : 0;
}

static void trained_weights_agree(void **state) {
    oracle_case *self = start(state);
    safetensors_file base, trained;
    char path[1024];
    double worst = 0;
    expect_ok(oracle_save(&self->run, "adapter"));
    snprintf(path, sizeof path, "%s/model.safetensors",
             oracle_path(&self->run, json_string_value(json_object_get(self->run.options, "model"))));
    expect_ok(safetensors_open(&base, &memory, path));
    expect_ok(
        safetensors_open(&trained, &memory, oracle_scratch_path(&self->run, "adapter/model.safetensors")));
    assert_int_equal(trained.count, self->tensors.count - 1); /* all but the logits */
    for (int64_t i = 0; i < trained.count; i++)
        worst = fmax(worst, compare_weight(&self->tensors, &base, &trained, trained.entries[i].name));
    safetensors_close(&base);
    safetensors_close(&trained);
    print_message("%s: weights within %.1e of what training changed\n", self->name, worst);
}

/* A tensor of an adapter that is trained as it is: under its own name, or that of the layer inside an adapted one. */
static double *adapter_tensor(const safetensors_file *file, const char *name, int64_t *count) {
    char full[256];
    const char *last = strrchr(name, '.');
    snprintf(full, sizeof full, "base_model.model.%s", name);
    double *values = oracle_tensor(file, full, count);
    snprintf(full, sizeof full, "base_model.model.%.*s.base_layer%s", (int)(last - name), name, last);
    return values != NULL ? values : oracle_tensor(file, full, count);
}

static bool is_trained_tensor(const char *name) {
    return strstr(name, ".delta") == NULL && strstr(name, "magnitude") == NULL && strcmp(name, "logits") != 0;
}

static int64_t count_trained_tensors(const oracle_case *self) {
    int64_t count = 0;
    for (int64_t i = 0; i < self->tensors.count; i++)
        count += is_trained_tensor(self->tensors.entries[i].name);
    return count;
}

/* Adapters: modules_to_save and biases, relative to what training changed of each. */
static void trained_tensors_agree(void **state) {
    oracle_case *self = start(state);
    safetensors_file base, trained;
    char path[1024];
    double worst = 0;
    assert_int_equal(count_trained_tensors(self),
                     json_array_size(json_object_get(self->expected, "trained_tensors")));
    expect_ok(oracle_save(&self->run, "tensors"));
    snprintf(path, sizeof path, "%s/adapter_model.safetensors",
             oracle_path(&self->run, json_string_value(json_object_get(self->run.options, "adapter"))));
    expect_ok(safetensors_open(&base, &memory, path));
    expect_ok(safetensors_open(&trained, &memory,
                               oracle_scratch_path(&self->run, "tensors/adapter_model.safetensors")));
    for (int64_t i = 0; i < self->tensors.count; i++) {
        const char *name = self->tensors.entries[i].name;
        int64_t count = 0, base_count = 0, trained_count = 0;
        if (!is_trained_tensor(name))
            continue;
        double *wanted = oracle_tensor(&self->tensors, name, &count);
        double *before = adapter_tensor(&base, name, &base_count);
        double *after = adapter_tensor(&trained, name, &trained_count);
        if (before == NULL || after == NULL || base_count != count || trained_count != count)
            fail_msg("%s: was not there, or was not saved", name);
        double change = oracle_distance(wanted, before, count),
               distance = oracle_distance(after, wanted, count);
        if (!(distance <= RESULT * change))
            fail_msg("%s: differs from the expected tensor by %.2e; training changed %.2e", name, distance,
                     change);
        worst = fmax(worst, change > 0 ? distance / change : 0);
        free(wanted);
        free(before);
        free(after);
    }
    safetensors_close(&base);
    safetensors_close(&trained);
    print_message("%s: trained tensors within %.1e of what training changed\n", self->name, worst);
}

/* --- evaluation --- */

static double expected_number(const oracle_case *self, const char *key) {
    return json_number_value(json_object_get(self->expected, key));
}

static void logits_of_the_untouched_base_agree(void **state) {
    oracle_case *self = start(state);
    balora_evaluation evaluation;
    oracle_logits found;
    int64_t count = 0;
    double *expected = oracle_tensor(&self->tensors, "logits", &count);
    assert_non_null(expected);
    expect_ok(oracle_evaluate(&self->run, self->run.model, NULL, &evaluation, &found));
    double distance = oracle_logits_distance(&found, expected, count);
    if (!(distance <= allowed(self, LOGITS)))
        fail_msg("logits of the base differ by %.2e of the largest", distance);
    assert_int_equal(found.count, evaluation.tokens * found.vocabulary);
    compare("initial loss", 0, evaluation.loss, expected_number(self, "initial_loss"),
            allowed(self, TERM_TOLERANCE), 0);
    compare("perplexity", 0, evaluation.perplexity, exp(evaluation.loss), 1e-12, 0);
    assert_true(evaluation.drift == 0);
    free(expected);
    free(found.values);
    print_message("%s: logits of the base within %.1e of the largest\n", self->name, distance);
}

static void the_trained_model_evaluates_as_expected(void **state) {
    oracle_case *self = start(state);
    balora_evaluation evaluation;
    oracle_logits found;
    double tolerance = allowed(self, TERM_TOLERANCE) * (double)self->run.step_count;
    expect_ok(oracle_evaluate(&self->run, self->run.model, self->run.adapter, &evaluation, &found));
    compare("final loss", self->run.step_count, evaluation.loss, expected_number(self, "final_loss"),
            tolerance, 0);
    compare("final drift", self->run.step_count, evaluation.drift, expected_number(self, "final_drift"),
            tolerance, allowed(self, NEAR_ZERO));
    free(found.values);
}

/* What was saved, opened as a user would, is what was in memory. */
static void the_saved_adapter_is_the_trained_one(void **state) {
    oracle_case *self = start(state);
    balora_evaluation in_memory, saved;
    oracle_logits expected, found;
    balora_adapter *adapter;
    expect_ok(oracle_save(&self->run, "again"));
    expect_ok(balora_adapter_open(&adapter, self->run.model, oracle_scratch_path(&self->run, "again")));
    expect_ok(oracle_evaluate(&self->run, self->run.model, self->run.adapter, &in_memory, &expected));
    expect_ok(oracle_evaluate(&self->run, self->run.model, adapter, &saved, &found));
    balora_adapter_free(adapter);
    double distance = oracle_logits_difference(&found, &expected);
    free(found.values);
    free(expected.values);
    if (!(distance <= allowed(self, SAME)))
        fail_msg("logits of the saved adapter differ by %.2e of the largest", distance);
    compare("loss", 0, saved.loss, in_memory.loss, allowed(self, SAME), 0);
    compare("drift", 0, saved.drift, in_memory.drift, allowed(self, TERM_TOLERANCE),
            allowed(self, NEAR_ZERO));
}

static void the_merged_model_is_the_trained_one(void **state) {
    oracle_case *self = start(state);
    balora_evaluation in_memory, alone;
    oracle_logits expected, found;
    balora_model *merged;
    balora_model_options options = test_model_options();
    balora_model_information information = BALORA_MODEL_INFORMATION_INIT;
    expect_ok(balora_model_describe(self->run.model, &information));
    expect_ok(balora_adapter_merge(self->run.adapter, oracle_scratch_path(&self->run, "merged")));
    expect_ok(
        balora_model_open(&merged, self->run.context, oracle_scratch_path(&self->run, "merged"), &options));
    expect_ok(oracle_evaluate(&self->run, self->run.model, self->run.adapter, &in_memory, &expected));
    balora_data *data = self->run.data;
    expect_ok(balora_data_open(
        &self->run.data, merged,
        oracle_path(&self->run, json_string_value(json_object_get(self->run.options, "data"))), NULL));
    expect_ok(oracle_evaluate(&self->run, merged, NULL, &alone, &found));
    balora_data_free(self->run.data);
    self->run.data = data;
    balora_model_free(merged);
    double distance = oracle_logits_difference(&found, &expected);
    double tolerance = information.dtype == BALORA_F32 ? SAME : ROUNDED_MODEL;
    free(found.values);
    free(expected.values);
    if (!(distance <= tolerance))
        fail_msg("logits of the merged model differ by %.2e of the largest", distance);
    compare("loss", 0, alone.loss, in_memory.loss, tolerance, 0);
}

/* --- the list of tests --- */

static int is_case(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static bool case_says(const char *fixtures, const char *name, const char *file, const char *fragment) {
    char path[1024], *text;
    uint64_t bytes;
    snprintf(path, sizeof path, "%s/%s/%s", fixtures, name, file);
    if (file_read_all(&text, &bytes, &memory, path, 1 << 24) != BALORA_OK)
        return false;
    bool says = strstr(text, fragment) != NULL;
    memory_free(&memory, text);
    return says;
}

static struct CMUnitTest tests[CASES_LIMIT * 8];
static char test_names[CASES_LIMIT * 8][128];
static size_t test_count;

static void add_test(oracle_case *owner, const char *property, CMUnitTestFunction function) {
    snprintf(test_names[test_count], sizeof test_names[0], "%s_%s", owner->name, property);
    tests[test_count] = (struct CMUnitTest){test_names[test_count], function, NULL, NULL, owner};
    test_count++;
}

static void add_case(oracle_case *self, const char *fixtures) {
    bool full = case_says(fixtures, self->name, "case.json", "\"method\": \"full\"");
    add_test(self, "terms_agree", terms_agree);
    add_test(self, "schedules_and_counts_agree", schedules_and_counts_agree);
    add_test(self, "logits_of_the_untouched_base_agree", logits_of_the_untouched_base_agree);
    add_test(self, "the_trained_model_evaluates_as_expected", the_trained_model_evaluates_as_expected);
    add_test(self, "the_merged_model_is_the_trained_one", the_merged_model_is_the_trained_one);
    if (full)
        add_test(self, "trained_weights_agree", trained_weights_agree);
    else
        add_test(self, "saved_delta_agrees", saved_delta_agrees);
    if (!full)
        add_test(self, "the_saved_adapter_is_the_trained_one", the_saved_adapter_is_the_trained_one);
    if (case_says(fixtures, self->name, "expected.json", "trained_tensors"))
        add_test(self, "trained_tensors_agree", trained_tensors_agree);
    if (case_says(fixtures, self->name, "expected.json", "terms_torch_bf16"))
        add_test(self, "terms_agree_with_torch_in_bfloat16", terms_agree_with_torch_in_bfloat16);
}

int main(int argc, char **argv) {
    struct dirent **entries;
    const char *fixtures = getenv("BALORA_FIXTURES");
    int count = fixtures != NULL ? scandir(fixtures, &entries, is_case, alphasort) : -1;
    if (count < 1 || count > CASES_LIMIT) {
        fprintf(stderr, "BALORA_FIXTURES must name the folder with the fixtures (1 to %d)\n", CASES_LIMIT);
        return 1;
    }
    memory_init(&memory, NULL, NULL, NULL);
    size_t used = 0;
    for (int i = 0; i < count; i++) {
        /* An argument chooses one case. */
        if (argc < 2 || strcmp(argv[1], entries[i]->d_name) == 0) {
            snprintf(cases[used].name, sizeof cases[used].name, "%s", entries[i]->d_name);
            add_case(&cases[used++], fixtures);
        }
        free(entries[i]);
    }
    free(entries);
    int failed = _cmocka_run_group_tests("oracle", tests, test_count, NULL, NULL);
    for (size_t i = 0; i < used; i++)
        finish(&cases[i]);
    return failed != 0 || test_count == 0;
}
