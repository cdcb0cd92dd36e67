/* Token files, and lines of text: what is kept, and what is refused with which words. */
#include "data/lines.h"
#include "data/token_file.h"
#include "format/safetensors.h"
#include "scratch.h"

typedef struct token_arrays {
    int32_t ids[6], labels[6];
    int64_t offsets[4];
} token_arrays;

static const token_arrays good = {{1, 2, 3, 4, 5, 6}, {-100, 2, 9, -100, -100, 6}, {0, 3, 5, 6}};

static const char *write_narrow(scratch *self, const token_arrays *data, bool with_labels) {
    const safetensors_tensor tensors[] = {{"offsets", BALORA_I64, 1, {4}, data->offsets},
                                          {"input_ids", BALORA_I32, 1, {6}, data->ids},
                                          {"labels", BALORA_I32, 1, {6}, data->labels}};
    const char *path = scratch_path(self, "tokens.safetensors");
    expect_ok(safetensors_save(&self->memory, path, tensors, with_labels ? 3 : 2, NULL));
    return path;
}

static void token_files_are_read_as_they_are(void **state) {
    scratch *self = *state;
    dataset data;
    expect_ok(token_file_read(&data, &self->memory, write_narrow(self, &good, true), 10, 0));
    assert_int_equal(data.sequences, 3);
    assert_memory_equal(data.ids, good.ids, sizeof good.ids);
    assert_memory_equal(data.labels, good.labels, sizeof good.labels);
    assert_memory_equal(data.offsets, good.offsets, sizeof good.offsets);
    assert_int_equal(data.supervised_tokens, 3);
    assert_int_equal(data.target_tokens, 2);
    dataset_free(&data);

    expect_ok(token_file_read(&data, &self->memory, write_narrow(self, &good, false), 10, 0));
    assert_memory_equal(data.labels, good.ids, sizeof good.ids);
    dataset_free(&data);
}

static void max_length_cuts_the_tails(void **state) {
    scratch *self = *state;
    static const int32_t ids[] = {1, 2, 4, 5, 6}, labels[] = {-100, 2, -100, -100, 6};
    dataset data;
    expect_ok(token_file_read(&data, &self->memory, write_narrow(self, &good, true), 10, 2));
    assert_int_equal(data.sequences, 3);
    assert_int_equal(data.tokens, 5);
    assert_int_equal(data.truncated_rows, 1);
    assert_int_equal(data.longest_sequence, 2);
    assert_memory_equal(data.ids, ids, sizeof ids);
    assert_memory_equal(data.labels, labels, sizeof labels);
    dataset_free(&data);
}

static void wide_integers_are_read_in_pieces(void **state) {
    scratch *self = *state;
    enum { COUNT = 30001 };
    int64_t *wide = calloc(COUNT, sizeof *wide);
    const int64_t offsets[] = {0, 10000, COUNT};
    dataset data;
    assert_non_null(wide);
    for (int64_t i = 0; i < COUNT; i++)
        wide[i] = i * 13 % 1000;
    const safetensors_tensor tensors[] = {{"input_ids", BALORA_I64, 1, {COUNT}, wide},
                                          {"labels", BALORA_I64, 1, {COUNT}, wide},
                                          {"offsets", BALORA_I64, 1, {3}, offsets}};
    const char *path = scratch_path(self, "wide.safetensors");
    expect_ok(safetensors_save(&self->memory, path, tensors, 3, NULL));
    expect_ok(token_file_read(&data, &self->memory, path, 1000, 0));
    for (int64_t i = 0; i < COUNT; i++)
        assert_true(data.ids[i] == wide[i] && data.labels[i] == wide[i]);
    dataset_free(&data);

    wide[20000] = (INT64_C(1) << 32) + 5; /* would be 5 if it were cut to 32 bits */
    expect_ok(safetensors_save(&self->memory, path, tensors, 3, NULL));
    expect_failure(token_file_read(&data, &self->memory, path, 1000, 0), BALORA_ERROR_MISMATCH,
                   "input_ids[20000] is 4294967301");
    free(wide);
}

static void wrong_values_are_named(void **state) {
    scratch *self = *state;
    static const struct {
        token_arrays data;
        balora_status status;
        const char *fragment;
    } cases[] = {
        {{{1, 2, 3, 10, 5, 6}, {0}, {0, 3, 5, 6}},
         BALORA_ERROR_MISMATCH,
         "input_ids[3] is 10; expected 0 to 9"},
        {{{1, 2, 3, 4, 5, -1}, {0}, {0, 3, 5, 6}},
         BALORA_ERROR_MISMATCH,
         "input_ids[5] is -1; expected 0 to 9"},
        {{{1}, {-100, 10}, {0, 3, 5, 6}}, BALORA_ERROR_MISMATCH, "labels[1] is 10; expected -100"},
        {{{1}, {-1}, {0, 3, 5, 6}}, BALORA_ERROR_MISMATCH, "labels[0] is -1; expected -100"},
        {{{1}, {0}, {1, 3, 5, 6}}, BALORA_ERROR_FORMAT, "offsets[0] is 1; expected 0"},
        {{{1}, {0}, {0, 5, 3, 6}}, BALORA_ERROR_FORMAT, "offsets[2] is 3; expected 5 (the one before) to 6"},
        {{{1}, {0}, {0, 3, 7, 6}}, BALORA_ERROR_FORMAT, "offsets[2] is 7; expected 3"},
        {{{1}, {0}, {0, -1, 5, 6}}, BALORA_ERROR_FORMAT, "offsets[1] is -1; expected 0"},
        {{{1}, {0}, {0, 3, 5, 5}},
         BALORA_ERROR_FORMAT,
         "the last of offsets is 5; expected the number of tokens, 6"},
        {{{1}, {0}, {0, INT64_MIN, 5, 6}}, BALORA_ERROR_FORMAT, "offsets[1] is -9223372036854775808"},
        {{{1}, {0}, {0, INT64_MAX, 5, 6}}, BALORA_ERROR_FORMAT, "offsets[1] is 9223372036854775807"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dataset data;
        const char *path = write_narrow(self, &cases[i].data, true);
        expect_failure(token_file_read(&data, &self->memory, path, 10, 0), cases[i].status,
                       cases[i].fragment);
        assert_non_null(strstr(balora_error_message(), "tokens.safetensors"));
        assert_int_equal(self->memory.current_bytes, 0);
    }
}

static void wrong_tensors_are_named(void **state) {
    scratch *self = *state;
    static const safetensors_tensor ids = {"input_ids", BALORA_I32, 1, {6}, good.ids},
                                    offsets = {"offsets", BALORA_I64, 1, {4}, good.offsets};
    const struct {
        safetensors_tensor tensors[3];
        int64_t count;
        const char *fragment;
    } cases[] = {
        {{ids}, 1, "tensor \"offsets\" is missing"},
        {{offsets}, 1, "tensor \"input_ids\" is missing"},
        {{{"input_ids", BALORA_F32, 1, {6}, good.ids}, offsets},
         2,
         "\"input_ids\" is [6] of F32; expected one dimension"},
        {{{"input_ids", BALORA_I32, 2, {2, 3}, good.ids}, offsets}, 2, "\"input_ids\" is [2, 3] of I32"},
        {{ids, offsets, {"labels", BALORA_I32, 1, {5}, good.labels}}, 3, "labels has 5 elements; expected 6"},
        {{ids, {"offsets", BALORA_I64, 1, {1}, good.offsets}}, 2, "offsets has 1 elements"},
        {{ids, {"offsets", BALORA_I64, 1, {0}, NULL}}, 2, "offsets has 0 elements"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dataset data;
        const char *path = scratch_path(self, "tensors.safetensors");
        expect_ok(safetensors_save(&self->memory, path, cases[i].tensors, cases[i].count, NULL));
        expect_failure(token_file_read(&data, &self->memory, path, 10, 0), BALORA_ERROR_FORMAT,
                       cases[i].fragment);
        assert_int_equal(self->memory.current_bytes, 0);
    }
}

static void expect_line(line_reader *lines, const char *expected) {
    const char *text;
    size_t bytes;
    expect_ok(lines_next(lines, &text, &bytes));
    assert_int_equal(bytes, strlen(expected));
    assert_memory_equal(text, expected, bytes);
}

static void lines_end_in_every_usual_way(void **state) {
    scratch *self = *state;
    line_reader lines;
    const char *text;
    size_t bytes;
    expect_ok(lines_open(&lines, &self->memory,
                         scratch_text(self, "a", "\xEF\xBB\xBFone\r\n\ntwo\r\r\n\xEF\xBB\xBFx\nlast")));
    expect_line(&lines, "one");
    expect_line(&lines, "");
    expect_line(&lines, "two\r");
    expect_line(&lines, "\xEF\xBB\xBFx");
    expect_line(&lines, "last");
    assert_int_equal(lines.number, 5);
    assert_int_equal(lines_next(&lines, &text, &bytes), BALORA_DONE);
    lines_close(&lines);
    lines_close(&lines);

    expect_ok(lines_open(&lines, &self->memory, scratch_text(self, "b", "one\n")));
    expect_line(&lines, "one");
    assert_int_equal(lines_next(&lines, &text, &bytes), BALORA_DONE);
    lines_close(&lines);
    expect_ok(lines_open(&lines, &self->memory, scratch_text(self, "c", "")));
    assert_int_equal(lines_next(&lines, &text, &bytes), BALORA_DONE);
    lines_close(&lines);
}

/* Lines around the buffer's borders, and one that makes it grow. */
static void long_lines_are_whole(void **state) {
    scratch *self = *state;
    static const size_t sizes[] = {262140, 5, 262144, 0, 1000000, 3, 262143};
    enum {
        COUNT = sizeof sizes / sizeof sizes[0],
        TOTAL = 262140 + 5 + 262144 + 1000000 + 3 + 262143 + COUNT
    };
    char *content = malloc(TOTAL), *place = content;
    line_reader lines;
    assert_non_null(content);
    for (size_t i = 0; i < COUNT; i++) {
        memset(place, 'a' + (int)i, sizes[i]);
        place += sizes[i];
        *place++ = '\n';
    }
    expect_ok(lines_open(&lines, &self->memory, scratch_bytes(self, "long", content, TOTAL)));
    for (size_t i = 0; i < COUNT; i++) {
        const char *text;
        size_t bytes;
        expect_ok(lines_next(&lines, &text, &bytes));
        assert_int_equal(bytes, sizes[i]);
        for (size_t j = 0; j < bytes; j++)
            assert_true(text[j] == 'a' + (int)i);
    }
    lines_close(&lines);
    free(content);
}

static void endless_lines_are_refused(void **state) {
    scratch *self = *state;
    line_reader lines;
    const char *text, *path = scratch_text(self, "endless", "first\n");
    size_t bytes;
    assert_int_equal(truncate(path, 6 + (off_t)LINES_LIMIT + 1), 0); /* zeros without a line end */
    expect_ok(lines_open(&lines, &self->memory, path));
    expect_line(&lines, "first");
    expect_failure(lines_next(&lines, &text, &bytes), BALORA_ERROR_FORMAT,
                   "endless:2: the line has more than 67108864");
    lines_close(&lines);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(token_files_are_read_as_they_are),
        SCRATCH_TEST(max_length_cuts_the_tails),
        SCRATCH_TEST(wide_integers_are_read_in_pieces),
        SCRATCH_TEST(wrong_values_are_named),
        SCRATCH_TEST(wrong_tensors_are_named),
        SCRATCH_TEST(lines_end_in_every_usual_way),
        SCRATCH_TEST(long_lines_are_whole),
        SCRATCH_TEST(endless_lines_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
