/* A folder's weights: one file or shards, and indices that lie. */
#include "format/tensor_files.h"
#include "scratch.h"

static const float numbers[8] = {1, 2, 3, 4, 5, 6, 7, 8};

static void write_shard(scratch *self, const char *file, const char *first, const char *second) {
    const safetensors_tensor tensors[] = {{first, BALORA_F32, 2, {2, 4}, numbers},
                                          {second, BALORA_F32, 1, {2}, numbers}};
    expect_ok(safetensors_save(&self->memory, scratch_path(self, file), tensors, 2, NULL));
}

static void one_file_is_found(void **state) {
    scratch *self = *state;
    tensor_files files;
    tensor_place place;
    write_shard(self, "model.safetensors", "w", "bias");
    expect_ok(tensor_files_open(&files, &self->memory, self->folder, "model"));
    assert_int_equal(files.count, 2);
    assert_false(files.has_index);
    assert_string_equal(files.shard_names[0], "model.safetensors");
    assert_true(tensor_files_find(&files, "bias", &place));
    assert_string_equal(place.entry->name, "bias");
    assert_false(tensor_files_find(&files, "biases", &place));
    assert_null(place.entry);
    tensor_files_close(&files);
    tensor_files_close(&files);
}

static void shards_are_found_through_the_index(void **state) {
    scratch *self = *state;
    tensor_files files;
    tensor_place place;
    float found[8];
    write_shard(self, "model-1.safetensors", "b", "a");
    write_shard(self, "model-2.safetensors", "c", "unnamed");
    scratch_text(self, "model.safetensors.index.json",
                 "{\"metadata\": {\"total_size\": 1}, \"weight_map\": {\"c\": \"model-2.safetensors\","
                 " \"a\": \"model-1.safetensors\", \"b\": \"model-1.safetensors\"}}");
    expect_ok(tensor_files_open(&files, &self->memory, self->folder, "model"));
    assert_int_equal(files.count, 3);
    assert_int_equal(files.shard_count, 2);
    assert_true(files.has_index);
    assert_true(tensor_files_find(&files, "c", &place));
    assert_non_null(strstr(place.file->file.path, "model-2.safetensors"));
    expect_ok(safetensors_read(place.file, place.entry, found));
    assert_memory_equal(found, numbers, sizeof numbers);
    assert_false(tensor_files_find(&files, "unnamed", &place));
    for (int64_t i = 1; i < files.count; i++)
        assert_true(strcmp(files.places[i - 1].entry->name, files.places[i].entry->name) < 0);
    tensor_files_close(&files);
}

static void expectations_are_checked(void **state) {
    scratch *self = *state;
    static const int64_t right[] = {2, 4}, turned[] = {4, 2};
    const safetensors_tensor tensors[] = {{"w", BALORA_F32, 2, {2, 4}, numbers},
                                          {"i", BALORA_I64, 2, {2, 2}, numbers}};
    tensor_files files;
    tensor_place place;
    expect_ok(
        safetensors_save(&self->memory, scratch_path(self, "adapter_model.safetensors"), tensors, 2, NULL));
    expect_ok(tensor_files_open(&files, &self->memory, self->folder, "adapter_model"));
    expect_ok(tensor_files_expect(&files, "w", 2, right, &place));
    assert_int_equal(place.entry->elements, 8);
    expect_failure(tensor_files_expect(&files, "w", 2, turned, &place), BALORA_ERROR_MISMATCH,
                   "adapter_model.safetensors: tensor \"w\" has shape [2, 4]; expected [4, 2]");
    expect_failure(tensor_files_expect(&files, "w", 1, right, &place), BALORA_ERROR_MISMATCH, "expected [2]");
    expect_failure(tensor_files_expect(&files, "x", 2, right, &place), BALORA_ERROR_NOT_FOUND,
                   "tensor \"x\" is missing; expected it with shape [2, 4]");
    expect_failure(tensor_files_expect(&files, "i", 2, (int64_t[]){2, 2}, &place), BALORA_ERROR_UNSUPPORTED,
                   "holds I64 numbers");
    tensor_files_close(&files);
}

static void indices_that_lie_are_refused(void **state) {
    scratch *self = *state;
    static const struct {
        const char *index;
        balora_status status;
        const char *fragment;
    } cases[] = {
        {"{", BALORA_ERROR_FORMAT, "not valid JSON"},
        {"{}", BALORA_ERROR_FORMAT, "expected \"weight_map\" to be an object"},
        {"{\"weight_map\": []}", BALORA_ERROR_FORMAT, "expected \"weight_map\" to be an object"},
        {"{\"weight_map\": {\"a\": 1}}", BALORA_ERROR_FORMAT, "\"a\": expected the plain name of a file"},
        {"{\"weight_map\": {\"a\": null}}", BALORA_ERROR_FORMAT, "found null"},
        {"{\"weight_map\": {\"a\": \"\"}}", BALORA_ERROR_FORMAT, "expected the plain name of a file"},
        {"{\"weight_map\": {\"a\": \".\"}}", BALORA_ERROR_FORMAT, "expected the plain name of a file"},
        {"{\"weight_map\": {\"a\": \"..\"}}", BALORA_ERROR_FORMAT, "expected the plain name of a file"},
        {"{\"weight_map\": {\"a\": \"../part.safetensors\"}}", BALORA_ERROR_FORMAT, "../part.safetensors"},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", BALORA_ERROR_FORMAT, "/etc/passwd"},
        {"{\"weight_map\": {\"a\": \"sub/part.safetensors\"}}", BALORA_ERROR_FORMAT, "sub/part.safetensors"},
        {"{\"weight_map\": {\"a\": \"..\\\\part.safetensors\"}}", BALORA_ERROR_FORMAT,
         "expected the plain name"},
        {"{\"weight_map\": {\"a\": \"part.safetensors\\u0000/../x\"}}", BALORA_ERROR_FORMAT,
         "not valid JSON"},
        {"{\"weight_map\": {\"a\": \"absent.safetensors\"}}", BALORA_ERROR_NOT_FOUND, "absent.safetensors"},
        {"{\"weight_map\": {\"a\": \"part.safetensors\", \"x\": \"part.safetensors\"}}",
         BALORA_ERROR_NOT_FOUND, "part.safetensors: tensor \"x\" is missing"},
        {"{\"weight_map\": {\"a\": \"broken.safetensors\"}}", BALORA_ERROR_FORMAT, "index.json: shard"},
    };
    write_shard(self, "part.safetensors", "a", "b");
    scratch_text(self, "broken.safetensors", "no tensors here");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tensor_files files;
        scratch_text(self, "model.safetensors.index.json", cases[i].index);
        expect_failure(tensor_files_open(&files, &self->memory, self->folder, "model"), cases[i].status,
                       cases[i].fragment);
        assert_int_equal(self->memory.current_bytes, 0);
    }
}

static void folders_without_weights_say_so(void **state) {
    scratch *self = *state;
    tensor_files files;
    expect_failure(tensor_files_open(&files, &self->memory, self->folder, "model"), BALORA_ERROR_NOT_FOUND,
                   "expected a folder with model.safetensors, or model.safetensors.index.json");
    scratch_text(self, "pytorch_model.bin", "pickled");
    expect_failure(tensor_files_open(&files, &self->memory, self->folder, "model"), BALORA_ERROR_UNSUPPORTED,
                   "pickled");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(one_file_is_found),
        SCRATCH_TEST(shards_are_found_through_the_index),
        SCRATCH_TEST(expectations_are_checked),
        SCRATCH_TEST(indices_that_lie_are_refused),
        SCRATCH_TEST(folders_without_weights_say_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
