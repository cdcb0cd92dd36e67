/* Adapters for other programs: the residual model with its adapter, plain LoRA in 16 bits, and what is refused. */
#include "adapter/initial_mark.h"
#include "adapter/plain.h"
#include "adapters.h"

static balora_status export_to(balora_adapter *adapter, const char *path, int32_t to, int32_t dtype) {
    balora_export_options options = BALORA_EXPORT_OPTIONS_INIT;
    options.to = to;
    options.factor_dtype = dtype;
    return adapter_export(adapter, path, &options);
}

static float *read_floats(const char *folder, const char *stem, const char *name, allocator *memory,
                          int64_t rows, int64_t cols) {
    tensor_files files;
    tensor_place place;
    int64_t shape[2] = {rows, cols};
    float *values = calloc((size_t)(rows * cols), sizeof *values);
    expect_ok(tensor_files_open(&files, memory, folder, stem));
    expect_ok(tensor_files_expect(&files, name, 2, shape, &place));
    assert_int_equal(place.entry->dtype, BALORA_F32);
    expect_ok(safetensors_read(place.file, place.entry, values));
    tensor_files_close(&files);
    return values;
}

/* The weight in the new folder is the float nearest to W - s B0 A0, and the part's factors are A and B as they are. */
static void check_module(workshop *self, balora_adapter *adapter, const adapter_module *module,
                         const char *out) {
    allocator *memory = &self->base.memory;
    int64_t rows = module->b.rows, cols = module->a.cols, rank = module->rank;
    char name[160], part[64];
    snprintf(part, sizeof part, "%s/pissa_init", out);
    snprintf(name, sizeof name, "%s.weight", module->name);
    float *before = read_floats(self->model->folder, "model", name, memory, rows, cols);
    float *after = read_floats(out, "model", name, memory, rows, cols);
    double *taken = calloc((size_t)(rows * cols), sizeof *taken);
    add_product(adapter, module->a0, module->b0, module->scale, taken);
    for (int64_t i = 0; i < rows * cols; i++) {
        double exact = (double)before[i] - taken[i];
        /* half of a float's spacing, and a little where the sum itself lies between two doubles */
        if (!(fabs((double)after[i] - exact) <= fabs(exact) * 0.50001 * 0x1p-23 + 1e-12))
            fail_msg("%s[%lld] is %.9g, expected %.9g", name, (long long)i, (double)after[i], exact);
    }
    snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", module->name);
    float *a = read_floats(part, "adapter_model", name, memory, rank, cols), *b;
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", module->name);
    b = read_floats(part, "adapter_model", name, memory, rows, rank);
    float *expected_a = download(adapter, module->a), *expected_b = download(adapter, module->b);
    assert_memory_equal(a, expected_a, (size_t)(rank * cols) * sizeof *a);
    assert_memory_equal(b, expected_b, (size_t)(rank * rows) * sizeof *b);
    free(before), free(after), free(taken), free(a), free(b), free(expected_a), free(expected_b);
}

static void check_residual(workshop *self, int use_rslora) {
    char out[64];
    snprintf(out, sizeof out, "%s/deep/pissa-%d/", self->base.folder, use_rslora);
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 4, 6, use_rslora, NULL), *part;
    expect_ok(export_to(adapter, out, BALORA_EXPORT_PISSA, BALORA_DTYPE_AUTO));
    out[strlen(out) - 1] = '\0';
    for (int64_t i = 0; i < adapter->module_count; i++)
        check_module(self, adapter, &adapter->modules[i], out);
    /* It is a model as any other, and the part an adapter as any other. */
    balora_model *residual;
    balora_model_options options = test_model_options();
    expect_ok(model_open(&residual, self->context, out, &options));
    char folder[96];
    snprintf(folder, sizeof folder, "%s/pissa_init", out);
    expect_ok(adapter_open(&part, residual, folder));
    assert_int_equal(part->rank, 4);
    assert_true(part->alpha == 6 && part->use_rslora == use_rslora);
    assert_false(part->modules[0].ends_with_initial);
    adapter_release(part);
    adapter_release(adapter);
    model_release(residual);
}

static void a_residual_model_is_the_base_without_its_initial_factors(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    check_residual(self, 0);
    check_residual(self, 1);
}

static void expect_same_file(workshop *self, const char *first, const char *second, const char *name) {
    char path[2][160], *bytes[2];
    uint64_t count[2];
    snprintf(path[0], sizeof path[0], "%s/%s", first, name);
    snprintf(path[1], sizeof path[1], "%s/%s", second, name);
    for (int i = 0; i < 2; i++)
        expect_ok(file_read_all(&bytes[i], &count[i], &self->base.memory, path[i], 1 << 24));
    assert_int_equal(count[0], count[1]);
    assert_memory_equal(bytes[0], bytes[1], count[0]);
    memory_free(&self->base.memory, bytes[0]);
    memory_free(&self->base.memory, bytes[1]);
}

/* What was saved as plain LoRA of twice the rank is taken apart again, to the same bytes. */
static void a_saved_adapter_gives_the_same_residual_model(void **state) {
    workshop *self = *state;
    const char *saved = scratch_path(&self->base, "saved"), *live = scratch_path(&self->base, "live"),
               *read = scratch_path(&self->base, "read"), *again = scratch_path(&self->base, "again");
    open_fixture(self, "bf16/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_BA_LORA, 3, 6, 1, "q_proj,down_proj"), *opened;
    expect_ok(adapter_save(adapter, saved, "base"));
    expect_ok(adapter_open(&opened, self->model, saved));
    assert_int_equal(opened->modules[0].rank, 6);
    assert_true(opened->modules[0].ends_with_initial);
    balora_export_options options = BALORA_EXPORT_OPTIONS_INIT;
    options.to = BALORA_EXPORT_PISSA;
    options.base_model = "somewhere";
    expect_ok(adapter_export(adapter, live, &options));
    expect_ok(adapter_export(opened, read, &options));
    expect_same_file(self, live, read, "model.safetensors");
    expect_same_file(self, live, read, "pissa_init/adapter_model.safetensors");
    expect_same_file(self, live, read, "pissa_init/adapter_config.json");
    /* And as plain LoRA it is what it was, the mark included. */
    options.to = BALORA_EXPORT_PEFT;
    options.base_model = "base";
    expect_ok(adapter_export(opened, again, &options));
    expect_same_file(self, saved, again, "adapter_model.safetensors");
    expect_same_file(self, saved, again, "adapter_config.json");
    adapter_release(opened);
    adapter_release(adapter);
}

static void expect_nothing(const char *path) {
    char temporary[128];
    assert_false(file_exists(path));
    snprintf(temporary, sizeof temporary, "%s.tmp-%ld", path, (long)getpid());
    assert_false(file_exists(temporary));
}

static void an_adapter_without_initial_factors_has_no_residual_model(void **state) {
    workshop *self = *state;
    const char *out = scratch_path(&self->base, "out"), *saved = scratch_path(&self->base, "saved");
    open_fixture(self, "llama/model");
    balora_adapter *plain = make_adapter(self, BALORA_METHOD_LORA, 4, 4, 0, NULL), *opened;
    expect_failure(export_to(plain, out, BALORA_EXPORT_PISSA, 0), BALORA_ERROR_UNSUPPORTED,
                   "no initial factors");
    expect_ok(adapter_save(plain, saved, NULL));
    expect_ok(adapter_open(&opened, self->model, saved));
    expect_failure(export_to(opened, out, BALORA_EXPORT_PISSA, 0), BALORA_ERROR_UNSUPPORTED,
                   "no initial factors");
    expect_nothing(out);
    adapter_release(opened);
    adapter_release(plain);
}

/* Trained on, the halves are not what they were. */
static void training_removes_the_mark(void **state) {
    workshop *self = *state;
    const char *saved = scratch_path(&self->base, "saved"), *out = scratch_path(&self->base, "out");
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 2, 2, 0, "v_proj"), *opened;
    expect_ok(adapter_save(adapter, saved, NULL));
    expect_ok(adapter_open(&opened, self->model, saved));
    expect_ok(adapter_prepare_training(opened));
    expect_failure(export_to(opened, out, BALORA_EXPORT_PISSA, 0), BALORA_ERROR_UNSUPPORTED, "trained on");
    json_t *metadata = initial_mark_metadata(opened);
    assert_int_equal(json_object_size(metadata), 1);
    json_decref(metadata);
    adapter_release(opened);
    adapter_release(adapter);
}

/* Marks of any content: they say where a module may be cut, and nothing else. */
static void marks_that_lie_do_no_harm(void **state) {
    workshop *self = *state;
    static const struct {
        const char *mark;
        int marked; /* of four modules, one with an odd rank */
    } marks[] = {{"all", 3},
                 {"model.layers.1.self_attn.v_proj", 1},
                 {"model.layers.0.self_attn.v_proj,model.layers.1.self_attn.v_proj", 2},
                 {",,model.layers.1.self_attn.v_proj,", 1},
                 {"model.layers.0.self_attn.k_proj", 0},
                 {"v_proj", 0},
                 {"", 0},
                 {"ALL", 0}};
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 2, 0, "k_proj,v_proj");
    adapter->modules[0].rank = 1; /* layer 0, k_proj; only the mark is looked at */
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        safetensors_file shard = {.metadata = json_pack("{s:s}", "balora.initial_factors", marks[i].mark)};
        tensor_files files = {.shards = &shard, .shard_count = 1};
        int marked = 0;
        initial_mark_read(adapter, &files);
        for (int64_t k = 0; k < adapter->module_count; k++) {
            marked += adapter->modules[k].ends_with_initial;
            adapter->modules[k].ends_with_initial = false;
        }
        if (marked != marks[i].marked)
            fail_msg("mark \"%s\": %d modules", marks[i].mark, marked);
        json_decref(shard.metadata);
    }
    adapter->modules[0].rank = 2;
    adapter_release(adapter);
}

/* Some modules with initial factors, others without: the mark names the former, the latter keep their weight. */
static void a_part_of_the_modules_can_have_initial_factors(void **state) {
    workshop *self = *state;
    const char *out = scratch_path(&self->base, "out");
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 2, 2, 0, "v_proj");
    adapter->modules[1].has_initial = false;
    json_t *metadata = initial_mark_metadata(adapter);
    assert_string_equal(json_string_value(json_object_get(metadata, "balora.initial_factors")),
                        "model.layers.0.self_attn.v_proj");
    json_decref(metadata);
    expect_ok(export_to(adapter, out, BALORA_EXPORT_PISSA, 0));
    for (int layer = 0; layer < 2; layer++) {
        char name[96];
        snprintf(name, sizeof name, "model.layers.%d.self_attn.v_proj.weight", layer);
        float *before = read_floats(self->model->folder, "model", name, &self->base.memory, 24, 48);
        float *after = read_floats(out, "model", name, &self->base.memory, 24, 48);
        assert_int_equal(memcmp(before, after, 24 * 48 * sizeof *before) == 0, layer == 1);
        free(before);
        free(after);
    }
    adapter_release(adapter);
}

static void folders_that_hold_something_are_left_alone(void **state) {
    workshop *self = *state;
    const char *out = scratch_path(&self->base, "out"), *base = scratch_path(&self->base, "base");
    char command[1200];
    snprintf(command, sizeof command, "cp -r '%s' '%s' && mkdir '%s' && touch '%s/mine'",
             fixture_path("llama/model"), base, out, out);
    assert_int_equal(system(command), 0);
    open_folder(self, base, BALORA_DTYPE_AUTO);
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 2, 2, 0, NULL);
    expect_failure(export_to(adapter, out, BALORA_EXPORT_PISSA, 0), BALORA_ERROR_ARGUMENT,
                   "holds files already");
    expect_failure(export_to(adapter, base, BALORA_EXPORT_PISSA, 0), BALORA_ERROR_ARGUMENT, "its own base");
    expect_failure(export_to(adapter, base, BALORA_EXPORT_PEFT, 0), BALORA_ERROR_ARGUMENT,
                   "the base's own folder");
    expect_failure(export_to(adapter, base, BALORA_EXPORT_GGUF, 0), BALORA_ERROR_ARGUMENT, "is a folder");
    expect_failure(export_to(adapter, scratch_path(&self->base, "base/config.json"), BALORA_EXPORT_GGUF, 0),
                   BALORA_ERROR_ARGUMENT, "a file of the base's own folder");
    expect_failure(export_to(adapter, scratch_path(&self->base, "out/mine"), BALORA_EXPORT_PEFT, 0),
                   BALORA_ERROR_ARGUMENT, "it is a file");
    expect_failure(export_to(adapter, "", BALORA_EXPORT_GGUF, 0), BALORA_ERROR_ARGUMENT, "is empty");
    expect_failure(export_to(adapter, scratch_path(&self->base, "out/mine/x.gguf"), BALORA_EXPORT_GGUF, 0),
                   BALORA_ERROR_IO, "mine");
    /* A plain folder that is there gets the new files; an empty one is as good as none. */
    expect_ok(export_to(adapter, out, BALORA_EXPORT_PEFT, 0));
    assert_true(file_exists(scratch_path(&self->base, "out/mine")));
    assert_true(file_exists(scratch_path(&self->base, "out/adapter_config.json")));
    expect_ok(file_make_folder(scratch_path(&self->base, "empty")));
    expect_ok(export_to(adapter, scratch_path(&self->base, "empty"), BALORA_EXPORT_PISSA, 0));
    assert_true(file_exists(scratch_path(&self->base, "empty/pissa_init/adapter_config.json")));
    adapter_release(adapter);
}

/* In every form, at its place and beside it, nothing is left of an adapter with a number that is none. */
static void factors_that_are_not_finite_are_not_exported(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_PISSA, 2, 2, 0, NULL);
    const adapter_module *module = &adapter->modules[9];
    float *host = download(adapter, module->b);
    static const int32_t forms[] = {BALORA_EXPORT_PEFT, BALORA_EXPORT_PISSA, BALORA_EXPORT_GGUF};
    static const struct {
        float value;
        int32_t dtype;
        const char *fragment;
    } cases[] = {{NAN, BALORA_F32, "is not finite"},
                 {INFINITY, BALORA_BF16, "is not finite"},
                 {70000, BALORA_F16, "not finite as float16"},
                 {3.4e38f, BALORA_BF16, "not finite as bfloat16"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (int form = 0; form < 3; form++) {
            const char *out = scratch_path(&self->base, "out");
            host[3] = cases[i].value;
            expect_ok(adapter_upload(adapter, module->b, host));
            expect_failure(export_to(adapter, out, forms[form], cases[i].dtype), BALORA_ERROR_NUMERIC,
                           cases[i].fragment);
            expect_nothing(out);
        }
    free(host);
    adapter_release(adapter);
}

/* 16 bits: the nearest numbers, which are read again. */
static void factors_are_rounded_to_the_type_asked_for(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 2, 0, NULL), *opened;
    static const struct {
        int32_t dtype;
        double error;
    } types[] = {{BALORA_F16, 0x1p-11}, {BALORA_BF16, 0x1p-8}};
    for (size_t t = 0; t < 2; t++) {
        const char *out = scratch_path(&self->base, dtype_name(types[t].dtype));
        expect_ok(export_to(adapter, out, BALORA_EXPORT_PEFT, types[t].dtype));
        expect_ok(adapter_open(&opened, self->model, out));
        float *exact = download(adapter, adapter->modules[3].b),
              *found = download(opened, opened->modules[3].b);
        int64_t count = adapter->modules[3].b.rows * 2, changed = 0;
        for (int64_t i = 0; i < count; i++) {
            /* below the smallest normal half, 2^-14, the spacing is 2^-24 */
            assert_true(fabs((double)(found[i] - exact[i])) <=
                        types[t].error * fabs((double)exact[i]) + 0x1p-25);
            changed += found[i] != exact[i];
        }
        assert_true(changed > count / 2);
        free(exact);
        free(found);
        adapter_release(opened);
    }
    adapter_release(adapter);
}

static void a_fully_trained_model_has_no_other_form(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_FULL, 0, 1, 0, NULL);
    for (int32_t to = BALORA_EXPORT_PEFT; to <= BALORA_EXPORT_GGUF; to += 10)
        expect_failure(export_to(adapter, scratch_path(&self->base, "out"), to, 0), BALORA_ERROR_STATE,
                       "method full");
    expect_nothing(scratch_path(&self->base, "out"));
    adapter_release(adapter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WORKSHOP_TEST(a_residual_model_is_the_base_without_its_initial_factors),
        WORKSHOP_TEST(a_saved_adapter_gives_the_same_residual_model),
        WORKSHOP_TEST(an_adapter_without_initial_factors_has_no_residual_model),
        WORKSHOP_TEST(training_removes_the_mark),
        WORKSHOP_TEST(marks_that_lie_do_no_harm),
        WORKSHOP_TEST(a_part_of_the_modules_can_have_initial_factors),
        WORKSHOP_TEST(folders_that_hold_something_are_left_alone),
        WORKSHOP_TEST(factors_that_are_not_finite_are_not_exported),
        WORKSHOP_TEST(factors_are_rounded_to_the_type_asked_for),
        WORKSHOP_TEST(a_fully_trained_model_has_no_other_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
