/*
 * Adapters with trained magnitudes (DoRA): norms and scales follow the factors, the start changes nothing, folders hold
 * what memory holds, merged weights are m / n (W + s (B A - B0 A0)) rounded once.
 */
#include "adapters.h"

static balora_adapter *create(workshop *self, int32_t method, int32_t use_dora, const char *targets) {
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    options.method = method;
    options.use_dora = use_dora;
    options.rank = 3;
    options.alpha = 6;
    options.target_modules = targets;
    balora_adapter *adapter;
    expect_ok(adapter_create(&adapter, self->model, &options));
    return adapter;
}

static void disturb(balora_adapter *adapter) {
    for (int64_t i = 0; i < adapter->module_count; i++) {
        shake(adapter, adapter->modules[i].a, (uint64_t)(3 * i), 0.1);
        shake(adapter, adapter->modules[i].b, (uint64_t)(3 * i + 1), 0.1);
        shake(adapter, adapter->modules[i].magnitude, (uint64_t)(3 * i + 2), 0.2);
    }
    expect_ok(adapter_refresh(adapter, adapter->queue));
}

/* Names of tensors in files are those of modules with ".weight" behind. */
static double *base_weight(workshop *self, const adapter_module *module) {
    tensor_files files;
    tensor_place place;
    char name[128];
    int64_t count = module->projection->out * module->projection->in;
    float *raw = calloc((size_t)count, sizeof *raw);
    double *out = calloc((size_t)count, sizeof *out);
    assert_true(raw != NULL && out != NULL);
    snprintf(name, sizeof name, "%s.weight", module->name);
    expect_ok(tensor_files_open(&files, &self->base.memory, self->model->folder, "model"));
    assert_true(tensor_files_find(&files, name, &place));
    assert_int_equal(place.entry->dtype, BALORA_F32);
    expect_ok(safetensors_read(place.file, place.entry, raw));
    for (int64_t i = 0; i < count; i++)
        out[i] = (double)raw[i];
    free(raw);
    tensor_files_close(&files);
    return out;
}

/* W + s (B A - B0 A0) [out, in] and the norms of its rows, in double. */
static double *adapted_weight(workshop *self, balora_adapter *adapter, const adapter_module *module,
                              double *norms) {
    int64_t in = module->projection->in;
    double *weight = base_weight(self, module), *delta = module_delta(adapter, module);
    for (int64_t row = 0; row < module->projection->out; row++) {
        norms[row] = 0;
        for (int64_t i = row * in; i < (row + 1) * in; i++) {
            weight[i] += delta[i];
            norms[row] += weight[i] * weight[i];
        }
        norms[row] = sqrt(norms[row]);
    }
    free(delta);
    return weight;
}

static const low_rank_group *group_of(const balora_adapter *adapter, const adapter_module *module) {
    return &adapter->groups[module->layer * GROUP_COUNT + module->projection->group];
}

/* Norms and scales of every module against double. Packed factors of 16 bits round the change, by 2^-8 of itself. */
static void check_norms(workshop *self, balora_adapter *adapter) {
    double tolerance = adapter->packed_dtype == BALORA_F32 ? 1e-6 : 5e-3;
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        const low_rank_group *group = group_of(adapter, module);
        int64_t out = module->projection->out, first = module->projection->first;
        double *norms = calloc((size_t)out, sizeof *norms);
        free(adapted_weight(self, adapter, module, norms));
        float *found = download(adapter, group->norms), *scale = download(adapter, group->scale);
        float *magnitude = download(adapter, module->magnitude);
        for (int64_t row = 0; row < out; row++) {
            double n = (double)found[first + row], ratio = (double)magnitude[row] / norms[row];
            if (!(fabs(n - norms[row]) <= tolerance * norms[row]))
                fail_msg("%s: norm of row %lld is %.9g; expected %.9g", module->name, (long long)row, n,
                         norms[row]);
            assert_true(fabs((double)scale[first + row] - ratio) <= tolerance * fabs(ratio));
        }
        free(norms);
        free(found);
        free(scale);
        free(magnitude);
    }
}

static void norms_follow_the_factors(void **state) {
    static const int32_t methods[] = {BALORA_METHOD_DORA, BALORA_METHOD_BA_LORA};
    workshop *self = *state;
    open_fixture(self, "llama-biases/model");
    for (int i = 0; i < 2; i++) {
        balora_adapter *adapter = create(self, methods[i], 1, NULL);
        check_norms(self, adapter);
        disturb(adapter);
        check_norms(self, adapter);
        adapter_release(adapter);
    }
}

/* Not nearly: every scale is 1 to the bit, so that the student is the teacher. */
static void the_start_changes_nothing(void **state) {
    static const int32_t methods[] = {BALORA_METHOD_DORA, BALORA_METHOD_LORA, BALORA_METHOD_PISSA};
    workshop *self = *state;
    open_fixture(self, "llama/model");
    for (int i = 0; i < 3; i++) {
        balora_adapter *adapter = create(self, methods[i], methods[i] != BALORA_METHOD_DORA, NULL);
        balora_adapter_information information;
        adapter_describe(adapter, &information);
        assert_int_equal(information.use_dora, 1);
        int64_t scales = 0;
        for (int64_t g = 0; g < self->model->config.layers * GROUP_COUNT; g++) {
            matrix_view view = adapter->groups[g].scale;
            float *scale = download(adapter, view);
            for (int64_t k = 0; k < view.cols; k++, scales++)
                assert_true(scale[k] == 1);
            free(scale);
        }
        assert_true(scales > 0);
        adapter_release(adapter);
    }
}

/* Columns of projections without factors are scaled by 1, whatever the others are. */
static void other_projections_of_a_group_keep_their_size(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = create(self, BALORA_METHOD_DORA, 0, "q_proj,v_proj");
    disturb(adapter);
    for (int64_t layer = 0; layer < self->model->config.layers; layer++) {
        const low_rank_group *group = &adapter->groups[layer * GROUP_COUNT + GROUP_QKV];
        const projection *key = &self->model->projections[1];
        assert_string_equal(key->name, "k_proj");
        float *scale = download(adapter, group->scale);
        for (int64_t k = key->first; k < key->first + key->out; k++)
            assert_true(scale[k] == 1);
        assert_true(scale[0] != 1);
        free(scale);
    }
    check_norms(self, adapter);
    adapter_release(adapter);
}

/* A row of zeros has no direction: it stays 0, and nothing becomes NaN. */
static void a_row_of_zeros_stays_zero(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    const projection *part = &self->model->projections[0];
    matrix_view weight = self->model->weights.layers[0].groups[part->group].weight;
    balora_adapter *first = create(self, BALORA_METHOD_DORA, 0, NULL);
    expect_ok(self->model->device.ops->fill_zero(first->queue, view_rows(weight, 5, 1)));
    expect_ok(self->model->device.ops->synchronize(first->queue));
    balora_adapter *adapter = create(self, BALORA_METHOD_DORA, 0, NULL);
    const low_rank_group *group = &adapter->groups[part->group];
    float *norms = download(adapter, group->norms), *scale = download(adapter, group->scale);
    assert_true(norms[5] == 0 && scale[5] == 0);
    assert_true(norms[4] > 0 && scale[4] == 1);
    free(norms);
    free(scale);
    adapter_release(adapter);
    adapter_release(first);
}

/* --- folders --- */

static void expect_same(balora_adapter *a, matrix_view x, balora_adapter *b, matrix_view y) {
    assert_int_equal(x.rows, y.rows);
    assert_int_equal(x.cols, y.cols);
    float *first = download(a, x), *second = download(b, y);
    assert_memory_equal(first, second, (size_t)(x.rows * x.cols) * sizeof *first);
    free(first);
    free(second);
}

static void folders_hold_magnitudes(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = create(self, BALORA_METHOD_DORA, 0, NULL), *opened;
    disturb(adapter);
    expect_ok(adapter_save(adapter, scratch_path(&self->base, "plain"), NULL));
    expect_ok(adapter_open(&opened, self->model, scratch_path(&self->base, "plain")));
    assert_int_equal(opened->method, BALORA_METHOD_DORA);
    assert_int_equal(opened->module_count, adapter->module_count);
    for (int64_t i = 0; i < adapter->module_count; i++) {
        expect_same(adapter, adapter->modules[i].a, opened, opened->modules[i].a);
        expect_same(adapter, adapter->modules[i].b, opened, opened->modules[i].b);
        expect_same(adapter, adapter->modules[i].magnitude, opened, opened->modules[i].magnitude);
    }
    check_norms(self, opened);
    adapter_release(opened);
    adapter_release(adapter);
}

/* As plain LoRA of twice the rank the weight is the same one, so its magnitude and norms are. */
static void principal_factors_keep_their_magnitudes(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = create(self, BALORA_METHOD_BA_LORA, 1, NULL), *opened;
    disturb(adapter);
    expect_ok(adapter_save(adapter, scratch_path(&self->base, "doubled"), NULL));
    expect_ok(adapter_open(&opened, self->model, scratch_path(&self->base, "doubled")));
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        double *ours = calloc((size_t)module->projection->out, sizeof *ours);
        double *theirs = calloc((size_t)module->projection->out, sizeof *theirs);
        expect_same(adapter, module->magnitude, opened, opened->modules[i].magnitude);
        free(adapted_weight(self, adapter, module, ours));
        free(adapted_weight(self, opened, &opened->modules[i], theirs));
        assert_true(relative_distance(theirs, ours, module->projection->out) < 1e-6);
        free(ours);
        free(theirs);
    }
    check_norms(self, opened);
    adapter_release(opened);
    adapter_release(adapter);
}

#define MODULE "base_model.model.model.layers.0.self_attn.k_proj"

/* Both names that PEFT has given the magnitude are read. */
static void check_name(workshop *self, const char *name) {
    static float numbers[48 * 24];
    for (int i = 0; i < 48 * 24; i++)
        numbers[i] = 0.5f;
    const safetensors_tensor tensors[] = {{MODULE ".lora_A.weight", BALORA_F32, 2, {2, 48}, numbers},
                                          {MODULE ".lora_B.weight", BALORA_F32, 2, {24, 2}, numbers},
                                          {name, BALORA_F32, 1, {24}, numbers}};
    balora_adapter *adapter;
    expect_ok(safetensors_save(&self->base.memory, scratch_path(&self->base, "adapter_model.safetensors"),
                               tensors, 3, NULL));
    scratch_text(&self->base, "adapter_config.json",
                 "{\"peft_type\": \"LORA\", \"r\": 2, \"use_dora\": true, \"lora_dropout\": 0.125,"
                 " \"target_modules\": [\"k_proj\"]}");
    expect_ok(adapter_open(&adapter, self->model, self->base.folder));
    assert_true(adapter->dropout == 0.125);
    float *magnitude = download(adapter, adapter->modules[0].magnitude);
    for (int i = 0; i < 24; i++)
        assert_true(magnitude[i] == 0.5f);
    free(magnitude);
    adapter_release(adapter);
}

static void both_names_of_a_magnitude_are_read(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    check_name(self, MODULE ".lora_magnitude_vector");
    check_name(self, MODULE ".lora_magnitude_vector.weight");
}

static void configurations_say_dora_and_dropout(void **state) {
    workshop *self = *state;
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    balora_adapter *adapter;
    json_t *config;
    open_fixture(self, "llama/model");
    options.method = BALORA_METHOD_DORA;
    options.lora_dropout = 0.05;
    expect_ok(adapter_create(&adapter, self->model, &options));
    expect_ok(adapter_save(adapter, scratch_path(&self->base, "saved"), NULL));
    expect_ok(json_read_object(&config, &self->base.memory,
                               scratch_path(&self->base, "saved/adapter_config.json"), 1 << 20));
    assert_true(json_is_true(json_object_get(config, "use_dora")));
    assert_true(json_real_value(json_object_get(config, "lora_dropout")) == 0.05);
    json_decref(config);
    adapter_release(adapter);
}

static void a_magnitude_that_is_not_finite_is_never_written(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = create(self, BALORA_METHOD_DORA, 0, "down_proj");
    float *magnitude = download(adapter, adapter->modules[1].magnitude);
    magnitude[7] = NAN;
    expect_ok(adapter_upload(adapter, adapter->modules[1].magnitude, magnitude));
    expect_failure(adapter_save(adapter, scratch_path(&self->base, "never"), NULL), BALORA_ERROR_NUMERIC,
                   "model.layers.1.mlp.down_proj: magnitude[0, 7] is not finite");
    free(magnitude);
    adapter_release(adapter);
}

/* Merged in F64 and rounded once to the file's F32. */
static void check_merged(workshop *self, balora_adapter *adapter) {
    tensor_files merged;
    expect_ok(adapter_merge(adapter, scratch_path(&self->base, "merged")));
    expect_ok(tensor_files_open(&merged, &self->base.memory, scratch_path(&self->base, "merged"), "model"));
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        int64_t out = module->projection->out, in = module->projection->in;
        double *norms = calloc((size_t)out, sizeof *norms);
        double *weight = adapted_weight(self, adapter, module, norms);
        float *magnitude = download(adapter, module->magnitude);
        float *found = calloc((size_t)(out * in), sizeof *found);
        tensor_place place;
        char name[128];
        snprintf(name, sizeof name, "%s.weight", module->name);
        assert_true(tensor_files_find(&merged, name, &place));
        expect_ok(safetensors_read(place.file, place.entry, found));
        for (int64_t k = 0; k < out * in; k++) {
            double exact = (double)magnitude[k / in] / norms[k / in] * weight[k];
            if (!(fabs((double)found[k] - exact) <= 0x1.0002p-24 * fabs(exact)))
                fail_msg("%s[%lld] is %.9g; expected %.9g", name, (long long)k, (double)found[k], exact);
        }
        free(norms);
        free(weight);
        free(magnitude);
        free(found);
    }
    tensor_files_close(&merged);
}

static void merged_weights_have_the_magnitudes(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = create(self, BALORA_METHOD_DORA, 0, NULL);
    disturb(adapter);
    check_merged(self, adapter);
    adapter_release(adapter);
}

static void merged_principal_factors_have_the_magnitudes(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama-biases/model");
    balora_adapter *adapter = create(self, BALORA_METHOD_PISSA, 1, "k_proj,o_proj,up_proj");
    disturb(adapter);
    check_merged(self, adapter);
    adapter_release(adapter);
}

/* --- what does not go together --- */

static void methods_refuse_what_they_exclude(void **state) {
    static const struct {
        int32_t method, use_dora;
        double dropout;
        const char *fragment;
    } cases[] = {
        {BALORA_METHOD_FULL, 1, 0, "use_dora does not go with method full"},
        {BALORA_METHOD_FULL, 0, 0.1, "lora_dropout does not go with method full"},
        {BALORA_METHOD_PISSA, 0, 0.1, "lora_dropout is 0.1, but model.layers.0.self_attn.q_proj starts from"},
        {BALORA_METHOD_BA_LORA, 1, 0.1, "set lora_dropout to 0, or method to lora or dora"},
    };
    workshop *self = *state;
    open_fixture(self, "llama/model");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
        balora_adapter *adapter = NULL;
        options.method = cases[i].method;
        options.use_dora = cases[i].use_dora;
        options.lora_dropout = cases[i].dropout;
        expect_failure(adapter_create(&adapter, self->model, &options), BALORA_ERROR_ARGUMENT,
                       cases[i].fragment);
        assert_null(adapter);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WORKSHOP_TEST(norms_follow_the_factors),
        WORKSHOP_TEST(the_start_changes_nothing),
        WORKSHOP_TEST(other_projections_of_a_group_keep_their_size),
        WORKSHOP_TEST(a_row_of_zeros_stays_zero),
        WORKSHOP_TEST(folders_hold_magnitudes),
        WORKSHOP_TEST(principal_factors_keep_their_magnitudes),
        WORKSHOP_TEST(both_names_of_a_magnitude_are_read),
        WORKSHOP_TEST(configurations_say_dora_and_dropout),
        WORKSHOP_TEST(a_magnitude_that_is_not_finite_is_never_written),
        WORKSHOP_TEST(merged_weights_have_the_magnitudes),
        WORKSHOP_TEST(merged_principal_factors_have_the_magnitudes),
        WORKSHOP_TEST(methods_refuse_what_they_exclude),
    };
    return cmocka_run_group_tests_name("dora", tests, NULL, NULL);
}
