/* The public calls: sizes asked first, room too small, handles freed in any order. */
#include "balora/balora.h"
#include "tokenizer_fixtures.h"

typedef struct opened {
    balora_context *context;
    balora_tokenizer *tokenizer;
} opened;

static opened open_family(const char *family) {
    opened self;
    expect_ok(balora_context_create(&self.context, NULL));
    expect_ok(balora_tokenizer_open(&self.tokenizer, self.context, fixture_path(family)));
    return self;
}

static void text_goes_to_ids_and_back(void **state) {
    (void)state;
    opened self = open_family("llama3");
    balora_context_free(self.context); /* the tokenizer keeps it */
    static const char text[] = "The river\0was low";
    int64_t count, again, bytes;
    expect_ok(balora_tokenizer_encode(self.tokenizer, text, sizeof text - 1, 1, NULL, 0, &count));
    assert_true(count > 3);
    int32_t *ids = malloc((size_t)count * sizeof *ids);
    expect_failure(balora_tokenizer_encode(self.tokenizer, text, sizeof text - 1, 1, ids, count - 1, &again),
                   BALORA_ERROR_ARGUMENT, "there is room for");
    assert_int_equal(again, count);
    expect_ok(balora_tokenizer_encode(self.tokenizer, text, sizeof text - 1, 1, ids, count, &again));
    assert_int_equal(again, count);
    char found[64];
    expect_ok(balora_tokenizer_decode(self.tokenizer, ids, count, 1, NULL, 0, &bytes));
    assert_int_equal(bytes, sizeof text - 1);
    expect_failure(balora_tokenizer_decode(self.tokenizer, ids, count, 1, found, bytes, &bytes),
                   BALORA_ERROR_ARGUMENT, "and a closing NUL");
    assert_int_equal(bytes, sizeof text - 1);
    expect_ok(balora_tokenizer_decode(self.tokenizer, ids, count, 1, found, bytes + 1, &bytes));
    assert_memory_equal(found, text, sizeof text);
    expect_ok(balora_tokenizer_encode(self.tokenizer, text, -1, 0, ids, count, &again)); /* up to the NUL */
    expect_ok(balora_tokenizer_decode(self.tokenizer, ids, again, 0, found, sizeof found, &bytes));
    assert_string_equal(found, "The river");
    free(ids);
    balora_tokenizer_free(self.tokenizer);
    balora_tokenizer_free(NULL);
}

static void facts_are_described(void **state) {
    (void)state;
    opened self = open_family("llama3");
    balora_tokenizer_information information = BALORA_TOKENIZER_INFORMATION_INIT;
    expect_ok(balora_tokenizer_describe(self.tokenizer, &information));
    assert_int_equal(information.size, 808);
    assert_int_equal(information.begin, 803);
    assert_int_equal(information.end, 807);
    assert_int_equal(information.chat_format, BALORA_CHAT_LLAMA3);
    balora_tokenizer_free(self.tokenizer);
    balora_context_free(self.context);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    opened self = open_family("gpt2");
    balora_tokenizer *none = self.tokenizer;
    int64_t count = 5;
    int32_t ids[4] = {0};
    char text[4];
    expect_failure(balora_tokenizer_open(NULL, self.context, "x"), BALORA_ERROR_ARGUMENT, "out is NULL");
    expect_failure(balora_tokenizer_open(&none, self.context, NULL), BALORA_ERROR_ARGUMENT, "folder is NULL");
    assert_null(none);
    expect_failure(balora_tokenizer_open(&none, self.context, "no such folder"), BALORA_ERROR_NOT_FOUND,
                   "no such folder/tokenizer.json");
    expect_failure(balora_tokenizer_encode(NULL, "a", 1, 0, ids, 4, &count), BALORA_ERROR_ARGUMENT,
                   "handle is NULL");
    assert_int_equal(count, 0);
    expect_failure(balora_tokenizer_encode(self.tokenizer, NULL, 1, 0, ids, 4, &count), BALORA_ERROR_ARGUMENT,
                   "text");
    expect_failure(balora_tokenizer_encode(self.tokenizer, "a", -2, 0, ids, 4, &count), BALORA_ERROR_ARGUMENT,
                   "bytes is -2");
    expect_failure(balora_tokenizer_encode(self.tokenizer, "a", 1, 0, NULL, 4, &count), BALORA_ERROR_ARGUMENT,
                   "capacity 4");
    expect_failure(balora_tokenizer_encode(self.tokenizer, "a", 1, 0, ids, -4, &count), BALORA_ERROR_ARGUMENT,
                   "capacity -4");
    expect_failure(balora_tokenizer_encode(self.tokenizer, "a", 1, 0, ids, 4, NULL), BALORA_ERROR_ARGUMENT,
                   "count is NULL");
    expect_failure(balora_tokenizer_encode(self.tokenizer, "\xFF", 1, 0, ids, 4, &count), BALORA_ERROR_FORMAT,
                   "at byte 0");
    expect_failure(balora_tokenizer_decode(self.tokenizer, NULL, 1, 0, text, 4, &count),
                   BALORA_ERROR_ARGUMENT, "count is 1");
    expect_failure(balora_tokenizer_decode(self.tokenizer, ids, -1, 0, text, 4, &count),
                   BALORA_ERROR_ARGUMENT, "count is -1");
    ids[1] = -7;
    expect_failure(balora_tokenizer_decode(self.tokenizer, ids, 2, 0, text, 4, &count), BALORA_ERROR_ARGUMENT,
                   "ids[1] is -7");
    balora_tokenizer_information information = {.struct_size = 4};
    expect_failure(balora_tokenizer_describe(self.tokenizer, &information), BALORA_ERROR_ABI,
                   "balora_tokenizer_information");
    balora_context_free(self.context);
    balora_tokenizer_free(self.tokenizer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_goes_to_ids_and_back),
        cmocka_unit_test(facts_are_described),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
