/* JSON Lines rows: their forms, masks, truncation, and errors that name file, line and key. */
#include "ascii_tokenizer.h"
#include "data/jsonl.h"
#include "scratch.h"

#define PROMPT                                                                                               \
    "Below is an instruction that describes a task. Write a response that appropriately completes the "      \
    "request.\n\n### Instruction:\n"
#define RESPONSE "\n\n### Response:"

static const char *const usual_config = "{\"eos_token\": \"<|im_end|>\"}";

static balora_status read_rows(scratch *self, dataset *data, const char *rows, int64_t max_length,
                               const char *fields) {
    jsonl_options options = {self->folder, fields, VOCABULARY, max_length};
    return jsonl_read(data, &self->memory, scratch_text(self, "rows.jsonl", rows), &options);
}

static int32_t character_id(char c) {
    return c == '\n' ? ID_NEWLINE : c == ' ' ? ID_SPACE : c - '!';
}

/* `text` writes end of turn as '\1' and start as '\2'; `mask` has a '+' under every supervised character. */
static void expect_sequence(const dataset *data, int64_t index, const char *text, const char *mask) {
    const int32_t *ids = data->ids + data->offsets[index], *labels = data->labels + data->offsets[index];
    assert_int_equal(dataset_length(data, index), strlen(text));
    assert_int_equal(strlen(text), strlen(mask));
    for (size_t i = 0; text[i] != '\0'; i++) {
        int32_t id = text[i] == '\1' ? ID_END : text[i] == '\2' ? ID_START : character_id(text[i]);
        assert_int_equal(ids[i], id);
        assert_int_equal(labels[i], mask[i] == '+' ? id : LABEL_NONE);
    }
}

/* The instruction prompt, unsupervised, then the answer and the end, supervised. */
static void expect_answer(const dataset *data, int64_t index, const char *instruction, const char *answer) {
    char text[512], mask[512];
    int source = snprintf(text, sizeof text, "%s%s%s", PROMPT, instruction, RESPONSE);
    int total = source + snprintf(text + source, sizeof text - (size_t)source, "%s\1", answer);
    memset(mask, '-', (size_t)source);
    memset(mask + source, '+', (size_t)(total - source));
    mask[total] = '\0';
    expect_sequence(data, index, text, mask);
}

static void rows_are_recognised_by_their_keys(void **state) {
    scratch *self = *state;
    dataset data;
    write_tokenizer(self, usual_config);
    expect_ok(read_rows(self, &data,
                        "\xEF\xBB\xBF{\"instruction\": \"Add\", \"response\": \" ok\", \"extra\": [1]}\r\n"
                        "\n  \t\r\n"
                        "{\"answer\": \"4\", \"question\": \"2+2?\"}\n"
                        "{\"prompt\": \"ab\", \"completion\": \"cd\"}\n"
                        "{\"text\": \"all\"}\n"
                        "{\"prompt\": \"\", \"completion\": \"x y\"}",
                        512, NULL));
    assert_int_equal(data.sequences, 5);
    expect_answer(&data, 0, "Add", " ok");
    expect_answer(&data, 1, "2+2?", "4");
    expect_sequence(&data, 2, "abcd\1", "--+++");
    expect_sequence(&data, 3, "all\1", "++++");
    expect_sequence(&data, 4, "x y\1", "++++");
    assert_int_equal(data.skipped_rows, 0);
    assert_int_equal(data.truncated_rows, 0);
    assert_int_equal(data.supervised_tokens, 4 + 2 + 3 + 4 + 4);
    dataset_free(&data);
}

static void fields_name_other_keys(void **state) {
    scratch *self = *state;
    dataset data;
    write_tokenizer(self, usual_config);
    const char *rows = "{\"query\": \"Q\", \"output\": \"A\", \"text\": \"T\"}";
    expect_ok(read_rows(self, &data, rows, 512, "query,output"));
    expect_answer(&data, 0, "Q", "A");
    dataset_free(&data);
    expect_ok(read_rows(self, &data, rows, 512, "output"));
    expect_sequence(&data, 0, "A\1", "++");
    dataset_free(&data);
    expect_failure(read_rows(self, &data, rows, 512, "query,result"), BALORA_ERROR_FORMAT,
                   "rows.jsonl:1: the key \"result\" is missing");
    static const char *const wrong[] = {"", ",", "a,", ",b", "a,b,c"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        expect_failure(read_rows(self, &data, rows, 512, wrong[i]), BALORA_ERROR_ARGUMENT,
                       "expected two keys");
}

/* The whole text is tokenized at once: a token that reaches over the border belongs to the source. */
static void a_token_over_the_border_is_not_supervised(void **state) {
    scratch *self = *state;
    dataset data;
    write_tokenizer(self, usual_config);
    expect_ok(read_rows(self, &data, "{\"prompt\": \"a:\", \"completion\": \"#b\"}", 512, NULL));
    static const int32_t ids[] = {'a' - '!', ID_COLON_HASH, 'b' - '!', ID_END};
    static const int32_t labels[] = {LABEL_NONE, LABEL_NONE, 'b' - '!', ID_END};
    assert_int_equal(data.tokens, 4);
    assert_memory_equal(data.ids, ids, sizeof ids);
    assert_memory_equal(data.labels, labels, sizeof labels);
    dataset_free(&data);
}

static void long_rows_lose_their_tail(void **state) {
    scratch *self = *state;
    dataset data;
    write_tokenizer(self, usual_config);
    const char *rows =
        "{\"prompt\": \"abc\", \"completion\": \"defg\"}\n"   /* cut inside the answer */
        "{\"prompt\": \"abcdefgh\", \"completion\": \"i\"}\n" /* nothing of the answer is left */
        "{\"prompt\": \"abc\", \"completion\": \"d\"}\n";     /* exactly fits */
    expect_ok(read_rows(self, &data, rows, 5, NULL));
    assert_int_equal(data.sequences, 2);
    assert_int_equal(data.truncated_rows, 1);
    assert_int_equal(data.skipped_rows, 1);
    expect_sequence(&data, 0, "abcde", "---++");
    expect_sequence(&data, 1, "abcd\1", "---++");
    dataset_free(&data);
    expect_failure(read_rows(self, &data, rows, 3, NULL), BALORA_ERROR_FORMAT,
                   "no row to learn from: 3 rows have no supervised token among their first 3");
    expect_failure(read_rows(self, &data, "\n\n", 3, NULL), BALORA_ERROR_FORMAT, "no row to learn from");
}

static void conversations_supervise_the_assistant(void **state) {
    scratch *self = *state;
    dataset data;
    write_tokenizer(self, usual_config);
    expect_ok(read_rows(self, &data,
                        "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"},"
                        " {\"role\": \"assistant\", \"content\": \"yo\"},"
                        " {\"role\": \"user\", \"content\": \"more\"},"
                        " {\"role\": \"assistant\", \"content\": \"12\"}]}",
                        512, NULL));
    expect_sequence(&data, 0, "\2user\nhi\1\n\2assistant\nyo\1\n\2user\nmore\1\n\2assistant\n12\1\n",
                    "----------"
                    "-----------+++-"
                    "------------"
                    "-----------+++-");
    dataset_free(&data);
}

static void errors_name_file_line_and_key(void **state) {
    scratch *self = *state;
    static const struct {
        const char *rows;
        const char *fragment;
    } cases[] = {
        {"{\"text\": \"ab\"}\n{\"text\": ", "rows.jsonl:2: line 1, column"},
        {"{\"text\": \"ab\"}\n\n[1]", "rows.jsonl:3: expected a JSON object, found an array"},
        {"{\"text\": 5}", "rows.jsonl:1: \"text\": expected a string, found a number"},
        {"{\"prompt\": \"a\", \"completion\": null}", "rows.jsonl:1: the key \"completion\" is missing"},
        {"{\"question\": [], \"answer\": \"b\"}", "\"question\": expected a string, found an array"},
        {"{\"instruction\": \"a\", \"output\": \"b\"}",
         "the row's keys are \"instruction\", \"output\"; expected"},
        {"{}", "the row's keys are none; expected instruction and response"},
        {"{\"text\": \"a\\u0000b\"}", "rows.jsonl:1"},
        {"{\"text\": \"\xC3\x28\"}", "rows.jsonl:1"},
        {"{\"messages\": 3}", "rows.jsonl:1"},
        {"{\"messages\": [{\"role\": \"user\"}]}", "rows.jsonl:1"},
    };
    write_tokenizer(self, usual_config);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dataset data;
        expect_failure(read_rows(self, &data, cases[i].rows, 512, NULL), BALORA_ERROR_FORMAT,
                       cases[i].fragment);
        assert_int_equal(self->memory.current_bytes, 0);
    }
    dataset data;
    jsonl_options options = {self->folder, NULL, ID_END, 512};
    expect_failure(
        jsonl_read(&data, &self->memory, scratch_text(self, "rows.jsonl", "{\"text\": \"ab\"}"), &options),
        BALORA_ERROR_MISMATCH,
        "rows.jsonl:1: the tokenizer gives token 97, but the model's vocabulary has 97");
    expect_failure(jsonl_read(&data, &self->memory, scratch_path(self, "none.jsonl"), &options),
                   BALORA_ERROR_NOT_FOUND, "none.jsonl");
}

static void many_rows_keep_their_borders(void **state) {
    scratch *self = *state;
    enum { ROWS = 3000, LINE = 48 };
    char *rows = malloc(ROWS * LINE), *place = rows;
    dataset data;
    assert_non_null(rows);
    for (int i = 0; i < ROWS; i++)
        place += snprintf(place, LINE, "{\"prompt\": \"%d\", \"completion\": \"ab\"}\n", i);
    write_tokenizer(self, usual_config);
    expect_ok(read_rows(self, &data, rows, 512, NULL));
    assert_int_equal(data.sequences, ROWS);
    for (int i = 0; i < ROWS; i++) {
        char text[16], mask[16];
        int digits = snprintf(text, sizeof text, "%d", i);
        strcpy(text + digits, "ab\1");
        snprintf(mask, sizeof mask, "%.*s+++", digits, "----");
        expect_sequence(&data, i, text, mask);
    }
    dataset_free(&data);
    free(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(rows_are_recognised_by_their_keys),
        SCRATCH_TEST(fields_name_other_keys),
        SCRATCH_TEST(a_token_over_the_border_is_not_supervised),
        SCRATCH_TEST(long_rows_lose_their_tail),
        SCRATCH_TEST(conversations_supervise_the_assistant),
        SCRATCH_TEST(errors_name_file_line_and_key),
        SCRATCH_TEST(many_rows_keep_their_borders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
