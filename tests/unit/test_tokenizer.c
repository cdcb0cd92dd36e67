/* The tokenizer's ids against the package `tokenizers`, and the way back to text. */
#include <pthread.h>

#include "tokenizer_fixtures.h"

static const char *const families[] = {"gpt2",        "smollm2",      "llama3",    "qwen",
                                       "edge_prefix", "edge_unknown", "gemma",     "llama2",
                                       "metaspace",   "edge_spaces",  "edge_fused"};

#define FAMILY_COUNT     (sizeof families / sizeof families[0])
#define BYTE_LEVEL_COUNT 6 /* the first; the others have byte fallback, and texts of their own */

static void expect_same_ids(const tokenizer *self, allocator *memory, const char *family, const json_t *text,
                            const json_t *expected, bool add_special_tokens) {
    token_buffer found = {.memory = memory};
    expect_ok(tokenizer_encode(self, json_string_value(text), json_string_length(text), add_special_tokens,
                               &found));
    size_t count = json_array_size(expected);
    for (size_t i = 0; i < count && i < found.count; i++)
        if (found.ids[i] != json_integer_value(json_array_get(expected, i)))
            fail_msg("%s: \"%s\": id %zu is %d, expected %lld", family, json_string_value(text), i,
                     found.ids[i], (long long)json_integer_value(json_array_get(expected, i)));
    if (found.count != count)
        fail_msg("%s: \"%s\": %zu ids, expected %zu", family, json_string_value(text), found.count, count);
    token_buffer_free(&found);
}

static void ids_are_those_of_tokenizers(void **state) {
    scratch *self = *state;
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        json_t *texts = fixture_json(f < BYTE_LEVEL_COUNT ? "texts.json" : "texts_spaces.json");
        assert_true(json_array_size(texts) > (f < BYTE_LEVEL_COUNT ? 150 : 80));
        char name[64];
        snprintf(name, sizeof name, "%s/expected.json", families[f]);
        json_t *expected = fixture_json(name);
        tokenizer *coder = fixture_tokenizer(self, families[f]);
        for (size_t i = 0; i < json_array_size(texts); i++) {
            const json_t *text = json_array_get(texts, i);
            const json_t *special = json_array_get(json_object_get(expected, "special"), i);
            const json_t *plain = json_array_get(json_object_get(expected, "plain"), i);
            assert_true(json_is_array(special) && json_is_array(plain));
            expect_same_ids(coder, &self->memory, families[f], text, special, true);
            expect_same_ids(coder, &self->memory, families[f], text, plain, false);
        }
        tokenizer_free(coder);
        json_decref(expected);
        json_decref(texts);
    }
}

static void texts_come_back(void **state) {
    scratch *self = *state;
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        char name[64];
        snprintf(name, sizeof name, "%s/expected.json", families[f]);
        json_t *expected = fixture_json(name);
        const json_t *texts = json_object_get(expected, "decoded"), *ids = json_object_get(expected, "plain");
        tokenizer *coder = fixture_tokenizer(self, families[f]);
        for (size_t i = 0; i < json_array_size(texts); i++) {
            const json_t *row = json_array_get(ids, i), *text = json_array_get(texts, i);
            int32_t *numbers = malloc((json_array_size(row) + 1) * sizeof *numbers);
            for (size_t k = 0; k < json_array_size(row); k++)
                numbers[k] = (int32_t)json_integer_value(json_array_get(row, k));
            char *found;
            size_t bytes;
            expect_ok(
                tokenizer_decode(coder, numbers, json_array_size(row), true, &found, &bytes, &self->memory));
            assert_int_equal(bytes, json_string_length(text));
            assert_memory_equal(found, json_string_value(text), bytes);
            assert_int_equal(found[bytes], '\0');
            memory_free(&self->memory, found);
            free(numbers);
        }
        tokenizer_free(coder);
        json_decref(expected);
    }
}

static void decoding_knows_special_tokens_and_strangers(void **state) {
    scratch *self = *state;
    tokenizer *coder = fixture_tokenizer(self, "edge_unknown");
    char *text;
    size_t bytes;
    const int32_t ids[] = {tokenizer_eos(coder), tokenizer_token_id(coder, "u\xC3\xB1o"),
                           tokenizer_size(coder), tokenizer_eos(coder)};
    expect_ok(tokenizer_decode(coder, ids, 4, false, &text, &bytes, &self->memory));
    assert_string_equal(text,
                        "<|endoftext|>u\xC3\xB1o<|endoftext|>"); /* added tokens outside ASCII stay whole */
    memory_free(&self->memory, text);
    expect_ok(tokenizer_decode(coder, ids, 4, true, &text, &bytes, &self->memory));
    assert_string_equal(text, "u\xC3\xB1o");
    memory_free(&self->memory, text);
    expect_ok(tokenizer_decode(coder, NULL, 0, true, &text, &bytes, &self->memory));
    assert_int_equal(bytes, 0);
    memory_free(&self->memory, text);
    const int32_t negative[] = {1, -1};
    expect_failure(tokenizer_decode(coder, negative, 2, true, &text, &bytes, &self->memory),
                   BALORA_ERROR_ARGUMENT, "ids[1] is -1");
    assert_null(text);
    tokenizer_free(coder);
}

/* Byte tokens are bytes wherever they stand, and marks in added tokens are spaces, as in `tokenizers`. */
static void bytes_and_marks_are_decoded(void **state) {
    scratch *self = *state;
    tokenizer *gemma = fixture_tokenizer(self, "gemma"), *llama2 = fixture_tokenizer(self, "llama2");
    char *text;
    size_t bytes;
    const int32_t ids[] = {tokenizer_token_id(gemma, "\xE2\x96\x81\xE2\x96\x81"),
                           tokenizer_token_id(gemma, "<0xE2>"), tokenizer_token_id(gemma, "<0x00>"),
                           tokenizer_eos(gemma)};
    expect_ok(tokenizer_decode(gemma, ids, 4, false, &text, &bytes, &self->memory));
    assert_int_equal(bytes, 9);
    assert_memory_equal(text, "  \xE2\0<eos>", 10);
    memory_free(&self->memory, text);
    const int32_t mark = tokenizer_token_id(llama2, "\xE2\x96\x81");
    const int32_t marks[] = {mark, mark};
    expect_ok(tokenizer_decode(llama2, marks, 2, false, &text, &bytes, &self->memory));
    assert_string_equal(text, " "); /* the first goes */
    memory_free(&self->memory, text);
    expect_ok(tokenizer_decode(llama2, NULL, 0, false, &text, &bytes, &self->memory));
    assert_string_equal(text, "");
    memory_free(&self->memory, text);
    tokenizer_free(gemma);
    tokenizer_free(llama2);
}

static void encoding_appends(void **state) {
    scratch *self = *state;
    tokenizer *coder = fixture_tokenizer(self, "llama3");
    token_buffer ids = {.memory = &self->memory};
    expect_ok(token_buffer_append(&ids, 7));
    expect_ok(tokenizer_encode(coder, "a", 1, true, &ids));
    expect_ok(tokenizer_encode(coder, NULL, 0, false, &ids));
    const int32_t expected[] = {7, tokenizer_bos(coder), tokenizer_token_id(coder, "a")};
    expect_ids(&ids, expected, 3);
    token_buffer_free(&ids);
    tokenizer_free(coder);
}

static void broken_utf8_is_refused_where_it_breaks(void **state) {
    scratch *self = *state;
    static const struct {
        const char *text;
        const char *fragment;
    } cases[] = {
        {"\x80", "at byte 0 (value 0x80)"},
        {"abc\xFF", "at byte 3 (value 0xFF)"},
        {"ab\xC3", "at byte 2 (value 0xC3)"},
        {"a\xC0\x80", "at byte 1 (value 0xC0)"},                /* an overlong NUL */
        {"\xC3\xA9\xE0\x9F\xBF", "at byte 2 (value 0xE0)"},     /* overlong */
        {"\xED\xA0\x80", "at byte 0 (value 0xED)"},             /* a surrogate */
        {"12345678\xF4\x90\x80\x80", "at byte 8 (value 0xF4)"}, /* beyond U+10FFFF */
        {"1234567890123456\xF0\x9F\x99", "at byte 16 (value 0xF0)"},
        {"\xE4\xB8\x41", "at byte 0 (value 0xE4)"},
        {"\xF5\x80\x80\x80", "at byte 0 (value 0xF5)"},
    };
    tokenizer *coder = fixture_tokenizer(self, "qwen");
    token_buffer ids = {.memory = &self->memory};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_failure(tokenizer_encode(coder, cases[i].text, strlen(cases[i].text), true, &ids),
                       BALORA_ERROR_FORMAT, cases[i].fragment);
        assert_int_equal(ids.count, 0);
    }
    token_buffer_free(&ids);
    tokenizer_free(coder);
}

/* Words of half a megabyte: quadratic work would run into the test's time limit. */
static void long_words_take_linear_time(void **state) {
    scratch *self = *state;
    enum { BYTES = 1 << 19 };
    char *text = malloc(BYTES);
    static const char *const patterns[] = {
        "a", "ab", "the", "\xE4\xB8\xAD\xE6\x96\x87", " ", "e\xCC\x81", "\xCC\x81\xCC\xA3"};
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        tokenizer *coder = fixture_tokenizer(self, families[f]);
        for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
            size_t period = strlen(patterns[p]), bytes = BYTES / period * period;
            for (size_t i = 0; i < bytes; i++)
                text[i] = patterns[p][i % period];
            token_buffer ids = {.memory = &self->memory};
            expect_ok(tokenizer_encode(coder, text, bytes, false, &ids));
            assert_true(strncmp(families[f], "edge", 4) == 0 || ids.count > bytes / 64);
            token_buffer_free(&ids);
        }
        tokenizer_free(coder);
    }
    free(text);
}

typedef struct thread_work {
    const tokenizer *coder;
    allocator *memory;
    const json_t *texts, *expected;
    size_t mismatches;
} thread_work;

/* Counts instead of asserting: only the test's own thread may fail it. */
static void *encode_all(void *argument) {
    thread_work *work = argument;
    for (size_t i = 0; i < json_array_size(work->texts); i++) {
        const json_t *text = json_array_get(work->texts, i), *ids = json_array_get(work->expected, i);
        token_buffer found = {.memory = work->memory};
        bool same = tokenizer_encode(work->coder, json_string_value(text), json_string_length(text), true,
                                     &found) == BALORA_OK &&
                    found.count == json_array_size(ids);
        for (size_t k = 0; same && k < found.count; k++)
            same = found.ids[k] == json_integer_value(json_array_get(ids, k));
        work->mismatches += !same;
        token_buffer_free(&found);
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state) {
    scratch *self = *state;
    json_t *texts = fixture_json("texts.json"), *expected = fixture_json("smollm2/expected.json");
    tokenizer *coder = fixture_tokenizer(self, "smollm2");
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    thread_work work[THREADS];
    for (size_t i = 0; i < THREADS; i++) {
        work[i] = (thread_work){coder, &self->memory, texts, json_object_get(expected, "special"), 0};
        assert_int_equal(pthread_create(&threads[i], NULL, encode_all, &work[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(work[i].mismatches, 0);
    }
    tokenizer_free(coder);
    json_decref(texts);
    json_decref(expected);
}

static void facts_are_found(void **state) {
    scratch *self = *state;
    tokenizer *smollm2 = fixture_tokenizer(self, "smollm2"), *llama3 = fixture_tokenizer(self, "llama3");
    tokenizer *gpt2 = fixture_tokenizer(self, "gpt2"), *qwen = fixture_tokenizer(self, "qwen");
    assert_int_equal(tokenizer_bos(smollm2), tokenizer_token_id(smollm2, "<|im_start|>"));
    assert_int_equal(tokenizer_eos(smollm2), tokenizer_token_id(smollm2, "<|im_end|>"));
    assert_int_equal(tokenizer_bos(qwen), -1);
    assert_string_equal(tokenizer_added_text(llama3, tokenizer_eos(llama3)), "<|eot_id|>");
    assert_null(tokenizer_added_text(llama3, 5));
    assert_int_equal(tokenizer_chat_format(smollm2), TOKENIZER_CHAT_CHATML);
    assert_int_equal(tokenizer_chat_format(qwen), TOKENIZER_CHAT_CHATML);
    assert_int_equal(tokenizer_chat_format(llama3), TOKENIZER_CHAT_LLAMA3);
    assert_int_equal(tokenizer_chat_format(gpt2), TOKENIZER_CHAT_NONE);
    assert_int_equal(tokenizer_size(gpt2), 801);
    assert_int_equal(tokenizer_token_id(gpt2, "<|endoftext|>"), 800);
    assert_true(tokenizer_token_id(gpt2, "\xC4\xA0the") >= 0); /* " the" in the byte alphabet */
    assert_int_equal(tokenizer_token_id(gpt2, " the"), -1);
    assert_int_equal(tokenizer_token_id(gpt2, "no such token"), -1);
    tokenizer *gemma = fixture_tokenizer(self, "gemma");
    assert_int_equal(tokenizer_bos(gemma), tokenizer_token_id(gemma, "<bos>"));
    assert_int_equal(tokenizer_eos(gemma), tokenizer_token_id(gemma, "<eos>"));
    assert_int_equal(tokenizer_chat_format(gemma), TOKENIZER_CHAT_NONE);
    assert_true(tokenizer_token_id(gemma, "\xE2\x96\x81the") >= 0); /* " the" as plain text */
    assert_int_equal(tokenizer_token_id(gemma, "\xC4\xA0the"), -1);
    tokenizer_free(gemma);
    tokenizer_free(smollm2);
    tokenizer_free(llama3);
    tokenizer_free(gpt2);
    tokenizer_free(qwen);
    tokenizer_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(ids_are_those_of_tokenizers),
        SCRATCH_TEST(texts_come_back),
        SCRATCH_TEST(decoding_knows_special_tokens_and_strangers),
        SCRATCH_TEST(bytes_and_marks_are_decoded),
        SCRATCH_TEST(encoding_appends),
        SCRATCH_TEST(broken_utf8_is_refused_where_it_breaks),
        SCRATCH_TEST(long_words_take_linear_time),
        SCRATCH_TEST(threads_share_a_tokenizer),
        SCRATCH_TEST(facts_are_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
