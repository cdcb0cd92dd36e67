/*
 * Every form of an adapter, trained by the library, is read by the program that it is for and computes the same logits:
 * check_export.py, with the Python that BALORA_ORACLE_PYTHON names. Skipped where it is not set, or lacks a package.
 */
#include <sys/wait.h>

#include "oracle.h"

#define SKIPPED 77 /* exit status of check_export.py without its packages */

static void save_logits(oracle_run *run, const char *path) {
    balora_evaluation evaluation;
    oracle_logits logits;
    allocator memory;
    memory_init(&memory, NULL, NULL, NULL);
    if (oracle_evaluate(run, run->model, run->adapter, &evaluation, &logits) != BALORA_OK)
        fail_msg("%s", balora_error_message());
    const safetensors_tensor tensor = {
        "logits", BALORA_F32, 2, {logits.count / logits.vocabulary, logits.vocabulary}, logits.values};
    assert_int_equal(safetensors_save(&memory, path, &tensor, 1, NULL), BALORA_OK);
    free(logits.values);
}

static const char *option_path(const oracle_run *run, const char *key) {
    return oracle_path(run, json_string_value(json_object_get(run->options, key)));
}

static void check_form(oracle_run *run, const char *python, const char *form, int32_t to, double tolerance) {
    char command[8192];
    balora_export_options options = BALORA_EXPORT_OPTIONS_INIT;
    options.to = to;
    if (balora_adapter_export(run->adapter, oracle_scratch_path(run, form), &options) != BALORA_OK)
        fail_msg("%s", balora_error_message());
    snprintf(command, sizeof command,
             "OMP_NUM_THREADS=1 '%s' -W ignore '%s/../check_export.py' --tolerance %g %s '%s' '%s' '%s' '%s'",
             python, getenv("BALORA_FIXTURES"), tolerance, form, oracle_scratch_path(run, form),
             option_path(run, "model"), oracle_scratch_path(run, "logits.safetensors"),
             option_path(run, "data"));
    fflush(stdout);
    int status = system(command);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        skip();
    assert_int_equal(status, 0);
}

/* `residual`: tolerance of the form pissa, whose residual weights have the base's storage type; 0: it is not there. */
static void check(const char *name, double residual) {
    const char *python = getenv("BALORA_ORACLE_PYTHON");
    oracle_run run;
    if (python == NULL || python[0] == '\0')
        skip();
    oracle_start(&run, getenv("BALORA_FIXTURES"), name, NULL);
    if (run.status != BALORA_OK)
        fail_msg("%s", run.failure);
    save_logits(&run, oracle_scratch_path(&run, "logits.safetensors"));
    check_form(&run, python, "peft", BALORA_EXPORT_PEFT, 1e-4);
    check_form(&run, python, "gguf", BALORA_EXPORT_GGUF, 1e-4);
    if (residual > 0)
        check_form(&run, python, "pissa", BALORA_EXPORT_PISSA, residual);
    oracle_finish(&run);
}

static void principal_factors(void **state) {
    (void)state;
    check("llama", 1e-4);
}

static void principal_factors_with_rank_stabilised_scale(void **state) {
    (void)state;
    check("rslora", 1e-4);
}

static void principal_factors_of_a_tied_model(void **state) {
    (void)state;
    check("llama-tied", 1e-4);
}

static void plain_factors(void **state) {
    (void)state;
    check("lora-ba", 0);
}

/* What was taken from W in F32 is rounded to the file's BF16: 2^-9 of each weight. */
static void principal_factors_of_a_bfloat16_model(void **state) {
    (void)state;
    check("bf16", 2e-2);
}

static void weights_in_shards(void **state) {
    (void)state;
    check("sharded", 1e-4);
}

static void mistral(void **state) {
    (void)state;
    check("mistral-window", 1e-4);
}

static void qwen2(void **state) {
    (void)state;
    check("qwen2", 1e-4);
}

static void qwen3(void **state) {
    (void)state;
    check("qwen3", 1e-4);
}

static void gemma(void **state) {
    (void)state;
    check("gemma", 1e-4);
}

static void gemma2(void **state) {
    (void)state;
    check("gemma2", 1e-4);
}

static void gemma3(void **state) {
    (void)state;
    check("gemma3", 1e-4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(principal_factors),
        cmocka_unit_test(principal_factors_with_rank_stabilised_scale),
        cmocka_unit_test(principal_factors_of_a_tied_model),
        cmocka_unit_test(plain_factors),
        cmocka_unit_test(principal_factors_of_a_bfloat16_model),
        cmocka_unit_test(weights_in_shards),
        cmocka_unit_test(mistral),
        cmocka_unit_test(qwen2),
        cmocka_unit_test(qwen3),
        cmocka_unit_test(gemma),
        cmocka_unit_test(gemma2),
        cmocka_unit_test(gemma3),
    };
    return cmocka_run_group_tests_name("exports_load", tests, NULL, NULL);
}
