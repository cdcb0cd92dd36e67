/* Rows become ids and labels: the instruction prompt, the border of the source, conversations. */
#include "text/prompt.h"
#include "tokenizer_fixtures.h"

/* The sequence is `text` tokenized at once, and its first `unsupervised` ids have no label. */
static void expect_sequence(scratch *self, const tokenizer *coder, const prompt_sequence *found,
                            const char *text, bool add_special_tokens, size_t unsupervised) {
    token_buffer ids = {.memory = &self->memory};
    expect_ok(tokenizer_encode(coder, text, strlen(text), add_special_tokens, &ids));
    expect_ids(&found->ids, ids.ids, ids.count);
    assert_int_equal(found->labels.count, ids.count);
    assert_true(unsupervised < ids.count);
    for (size_t i = 0; i < ids.count; i++)
        assert_int_equal(found->labels.ids[i], i < unsupervised ? LABEL_NONE : ids.ids[i]);
    token_buffer_free(&ids);
}

static size_t count_ids(scratch *self, const tokenizer *coder, const char *text) {
    token_buffer ids = {.memory = &self->memory};
    expect_ok(tokenizer_encode(coder, text, strlen(text), true, &ids));
    size_t count = ids.count;
    token_buffer_free(&ids);
    return count;
}

static void instructions_get_the_prompt(void **state) {
    scratch *self = *state;
    static const char source[] =
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nHow many?\n\n### Response:";
    static const char *const names[] = {"smollm2", "llama3", "qwen", "gemma", "llama2"};
    static const char *const ends[] = {"<|im_end|>", "<|eot_id|>", "<|im_end|>", "<eos>", "</s>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        tokenizer *coder = fixture_tokenizer(self, names[i]);
        prompt_sequence found;
        prompt_sequence_init(&found, &self->memory);
        char whole[512];
        snprintf(whole, sizeof whole, "%s%s%s", source, "The answer is: 25.", ends[i]);
        expect_ok(prompt_encode_completion(&found, coder, "an", "earlier row"));
        expect_ok(prompt_encode_instruction(&found, coder, "How many?", "The answer is: 25."));
        expect_sequence(self, coder, &found, whole, true, count_ids(self, coder, source));
        prompt_sequence_free(&found);
        tokenizer_free(coder);
    }
}

static void a_completion_without_source_supervises_all_but_the_opening(void **state) {
    scratch *self = *state;
    tokenizer *coder = fixture_tokenizer(self, "llama3");
    prompt_sequence found;
    prompt_sequence_init(&found, &self->memory);
    expect_ok(prompt_encode_completion(&found, coder, "", "The river"));
    expect_sequence(self, coder, &found, "The river<|eot_id|>", true, 1);
    assert_int_equal(found.ids.ids[0], tokenizer_bos(coder));
    prompt_sequence_free(&found);
    tokenizer_free(coder);
}

/*
 * Where whole texts are one word, a merge may cross the border: as in the reference, as many ids as the source
 * has alone are not supervised, so that the token that crosses is not.
 */
static void a_merge_across_the_border_is_not_supervised(void **state) {
    scratch *self = *state;
    static const struct {
        const char *family, *source, *target, *whole;
        size_t source_ids, ids;
    } cases[] = {
        {"gemma", "a,", " \n", "a, \n<eos>", 3, 5},             /* bos a , | bos a ,_ \n eos */
        {"gemma", "a ", "the", "a the<eos>", 3, 4},             /* bos a _ | bos a _the eos */
        {"gemma", "a   ", "     \n", "a        \n<eos>", 3, 5}, /* bos a ___ | bos a ________ \n eos */
        {"llama2", "a ", "the", "a the</s>", 3, 4},             /* bos _a _ | bos _a _the eos */
        {"llama2", "", "the", "the</s>", 1, 3},                 /* bos | bos _the eos */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        tokenizer *coder = fixture_tokenizer(self, cases[i].family);
        prompt_sequence found;
        prompt_sequence_init(&found, &self->memory);
        expect_ok(prompt_encode_completion(&found, coder, cases[i].source, cases[i].target));
        assert_int_equal(count_ids(self, coder, cases[i].source), cases[i].source_ids);
        assert_int_equal(found.ids.count, cases[i].ids);
        expect_sequence(self, coder, &found, cases[i].whole, true, cases[i].source_ids);
        assert_int_equal(found.ids.ids[0], tokenizer_bos(coder));
        assert_int_equal(found.labels.ids[found.labels.count - 1], tokenizer_eos(coder));
        prompt_sequence_free(&found);
        tokenizer_free(coder);
    }
}

/* The end of text may be an ordinary token that only generation_config.json names. */
static void an_end_without_text_is_appended(void **state) {
    scratch *self = *state;
    tokenizer *coder;
    prompt_sequence found;
    prompt_sequence_init(&found, &self->memory);
    scratch_text(
        self, "tokenizer.json",
        "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"model\":{\"type\":\"BPE\","
        "\"vocab\":{\"a\":0,\"b\":1,\"</s>\":2},\"merges\":[]}}");
    expect_ok(tokenizer_open(&coder, &self->memory, self->folder));
    expect_failure(prompt_encode_completion(&found, coder, "a", "b"), BALORA_ERROR_NOT_FOUND, "eos_token");
    tokenizer_free(coder);
    scratch_text(self, "generation_config.json", "{\"eos_token_id\": 2}");
    expect_ok(tokenizer_open(&coder, &self->memory, self->folder));
    expect_ok(prompt_encode_completion(&found, coder, "a", "b"));
    const int32_t ids[] = {0, 1, 2}, labels[] = {LABEL_NONE, 1, 2};
    expect_ids(&found.ids, ids, 3);
    expect_ids(&found.labels, labels, 3);
    prompt_sequence_free(&found);
    tokenizer_free(coder);
}

/* LLaMA 1's </s> is looked for behind a mark, which no answer puts there. */
static void an_end_that_is_not_found_is_appended(void **state) {
    scratch *self = *state;
    static const char file[] =
        "{\"added_tokens\":[{\"id\":3,\"content\":\"</s>\",\"special\":true,\"normalized\":%s}],"
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"\u2581\"}"
        ","
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\" "
        "\"},\"content\":\"\u2581\"}]},\"model\":{\"type\":\"BPE\","
        "\"byte_fallback\":true,\"vocab\":{\"\u2581\":0,\"a\":1,\"b\":2,\"</s>\":3},\"merges\":[]}}";
    scratch_text(self, "generation_config.json", "{\"eos_token_id\": 3}");
    static const char *const normalized[] = {"true", "false"};
    for (size_t i = 0; i < 2; i++) {
        char text[1024];
        snprintf(text, sizeof text, file, normalized[i]);
        scratch_text(self, "tokenizer.json", text);
        tokenizer *coder;
        prompt_sequence found;
        prompt_sequence_init(&found, &self->memory);
        expect_ok(tokenizer_open(&coder, &self->memory, self->folder));
        expect_ok(prompt_encode_completion(&found, coder, "a", "b"));
        const int32_t ids[] = {0, 1, 2, 3}, labels[] = {LABEL_NONE, LABEL_NONE, 2, 3};
        expect_ids(&found.ids, ids, 4);
        expect_ids(&found.labels, labels, 4);
        prompt_sequence_free(&found);
        tokenizer_free(coder);
    }
}

static balora_status encode_messages(prompt_sequence *out, const tokenizer *coder, const char *text) {
    json_t *messages = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(messages);
    balora_status status = prompt_encode_messages(out, coder, messages);
    json_decref(messages);
    return status;
}

/* The decoded supervised part, special tokens included. */
static void expect_supervised(scratch *self, const tokenizer *coder, const prompt_sequence *found,
                              const char *expected) {
    token_buffer ids = {.memory = &self->memory};
    for (size_t i = 0; i < found->labels.count; i++)
        if (found->labels.ids[i] != LABEL_NONE)
            expect_ok(token_buffer_append(&ids, found->labels.ids[i]));
    char *text;
    size_t bytes;
    expect_ok(tokenizer_decode(coder, ids.ids, ids.count, false, &text, &bytes, &self->memory));
    assert_string_equal(text, expected);
    memory_free(&self->memory, text);
    token_buffer_free(&ids);
}

static const char conversation[] = "[{\"role\":\"system\",\"content\":\"Be brief.\"},"
                                   "{\"role\":\"user\",\"content\":\" Hi \"},"
                                   "{\"role\":\"assistant\",\"content\":\" Hello. \"},"
                                   "{\"role\":\"user\",\"content\":\"Bye\"},"
                                   "{\"role\":\"assistant\",\"content\":\"Bye!\"}]";

static void expect_conversation(scratch *self, const char *family, const char *text, const char *supervised) {
    tokenizer *coder = fixture_tokenizer(self, family);
    prompt_sequence found;
    prompt_sequence_init(&found, &self->memory);
    expect_ok(encode_messages(&found, coder, conversation));
    token_buffer ids = {.memory = &self->memory};
    expect_ok(tokenizer_encode(coder, text, strlen(text), false, &ids));
    expect_ids(&found.ids, ids.ids, ids.count);
    assert_int_equal(found.labels.count, found.ids.count);
    expect_supervised(self, coder, &found, supervised);
    token_buffer_free(&ids);
    prompt_sequence_free(&found);
    tokenizer_free(coder);
}

static void conversations_follow_the_vocabulary(void **state) {
    scratch *self = *state;
    static const char chatml[] =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hi <|im_end|>\n"
        "<|im_start|>assistant\n Hello. <|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\nBye!<|im_end|>\n";
    expect_conversation(self, "smollm2", chatml, " Hello. <|im_end|>Bye!<|im_end|>");
    expect_conversation(self, "qwen", chatml, " Hello. <|im_end|>Bye!<|im_end|>");
    expect_conversation(self, "llama3",
                        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
                        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>"
                        "assistant<|end_header_id|>\n\n"
                        "Hello.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
                        "<|start_header_id|>assistant<|end_header_id|>\n\nBye!<|eot_id|>",
                        "Hello.<|eot_id|>Bye!<|eot_id|>");
}

static void wrong_conversations_are_named(void **state) {
    scratch *self = *state;
    static const struct {
        const char *text, *fragment;
    } cases[] = {
        {"3", "\"messages\": expected an array"},
        {"[]", "at least one"},
        {"[\"hi\"]", "messages[0]: expected an object"},
        {"[{\"role\":\"user\",\"content\":\"a\"},{\"content\":\"b\"}]",
         "messages[1]: the key \"role\" is missing"},
        {"[{\"role\":\"user\"}]", "messages[0]: the key \"content\" is missing"},
        {"[{\"role\":\"user\",\"content\":[]}]", "messages[0]: \"content\": expected a string"},
    };
    prompt_sequence found;
    prompt_sequence_init(&found, &self->memory);
    tokenizer *smollm2 = fixture_tokenizer(self, "smollm2"), *gpt2 = fixture_tokenizer(self, "gpt2");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_failure(encode_messages(&found, smollm2, cases[i].text), BALORA_ERROR_FORMAT,
                       cases[i].fragment);
    expect_failure(encode_messages(&found, gpt2, conversation), BALORA_ERROR_UNSUPPORTED,
                   "neither <|im_start|>");
    prompt_sequence_free(&found);
    tokenizer_free(smollm2);
    tokenizer_free(gpt2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(instructions_get_the_prompt),
        SCRATCH_TEST(a_completion_without_source_supervises_all_but_the_opening),
        SCRATCH_TEST(a_merge_across_the_border_is_not_supervised),
        SCRATCH_TEST(an_end_without_text_is_appended),
        SCRATCH_TEST(an_end_that_is_not_found_is_appended),
        SCRATCH_TEST(conversations_follow_the_vocabulary),
        SCRATCH_TEST(wrong_conversations_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
