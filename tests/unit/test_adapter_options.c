/* Which modules and tensors a new adapter has, by its options; and what of that its file says. */
#include "adapters.h"
#include "balora/options.h"

static balora_adapter_options plain_options(void) {
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    options.method = BALORA_METHOD_LORA;
    options.rank = 4;
    options.alpha = 8;
    return options;
}

static balora_adapter *create(workshop *self, const balora_adapter_options *options) {
    balora_adapter *adapter;
    expect_ok(adapter_create(&adapter, self->model, options));
    return adapter;
}

/* "layers.0.q 4 1, ..." would be long: the modules of a layer by their first letters, "qkvogud", capital where PiSSA. */
static void expect_modules(const balora_adapter *adapter, const char *expected) {
    char found[256];
    size_t length = 0;
    int64_t layer = 0;
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        for (; layer < module->layer; layer++)
            found[length++] = '.';
        char letter = module->projection->name[0];
        found[length++] = module->has_initial ? (char)(letter - 'a' + 'A') : letter;
    }
    found[length] = '\0';
    assert_string_equal(found, expected);
}

static void modules_are_chosen_by_every_option(void **state) {
    static const struct {
        int32_t method, init;
        const char *targets, *excluded, *layers, *principal, *expected;
    } cases[] = {
        {BALORA_METHOD_LORA, 0, NULL, NULL, NULL, NULL, "qkvogud.qkvogud"},
        {BALORA_METHOD_LORA, 0, "all-linear", "k_proj,layers.1.mlp.up_proj", NULL, NULL, "qvogud.qvogd"},
        {BALORA_METHOD_LORA, 0, "q_proj,v_proj", NULL, "1", NULL, ".qv"},
        {BALORA_METHOD_LORA, 0, "q_proj,model.layers.0.mlp.up_proj", NULL, "1", NULL, "u.q"},
        {BALORA_METHOD_LORA, 0, "q_proj", NULL, "0-1", NULL, "q.q"},
        {BALORA_METHOD_LORA, 0, "re:.*\\.(q|v)_proj", NULL, NULL, NULL, "qv.qv"},
        {BALORA_METHOD_LORA, 0, "re:.*", "re:.*mlp.*", "0", NULL, "qkvo"},
        {BALORA_METHOD_BA_LORA, 0, "q_proj,k_proj", NULL, NULL, NULL, "QK.QK"},
        {BALORA_METHOD_BA_LORA, 0, "q_proj,k_proj", NULL, NULL, "q_proj", "Qk.Qk"},
        {BALORA_METHOD_PISSA, 0, NULL, NULL, NULL, "re:.*1\\.mlp.*", "qkvogud.qkvoGUD"},
        {BALORA_METHOD_LORA, BALORA_INIT_PISSA, "q_proj", NULL, NULL, NULL, "Q.Q"},
        {BALORA_METHOD_BA_LORA, BALORA_INIT_KAIMING, "q_proj", NULL, NULL, NULL, "q.q"},
        {BALORA_METHOD_BA_LORA, BALORA_INIT_GAUSSIAN, "q_proj", NULL, NULL, NULL, "q.q"},
    };
    workshop *self = *state;
    open_fixture(self, "llama/model");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        balora_adapter_options options = plain_options();
        options.method = cases[i].method;
        options.init = cases[i].init;
        options.target_modules = cases[i].targets;
        options.exclude_modules = cases[i].excluded;
        options.layers_to_transform = cases[i].layers;
        options.pissa_modules = cases[i].principal;
        balora_adapter *adapter = create(self, &options);
        expect_modules(adapter, cases[i].expected);
        adapter_release(adapter);
    }
}

static void options_that_choose_nothing_are_refused(void **state) {
    static const struct {
        const char *key, *value, *fragment;
    } cases[] = {
        {"target_modules", "q_proj,w_proj",
         "target_modules: no module is called \"w_proj\"; this model has q_proj"},
        {"target_modules", "q_proj,",
         "target_modules \"q_proj,\": expected names separated by single commas"},
        {"target_modules", "re:q_proj", "target_modules: no module's whole name matches \"re:q_proj\""},
        {"target_modules", "re:(q_proj",
         "target_modules: the pattern \"(q_proj\" has, at byte 0, an opening"},
        {"target_modules", "re:(?=q)", "has, at byte 0, a lookahead"},
        {"exclude_modules", "w_proj", "exclude_modules: no module is called \"w_proj\""},
        {"exclude_modules", "all-linear", "target_modules selects nothing"},
        {"layers_to_transform", "2", "layers_to_transform \"2\": expected layers from 0 to 1"},
        {"layers_to_transform", "1-0", "expected layers from 0 to 1"},
        {"layers_to_transform", "0,1,1", "each once"},
        {"layers_to_transform", "0,", "expected numbers of layers such as 0,1,4-7"},
        {"layers_to_transform", "-1", "expected numbers of layers such as"},
        {"layers_to_transform", "0-99999999999999999999", "expected"},
        {"rank_pattern", "w_proj=2", "rank_pattern: no adapted module is called \"w_proj\""},
        {"rank_pattern", "q_proj", "rank_pattern: \"q_proj\": expected NAME=NUMBER, the number a whole one"},
        {"rank_pattern", "q_proj=", "expected NAME=NUMBER"},
        {"rank_pattern", "=2", "expected NAME=NUMBER"},
        {"rank_pattern", "q_proj=2.5", "a whole one from 1 to 65536"},
        {"rank_pattern", "q_proj=0", "a whole one from 1 to 65536"},
        {"rank_pattern", "q_proj=49", "rank is 49; model.layers.0.self_attn.q_proj [48, 48] allows 1 to 48"},
        {"rank_pattern", "q_proj=2,,v_proj=2", "expected NAME=NUMBER"},
        {"rank_pattern", "q[=2", "the pattern \"q[\" has, at byte 1, a class without"},
        {"alpha_pattern", "q_proj=-1",
         "alpha_pattern: \"q_proj=-1\": expected NAME=NUMBER, the number above 0"},
        {"alpha_pattern", "q_proj=inf", "the number above 0"},
        {"modules_to_save", "score", "modules_to_save: no module's name ends in \"score\""},
        {"modules_to_save", ",", "modules_to_save \",\": expected names separated"},
        {"pissa_modules", "q_proj", "pissa_modules needs a start from the weights' singular vectors"},
    };
    workshop *self = *state;
    open_fixture(self, "llama/model");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        balora_adapter_options options = plain_options();
        balora_adapter *adapter = NULL;
        expect_ok(balora_options_set(BALORA_OPTIONS_ADAPTER, &options, cases[i].key, cases[i].value));
        expect_failure(adapter_create(&adapter, self->model, &options), BALORA_ERROR_ARGUMENT,
                       cases[i].fragment);
        assert_null(adapter);
    }
}

static void full_training_refuses_what_it_cannot_honour(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter_options options = plain_options();
    balora_adapter *adapter = NULL;
    options.method = BALORA_METHOD_FULL;
    options.modules_to_save = "norm";
    expect_failure(adapter_create(&adapter, self->model, &options), BALORA_ERROR_ARGUMENT,
                   "modules_to_save does not go with method full");
    options.modules_to_save = NULL;
    options.bias = BALORA_BIAS_ALL;
    expect_failure(adapter_create(&adapter, self->model, &options), BALORA_ERROR_ARGUMENT,
                   "bias does not go with");
}

static void patterns_give_ranks_and_scales(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter_options options = plain_options();
    options.use_rslora = 1;
    options.target_modules = "q_proj,down_proj";
    options.rank_pattern = "layers.1.*q_proj=9,q_proj=2";
    options.alpha_pattern = "down_proj=6";
    balora_adapter *adapter = create(self, &options);
    expect_modules(adapter, "qd.qd");
    const int64_t ranks[] = {2, 4, 9, 4};
    const double scales[] = {8 / sqrt(2), 3, 8.0 / 3, 3};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(adapter->modules[i].rank, ranks[i]);
        assert_true(fabs(adapter->modules[i].scale / scales[i] - 1) < 1e-15);
    }
    adapter_release(adapter);
}

static double deviation(balora_adapter *adapter, matrix_view factor, double *largest) {
    float *values = download(adapter, factor);
    double sum = 0;
    for (int64_t i = 0; i < factor.rows * factor.cols; i++) {
        sum += (double)values[i] * (double)values[i];
        *largest = fmax(*largest, fabs((double)values[i]));
    }
    free(values);
    return sqrt(sum / (double)(factor.rows * factor.cols));
}

/* 48 x 16 numbers: their deviation is within 10 % of the distribution's (four standard errors). */
static void starts_have_the_deviations_of_peft(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter_options options = plain_options();
    options.rank = 16;
    options.target_modules = "q_proj";
    for (int gaussian = 0; gaussian < 2; gaussian++) {
        double largest = 0, expected = gaussian ? 1.0 / 16 : 1 / sqrt(3 * 48);
        options.init = gaussian ? BALORA_INIT_GAUSSIAN : BALORA_INIT_KAIMING;
        balora_adapter *adapter = create(self, &options);
        double found = deviation(adapter, adapter->modules[0].a, &largest);
        assert_true(fabs(found / expected - 1) < 0.1);
        assert_true(gaussian ? largest > 2.0 / 16 : largest <= 1 / sqrt(48));
        largest = 0;
        assert_true(deviation(adapter, adapter->modules[0].b, &largest) == 0);
        adapter_release(adapter);
    }
}

static const adapter_module *module_of(const balora_adapter *adapter, const char *name) {
    const adapter_module *module = adapter_find_module(adapter, name);
    assert_non_null(module);
    return module;
}

/* Some modules doubled, some not, some of other ranks: each delta comes back. */
static void mixed_starts_are_saved_with_their_scales(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    for (int stabilised = 0; stabilised < 2; stabilised++) {
        const char *folder = scratch_path(&self->base, stabilised ? "stabilised" : "plain");
        balora_adapter_options options = plain_options();
        options.method = BALORA_METHOD_BA_LORA;
        options.use_rslora = stabilised;
        options.pissa_modules = "q_proj,layers.1.mlp.down_proj";
        options.rank_pattern = "v_proj=2,layers.0.*o_proj=3";
        options.alpha_pattern = "k_proj=5";
        balora_adapter *adapter = create(self, &options), *again;
        for (int64_t i = 0; i < adapter->module_count; i++) {
            shake(adapter, adapter->modules[i].a, (uint64_t)(2 * i), 0.1);
            shake(adapter, adapter->modules[i].b, (uint64_t)(2 * i + 1), 0.1);
        }
        expect_ok(adapter_save(adapter, folder, NULL));
        expect_ok(adapter_open(&again, self->model, folder));
        assert_int_equal(again->module_count, adapter->module_count);
        assert_int_equal(module_of(again, "model.layers.0.self_attn.q_proj")->rank, 8);
        assert_int_equal(module_of(again, "model.layers.0.self_attn.k_proj")->rank, 4);
        assert_int_equal(module_of(again, "model.layers.0.self_attn.o_proj")->rank, 3);
        assert_int_equal(module_of(again, "model.layers.1.self_attn.o_proj")->rank, 4);
        assert_int_equal(module_of(again, "model.layers.1.mlp.down_proj")->rank, 8);
        for (int64_t i = 0; i < adapter->module_count; i++) {
            const adapter_module *module = &adapter->modules[i];
            double *expected = module_delta(adapter, module),
                   *found = module_delta(again, &again->modules[i]);
            assert_true(relative_distance(found, expected, module->b.rows * module->a.cols) < 1e-12);
            free(expected);
            free(found);
        }
        adapter_release(adapter);
        adapter_release(again);
    }
}

static void expect_configuration(workshop *self, const char *folder, const char *key, const char *expected) {
    char path[256];
    json_t *config;
    snprintf(path, sizeof path, "%s/adapter_config.json", folder);
    expect_ok(json_read_object(&config, &self->base.memory, path, 1 << 20));
    const json_t *value = json_object_get(config, key);
    char *found = value != NULL ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    if (expected == NULL ? found != NULL : found == NULL || strcmp(found, expected) != 0)
        fail_msg("%s is %s; expected %s", key, found != NULL ? found : "absent",
                 expected != NULL ? expected : "none");
    free(found);
    json_decref(config);
}

static void what_is_trained_whole_is_saved_and_read_bit_for_bit(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "adapter");
    open_fixture(self, "llama-biases/model");
    balora_adapter_options options = plain_options();
    options.target_modules = "q_proj,v_proj";
    options.modules_to_save = "lm_head,norm,layers.1.mlp";
    options.bias = BALORA_BIAS_LORA_ONLY;
    balora_adapter *adapter = create(self, &options), *again;
    /* the head, five norms, weights and biases of one MLP, biases of q and v in two layers */
    assert_int_equal(adapter->trained_count, 1 + 5 + 6 + 4);
    for (int64_t i = 0; i < adapter->trained_count; i++)
        shake(adapter, adapter->trained[i].value, (uint64_t)i, 0.1);
    expect_ok(adapter_save(adapter, folder, NULL));
    expect_configuration(self, folder, "modules_to_save", "[\"lm_head\",\"norm\",\"layers.1.mlp\"]");
    expect_configuration(self, folder, "bias", "\"lora_only\"");
    expect_configuration(self, folder, "rank_pattern", NULL);
    expect_configuration(self, folder, "ensure_weight_tying", NULL);
    expect_ok(adapter_open(&again, self->model, folder));
    assert_int_equal(again->trained_count, adapter->trained_count);
    for (int64_t i = 0; i < adapter->trained_count; i++) {
        matrix_view view = adapter->trained[i].value;
        float *expected = download(adapter, view), *found = download(again, again->trained[i].value);
        assert_string_equal(again->trained[i].tensor->name, adapter->trained[i].tensor->name);
        assert_memory_equal(found, expected, (size_t)(view.rows * view.cols) * sizeof *found);
        free(expected);
        free(found);
    }
    adapter_release(adapter);
    adapter_release(again);
}

static void a_tensor_that_is_not_finite_is_never_written(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter_options options = plain_options();
    options.modules_to_save = "model.norm";
    balora_adapter *adapter = create(self, &options);
    float *host = download(adapter, adapter->trained[0].value);
    host[3] = NAN;
    expect_ok(adapter_upload(adapter, adapter->trained[0].value, host));
    free(host);
    expect_failure(adapter_save(adapter, scratch_path(&self->base, "adapter"), NULL), BALORA_ERROR_NUMERIC,
                   "tensor \"model.norm.weight\" holds a value that is not finite");
    assert_false(file_exists(scratch_path(&self->base, "adapter")));
    adapter_release(adapter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WORKSHOP_TEST(modules_are_chosen_by_every_option),
        WORKSHOP_TEST(options_that_choose_nothing_are_refused),
        WORKSHOP_TEST(full_training_refuses_what_it_cannot_honour),
        WORKSHOP_TEST(patterns_give_ranks_and_scales),
        WORKSHOP_TEST(starts_have_the_deviations_of_peft),
        WORKSHOP_TEST(mixed_starts_are_saved_with_their_scales),
        WORKSHOP_TEST(what_is_trained_whole_is_saved_and_read_bit_for_bit),
        WORKSHOP_TEST(a_tensor_that_is_not_finite_is_never_written),
    };
    return cmocka_run_group_tests_name("adapter_options", tests, NULL, NULL);
}
