/* Merged model folders: W + s (B A - B0 A0) rounded once, everything else as the base has it, published whole
 * or not. */
#include <dirent.h>

#include "adapters.h"

/* Distance of neighbouring numbers of a storage type around `value`. */
static double spacing(int32_t dtype, double value) {
    int exponent, digits = dtype == BALORA_F32 ? 24 : dtype == BALORA_BF16 ? 8 : 11;
    frexp(value, &exponent);
    int smallest = dtype == BALORA_F16 ? -13 : -125; /* frexp's exponent of the least normal number */
    return ldexp(1, (exponent < smallest ? smallest : exponent) - digits);
}

static double half_value(uint16_t bits) {
    int exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -size : size;
}

static double *read_tensor(const tensor_place *place) {
    const safetensors_entry *entry = place->entry;
    unsigned char *raw = calloc(1, entry->bytes);
    double *out = calloc((size_t)entry->elements, sizeof *out);
    assert_true(raw != NULL && out != NULL);
    expect_ok(safetensors_read(place->file, entry, raw));
    for (int64_t i = 0; i < entry->elements; i++) {
        uint16_t narrow;
        uint32_t bits;
        float wide;
        if (entry->dtype == BALORA_F32) {
            memcpy(&wide, raw + 4 * i, sizeof wide);
            out[i] = (double)wide;
            continue;
        }
        memcpy(&narrow, raw + 2 * i, sizeof narrow);
        bits = (uint32_t)narrow << 16;
        memcpy(&wide, &bits, sizeof wide);
        out[i] = entry->dtype == BALORA_BF16 ? (double)wide : half_value(narrow);
    }
    free(raw);
    return out;
}

static const adapter_module *find_module(const balora_adapter *adapter, const char *tensor) {
    for (int64_t i = 0; i < adapter->module_count; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s.weight", adapter->modules[i].name);
        if (strcmp(name, tensor) == 0)
            return &adapter->modules[i];
    }
    return NULL;
}

/* Nothing but the nearest number of the file's type will do; a little more than half a step where a sum lies
 * between. */
static void expect_merged(balora_adapter *adapter, const adapter_module *module, const tensor_place *base,
                          const tensor_place *merged) {
    double *before = read_tensor(base), *after = read_tensor(merged), *delta = module_delta(adapter, module);
    for (int64_t i = 0; i < base->entry->elements; i++) {
        double exact = before[i] + delta[i];
        if (!(fabs(after[i] - exact) <= 0.50001 * spacing(base->entry->dtype, exact)))
            fail_msg("%s[%lld] is %.9g; %.9g + %.9g = %.9g", base->entry->name, (long long)i, after[i],
                     before[i], delta[i], exact);
    }
    free(before);
    free(after);
    free(delta);
}

static void expect_same_bytes(const tensor_place *a, const tensor_place *b) {
    char *first = calloc(1, a->entry->bytes), *second = calloc(1, b->entry->bytes);
    expect_ok(safetensors_read(a->file, a->entry, first));
    expect_ok(safetensors_read(b->file, b->entry, second));
    assert_memory_equal(first, second, a->entry->bytes);
    free(first);
    free(second);
}

/* Every tensor of the merged folder against the base's file and the adapter in memory; returns how many were
 * changed. */
static int64_t check_folder(workshop *self, balora_adapter *adapter, const char *folder) {
    tensor_files base, merged;
    int64_t changed = 0;
    expect_ok(tensor_files_open(&base, &self->base.memory, self->model->folder, "model"));
    expect_ok(tensor_files_open(&merged, &self->base.memory, folder, "model"));
    assert_int_equal(merged.count, base.count);
    assert_int_equal(merged.shard_count, base.shard_count);
    assert_int_equal(merged.has_index, base.has_index);
    for (int64_t i = 0; i < base.count; i++) {
        const tensor_place *before = &base.places[i], *after = &merged.places[i];
        const adapter_module *module = find_module(adapter, before->entry->name);
        assert_string_equal(after->entry->name, before->entry->name);
        assert_int_equal(after->entry->dtype, before->entry->dtype);
        assert_int_equal(after->entry->rank, before->entry->rank);
        assert_memory_equal(after->entry->shape, before->entry->shape, sizeof before->entry->shape);
        assert_int_equal(after->file - merged.shards, before->file - base.shards);
        if (module != NULL)
            expect_merged(adapter, module, before, after);
        else
            expect_same_bytes(before, after);
        changed += module != NULL;
    }
    for (int64_t i = 0; i < base.shard_count; i++)
        assert_string_equal(merged.shard_names[i], base.shard_names[i]);
    tensor_files_close(&base);
    tensor_files_close(&merged);
    return changed;
}

static void expect_same_file(workshop *self, const char *folder, const char *name) {
    char path[512], *first, *second;
    uint64_t first_bytes, second_bytes;
    snprintf(path, sizeof path, "%s/%s", self->model->folder, name);
    expect_ok(file_read_all(&first, &first_bytes, &self->base.memory, path, 1 << 24));
    snprintf(path, sizeof path, "%s/%s", folder, name);
    expect_ok(file_read_all(&second, &second_bytes, &self->base.memory, path, 1 << 24));
    assert_int_equal(first_bytes, second_bytes);
    assert_memory_equal(first, second, first_bytes);
    memory_free(&self->base.memory, first);
    memory_free(&self->base.memory, second);
}

/* Entries of the scratch folder that a merge left behind under a temporary name. */
static int count_leftovers(const workshop *self) {
    int count = 0;
    DIR *folder = opendir(self->base.folder);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += strstr(entry->d_name, ".tmp-") != NULL;
    closedir(folder);
    return count;
}

static void check_fixture(workshop *self, const char *fixture, int32_t dtype, int32_t method,
                          const char *targets, int64_t expected_changes) {
    const char *folder = scratch_path(&self->base, "merged");
    open_folder(self, fixture_path(fixture), dtype);
    balora_adapter *adapter = make_adapter(self, method, 3, 6, 0, targets);
    expect_ok(adapter_merge(adapter, folder));
    assert_int_equal(check_folder(self, adapter, folder), expected_changes);
    expect_same_file(self, folder, "config.json");
    assert_int_equal(count_leftovers(self), 0);
    adapter_release(adapter);
}

static void float32_weights_get_their_delta(void **state) {
    check_fixture(*state, "llama/model", BALORA_DTYPE_AUTO, BALORA_METHOD_BA_LORA, NULL, 14);
}

static void bfloat16_weights_are_rounded_once(void **state) {
    check_fixture(*state, "bf16/model", BALORA_DTYPE_AUTO, BALORA_METHOD_BA_LORA, NULL, 14);
}

static void float16_weights_are_rounded_once(void **state) {
    check_fixture(*state, "f16/model", BALORA_DTYPE_AUTO, BALORA_METHOD_LORA, NULL, 14);
}

static void biases_and_other_modules_stay(void **state) {
    check_fixture(*state, "llama-biases/model", BALORA_DTYPE_AUTO, BALORA_METHOD_PISSA,
                  "o_proj,layers.0.mlp.up_proj", 3);
}

/* The model in memory is rounded; the file is not. */
static void merging_starts_from_the_file(void **state) {
    check_fixture(*state, "llama/model", BALORA_BF16, BALORA_METHOD_LORA, NULL, 14);
}

static void shards_stay_as_they_are(void **state) {
    workshop *self = *state;
    check_fixture(self, "sharded/model", BALORA_DTYPE_AUTO, BALORA_METHOD_BA_LORA, NULL, 14);
    expect_same_file(self, scratch_path(&self->base, "merged"), "model.safetensors.index.json");
}

/* A copy of a fixture's model folder that a test may change. */
static const char *copy_fixture(workshop *self, const char *fixture) {
    char command[1024];
    const char *copy = scratch_path(&self->base, "base");
    snprintf(command, sizeof command, "cp -r '%s' %s && chmod -R u+w %s", fixture_path(fixture), copy, copy);
    assert_int_equal(system(command), 0);
    return copy;
}

/* Rewrite a weight file of the copy with one more tensor, equal to zeros. */
static void add_tensor(workshop *self, const char *file_name, const char *name, int64_t rows, int64_t cols) {
    const char *path = scratch_path(&self->base, file_name);
    safetensors_file file;
    safetensors_tensor tensors[64];
    void *zeros = calloc((size_t)(rows * cols), sizeof(float)), *data[64];
    expect_ok(safetensors_open(&file, &self->base.memory, path));
    int64_t count = file.count;
    for (int64_t i = 0; i < count; i++) {
        const safetensors_entry *entry = &file.entries[i];
        data[i] = calloc(1, entry->bytes);
        expect_ok(safetensors_read(&file, entry, data[i]));
        tensors[i] = (safetensors_tensor){
            entry->name, entry->dtype, entry->rank, {entry->shape[0], entry->shape[1]}, data[i]};
    }
    tensors[count] = (safetensors_tensor){name, BALORA_F32, 2, {rows, cols}, zeros};
    expect_ok(safetensors_save(&self->base.memory, path, tensors, count + 1, NULL));
    safetensors_close(&file);
    for (int64_t i = 0; i < count; i++)
        free(data[i]);
    free(zeros);
}

static void expect_trained(balora_adapter *adapter, const tensor_files *merged, const char *name,
                           matrix_view view) {
    tensor_place place;
    assert_true(tensor_files_find(merged, name, &place));
    double *found = read_tensor(&place);
    float *expected = download(adapter, view);
    assert_int_equal(place.entry->elements, view.rows * view.cols);
    for (int64_t i = 0; i < view.rows * view.cols; i++)
        if (found[i] != (double)expected[i])
            fail_msg("%s[%lld] is %.9g; %.9g was trained", name, (long long)i, found[i], (double)expected[i]);
    free(found);
    free(expected);
}

static void a_fully_trained_model_is_written_whole(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "merged");
    tensor_files merged;
    open_folder(self, copy_fixture(self, "llama-biases/model"), BALORA_DTYPE_AUTO);
    add_tensor(self, "base/model.safetensors", "model.layers.0.self_attn.rotary_emb.inv_freq", 1, 4);
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_FULL, 1, 1, 0, NULL);
    expect_ok(adapter_merge(adapter, folder));
    expect_ok(tensor_files_open(&merged, &self->base.memory, folder, "model"));
    assert_int_equal(merged.count, adapter->trained_count + 1);
    for (int64_t i = 0; i < adapter->trained_count; i++)
        expect_trained(adapter, &merged, adapter->trained[i].tensor->name, adapter->trained[i].value);
    tensor_files_close(&merged);
    adapter_release(adapter);
}

/* The index sends readers elsewhere for this name: what its shard holds is nobody's weight, and stays. */
static void a_tensor_that_the_index_hides_is_copied(void **state) {
    workshop *self = *state;
    static const char shard[] = "model-00003-of-00003.safetensors";
    static const char name[] = "model.layers.0.self_attn.q_proj.weight";
    const char *base = copy_fixture(self, "sharded/model");
    safetensors_file file;
    add_tensor(self, "base/model-00003-of-00003.safetensors", name, 1, 4);
    open_folder(self, base, BALORA_DTYPE_AUTO);
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 2, 0, NULL);
    const char *folder = scratch_path(&self->base, "merged");
    expect_ok(adapter_merge(adapter, folder));
    assert_int_equal(check_folder(self, adapter, folder), 14);
    expect_same_file(self, folder, shard);
    expect_ok(safetensors_open(&file, &self->base.memory,
                               scratch_path(&self->base, "merged/model-00003-of-00003.safetensors")));
    assert_int_equal(safetensors_find(&file, name)->elements, 4);
    safetensors_close(&file);
    adapter_release(adapter);
}

/* Some writers keep lm_head.weight beside the embedding that it is tied to: both must stay one matrix. */
static void a_tied_head_that_the_file_repeats_follows_the_embedding(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "merged");
    tensor_files merged;
    copy_fixture(self, "llama-tied/model");
    add_tensor(self, "base/model.safetensors", "lm_head.weight", 131, 44);
    open_folder(self, scratch_path(&self->base, "base"), BALORA_DTYPE_AUTO);
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_FULL, 1, 1, 0, NULL);
    expect_ok(adapter_merge(adapter, folder));
    expect_ok(tensor_files_open(&merged, &self->base.memory, folder, "model"));
    expect_trained(adapter, &merged, "lm_head.weight", adapter->student.embedding);
    expect_trained(adapter, &merged, "model.embed_tokens.weight", adapter->student.embedding);
    tensor_files_close(&merged);
    adapter_release(adapter);
}

static void the_files_beside_the_weights_are_copied(void **state) {
    static const char *const names[] = {"tokenizer.json",          "tokenizer_config.json",
                                        "special_tokens_map.json", "generation_config.json",
                                        "chat_template.jinja",     "merges.txt"};
    workshop *self = *state;
    open_folder(self, copy_fixture(self, "llama/model"), BALORA_DTYPE_AUTO);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "base/%s", names[i]);
        scratch_bytes(&self->base, name, "any\0bytes\r\n", i == 3 ? 0 : 11);
    }
    scratch_text(&self->base, "base/training_args.bin", "of no use to the merged model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 2, 0, "q_proj");
    const char *folder = scratch_path(&self->base, "merged");
    expect_ok(adapter_merge(adapter, folder));
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        expect_same_file(self, folder, names[i]);
    assert_false(file_exists(scratch_path(&self->base, "merged/training_args.bin")));
    adapter_release(adapter);
}

static void a_folder_that_exists_is_updated(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "merged");
    open_fixture(self, "llama/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 2, 0, NULL);
    expect_ok(adapter_merge(adapter, folder));
    scratch_text(&self->base, "merged/notes.txt", "the user's own");
    shake(adapter, adapter->modules[3].b, 5, 0.5);
    char with_slashes[256];
    snprintf(with_slashes, sizeof with_slashes, "%s//", folder);
    expect_ok(adapter_merge(adapter, with_slashes));
    assert_int_equal(check_folder(self, adapter, folder), 14);
    assert_true(file_exists(scratch_path(&self->base, "merged/notes.txt")));
    assert_int_equal(count_leftovers(self), 0);
    adapter_release(adapter);
}

static void places_that_would_lose_something_are_refused(void **state) {
    workshop *self = *state;
    char path[256], command[256];
    open_folder(self, copy_fixture(self, "sharded/model"), BALORA_DTYPE_AUTO);
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 2, 0, NULL);
    snprintf(path, sizeof path, "%s/", self->model->folder);
    expect_failure(adapter_merge(adapter, self->model->folder), BALORA_ERROR_ARGUMENT, "its own base");
    expect_failure(adapter_merge(adapter, path), BALORA_ERROR_ARGUMENT, "its own base");
    snprintf(command, sizeof command, "ln -s base %s/alias", self->base.folder);
    assert_int_equal(system(command), 0);
    expect_failure(adapter_merge(adapter, scratch_path(&self->base, "alias")), BALORA_ERROR_ARGUMENT,
                   "its own base");
    scratch_text(&self->base, "file", "in the way");
    expect_failure(adapter_merge(adapter, scratch_path(&self->base, "file")), BALORA_ERROR_ARGUMENT,
                   "it is a file");
    expect_failure(adapter_merge(adapter, ""), BALORA_ERROR_ARGUMENT, "empty name");
    expect_failure(adapter_merge(adapter, scratch_path(&self->base, "file/below")), BALORA_ERROR_IO, "file");
    assert_int_equal(mkdir(scratch_path(&self->base, "single"), 0777), 0);
    scratch_text(&self->base, "single/model.safetensors", "of another model");
    expect_failure(adapter_merge(adapter, scratch_path(&self->base, "single")), BALORA_ERROR_ARGUMENT,
                   "readers would take instead of the new shards");
    assert_int_equal(count_leftovers(self), 0);
    adapter_release(adapter);
}

static void a_base_that_changed_meanwhile_is_noticed(void **state) {
    workshop *self = *state;
    static const float numbers[8];
    const safetensors_tensor other = {
        "model.layers.0.self_attn.q_proj.weight", BALORA_F32, 2, {2, 4}, numbers};
    open_folder(self, copy_fixture(self, "llama/model"), BALORA_DTYPE_AUTO);
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 2, 2, 0, NULL);
    expect_ok(safetensors_save(&self->base.memory, scratch_path(&self->base, "base/model.safetensors"),
                               &other, 1, NULL));
    expect_failure(adapter_merge(adapter, scratch_path(&self->base, "merged")), BALORA_ERROR_MISMATCH,
                   "has shape [2, 4]; expected [48, 48]");
    assert_false(file_exists(scratch_path(&self->base, "merged")));
    assert_int_equal(count_leftovers(self), 0);
    adapter_release(adapter);
}

static void set_all(balora_adapter *adapter, matrix_view factor, float value) {
    float *host = download(adapter, factor);
    for (int64_t i = 0; i < factor.rows * factor.cols; i++)
        host[i] = value;
    expect_ok(adapter_upload(adapter, factor, host));
    free(host);
}

static void weights_that_are_not_finite_are_never_published(void **state) {
    workshop *self = *state;
    const char *folder = scratch_path(&self->base, "merged");
    open_fixture(self, "f16/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_LORA, 1, 1, 0, "v_proj");
    set_all(adapter, adapter->modules[1].a, 300);
    set_all(adapter, adapter->modules[1].b, 300); /* 90000 is more than float16 holds */
    expect_failure(adapter_merge(adapter, folder), BALORA_ERROR_NUMERIC,
                   "\"model.layers.1.self_attn.v_proj.weight\" holds a value that is not finite as float16");
    set_all(adapter, adapter->modules[1].b, NAN);
    expect_failure(adapter_merge(adapter, folder), BALORA_ERROR_NUMERIC,
                   "model.layers.1.self_attn.v_proj.weight");
    assert_false(file_exists(folder));
    assert_int_equal(count_leftovers(self), 0);
    adapter_release(adapter);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        WORKSHOP_TEST(float32_weights_get_their_delta),
        WORKSHOP_TEST(bfloat16_weights_are_rounded_once),
        WORKSHOP_TEST(float16_weights_are_rounded_once),
        WORKSHOP_TEST(biases_and_other_modules_stay),
        WORKSHOP_TEST(merging_starts_from_the_file),
        WORKSHOP_TEST(shards_stay_as_they_are),
        WORKSHOP_TEST(a_fully_trained_model_is_written_whole),
        WORKSHOP_TEST(a_tensor_that_the_index_hides_is_copied),
        WORKSHOP_TEST(a_tied_head_that_the_file_repeats_follows_the_embedding),
        WORKSHOP_TEST(the_files_beside_the_weights_are_copied),
        WORKSHOP_TEST(a_folder_that_exists_is_updated),
        WORKSHOP_TEST(places_that_would_lose_something_are_refused),
        WORKSHOP_TEST(a_base_that_changed_meanwhile_is_noticed),
        WORKSHOP_TEST(weights_that_are_not_finite_are_never_published),
    };
    return cmocka_run_group_tests_name("merge", tests, NULL, NULL);
}
