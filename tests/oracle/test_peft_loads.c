/*
 * PEFT loads what the library saves, on the untouched base, and computes the same logits: check_peft.py, with
 * the Python that BALORA_ORACLE_PYTHON names. Skipped where it is not set, or has no PEFT.
 */
#include <sys/wait.h>

#include "oracle.h"

#define SKIPPED 77 /* exit status of check_peft.py without its packages */

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

static void check_changed(const char *name, const oracle_changes *changes) {
    const char *python = getenv("BALORA_ORACLE_PYTHON"), *fixtures = getenv("BALORA_FIXTURES");
    char command[8192];
    oracle_run run;
    if (python == NULL || python[0] == '\0')
        skip();
    oracle_start(&run, fixtures, name, changes);
    if (run.status != BALORA_OK)
        fail_msg("%s", run.failure);
    assert_int_equal(oracle_save(&run, "adapter"), BALORA_OK);
    save_logits(&run, oracle_scratch_path(&run, "logits.safetensors"));
    snprintf(command, sizeof command, "OMP_NUM_THREADS=1 '%s' '%s/../check_peft.py' '%s' '%s' '%s' '%s'",
             python, fixtures, oracle_scratch_path(&run, "adapter"), option_path(&run, "model"),
             oracle_scratch_path(&run, "logits.safetensors"), option_path(&run, "data"));
    fflush(stdout);
    int status = system(command);
    oracle_finish(&run);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
        skip();
    assert_int_equal(status, 0);
}

static void check(const char *name) {
    check_changed(name, NULL);
}

static void principal_factors_with_rank_stabilised_scale(void **state) {
    (void)state;
    check("rslora");
}

static void principal_factors_on_every_projection(void **state) {
    (void)state;
    check("llama-tied");
}

static void plain_factors(void **state) {
    (void)state;
    check("lora-ba");
}

static void factors_of_a_bfloat16_model(void **state) {
    (void)state;
    check("bf16");
}

static void factors_of_other_families(void **state) {
    (void)state;
    check("qwen3");
    check("gemma2");
    check("gemma3");
}

static void magnitudes(void **state) {
    (void)state;
    check("dora");
}

static void magnitudes_on_their_way(void **state) {
    (void)state;
    check("dora-ba");
}

static void magnitudes_beside_principal_factors(void **state) {
    (void)state;
    check("dora-pissa");
}

static void magnitudes_trained_with_dropout(void **state) {
    (void)state;
    check("dora-dropout");
}

/* --- adapters of PEFT, trained on and written again --- */

static void ranks_and_scales_by_patterns(void **state) {
    (void)state;
    check("peft-patterns");
}

static void chosen_layers(void **state) {
    (void)state;
    check("peft-layers");
}

static void every_bias(void **state) {
    (void)state;
    check("peft-all-linear");
}

static void biases_of_adapted_layers(void **state) {
    (void)state;
    check("peft-bias");
}

static void whole_modules(void **state) {
    (void)state;
    check("peft-saved");
}

static void a_head_that_was_tied(void **state) {
    (void)state;
    check("peft-untied");
}

static void a_head_that_stays_tied(void **state) {
    (void)state;
    check("peft-tied");
}

/* --- the same made here --- */

static void mixed_starts(void **state) {
    (void)state;
    check_changed("llama",
                  &(oracle_changes){.keys = {"pissa_modules", "rank_pattern", "alpha_pattern", "use_rslora"},
                                    .values = {"q_proj,layers.1.mlp.down_proj",
                                               "v_proj=2,layers.0.*up_proj=3", "k_proj=5", "true"}});
}

static void gaussian_factors_of_chosen_modules(void **state) {
    (void)state;
    check_changed("llama", &(oracle_changes){
                               .keys = {"target_modules", "exclude_modules", "layers_to_transform", "init"},
                               .values = {"re:.*\\.(q|v|up)_proj", "v_proj", "1", "gaussian"}});
}

static void new_whole_modules(void **state) {
    (void)state;
    check_changed("llama",
                  &(oracle_changes){.keys = {"target_modules", "modules_to_save"},
                                    .values = {"q_proj,o_proj", "embed_tokens,lm_head,norm,up_proj"}});
}

static void a_new_embedding_beside_a_tied_head(void **state) {
    (void)state;
    check_changed("llama-tied", &(oracle_changes){.keys = {"modules_to_save"}, .values = {"embed_tokens"}});
}

static void new_biases(void **state) {
    (void)state;
    check_changed("llama-biases", &(oracle_changes){.keys = {"target_modules", "bias"},
                                                    .values = {"q_proj,v_proj,down_proj", "lora_only"}});
    check_changed("llama-biases",
                  &(oracle_changes){.keys = {"target_modules", "bias"}, .values = {"q_proj", "all"}});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(principal_factors_with_rank_stabilised_scale),
        cmocka_unit_test(principal_factors_on_every_projection),
        cmocka_unit_test(plain_factors),
        cmocka_unit_test(factors_of_a_bfloat16_model),
        cmocka_unit_test(factors_of_other_families),
        cmocka_unit_test(magnitudes),
        cmocka_unit_test(magnitudes_on_their_way),
        cmocka_unit_test(magnitudes_beside_principal_factors),
        cmocka_unit_test(magnitudes_trained_with_dropout),
        cmocka_unit_test(ranks_and_scales_by_patterns),
        cmocka_unit_test(chosen_layers),
        cmocka_unit_test(every_bias),
        cmocka_unit_test(biases_of_adapted_layers),
        cmocka_unit_test(whole_modules),
        cmocka_unit_test(a_head_that_was_tied),
        cmocka_unit_test(a_head_that_stays_tied),
        cmocka_unit_test(mixed_starts),
        cmocka_unit_test(gaussian_factors_of_chosen_modules),
        cmocka_unit_test(new_whole_modules),
        cmocka_unit_test(a_new_embedding_beside_a_tied_head),
        cmocka_unit_test(new_biases),
    };
    return cmocka_run_group_tests_name("peft_loads", tests, NULL, NULL);
}
