/* PEFT folders that are broken, lie, or ask for what this version cannot do: each gets its status and its
 * reason. */
#include "adapters.h"

#define Q_PROJ "base_model.model.model.layers.0.self_attn.q_proj"
#define K_PROJ "base_model.model.model.layers.1.self_attn.k_proj"

static const float numbers[48 * 8];

/* A valid adapter of rank 2 on the model of the fixture "llama": q_proj [48, 48], k_proj [24, 48]. */
static const safetensors_tensor valid_tensors[] = {
    {Q_PROJ ".lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
    {Q_PROJ ".lora_B.weight", BALORA_F32, 2, {48, 2}, numbers},
    {K_PROJ ".lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
    {K_PROJ ".lora_B.weight", BALORA_F32, 2, {24, 2}, numbers},
};

#define VALID_COUNT 4

static const char valid_config[] =
    "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"bias\": \"none\","
    " \"target_modules\": [\"q_proj\", \"k_proj\"]}";

static void write_tensors(workshop *self, const safetensors_tensor *tensors, int64_t count) {
    const char *path = scratch_path(&self->base, "adapter_model.safetensors");
    expect_ok(safetensors_save(&self->base.memory, path, tensors, count, NULL));
}

static void expect_refused(workshop *self, balora_status status, const char *fragment) {
    balora_adapter *adapter = NULL;
    uint64_t before = self->context->memory.current_bytes;
    expect_failure(adapter_open(&adapter, self->model, self->base.folder), status, fragment);
    assert_null(adapter);
    assert_int_equal(self->context->memory.current_bytes, before);
}

static void expect_accepted(workshop *self, const char *what) {
    balora_adapter *adapter = NULL;
    if (adapter_open(&adapter, self->model, self->base.folder) != BALORA_OK)
        fail_msg("%s: %s", what, balora_error_message());
    assert_int_equal(adapter->module_count, 2);
    adapter_release(adapter);
}

/* The valid configuration with one key changed or added. */
static void write_config(workshop *self, const char *key, const char *value) {
    json_t *config, *parsed = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(parsed);
    expect_ok(json_parse(&config, valid_config, strlen(valid_config), "config"));
    assert_int_equal(json_object_set_new(config, key, parsed), 0);
    expect_ok(
        json_write_file(&self->base.memory, scratch_path(&self->base, "adapter_config.json"), config, true));
    json_decref(config);
}

static void keys_that_change_the_computation_are_refused(void **state) {
    static const struct {
        const char *key, *value;
        balora_status status;
        const char *fragment;
    } cases[] = {
        {"peft_type", "\"LOHA\"", BALORA_ERROR_UNSUPPORTED, "adapter_config.json: \"peft_type\" is \"LOHA\""},
        {"peft_type", "null", BALORA_ERROR_FORMAT, "the key \"peft_type\" is missing"},
        {"peft_type", "1", BALORA_ERROR_FORMAT, "\"peft_type\": expected a string"},
        {"use_dora", "true", BALORA_ERROR_NOT_FOUND,
         "tensor \"" Q_PROJ ".lora_magnitude_vector\" is missing; expected it with shape [48]"},
        {"use_dora", "\"yes\"", BALORA_ERROR_FORMAT, "\"use_dora\": expected true or false"},
        {"lora_bias", "true", BALORA_ERROR_UNSUPPORTED, "\"lora_bias\""},
        {"bias", "\"some\"", BALORA_ERROR_FORMAT,
         "\"bias\" is \"some\"; expected \"none\", \"all\" or \"lora_only\""},
        {"bias", "[]", BALORA_ERROR_FORMAT, "\"bias\": expected a string"},
        {"modules_to_save", "[\"lm_head\"]", BALORA_ERROR_NOT_FOUND,
         "\"base_model.model.lm_head.weight\" is missing"},
        {"modules_to_save", "[\"score\"]", BALORA_ERROR_MISMATCH, "\"modules_to_save\": the model"},
        {"modules_to_save", "\"lm_head\"", BALORA_ERROR_FORMAT,
         "\"modules_to_save\": expected an array, found a string"},
        {"modules_to_save", "[3]", BALORA_ERROR_FORMAT, "\"modules_to_save\"[0]: expected a string"},
        {"modules_to_save", "[\"q_proj\"]", BALORA_ERROR_MISMATCH, "by \"modules_to_save\" of"},
        {"fan_in_fan_out", "true", BALORA_ERROR_UNSUPPORTED, "\"fan_in_fan_out\""},
        {"rank_pattern", "{\"q_proj\": 4}", BALORA_ERROR_MISMATCH, "has shape [2, 48]; expected [4, 48]"},
        {"rank_pattern", "{\"q_proj\": 0}", BALORA_ERROR_FORMAT,
         "\"rank_pattern\": \"q_proj\": expected a whole number from 1"},
        {"rank_pattern", "{\"q_proj\": 2.5}", BALORA_ERROR_FORMAT,
         "\"rank_pattern\": \"q_proj\": expected a whole number"},
        {"rank_pattern", "{\"q_proj\": 65537}", BALORA_ERROR_FORMAT, "\"rank_pattern\""},
        {"rank_pattern", "[\"q_proj\"]", BALORA_ERROR_FORMAT,
         "\"rank_pattern\": expected an object, found an array"},
        {"rank_pattern", "{\"q(\": 2}", BALORA_ERROR_FORMAT,
         "\"rank_pattern\": the pattern \"q(\" has, at byte 1, an opening parenthesis"},
        {"rank_pattern", "{\"(?!q)\": 2}", BALORA_ERROR_UNSUPPORTED,
         "\"rank_pattern\": the pattern \"(?!q)\" has, at byte 0, a lookahead"},
        {"alpha_pattern", "{\"q_proj\": 0}", BALORA_ERROR_FORMAT,
         "\"alpha_pattern\": \"q_proj\": expected a number above 0"},
        {"alpha_pattern", "{\"q_proj\": \"4\"}", BALORA_ERROR_FORMAT, "\"alpha_pattern\""},
        {"alpha_pattern", "7", BALORA_ERROR_FORMAT, "\"alpha_pattern\": expected an object, found a number"},
        {"exclude_modules", "[\"k_proj\"]", BALORA_ERROR_MISMATCH, "by \"exclude_modules\" of"},
        {"exclude_modules", "\".*\\\\.k_proj\"", BALORA_ERROR_MISMATCH, "by \"exclude_modules\" of"},
        {"exclude_modules", "\"k_proj\\\\1\"", BALORA_ERROR_UNSUPPORTED,
         "\"exclude_modules\": the pattern \"k_proj\\1\" has, at byte 6, a backreference or octal"},
        {"exclude_modules", "{}", BALORA_ERROR_FORMAT, "\"exclude_modules\": expected a string or an array"},
        {"layers_to_transform", "[0]", BALORA_ERROR_MISMATCH,
         "layers.1.self_attn.k_proj.lora_A.weight\": by \"layers_to_transform\""},
        {"layers_to_transform", "1", BALORA_ERROR_MISMATCH,
         "layers.0.self_attn.q_proj.lora_A.weight\": by \"layers_to_transform\""},
        {"layers_to_transform", "[-1]", BALORA_ERROR_FORMAT,
         "\"layers_to_transform\": expected whole numbers from 0 on"},
        {"layers_to_transform", "\"0\"", BALORA_ERROR_FORMAT,
         "\"layers_to_transform\": expected a whole number or an array"},
        {"layers_pattern", "\"layers\"", BALORA_ERROR_FORMAT,
         "\"layers_pattern\" stands without \"layers_to_transform\""},
        {"ensure_weight_tying", "1", BALORA_ERROR_FORMAT, "\"ensure_weight_tying\": expected true or false"},
        {"trainable_token_indices", "[1, 2]", BALORA_ERROR_UNSUPPORTED, "\"trainable_token_indices\""},
        {"target_parameters", "[\"w\"]", BALORA_ERROR_UNSUPPORTED, "\"target_parameters\""},
        {"layer_replication", "[[0, 2]]", BALORA_ERROR_UNSUPPORTED, "\"layer_replication\""},
        {"megatron_config", "{\"a\": 1}", BALORA_ERROR_UNSUPPORTED, "\"megatron_config\""},
        {"use_qalora", "true", BALORA_ERROR_UNSUPPORTED, "\"use_qalora\""},
        {"alora_invocation_tokens", "[5]", BALORA_ERROR_UNSUPPORTED, "\"alora_invocation_tokens\""},
        {"init_lora_weights", "\"pissa\"", BALORA_ERROR_UNSUPPORTED, "\"init_lora_weights\" is pissa"},
        {"init_lora_weights", "\"olora\"", BALORA_ERROR_UNSUPPORTED, "convert the adapter to plain LoRA"},
        {"init_lora_weights", "3", BALORA_ERROR_UNSUPPORTED, "\"init_lora_weights\" is a number"},
        {"use_telepathy", "true", BALORA_ERROR_UNSUPPORTED, "the key \"use_telepathy\" is newer"},
        {"telepathy", "{\"power\": 0}", BALORA_ERROR_UNSUPPORTED, "the key \"telepathy\" is newer"},
        {"r", "0", BALORA_ERROR_FORMAT, "\"r\" is 0; expected 1 to 65536"},
        {"r", "-2", BALORA_ERROR_FORMAT, "\"r\" is -2"},
        {"r", "1e30", BALORA_ERROR_FORMAT, "\"r\""},
        {"r", "\"2\"", BALORA_ERROR_FORMAT, "\"r\": expected an integer, found a string"},
        {"r", "3", BALORA_ERROR_MISMATCH, "has shape [2, 48]; expected [3, 48]"},
        {"lora_alpha", "0", BALORA_ERROR_FORMAT, "\"lora_alpha\" is 0"},
        {"lora_alpha", "-1", BALORA_ERROR_FORMAT, "expected a number above 0"},
        {"lora_alpha", "{}", BALORA_ERROR_FORMAT, "\"lora_alpha\": expected a number"},
        {"use_rslora", "\"yes\"", BALORA_ERROR_FORMAT, "\"use_rslora\": expected true or false"},
        {"lora_dropout", "1", BALORA_ERROR_FORMAT, "\"lora_dropout\" is 1; expected 0 to below 1"},
        {"lora_dropout", "-0.1", BALORA_ERROR_FORMAT, "\"lora_dropout\" is -0.1"},
        {"lora_dropout", "\"some\"", BALORA_ERROR_FORMAT, "\"lora_dropout\": expected a number"},
        {"target_modules", "7", BALORA_ERROR_FORMAT, "\"target_modules\": expected a string or an array"},
        {"target_modules", "[7]", BALORA_ERROR_FORMAT, "\"target_modules\"[0]: expected a string"},
        {"target_modules", "[\"q_proj\"]", BALORA_ERROR_MISMATCH,
         "k_proj.lora_A.weight\": by \"target_modules\" of"},
        {"target_modules", "[\"proj\"]", BALORA_ERROR_MISMATCH, "its module has no factors"},
        {"target_modules", "\".*q_proj\"", BALORA_ERROR_MISMATCH,
         "k_proj.lora_A.weight\": by \"target_modules\" of"},
        {"target_modules", "\"_proj\"", BALORA_ERROR_MISMATCH, "by \"target_modules\" of"},
        {"target_modules", "\"*_proj\"", BALORA_ERROR_FORMAT,
         "\"target_modules\": the pattern \"*_proj\" has, at byte 0, nothing to repeat"},
        {"target_modules", "\"(?i).*q_proj\"", BALORA_ERROR_UNSUPPORTED,
         "\"target_modules\": the pattern \"(?i).*q_proj\" has, at byte 0, a flag"},
    };
    workshop *self = *state;
    open_fixture(self, "llama/model");
    write_tensors(self, valid_tensors, VALID_COUNT);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_config(self, cases[i].key, cases[i].value);
        expect_refused(self, cases[i].status, cases[i].fragment);
    }
}

static void keys_that_change_nothing_are_accepted(void **state) {
    static const char *const cases[][2] = {
        {"use_dora", "false"},
        {"modules_to_save", "[]"},
        {"rank_pattern", "{}"},
        {"lora_bias", "null"},
        {"init_lora_weights", "\"gaussian\""},
        {"init_lora_weights", "false"},
        {"megatron_core", "\"megatron.core\""},
        {"qalora_group_size", "16"},
        {"exclude_modules", "[\"lm_head\"]"},
        {"layers_to_transform", "[0, 1]"},
        {"task_type", "\"CAUSAL_LM\""},
        {"auto_mapping", "{\"base_model_class\": \"X\"}"},
        {"peft_version", "\"0.99\""},
        {"target_modules", "\"all-linear\""},
        {"target_modules", "\".*_proj\""},
        {"target_modules", "\"ALL-linear\""},
        {"target_modules", "\"model.layers.\\\\d+.self_attn.(q|k)_proj\""},
        {"rank_pattern", "{\"v_proj\": 7, \"layers.0.*q_proj\": 2}"},
        {"alpha_pattern", "{\"layers.[0-9].*k_proj\": 2.5}"},
        {"bias", "\"all\""},
        {"bias", "\"lora_only\""},
        {"ensure_weight_tying", "true"},
        {"target_modules", "null"},
        {"target_modules", "[\"self_attn.q_proj\", \"model.layers.1.self_attn.k_proj\"]"},
        {"r", "2.0"},
        {"telepathy", "false"},
        {"telepathy_config", "{}"},
        {"telepathy_tokens", "null"},
    };
    workshop *self = *state;
    open_fixture(self, "llama/model");
    write_tensors(self, valid_tensors, VALID_COUNT);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_config(self, cases[i][0], cases[i][1]);
        expect_accepted(self, cases[i][0]);
    }
}

/* The valid tensors with one of them replaced; a new name of NULL leaves it out. */
static void tensors_that_do_not_fit_are_refused(void **state) {
    static const struct {
        int64_t index;
        safetensors_tensor tensor;
        balora_status status;
        const char *fragment;
    } cases[] = {
        {1,
         {.name = NULL},
         BALORA_ERROR_NOT_FOUND,
         "tensor \"" Q_PROJ ".lora_B.weight\" is missing; expected it with "},
        {2, {.name = NULL}, BALORA_ERROR_NOT_FOUND, "tensor \"" K_PROJ ".lora_A.weight\" is missing"},
        {0,
         {Q_PROJ ".lora_A.weight", BALORA_F32, 2, {48, 2}, numbers},
         BALORA_ERROR_MISMATCH,
         "adapter_model.safetensors: tensor \"" Q_PROJ
         ".lora_A.weight\" has shape [48, 2]; expected [2, 48]"},
        {1,
         {Q_PROJ ".lora_B.weight", BALORA_F32, 2, {24, 2}, numbers},
         BALORA_ERROR_MISMATCH,
         "expected [48, 2]"},
        {3,
         {K_PROJ ".lora_B.weight", BALORA_F32, 2, {24, 3}, numbers},
         BALORA_ERROR_MISMATCH,
         "has shape [24, 3]"},
        {0, {Q_PROJ ".lora_A.weight", BALORA_F32, 1, {96}, numbers}, BALORA_ERROR_MISMATCH, "has shape [96]"},
        {0,
         {Q_PROJ ".lora_A.weight", BALORA_F32, 2, {0, 48}, numbers},
         BALORA_ERROR_MISMATCH,
         "has shape [0, 48]"},
        {0,
         {Q_PROJ ".lora_A.weight", BALORA_I32, 2, {2, 48}, numbers},
         BALORA_ERROR_UNSUPPORTED,
         "holds I32 numbers"},
        {0,
         {Q_PROJ ".lora_A.weight", BALORA_F64, 2, {2, 24}, numbers},
         BALORA_ERROR_MISMATCH,
         "has shape [2, 24]"},
        {0,
         {Q_PROJ ".lora_A.bias", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_UNSUPPORTED,
         ".lora_A.bias\": expected base_model.model."},
        {0,
         {Q_PROJ ".lora_magnitude_vector", BALORA_F32, 1, {48}, numbers},
         BALORA_ERROR_MISMATCH,
         "is a magnitude (DoRA), but \"use_dora\" of"},
        {0,
         {"base_model.model.model.embed_tokens.lora_embedding_A", BALORA_F32, 2, {2, 9}, numbers},
         BALORA_ERROR_UNSUPPORTED,
         "lora_embedding_A"},
        {0,
         {"base_model.model.lm_head.weight", BALORA_F32, 2, {2, 9}, numbers},
         BALORA_ERROR_UNSUPPORTED,
         "lm_head.weight"},
        {0,
         {"base_model.model.lm_head.lora_A.weight", BALORA_F32, 2, {2, 9}, numbers},
         BALORA_ERROR_MISMATCH,
         "has no linear layer \"lm_head\""},
        {0,
         {"model.layers.0.self_attn.q_proj.lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_UNSUPPORTED,
         "expected base_model.model."},
        {0,
         {"base_model.model.lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_UNSUPPORTED,
         "expected base_model.model."},
        {0,
         {"base_model.model..lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_UNSUPPORTED,
         "expected base_model.model."},
        {0,
         {"base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_MISMATCH,
         "layers.2.self_attn.q_proj"},
        {0,
         {"base_model.model.model.layers.00.self_attn.q_proj.lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_MISMATCH,
         "layers.00."},
        {0,
         {"base_model.model.model.layers.-1.self_attn.q_proj.lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_MISMATCH,
         "layers.-1."},
        {0,
         {"base_model.model.model.layers.18446744073709551616.self_attn.q_proj.lora_A.weight",
          BALORA_F32,
          2,
          {2, 48},
          numbers},
         BALORA_ERROR_MISMATCH,
         "has no linear layer"},
        {0,
         {"base_model.model.model.layers.0.self_attn.w_proj.lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_MISMATCH,
         "it has q_proj, k_proj"},
        {0,
         {"base_model.model.model.layers.0.mlp.q_proj.lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
         BALORA_ERROR_MISMATCH,
         "\"model.layers.0.mlp.q_proj\""},
    };
    workshop *self = *state;
    open_fixture(self, "llama/model");
    scratch_text(&self->base, "adapter_config.json", valid_config);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        safetensors_tensor tensors[VALID_COUNT];
        int64_t count = 0;
        for (int64_t j = 0; j < VALID_COUNT; j++) {
            safetensors_tensor one = j == cases[i].index ? cases[i].tensor : valid_tensors[j];
            if (one.name != NULL)
                tensors[count++] = one;
        }
        write_tensors(self, tensors, count);
        expect_refused(self, cases[i].status, cases[i].fragment);
    }
    write_tensors(self, valid_tensors, VALID_COUNT);
    expect_accepted(self, "the valid tensors");
}

static void broken_files_are_refused(void **state) {
    static const struct {
        const char *config;
        balora_status status;
        const char *fragment;
    } cases[] = {
        {"", BALORA_ERROR_FORMAT, "adapter_config.json"},
        {"{\"peft_type\": \"LORA\"", BALORA_ERROR_FORMAT, "adapter_config.json: line 1"},
        {"[\"LORA\"]", BALORA_ERROR_FORMAT, "expected a JSON object at the top"},
        {"{}", BALORA_ERROR_FORMAT, "the key \"peft_type\" is missing"},
        {"{\"peft_type\": \"LORA\", \"r\": 2, \"r\": 2}", BALORA_ERROR_FORMAT, "duplicate"},
        {"{\"peft_type\": \"LORA\"}", BALORA_ERROR_MISMATCH, "expected [8, 48]"}, /* PEFT's default rank */
    };
    workshop *self = *state;
    open_fixture(self, "llama/model");
    expect_refused(self, BALORA_ERROR_NOT_FOUND, "adapter_config.json");
    scratch_text(&self->base, "adapter_config.json", valid_config);
    expect_refused(self, BALORA_ERROR_NOT_FOUND, "adapter_model.safetensors");
    scratch_text(&self->base, "adapter_model.bin", "pickled");
    expect_refused(self, BALORA_ERROR_UNSUPPORTED, "pickled");
    write_tensors(self, NULL, 0);
    expect_refused(self, BALORA_ERROR_FORMAT, "hold no tensor");
    write_tensors(self, valid_tensors, VALID_COUNT);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        scratch_text(&self->base, "adapter_config.json", cases[i].config);
        expect_refused(self, cases[i].status, cases[i].fragment);
    }
}

/* Every truncation of the weights: whatever is cut, nothing is read beyond the end and nothing is opened. */
static void truncated_weights_are_refused(void **state) {
    workshop *self = *state;
    char *whole;
    uint64_t bytes;
    open_fixture(self, "llama/model");
    scratch_text(&self->base, "adapter_config.json", valid_config);
    write_tensors(self, valid_tensors, VALID_COUNT);
    const char *path = scratch_path(&self->base, "adapter_model.safetensors");
    expect_ok(file_read_all(&whole, &bytes, &self->base.memory, path, 1 << 20));
    for (uint64_t kept = 0; kept < bytes; kept += kept < 16 ? 1 : 61) {
        scratch_bytes(&self->base, "adapter_model.safetensors", whole, kept);
        expect_refused(self, BALORA_ERROR_FORMAT, "adapter_model.safetensors");
    }
    memory_free(&self->base.memory, whole);
}

static void factors_that_are_not_finite_are_refused(void **state) {
    static float poisoned[96];
    workshop *self = *state;
    safetensors_tensor tensors[VALID_COUNT];
    open_fixture(self, "llama/model");
    scratch_text(&self->base, "adapter_config.json", valid_config);
    memcpy(tensors, valid_tensors, sizeof tensors);
    poisoned[50] = -INFINITY;
    tensors[1].data = poisoned;
    write_tensors(self, tensors, VALID_COUNT);
    expect_refused(self, BALORA_ERROR_NUMERIC,
                   "tensor \"" Q_PROJ ".lora_B.weight\": element 50 is not finite");
}

static void tensors_that_an_index_hides_are_refused(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    scratch_text(&self->base, "adapter_config.json", valid_config);
    expect_ok(safetensors_save(&self->base.memory, scratch_path(&self->base, "one.safetensors"),
                               valid_tensors, VALID_COUNT, NULL));
    scratch_text(&self->base, "adapter_model.safetensors.index.json",
                 "{\"weight_map\": {\"" Q_PROJ ".lora_A.weight\": \"one.safetensors\", \"" Q_PROJ
                 ".lora_B.weight\": \"one.safetensors\"}}");
    expect_refused(self, BALORA_ERROR_FORMAT, "hold 4 tensors, of which the index names 2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WORKSHOP_TEST(keys_that_change_the_computation_are_refused),
        WORKSHOP_TEST(keys_that_change_nothing_are_accepted),
        WORKSHOP_TEST(tensors_that_do_not_fit_are_refused),
        WORKSHOP_TEST(broken_files_are_refused),
        WORKSHOP_TEST(truncated_weights_are_refused),
        WORKSHOP_TEST(factors_that_are_not_finite_are_refused),
        WORKSHOP_TEST(tensors_that_an_index_hides_are_refused),
    };
    return cmocka_run_group_tests_name("peft_hostile", tests, NULL, NULL);
}
