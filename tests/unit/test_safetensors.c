/* safetensors: what is written is read again, byte for byte, aligned, and with its metadata. */
#include "format/safetensors.h"
#include "scratch.h"

static void fill(unsigned char *bytes, size_t count, unsigned start) {
    for (size_t i = 0; i < count; i++)
        bytes[i] = (unsigned char)(start + i * 7);
}

static void tensors_survive_a_round_trip(void **state) {
    scratch *self = *state;
    unsigned char half[6], single[24], wide[8], byte[3], scalar[4];
    fill(half, sizeof half, 1);
    fill(single, sizeof single, 50);
    fill(wide, sizeof wide, 90);
    fill(byte, sizeof byte, 130);
    fill(scalar, sizeof scalar, 200);
    const safetensors_tensor tensors[] = {
        {"half", BALORA_BF16, 1, {3}, half},
        {"z.single", BALORA_F32, 3, {1, 2, 3}, single},
        {"wide", BALORA_I64, 1, {1}, wide},
        {"byte", BALORA_U8, 1, {3}, byte},
        {"scalar", BALORA_F32, 0, {0}, scalar},
        {"empty", BALORA_F32, 2, {4, 0}, NULL},
        {"a \"name\"\\with/\xC3\xA9", BALORA_F16, 1, {3}, half},
    };
    enum { COUNT = sizeof tensors / sizeof tensors[0] };
    const char *path = scratch_path(self, "round.safetensors");
    expect_ok(safetensors_save(&self->memory, path, tensors, COUNT, NULL));

    safetensors_file file;
    expect_ok(safetensors_open(&file, &self->memory, path));
    assert_int_equal(file.count, COUNT);
    assert_string_equal(json_string_value(json_object_get(file.metadata, "format")), "pt");
    for (size_t i = 0; i < COUNT; i++) {
        const safetensors_entry *entry = safetensors_find(&file, tensors[i].name);
        unsigned char found[64] = {0};
        assert_non_null(entry);
        assert_int_equal(entry->dtype, tensors[i].dtype);
        assert_int_equal(entry->rank, tensors[i].rank);
        assert_memory_equal(entry->shape, tensors[i].shape, (size_t)entry->rank * sizeof(int64_t));
        expect_ok(safetensors_read(&file, entry, found));
        if (entry->bytes > 0) {
            assert_memory_equal(found, tensors[i].data, entry->bytes);
            assert_int_equal(entry->offset % (entry->bytes / (uint64_t)entry->elements), 0);
        }
    }
    assert_null(safetensors_find(&file, "absent"));
    assert_null(safetensors_find(&file, "half "));
    safetensors_close(&file);
    safetensors_close(&file);
}

static void parts_are_read_within_the_tensor(void **state) {
    scratch *self = *state;
    unsigned char bytes[32], found[32];
    fill(bytes, sizeof bytes, 3);
    const safetensors_tensor tensors[] = {{"a", BALORA_U8, 1, {16}, bytes},
                                          {"b", BALORA_U8, 1, {16}, bytes + 16}};
    const char *path = scratch_path(self, "parts.safetensors");
    safetensors_file file;
    expect_ok(safetensors_save(&self->memory, path, tensors, 2, NULL));
    expect_ok(safetensors_open(&file, &self->memory, path));
    const safetensors_entry *b = safetensors_find(&file, "b");
    expect_ok(safetensors_read_part(&file, b, 5, 11, found));
    assert_memory_equal(found, bytes + 21, 11);
    expect_failure(safetensors_read_part(&file, b, 5, 12, found), BALORA_ERROR_INTERNAL, "tensor \"b\"");
    expect_failure(safetensors_read_part(&file, b, UINT64_MAX, 2, found), BALORA_ERROR_INTERNAL,
                   "tensor \"b\"");

    /* The file shrinks behind our back. */
    assert_int_equal(truncate(path, (off_t)b->offset + 8), 0);
    expect_failure(safetensors_read(&file, b, found), BALORA_ERROR_IO, "became shorter");
    safetensors_close(&file);
}

static void unknown_types_leave_the_others_readable(void **state) {
    scratch *self = *state;
    static const char header[] =
        "{\"new\":{\"dtype\":\"F3_E1M1\",\"shape\":[9],\"data_offsets\":[0,4],\"more\":[1]},"
        "\"fp8\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[4,6]},"
        "\"known\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[6,7]}}   ";
    unsigned char bytes[8 + sizeof header - 1 + 7] = {sizeof header - 1};
    memcpy(bytes + 8, header, sizeof header - 1);
    bytes[sizeof bytes - 1] = 42;
    safetensors_file file;
    expect_ok(
        safetensors_open(&file, &self->memory, scratch_bytes(self, "new.safetensors", bytes, sizeof bytes)));
    assert_null(file.metadata);
    const safetensors_entry *entry = safetensors_find(&file, "new");
    assert_int_equal(entry->dtype, BALORA_DTYPE_AUTO);
    assert_string_equal(entry->type_name, "F3_E1M1");
    assert_int_equal(safetensors_find(&file, "fp8")->dtype, BALORA_DTYPE_AUTO);
    unsigned char found = 0;
    expect_ok(safetensors_read(&file, safetensors_find(&file, "known"), &found));
    assert_int_equal(found, 42);
    safetensors_close(&file);
}

static void the_writer_asks_for_tensors_in_its_order(void **state) {
    scratch *self = *state;
    const safetensors_tensor tensors[] = {{"b16", BALORA_BF16, 1, {1}, NULL},
                                          {"f32", BALORA_F32, 1, {2}, NULL},
                                          {"f32 again", BALORA_F32, 1, {1}, NULL}};
    static const float numbers[2] = {1.5F, -2.5F};
    json_t *metadata = json_pack("{s:s}", "step", "7");
    const char *path = scratch_path(self, "stream.safetensors");
    safetensors_writer writer;
    expect_ok(safetensors_create(&writer, &self->memory, path, tensors, 3, metadata));
    json_decref(metadata);
    assert_int_equal(safetensors_next(&writer), 1);
    expect_ok(safetensors_write(&writer, &numbers[0], 4));
    assert_int_equal(safetensors_next(&writer), 1);
    expect_failure(safetensors_write(&writer, numbers, 8), BALORA_ERROR_INTERNAL, "more than the tensor");
    expect_ok(safetensors_write(&writer, &numbers[1], 4));
    assert_int_equal(safetensors_next(&writer), 2);
    expect_ok(safetensors_write(&writer, &numbers[0], 4));
    assert_int_equal(safetensors_next(&writer), 0);
    expect_ok(safetensors_write(&writer, &numbers[0], 2));
    assert_int_equal(safetensors_next(&writer), -1);
    assert_false(file_exists(path));
    expect_ok(safetensors_publish(&writer));

    safetensors_file file;
    float found[2];
    expect_ok(safetensors_open(&file, &self->memory, path));
    assert_string_equal(json_string_value(json_object_get(file.metadata, "step")), "7");
    expect_ok(safetensors_read(&file, safetensors_find(&file, "f32"), found));
    assert_memory_equal(found, numbers, sizeof numbers);
    safetensors_close(&file);
}

static void half_written_files_are_never_published(void **state) {
    scratch *self = *state;
    const safetensors_tensor one = {"a", BALORA_F32, 1, {4}, NULL};
    const safetensors_tensor twice[] = {one, one};
    const char *path = scratch_path(self, "half.safetensors");
    safetensors_writer writer;
    expect_ok(safetensors_create(&writer, &self->memory, path, &one, 1, NULL));
    expect_failure(safetensors_publish(&writer), BALORA_ERROR_INTERNAL, "before every tensor was written");
    safetensors_abandon(&writer);
    expect_ok(safetensors_create(&writer, &self->memory, path, &one, 1, NULL));
    safetensors_abandon(&writer);
    safetensors_abandon(&writer);
    expect_failure(safetensors_create(&writer, &self->memory, path, twice, 2, NULL), BALORA_ERROR_INTERNAL,
                   "have the same name");
    assert_false(file_exists(path));
    assert_int_equal(rmdir(self->folder), 0); /* nothing was left behind */
    assert_int_equal(mkdir(self->folder, 0777), 0);
}

static void a_file_without_tensors_is_good(void **state) {
    scratch *self = *state;
    const char *path = scratch_path(self, "none.safetensors");
    safetensors_file file;
    expect_ok(safetensors_save(&self->memory, path, NULL, 0, NULL));
    expect_ok(safetensors_open(&file, &self->memory, path));
    assert_int_equal(file.count, 0);
    assert_null(safetensors_find(&file, ""));
    safetensors_close(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(tensors_survive_a_round_trip),
        SCRATCH_TEST(parts_are_read_within_the_tensor),
        SCRATCH_TEST(unknown_types_leave_the_others_readable),
        SCRATCH_TEST(the_writer_asks_for_tensors_in_its_order),
        SCRATCH_TEST(half_written_files_are_never_published),
        SCRATCH_TEST(a_file_without_tensors_is_good),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
