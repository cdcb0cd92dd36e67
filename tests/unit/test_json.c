/* JSON access: depth, duplicates, messages, members, and numbers that survive a round trip. */
#include <math.h>

#include "format/json.h"
#include "scratch.h"

static balora_status parse(json_t **out, const char *text) {
    return json_parse(out, text, strlen(text), "config.json");
}

static void valid_text_is_parsed(void **state) {
    (void)state;
    json_t *value;
    expect_ok(parse(&value, "{\"a\": [1, 2.5, \"x\\\"[{\"], \"b\": null}"));
    assert_int_equal(json_array_size(json_object_get(value, "a")), 3);
    json_decref(value);
}

static void integers_beyond_64_bits_are_reals(void **state) {
    (void)state;
    json_t *value;
    int64_t integer = 0;
    double number = 0;
    expect_ok(parse(&value, "{\"model_max_length\": 1000000000000000019884624838656, \"small\": 3}"));
    expect_ok(json_member_number(value, "model_max_length", "c", true, &number));
    assert_true(number == 1e30);
    expect_failure(json_member_integer(value, "model_max_length", "c", true, 0, INT64_MAX, &integer),
                   BALORA_ERROR_FORMAT, "expected an integer");
    expect_ok(json_member_integer(value, "small", "c", true, 0, 9, &integer));
    assert_int_equal(integer, 3);
    json_decref(value);
}

static void broken_text_names_line_and_column(void **state) {
    (void)state;
    static const struct {
        const char *text, *fragment;
    } cases[] = {
        {"", "config.json: line 1"},
        {"{\"a\": 1,\n \"b\" 2}", "config.json: line 2, column 6"},
        {"{\"a\": 1, \"a\": 2}", "duplicate object key"},
        {"{\"a\": 1} x", "end of file expected"},
        {"{\"a\": \"\x80\"}", "line 1"},
        {"{\"a\": \"\\ud800\"}", "line 1"},
        {"{\"a\\u0000b\": 1}", "NUL"},
        {"{\"a\": 1e999}", "real number overflow"},
        {"{\"a\": NaN}", "invalid token"},
        {"{\"a\": \"open", "line 1"},
        {"{\"a\": \"open\\", "line 1"},
        {"3", "'[' or '{' expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *value = (json_t *)1;
        expect_failure(parse(&value, cases[i].text), BALORA_ERROR_FORMAT, cases[i].fragment);
        assert_null(value);
    }
    assert_int_equal(balora_error_origin(), BALORA_ORIGIN_JSON);
}

static void nesting_is_bounded(void **state) {
    (void)state;
    enum { DEEP = 1000000 };
    char *text = malloc(2 * DEEP);
    json_t *value;
    assert_non_null(text);
    memset(text, '[', JSON_DEPTH_LIMIT);
    memset(text + JSON_DEPTH_LIMIT, ']', JSON_DEPTH_LIMIT);
    expect_ok(json_parse(&value, text, 2 * JSON_DEPTH_LIMIT, "deep"));
    json_decref(value);
    memset(text, '[', DEEP);
    memset(text + DEEP, ']', DEEP);
    expect_failure(json_parse(&value, text, 2 * DEEP, "deep"), BALORA_ERROR_FORMAT,
                   "deep: line 1, column 65: objects and arrays are nested deeper than 64");
    free(text);
}

static void members_are_checked(void **state) {
    (void)state;
    json_t *object;
    int64_t integer = 7;
    double number = 0.5;
    bool flag = true;
    const char *text = "unset";
    expect_ok(parse(
        &object, "{\"i\": 12, \"whole\": 8192.0, \"r\": 1e-5, \"t\": false, \"s\": \"silu\", \"n\": null}"));

    expect_ok(json_member_integer(object, "i", "c", true, 1, 12, &integer));
    assert_int_equal(integer, 12);
    expect_ok(json_member_integer(object, "whole", "c", true, 1, 10000, &integer));
    assert_int_equal(integer, 8192);
    expect_ok(json_member_integer(object, "absent", "c", false, 1, 10, &integer));
    expect_ok(json_member_integer(object, "n", "c", false, 1, 10, &integer));
    assert_int_equal(integer, 8192);
    expect_failure(json_member_integer(object, "i", "c", true, 13, 99, &integer), BALORA_ERROR_FORMAT,
                   "c: \"i\" is 12; expected 13 to 99");
    expect_failure(json_member_integer(object, "r", "c", true, 0, 9, &integer), BALORA_ERROR_FORMAT,
                   "c: \"r\": expected an integer, found a number");
    expect_failure(json_member_integer(object, "s", "c", true, 0, 9, &integer), BALORA_ERROR_FORMAT,
                   "found a string");
    expect_failure(json_member_integer(object, "absent", "c", true, 0, 9, &integer), BALORA_ERROR_FORMAT,
                   "c: the key \"absent\" is missing");
    expect_failure(json_member_integer(object, "n", "c", true, 0, 9, &integer), BALORA_ERROR_FORMAT,
                   "missing");

    expect_ok(json_member_number(object, "i", "c", true, &number));
    assert_true(number == 12.0);
    expect_ok(json_member_number(object, "r", "c", true, &number));
    assert_true(number == 1e-5);
    expect_failure(json_member_number(object, "t", "c", true, &number), BALORA_ERROR_FORMAT,
                   "found a boolean");

    expect_ok(json_member_boolean(object, "absent", "c", &flag));
    assert_true(flag);
    expect_ok(json_member_boolean(object, "t", "c", &flag));
    assert_false(flag);
    expect_failure(json_member_boolean(object, "i", "c", &flag), BALORA_ERROR_FORMAT,
                   "expected true or false");

    expect_ok(json_member_string(object, "s", "c", true, &text));
    assert_string_equal(text, "silu");
    expect_failure(json_member_string(object, "i", "c", false, &text), BALORA_ERROR_FORMAT,
                   "expected a string");
    json_decref(object);
}

static void files_are_bounded_objects(void **state) {
    scratch *self = *state;
    json_t *object;
    expect_failure(json_read_object(&object, &self->memory, scratch_path(self, "none.json"), 100),
                   BALORA_ERROR_NOT_FOUND, "none.json");
    expect_failure(json_read_object(&object, &self->memory, scratch_text(self, "a.json", "[1]"), 100),
                   BALORA_ERROR_FORMAT, "expected a JSON object at the top, found an array");
    expect_failure(json_read_object(&object, &self->memory, scratch_text(self, "b.json", "{\"a\": 1}"), 7),
                   BALORA_ERROR_FORMAT, "8 bytes; at most 7");
    assert_null(object);
}

static void writing_keeps_every_number(void **state) {
    scratch *self = *state;
    static const double numbers[] = {1e-5, 0.1, 1.0 / 3.0, 10000.0, 5e-324, 0x1.fffffffffffffp1023};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        json_t *object = json_pack("{s:f, s:i}", "x", numbers[i], "b", 1), *again;
        double found = 0;
        const char *path = scratch_path(self, "numbers.json");
        expect_ok(json_write_file(&self->memory, path, object, true));
        expect_ok(json_read_object(&again, &self->memory, path, 1000));
        expect_ok(json_member_number(again, "x", path, true, &found));
        assert_true(found == numbers[i]);
        json_decref(object);
        json_decref(again);
    }
    json_t *object = json_pack("{s:f, s:i}", "x", 1e-5, "b", 1);
    const char *path = scratch_path(self, "text.json");
    char *text;
    uint64_t bytes;
    expect_ok(json_write_file(&self->memory, path, object, true));
    expect_ok(file_read_all(&text, &bytes, &self->memory, path, 1000));
    assert_string_equal(text, "{\n  \"b\": 1,\n  \"x\": 1e-5\n}\n");
    memory_free(&self->memory, text);
    json_decref(object);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_beyond_64_bits_are_reals),
        cmocka_unit_test(valid_text_is_parsed),
        cmocka_unit_test(broken_text_names_line_and_column),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(members_are_checked),
        SCRATCH_TEST(files_are_bounded_objects),
        SCRATCH_TEST(writing_keeps_every_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
