/* GGUF files that are right: every kind of value and tensor is read, and what is written comes back. */
#include <float.h>
#include <math.h>

#include "format/gguf.h"
#include "gguf_bytes.h"

static void expect_integer(const gguf_file *file, const char *key, int64_t expected) {
    int64_t found = 0;
    expect_ok(gguf_integer(file, key, true, INT64_MIN, INT64_MAX, &found));
    assert_int_equal(found, expected);
}

static void expect_number(const gguf_file *file, const char *key, double expected) {
    double found = 0;
    expect_ok(gguf_number(file, key, true, &found));
    assert_true(found == expected);
}

static void numbers_of_every_width_are_read(void **state) {
    scratch *self = *state;
    gguf_file file;
    expect_ok(gguf_open(&file, &self->memory, gguf_bytes_file(self, "all.gguf", GGUF_EVERYTHING)));
    assert_int_equal(file.version, 3);
    assert_int_equal(file.alignment, 32);
    expect_integer(&file, "n.u8", 200);
    expect_integer(&file, "n.i8", -1);
    expect_integer(&file, "n.u16", 60000);
    expect_integer(&file, "n.i16", -2);
    expect_integer(&file, "n.u32", 4000000000);
    expect_integer(&file, "n.i32", -3);
    expect_integer(&file, "n.u64", INT64_MAX);
    expect_integer(&file, "n.i64", -4);
    expect_number(&file, "n.f32", 1.5);
    expect_number(&file, "n.f64", 1.5);
    expect_number(&file, "n.i16", -2);
    bool flag = false;
    expect_ok(gguf_flag(&file, "flag", true, &flag));
    assert_true(flag);
    gguf_close(&file);
    gguf_close(&file);
}

static void texts_and_arrays_are_read(void **state) {
    scratch *self = *state;
    gguf_file file;
    expect_ok(gguf_open(&file, &self->memory, gguf_bytes_file(self, "all.gguf", GGUF_EVERYTHING)));
    const char *text = NULL;
    expect_ok(gguf_text(&file, "name", true, &text));
    assert_string_equal(text, "tiny");
    expect_ok(gguf_text(&file, "none", true, &text));
    assert_string_equal(text, "");
    const gguf_value *tokens, *ids, *none;
    expect_ok(gguf_array(&file, "tokens", true, GGUF_TEXT, &tokens));
    assert_int_equal(tokens->count, 3);
    static const char *const expected[] = {"a", "", "ccc"};
    const unsigned char *at = tokens->data;
    for (size_t i = 0; i < 3; i++) {
        uint64_t length;
        text = gguf_next_text(&at, &length);
        assert_int_equal(length, strlen(expected[i]));
        assert_memory_equal(text, expected[i], length);
    }
    expect_ok(gguf_array(&file, "ids", true, GGUF_I32, &ids));
    assert_int_equal(ids->count, 2);
    assert_int_equal(gguf_load(ids->data, 4), 7);
    expect_ok(gguf_array(&file, "none.at.all", true, GGUF_F32, &none));
    assert_int_equal(none->count, 0);
    gguf_close(&file);
}

static void absent_values_leave_the_default(void **state) {
    scratch *self = *state;
    gguf_file file;
    int64_t integer = 5;
    double number = 6;
    bool flag = true;
    const char *text = "seven";
    const gguf_value *array;
    expect_ok(gguf_open(&file, &self->memory, gguf_bytes_file(self, "all.gguf", GGUF_EVERYTHING)));
    expect_ok(gguf_integer(&file, "absent", false, 0, 1, &integer));
    expect_ok(gguf_number(&file, "absent", false, &number));
    expect_ok(gguf_flag(&file, "absent", false, &flag));
    expect_ok(gguf_text(&file, "absent", false, &text));
    expect_ok(gguf_array(&file, "absent", false, GGUF_U8, &array));
    assert_true(integer == 5 && number == 6 && flag && strcmp(text, "seven") == 0 && array == NULL);
    gguf_close(&file);
}

static void tensors_are_found_in_any_order(void **state) {
    scratch *self = *state;
    gguf_file file;
    unsigned char packed[34];
    float late[6], second;
    expect_ok(gguf_open(&file, &self->memory, gguf_bytes_file(self, "all.gguf", GGUF_EVERYTHING)));
    const gguf_tensor *tensor = gguf_find_tensor(&file, "packed");
    assert_string_equal(tensor->type->name, "Q8_0");
    assert_int_equal(tensor->bytes, 34);
    expect_ok(gguf_read(&file, tensor, packed));
    assert_int_equal(packed[1], 0x3c);
    assert_int_equal(packed[33], 32);
    tensor = gguf_find_tensor(&file, "late");
    assert_int_equal(tensor->type->dtype, BALORA_F32);
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->shape[0], 2);
    assert_int_equal(tensor->shape[1], 3);
    expect_ok(gguf_read(&file, tensor, late));
    assert_true(late[0] == 1 && late[5] == 6);
    expect_ok(gguf_read_part(&file, tensor, 4, 4, &second));
    assert_true(second == 2);
    expect_failure(gguf_read_part(&file, tensor, 4, 24, late), BALORA_ERROR_INTERNAL, "behind its 24");
    tensor = gguf_find_tensor(&file, "empty");
    assert_int_equal(tensor->elements, 0);
    assert_null(gguf_find_tensor(&file, "emptyy"));
    gguf_close(&file);
}

static void an_alignment_of_its_own_counts(void **state) {
    scratch *self = *state;
    gguf_file file;
    uint32_t number = 0;
    const char *path = gguf_bytes_file(self, "narrow.gguf",
                                       "'GGUF' 2u 2q 1q <general.alignment> 4u 4u "
                                       "<a> 1u 1q 24u 0q <b> 1u 1q 26u 4q *1 5b *3 6u");
    expect_ok(gguf_open(&file, &self->memory, path));
    assert_int_equal(file.version, 2);
    expect_ok(gguf_read(&file, gguf_find_tensor(&file, "b"), &number));
    assert_int_equal(number, 6);
    gguf_close(&file);
}

static void what_is_written_comes_back(void **state) {
    scratch *self = *state;
    static const gguf_setting settings[] = {{.key = "general.type", .type = GGUF_TEXT, .text = "adapter"},
                                            {.key = "alpha", .type = GGUF_F32, .number = 0.1}};
    static const gguf_output tensors[] = {
        {"odd", BALORA_F16, 2, {3, 1}}, {"none", BALORA_F32, 1, {0}}, {"last", BALORA_F32, 1, {9}}};
    static const uint16_t odd[] = {0x3c00, 0x4000, 0x4200};
    static const float last[] = {1, 2, 3, 4, 5, 6, 7, 8, FLT_MIN};
    const char *path = scratch_path(self, "written.gguf"), *text = NULL;
    gguf_writer writer;
    expect_ok(gguf_create(&writer, &self->memory, path, settings, 2, tensors, 3));
    assert_int_equal(gguf_next(&writer), 0);
    expect_ok(gguf_write(&writer, odd, 2));
    assert_int_equal(gguf_next(&writer), 0);
    expect_ok(gguf_write(&writer, odd + 1, 4));
    expect_ok(gguf_write(&writer, NULL, 0));
    expect_ok(gguf_write(&writer, last, sizeof last));
    assert_int_equal(gguf_next(&writer), -1);
    assert_false(file_exists(path));
    expect_ok(gguf_publish(&writer));
    gguf_file file;
    double alpha = 0;
    float found[9];
    expect_ok(gguf_open(&file, &self->memory, path));
    assert_int_equal(file.file.bytes % 32, 0);
    expect_ok(gguf_text(&file, "general.type", true, &text));
    assert_string_equal(text, "adapter");
    expect_ok(gguf_number(&file, "alpha", true, &alpha));
    assert_true(alpha == (double)0.1f);
    const gguf_tensor *tensor = gguf_find_tensor(&file, "last");
    assert_int_equal(tensor->offset % 32, 0);
    expect_ok(gguf_read(&file, tensor, found));
    assert_memory_equal(found, last, sizeof last);
    assert_int_equal(gguf_find_tensor(&file, "odd")->bytes, 6);
    gguf_close(&file);
}

static void half_written_files_are_not_published(void **state) {
    scratch *self = *state;
    static const gguf_output tensor = {"w", BALORA_F32, 1, {2}};
    static const float numbers[3] = {0};
    const char *path = scratch_path(self, "half.gguf");
    gguf_writer writer;
    expect_ok(gguf_create(&writer, &self->memory, path, NULL, 0, &tensor, 1));
    expect_failure(gguf_write(&writer, numbers, sizeof numbers), BALORA_ERROR_INTERNAL,
                   "more than the tensor");
    expect_ok(gguf_write(&writer, numbers, 4));
    expect_failure(gguf_publish(&writer), BALORA_ERROR_INTERNAL, "before every tensor");
    gguf_abandon(&writer);
    assert_false(file_exists(path));
    const gguf_setting endless = {.key = "alpha", .type = GGUF_F32, .number = 1e300};
    expect_failure(gguf_create(&writer, &self->memory, path, &endless, 1, &tensor, 1), BALORA_ERROR_INTERNAL,
                   "alpha");
    const gguf_output packed = {"w", BALORA_U8, 1, {2}};
    expect_failure(gguf_create(&writer, &self->memory, path, NULL, 0, &packed, 1), BALORA_ERROR_INTERNAL,
                   "cannot be written");
    assert_false(file_exists(path));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(numbers_of_every_width_are_read),      SCRATCH_TEST(texts_and_arrays_are_read),
        SCRATCH_TEST(absent_values_leave_the_default),      SCRATCH_TEST(tensors_are_found_in_any_order),
        SCRATCH_TEST(an_alignment_of_its_own_counts),       SCRATCH_TEST(what_is_written_comes_back),
        SCRATCH_TEST(half_written_files_are_not_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
