/*
 * GGUF adapters: what llama.cpp makes of the file is the adapter. It takes W + alpha / r B A with r from lora_b, and where
 * heads turn in neighbouring pairs it has the rows of q and k in that order, of head h: first half 0, second half 0, first
 * half 1, ...
 */
#include "adapters.h"
#include "format/gguf.h"

static void export_gguf(balora_adapter *adapter, const char *path, int32_t dtype) {
    balora_export_options options = BALORA_EXPORT_OPTIONS_INIT;
    options.to = BALORA_EXPORT_GGUF;
    options.factor_dtype = dtype;
    expect_ok(adapter_export(adapter, path, &options));
}

static float *read_matrix(const gguf_file *file, const char *name, int64_t rows, int64_t cols) {
    const gguf_tensor *tensor = gguf_find_tensor(file, name);
    if (tensor == NULL)
        fail_msg("tensor %s was not written", name);
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->shape[0], cols);
    assert_int_equal(tensor->shape[1], rows);
    assert_int_equal(tensor->type->dtype, BALORA_F32);
    assert_int_equal(tensor->offset % 32, 0);
    float *values = calloc((size_t)(rows * cols), sizeof *values);
    expect_ok(gguf_read(file, tensor, values));
    return values;
}

/* Where llama.cpp has row `row` of the checkpoint's q_proj or k_proj. */
static int64_t interleaved_row(int64_t row, int64_t out, int64_t heads) {
    int64_t size = out / heads, head = row / size, place = row % size;
    return place < size / 2 ? head * size + 2 * place : head * size + 2 * (place - size / 2) + 1;
}

/* alpha / r B A of a module in the file, its rows in the checkpoint's order. */
static double *delta_of_file(const gguf_file *file, const adapter_module *module, const char *part,
                             int64_t rank, int64_t heads) {
    char name[64];
    double alpha = 0;
    int64_t out = module->projection->out, in = module->projection->in;
    double *delta = calloc((size_t)(out * in), sizeof *delta);
    expect_ok(gguf_number(file, "adapter.lora.alpha", true, &alpha));
    snprintf(name, sizeof name, "blk.%d.%s.weight.lora_a", (int)module->layer, part);
    float *a = read_matrix(file, name, rank, in);
    snprintf(name, sizeof name, "blk.%d.%s.weight.lora_b", (int)module->layer, part);
    float *b = read_matrix(file, name, out, rank);
    for (int64_t row = 0; row < out; row++) {
        int64_t place = heads > 0 ? interleaved_row(row, out, heads) : row;
        for (int64_t column = 0; column < in; column++)
            for (int64_t k = 0; k < rank; k++)
                delta[row * in + column] +=
                    alpha / (double)rank * (double)b[place * rank + k] * (double)a[k * in + column];
    }
    free(a);
    free(b);
    return delta;
}

/* The file's tensors are the adapter's modules and nothing else. `interleaved`: as the family has it. */
static void check_file(workshop *self, balora_adapter *adapter, const char *path, const char *architecture,
                       bool interleaved) {
    static const char *const parts[][2] = {
        {"q_proj", "attn_q"},      {"k_proj", "attn_k"},  {"v_proj", "attn_v"},     {"o_proj", "attn_output"},
        {"gate_proj", "ffn_gate"}, {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"}};
    const model_config *config = &adapter->model->config;
    gguf_file file;
    const char *text = NULL;
    expect_ok(gguf_open(&file, &self->base.memory, path));
    assert_int_equal(file.tensor_count, 2 * adapter->module_count);
    assert_int_equal(file.value_count, 4);
    expect_ok(gguf_text(&file, "general.architecture", true, &text));
    assert_string_equal(text, architecture);
    expect_ok(gguf_text(&file, "general.type", true, &text));
    assert_string_equal(text, "adapter");
    expect_ok(gguf_text(&file, "adapter.type", true, &text));
    assert_string_equal(text, "lora");
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        int part = 0;
        while (strcmp(parts[part][0], module->projection->name) != 0)
            part++;
        int64_t heads = !interleaved || part > 1 ? 0 : part == 0 ? config->heads : config->key_heads;
        int64_t rank = module->has_initial ? 2 * module->rank : module->rank;
        double *found = delta_of_file(&file, module, parts[part][1], rank, heads);
        double *expected = module_delta(adapter, module);
        double distance =
            relative_distance(found, expected, module->projection->out * module->projection->in);
        /* alpha, and B where a ratio is folded into it, are rounded to floats */
        if (!(distance < 1e-6))
            fail_msg("%s: what the file says differs by %g", module->name, distance);
        free(found);
        free(expected);
    }
    gguf_close(&file);
}

static void principal_factors_are_expressed(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model"); /* 4 heads, 2 of keys */
    for (int use_rslora = 0; use_rslora < 2; use_rslora++) {
        const char *path = scratch_path(&self->base, use_rslora ? "made/for/it/b.gguf" : "a.gguf");
        balora_adapter *adapter = make_adapter(self, BALORA_METHOD_BA_LORA, 4, 8, use_rslora, NULL);
        export_gguf(adapter, path, BALORA_DTYPE_AUTO);
        check_file(self, adapter, path, "llama", true);
        adapter_release(adapter);
    }
}

static void plain_factors_are_expressed(void **state) {
    workshop *self = *state;
    const char *path = scratch_path(&self->base, "a.gguf");
    open_fixture(self, "mistral-window/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 3, 5, 0, "q_proj,k_proj,up_proj");
    export_gguf(adapter, path, BALORA_F32);
    check_file(self, adapter, path, "llama", true);
    adapter_release(adapter);
}

/* Families whose heads turn their halves against each other keep their order. */
static void rows_keep_their_order_elsewhere(void **state) {
    workshop *self = *state;
    static const char *const cases[][2] = {{"qwen2/model", "qwen2"},
                                           {"qwen3/model", "qwen3"},
                                           {"gemma/model", "gemma"},
                                           {"gemma2/model", "gemma2"},
                                           {"gemma3/model", "gemma3"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_fixture(self, cases[i][0]);
        balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 4, 0, "q_proj,k_proj,o_proj");
        export_gguf(adapter, scratch_path(&self->base, "a.gguf"), BALORA_F32);
        check_file(self, adapter, scratch_path(&self->base, "a.gguf"), cases[i][1], false);
        adapter_release(adapter);
        model_release(self->model);
        self->model = NULL;
    }
}

/* Ranks and scales of their own: llama.cpp knows one alpha, so the others' ratio is in their B. */
static void scales_of_their_own_are_expressed(void **state) {
    workshop *self = *state;
    const char *path = scratch_path(&self->base, "a.gguf");
    open_fixture(self, "llama/model");
    for (int use_rslora = 0; use_rslora < 2; use_rslora++) {
        balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 4, 8, use_rslora, NULL);
        for (int64_t i = 0; i < adapter->module_count; i += 3) {
            adapter->modules[i].alpha *= 0.7;
            adapter->modules[i].scale *= 0.7;
        }
        export_gguf(adapter, path, BALORA_F32);
        check_file(self, adapter, path, "llama", true);
        adapter_release(adapter);
    }
}

static void alpha_must_fit(void **state) {
    workshop *self = *state;
    balora_export_options options = BALORA_EXPORT_OPTIONS_INIT;
    options.to = BALORA_EXPORT_GGUF;
    open_fixture(self, "llama/model");
    static const double alphas[] = {1e39, 1e-39};
    for (int i = 0; i < 2; i++) {
        balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, alphas[i], 0, NULL);
        expect_failure(adapter_export(adapter, scratch_path(&self->base, "none/a.gguf"), &options),
                       BALORA_ERROR_NUMERIC, "cannot be written in 32 bits");
        assert_false(file_exists(scratch_path(&self->base, "none")));
        adapter_release(adapter);
    }
}

static void sixteen_bits_are_rounded(void **state) {
    workshop *self = *state;
    const char *path = scratch_path(&self->base, "a.gguf");
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 4, 0, "v_proj");
    gguf_file file;
    uint16_t bits[48];
    export_gguf(adapter, path, BALORA_BF16);
    expect_ok(gguf_open(&file, &self->base.memory, path));
    const gguf_tensor *tensor = gguf_find_tensor(&file, "blk.1.attn_v.weight.lora_b");
    assert_string_equal(tensor->type->name, "BF16");
    assert_int_equal(tensor->bytes, sizeof bits);
    expect_ok(gguf_read(&file, tensor, bits));
    float *exact = download(adapter, adapter->modules[1].b);
    for (int i = 0; i < 48; i++) {
        uint32_t wide = (uint32_t)bits[i] << 16;
        float found;
        memcpy(&found, &wide, sizeof found);
        assert_true(fabsf(found - exact[i]) <= 0x1p-8f * fabsf(exact[i]));
    }
    free(exact);
    gguf_close(&file);
    export_gguf(adapter, path, BALORA_F16); /* over the old file */
    expect_ok(gguf_open(&file, &self->base.memory, path));
    assert_string_equal(gguf_find_tensor(&file, "blk.1.attn_v.weight.lora_b")->type->name, "F16");
    gguf_close(&file);
    adapter_release(adapter);
}

/* A file of the gguf package itself (tests/oracle/make_gguf.py), for an adapter that PEFT saved. */
static void the_gguf_package_writes_the_same_file(void **state) {
    workshop *self = *state;
    char *bytes[2];
    uint64_t count[2];
    const char *path = scratch_path(&self->base, "a.gguf");
    balora_adapter *adapter;
    open_fixture(self, "llama/model");
    expect_ok(adapter_open(&adapter, self->model, fixture_path("../../fixtures/gguf/adapter")));
    export_gguf(adapter, path, BALORA_DTYPE_AUTO);
    check_file(self, adapter, path, "llama", true);
    expect_ok(file_read_all(&bytes[0], &count[0], &self->base.memory, path, 1 << 20));
    expect_ok(file_read_all(&bytes[1], &count[1], &self->base.memory,
                            fixture_path("../../fixtures/gguf/adapter.gguf"), 1 << 20));
    assert_int_equal(count[0], count[1]);
    assert_memory_equal(bytes[0], bytes[1], count[0]);
    memory_free(&self->base.memory, bytes[0]);
    memory_free(&self->base.memory, bytes[1]);
    adapter_release(adapter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WORKSHOP_TEST(principal_factors_are_expressed),
        WORKSHOP_TEST(plain_factors_are_expressed),
        WORKSHOP_TEST(rows_keep_their_order_elsewhere),
        WORKSHOP_TEST(scales_of_their_own_are_expressed),
        WORKSHOP_TEST(alpha_must_fit),
        WORKSHOP_TEST(sixteen_bits_are_rounded),
        WORKSHOP_TEST(the_gguf_package_writes_the_same_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
