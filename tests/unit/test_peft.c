/* Adapters as PEFT folders: what is written is what was trained, and is read again. */
#include "adapter/peft_config.h"
#include "adapters.h"

static const adapter_module *find_module(const balora_adapter *adapter, const char *name) {
    for (int64_t i = 0; i < adapter->module_count; i++)
        if (strcmp(adapter->modules[i].name, name) == 0)
            return &adapter->modules[i];
    fail_msg("there is no module %s", name);
    return NULL;
}

static void plain_factors_are_read_again_bit_for_bit(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "deep/er/adapter");
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 3, 5.5, 0, NULL), *again;
    expect_ok(adapter_save(adapter, folder, NULL));
    expect_ok(adapter_open(&again, self->model, folder));
    assert_int_equal(again->method, BALORA_METHOD_LORA);
    assert_int_equal(again->rank, 3);
    assert_true(again->alpha == 5.5 && again->modules[0].scale == adapter->modules[0].scale);
    assert_false(again->modules[0].has_initial);
    assert_int_equal(again->module_count, adapter->module_count);
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *a = &adapter->modules[i], *b = &again->modules[i];
        assert_string_equal(a->name, b->name);
        for (int kind = 0; kind < 2; kind++) {
            matrix_view first = kind == 0 ? a->a : a->b, second = kind == 0 ? b->a : b->b;
            float *expected = download(adapter, first), *found = download(again, second);
            assert_memory_equal(found, expected, (size_t)(first.rows * first.cols) * sizeof *found);
            free(expected);
            free(found);
        }
    }
    adapter_release(adapter);
    adapter_release(again);
}

static void check_doubled(workshop *self, int use_rslora) {
    const char *folder = scratch_path(&self->base, use_rslora ? "stabilised" : "plain");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_BA_LORA, 4, 8, use_rslora, NULL), *again;
    expect_ok(adapter_save(adapter, folder, NULL));
    expect_ok(adapter_open(&again, self->model, folder));
    assert_int_equal(again->rank, 8);
    assert_true(fabs(again->alpha - (use_rslora ? 8 * sqrt(2) : 16)) < 1e-12);
    assert_true(fabs(again->modules[0].scale / adapter->modules[0].scale - 1) < 1e-14);
    assert_int_equal(again->use_rslora, use_rslora);
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        double *expected = module_delta(adapter, module), *found = module_delta(again, &again->modules[i]);
        double distance = relative_distance(found, expected, module->b.rows * module->a.cols);
        if (!(distance < 1e-12))
            fail_msg("%s: the delta that was read differs by %g", module->name, distance);
        free(expected);
        free(found);
    }
    adapter_release(adapter);
    adapter_release(again);
}

static void principal_factors_become_plain_ones_of_twice_the_rank(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama-biases/model");
    check_doubled(self, 0);
    check_doubled(self, 1);
}

static void a_rank_above_the_smallest_side_can_be_read(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "adapter");
    open_fixture(self, "llama-rope-llama3/model"); /* k_proj is [16, 32] */
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 13, 13, 0, "k_proj"), *again;
    expect_ok(adapter_save(adapter, folder, NULL));
    expect_ok(adapter_open(&again, self->model, folder));
    assert_int_equal(again->rank, 26);
    adapter_release(adapter);
    adapter_release(again);
}

/* The keys that are written, no more and no less: older readers refuse keys that they do not know. */
static void expect_configuration(workshop *self, const char *folder, const char *expected) {
    char *text, path[512];
    uint64_t bytes;
    json_t *wanted, *found;
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    expect_ok(file_read_all(&text, &bytes, &self->base.memory, path, 1 << 20));
    expect_ok(json_parse(&wanted, expected, strlen(expected), "expected"));
    expect_ok(json_parse(&found, text, bytes, path));
    if (!json_equal(wanted, found))
        fail_msg("expected %s, found %s", expected, text);
    const char *base = strstr(text, "\n  \"base_model_name_or_path\""),
               *task = strstr(text, "\n  \"task_type\"");
    assert_true(base != NULL && task != NULL && base < task); /* indent 2, sorted */
    assert_int_equal(text[bytes - 1], '\n');
    memory_free(&self->base.memory, text);
    json_decref(wanted);
    json_decref(found);
}

static void configurations_hold_what_differs_from_defaults(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "adapter");
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 2, 3, 0, NULL);
    expect_ok(adapter_save(adapter, folder, "someone/model"));
    expect_configuration(
        self, folder,
        "{\"base_model_name_or_path\": \"someone/model\", \"inference_mode\": true,"
        " \"init_lora_weights\": true, \"lora_alpha\": 6, \"peft_type\": \"LORA\", \"r\": 4,"
        " \"target_modules\": [\"q_proj\", \"k_proj\", \"v_proj\", \"o_proj\", \"gate_proj\", \"up_proj\","
        " \"down_proj\"], \"task_type\": \"CAUSAL_LM\"}");
    adapter_release(adapter);
    adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 3.5, 1, "v_proj,layers.1.mlp.down_proj");
    expect_ok(adapter_save(adapter, folder, NULL));
    char expected[1024];
    snprintf(expected, sizeof expected,
             "{\"base_model_name_or_path\": \"%s\", \"inference_mode\": true, \"init_lora_weights\": true,"
             " \"lora_alpha\": 3.5, \"peft_type\": \"LORA\", \"r\": 2, \"target_modules\": [\"v_proj\","
             " \"model.layers.1.mlp.down_proj\"], \"task_type\": \"CAUSAL_LM\", \"use_rslora\": true}",
             self->model->folder);
    expect_configuration(self, folder, expected);
    adapter_release(adapter);
}

static void expect_tensor(const safetensors_file *file, const char *name, int64_t rows, int64_t cols) {
    const safetensors_entry *entry = safetensors_find(file, name);
    if (entry == NULL)
        fail_msg("tensor %s was not written", name);
    assert_int_equal(entry->dtype, BALORA_F32);
    assert_int_equal(entry->rank, 2);
    assert_int_equal(entry->shape[0], rows);
    assert_int_equal(entry->shape[1], cols);
}

static void tensors_have_the_names_and_shapes_of_peft(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "adapter");
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_BA_LORA, 4, 8, 0, "v_proj,down_proj");
    expect_ok(adapter_save(adapter, folder, NULL));
    safetensors_file file;
    expect_ok(safetensors_open(&file, &self->base.memory,
                               scratch_path(&self->base, "adapter/adapter_model.safetensors")));
    assert_int_equal(file.count, 8);
    expect_tensor(&file, "base_model.model.model.layers.0.self_attn.v_proj.lora_A.weight", 8, 48);
    expect_tensor(&file, "base_model.model.model.layers.0.self_attn.v_proj.lora_B.weight", 24, 8);
    expect_tensor(&file, "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight", 8, 80);
    expect_tensor(&file, "base_model.model.model.layers.1.mlp.down_proj.lora_B.weight", 48, 8);
    assert_int_equal(json_object_size(file.metadata), 2);
    assert_string_equal(json_string_value(json_object_get(file.metadata, "format")), "pt");
    assert_string_equal(json_string_value(json_object_get(file.metadata, "balora.initial_factors")), "all");
    safetensors_close(&file);
    adapter_release(adapter);
}

static void poison(balora_adapter *adapter, matrix_view factor, int64_t place, float value) {
    float *host = download(adapter, factor);
    host[place] = value;
    expect_ok(adapter_upload(adapter, factor, host));
    free(host);
}

static void a_factor_that_is_not_finite_is_never_written(void **state) {
    workshop *self = *state;
    const char *fresh = scratch_path(&self->base, "fresh"), *kept = scratch_path(&self->base, "kept");
    char *before, *after;
    uint64_t bytes_before, bytes_after;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_BA_LORA, 4, 8, 0, NULL);
    expect_ok(adapter_save(adapter, kept, NULL));
    const char *written = scratch_path(&self->base, "kept/adapter_model.safetensors");
    expect_ok(file_read_all(&before, &bytes_before, &self->base.memory, written, 1 << 24));
    const adapter_module *module = find_module(adapter, "model.layers.1.mlp.up_proj");
    poison(adapter, module->b, 4 * 5 + 2, NAN);
    expect_failure(adapter_save(adapter, fresh, NULL), BALORA_ERROR_NUMERIC,
                   "model.layers.1.mlp.up_proj: B[5, 2] is not finite");
    assert_false(file_exists(fresh));
    poison(adapter, module->b, 4 * 5 + 2, 1);
    poison(adapter, module->a0, 7, -INFINITY);
    expect_failure(adapter_save(adapter, kept, NULL), BALORA_ERROR_NUMERIC, "up_proj: A0[0, 7]");
    expect_ok(file_read_all(&after, &bytes_after, &self->base.memory, written, 1 << 24));
    assert_int_equal(bytes_after, bytes_before);
    assert_memory_equal(after, before, bytes_before);
    memory_free(&self->base.memory, before);
    memory_free(&self->base.memory, after);
    adapter_release(adapter);
}

static void a_fully_trained_model_is_no_adapter(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama-tied/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_FULL, 4, 8, 0, NULL);
    expect_failure(adapter_save(adapter, scratch_path(&self->base, "adapter"), NULL), BALORA_ERROR_STATE,
                   "method full");
    assert_false(file_exists(scratch_path(&self->base, "adapter")));
    adapter_release(adapter);
}

static void a_folder_that_cannot_be_made_is_an_error(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 2, 0, "q_proj");
    scratch_text(&self->base, "file", "in the way");
    expect_failure(adapter_save(adapter, scratch_path(&self->base, "file/adapter"), NULL), BALORA_ERROR_IO,
                   "file");
    adapter_release(adapter);
}

static void adapters_of_peft_itself_are_read(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter;
    expect_ok(adapter_open(&adapter, self->model, fixture_path("lora/initial_adapter")));
    assert_int_equal(adapter->rank, 4);
    assert_true(adapter->modules[0].scale == 2);
    assert_int_equal(adapter->module_count, 14);
    safetensors_file file;
    expect_ok(safetensors_open(&file, &self->base.memory,
                               fixture_path("lora/initial_adapter/adapter_model.safetensors")));
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        for (int kind = 0; kind < 2; kind++) {
            char name[256];
            matrix_view factor = kind == 0 ? module->a : module->b;
            snprintf(name, sizeof name, "base_model.model.%s.lora_%c.weight", module->name, "AB"[kind]);
            const safetensors_entry *entry = safetensors_find(&file, name);
            assert_non_null(entry);
            float *expected = calloc(1, entry->bytes), *found = download(adapter, factor);
            expect_ok(safetensors_read(&file, entry, expected));
            assert_int_equal(entry->elements, factor.rows * factor.cols);
            assert_memory_equal(found, expected, entry->bytes);
            free(expected);
            free(found);
        }
    }
    safetensors_close(&file);
    adapter_release(adapter);
}

/* A rank-1 adapter of q_proj in layer 0 whose numbers take 16 bits: 1.5 everywhere. */
static void check_narrow(workshop *self, int32_t dtype, uint16_t one_and_a_half) {
    uint16_t numbers[48];
    for (int i = 0; i < 48; i++)
        numbers[i] = one_and_a_half;
    const safetensors_tensor tensors[] = {
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", dtype, 2, {1, 48}, numbers},
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight", dtype, 2, {48, 1}, numbers}};
    expect_ok(safetensors_save(&self->base.memory, scratch_path(&self->base, "adapter_model.safetensors"),
                               tensors, 2, NULL));
    scratch_text(
        &self->base, "adapter_config.json",
        "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_dropout\": 0.125, \"target_modules\": \"all-linear\"}");
    balora_adapter *adapter;
    expect_ok(adapter_open(&adapter, self->model, self->base.folder));
    assert_int_equal(adapter->module_count, 1);
    assert_true(adapter->dropout == 0.125);
    assert_true(adapter->modules[0].scale == 8); /* lora_alpha is 8 when it is absent */
    for (int kind = 0; kind < 2; kind++) {
        float *found = download(adapter, kind == 0 ? adapter->modules[0].a : adapter->modules[0].b);
        for (int i = 0; i < 48; i++)
            assert_true(found[i] == 1.5f);
        free(found);
    }
    adapter_release(adapter);
}

static void sixteen_bit_factors_are_widened(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    check_narrow(self, BALORA_BF16, 0x3fc0);
    check_narrow(self, BALORA_F16, 0x3e00);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WORKSHOP_TEST(plain_factors_are_read_again_bit_for_bit),
        WORKSHOP_TEST(principal_factors_become_plain_ones_of_twice_the_rank),
        WORKSHOP_TEST(a_rank_above_the_smallest_side_can_be_read),
        WORKSHOP_TEST(configurations_hold_what_differs_from_defaults),
        WORKSHOP_TEST(tensors_have_the_names_and_shapes_of_peft),
        WORKSHOP_TEST(a_factor_that_is_not_finite_is_never_written),
        WORKSHOP_TEST(a_fully_trained_model_is_no_adapter),
        WORKSHOP_TEST(a_folder_that_cannot_be_made_is_an_error),
        WORKSHOP_TEST(adapters_of_peft_itself_are_read),
        WORKSHOP_TEST(sixteen_bit_factors_are_widened),
    };
    return cmocka_run_group_tests_name("peft", tests, NULL, NULL);
}
