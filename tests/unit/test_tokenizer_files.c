/* Tokenizer files that are unsupported, broken or hostile, and where begin and end of text come from. */
#include "tokenizer_sections.h"

static void other_kinds_are_named(void **state) {
    scratch *self = *state;
    static const struct {
        sections sections;
        const char *fragment;
    } cases[] = {
        {{.model_type = "\"Unigram\""}, "model.type is \"Unigram\""},
        {{.model_type = "\"WordPiece\""}, "model.type is \"WordPiece\""},
        {{.model_options = ",\"byte_fallback\":true"},
         "pre_tokenizer.type is \"ByteLevel\" beside byte_fallback"},
        {{.model_options = ",\"dropout\":0.1"}, "model.dropout is set"},
        {{.model_options = ",\"end_of_word_suffix\":\"</w>\""}, "model.end_of_word_suffix is \"</w>\""},
        {{.model_options = ",\"continuing_subword_prefix\":\"##\""},
         "model.continuing_subword_prefix is \"##\""},
        {{.normalizer = "{\"type\":\"NFKC\"}"}, "normalizer.type is \"NFKC\""},
        {{.normalizer =
              "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Lowercase\"}]}"},
         "normalizer.type is \"Lowercase\""},
        {{.pre_tokenizer = "null"}, "pre_tokenizer has no ByteLevel"},
        {{.pre_tokenizer = "{\"type\":\"Metaspace\"}"}, "pre_tokenizer.type is \"Metaspace\""},
        {{.pre_tokenizer =
              "{\"type\":\"Sequence\",\"pretokenizers\":[" BYTE_LEVEL ",{\"type\":\"Digits\"}]}"},
         "pre_tokenizer has \"Digits\" behind ByteLevel"},
        {{.pre_tokenizer =
              "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[0-9]+\"},\"behavior\":\"Isolated\"}"},
         "Split has the pattern \"[0-9]+\""},
        {{.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"String\":\" \"},\"behavior\":\"Isolated\"}"},
         "a pattern that is not a Regex"},
        {{.pre_tokenizer = "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"Removed\"}"},
         "the behavior \"Removed\""},
        {{.pre_tokenizer =
              "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"x\"},\"behavior\":\"Isolated\",\"invert\":true}"},
         "invert on"},
        {{.decoder = "{\"type\":\"WordPiece\"}"}, "decoder.type is \"WordPiece\""},
        {{.post_processor = "{\"type\":\"BertProcessing\"}"}, "post_processor.type is \"BertProcessing\""},
        {{.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":[],\"special_tokens\":{}}"},
         "names the text 0 times"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_sections_fail(self, cases[i].sections, BALORA_ERROR_UNSUPPORTED, cases[i].fragment);
}

static void broken_files_are_named(void **state) {
    scratch *self = *state;
    static const struct {
        sections sections;
        const char *fragment;
    } cases[] = {
        {{.vocab = "{\"a\":0,\"b\":0}"}, "\"b\" has the id 0, which another token has"},
        {{.vocab = "{\"a\":-1}"}, "the id of \"a\" is not an integer from 0 to 1999999"},
        {{.vocab = "{\"a\":2000000}"}, "the id of \"a\" is not an integer"},
        {{.vocab = "{\"a\":1.5}"}, "the id of \"a\" is not an integer"},
        {{.vocab = "{\"a\":\"0\"}"}, "the id of \"a\" is not an integer"},
        {{.vocab = "[]"}, "expected an object \"vocab\""},
        {{.merges = "{}"}, "an array \"merges\""},
        {{.merges = "[\"a x\"]"}, "model.merges[0]: \"x\" is not in model.vocab"},
        {{.merges = "[\"a b\",\"b a\"]"}, "model.merges[1]: \"b\" and \"a\" joined are not in model.vocab"},
        {{.merges = "[\"ab\"]"}, "model.merges[0]: expected \"left right\""},
        {{.merges = "[\"a b c\"]"}, "model.merges[0]: expected \"left right\""},
        {{.merges = "[[\"a\"]]"}, "model.merges[0]: expected"},
        {{.merges = "[[\"a\",1]]"}, "model.merges[0]: expected"},
        {{.merges = "[7]"}, "model.merges[0]: expected"},
        {{.model_options = ",\"unk_token\":\"<unk>\""}, "model.unk_token \"<unk>\" is not in model.vocab"},
        {{.model_options = ",\"ignore_merges\":3"}, "\"ignore_merges\": expected true or false"},
        {{.added_tokens = "{}"}, "\"added_tokens\": expected an array"},
        {{.added_tokens = "[1]"}, "added_tokens[0]: expected an object"},
        {{.added_tokens = "[{\"id\":9}]"}, "\"content\" is missing"},
        {{.added_tokens = "[" ADDED("2000000", "x") "]"}, "added_tokens: the id of \"x\" is not an integer"},
        {{.added_tokens = "[" ADDED("4", "a") "]"}, "\"a\" has the id 4, but another one in model.vocab"},
        {{.added_tokens = "[" ADDED("3", "x") "]"}, "\"x\" has the id 3, which another token has"},
        {{.added_tokens = "[" ADDED("5", "x") "," ADDED("5", "y") "]"}, "id 5 is given to"},
        {{.added_tokens = "[" ADDED("5", "x") "," ADDED("6", "x") "]"}, "looked for as the same text"},
        {{.pre_tokenizer = "3"}, "\"pre_tokenizer\": expected an object or null"},
        {{.pre_tokenizer = "{}"}, "component 0 has no \"type\""},
        {{.normalizer = "{\"type\":\"Sequence\"}"}, "a Sequence must have the array \"normalizers\""},
        {{.post_processor =
              "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}}]}"},
         "no ids for the special token \"<s>\""},
        {{.post_processor = "{\"type\":\"TemplateProcessing\",\"special_tokens\":{\"s\":{\"ids\":[-4]}},"
                            "\"single\":[{\"SpecialToken\":{\"id\":\"s\"}}]}"},
         "\"s\": ids[0] is not an integer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_sections_fail(self, cases[i].sections, BALORA_ERROR_FORMAT, cases[i].fragment);
    tokenizer *opened;
    scratch_text(self, "tokenizer.json", "{}");
    expect_failure(tokenizer_open(&opened, &self->memory, self->folder), BALORA_ERROR_FORMAT,
                   "the object \"model\" is missing");
}

static void too_many_splits_are_refused(void **state) {
    scratch *self = *state;
    char text[2048] = "{\"type\":\"Sequence\",\"pretokenizers\":[";
    for (int i = 0; i < 9; i++)
        strcat(text, "{\"type\":\"Digits\",\"individual_digits\":true},");
    strcat(text, BYTE_LEVEL "]}");
    expect_sections_fail(self, (sections){.pre_tokenizer = text}, BALORA_ERROR_UNSUPPORTED,
                         "more than 8 splits");
}

static void a_missing_file_is_explained(void **state) {
    scratch *self = *state;
    tokenizer *opened;
    expect_failure(tokenizer_open(&opened, &self->memory, self->folder), BALORA_ERROR_NOT_FOUND,
                   "tokenizer.json");
    scratch_text(self, "tokenizer.model", "x");
    expect_failure(tokenizer_open(&opened, &self->memory, self->folder), BALORA_ERROR_UNSUPPORTED,
                   "only tokenizer.model");
}

static void damaged_files_do_no_harm(void **state) {
    static const sections rich = {
        .normalizer = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}",
        .post_processor = "{\"type\":\"TemplateProcessing\",\"special_tokens\":{\"s\":{\"ids\":[4]}},"
                          "\"single\":[{\"SpecialToken\":{\"id\":\"s\"}},{\"Sequence\":{\"id\":\"A\"}}]}",
        .added_tokens = "[" ADDED(
            "4", "<s>") ",{\"id\":5,\"content\":\"e\xCC\x81\",\"normalized\":true,\"lstrip\":true}]",
        .merges = "[\"a b\",[\"ab\",\"c\"]]",
        .vocab = "{\"a\":0,\"b\":1,\"ab\":2,\"c\":3,\"abc\":6}",
    };
    damage(*state, &rich);
}

static void refused_memory_is_an_error(void **state) {
    (void)state;
    refuse_memory("qwen");
}

static void begin_and_end_come_from_the_first_file_that_tells(void **state) {
    scratch *self = *state;
    sections s = {.added_tokens = "[" ADDED("4", "<s>") "," ADDED("5", "</s>") "]"};
    static const struct {
        const char *file, *text;
        int32_t bos, eos;
    } steps[] = {
        /* Later files are asked first. */
        {"config.json", "{\"bos_token_id\":0,\"eos_token_id\":[1,2]}", 0, 1},
        {"generation_config.json", "{\"bos_token_id\":null,\"eos_token_id\":[2,1]}", 0, 2},
        {"special_tokens_map.json", "{\"bos_token\":{\"content\":\"<s>\"}}", 4, 2},
        {"tokenizer_config.json",
         "{\"eos_token\":\"</s>\",\"model_max_length\":1000000000000000019884624838656}", 4, 5},
    };
    tokenizer *opened;
    expect_ok(open_sections(self, &opened, s));
    assert_int_equal(tokenizer_bos(opened), -1);
    assert_int_equal(tokenizer_eos(opened), -1);
    tokenizer_free(opened);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        scratch_text(self, steps[i].file, steps[i].text);
        expect_ok(tokenizer_open(&opened, &self->memory, self->folder));
        assert_int_equal(tokenizer_bos(opened), steps[i].bos);
        assert_int_equal(tokenizer_eos(opened), steps[i].eos);
        tokenizer_free(opened);
    }
    scratch_text(self, "tokenizer_config.json", "{\"eos_token\": ");
    expect_failure(tokenizer_open(&opened, &self->memory, self->folder), BALORA_ERROR_FORMAT,
                   "tokenizer_config.json");
}

static void sparse_ids_are_fine(void **state) {
    scratch *self = *state;
    tokenizer *opened;
    token_buffer ids = {.memory = &self->memory};
    expect_ok(open_sections(self, &opened,
                            (sections){.vocab = "{\"a\":1999999,\"b\":7,\"ab\":100}",
                                       .added_tokens = "[" ADDED("50", "<s>") "]"}));
    assert_int_equal(tokenizer_size(opened), 2000000);
    expect_ok(tokenizer_encode(opened, "ab<s>aab", 8, false, &ids)); /* the pair merges, a lone a stays */
    const int32_t expected[] = {100, 50, 1999999, 100};
    expect_ids(&ids, expected, 4);
    token_buffer_free(&ids);
    tokenizer_free(opened);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(other_kinds_are_named),
        SCRATCH_TEST(broken_files_are_named),
        SCRATCH_TEST(too_many_splits_are_refused),
        SCRATCH_TEST(a_missing_file_is_explained),
        SCRATCH_TEST(damaged_files_do_no_harm),
        SCRATCH_TEST(refused_memory_is_an_error),
        SCRATCH_TEST(begin_and_end_come_from_the_first_file_that_tells),
        SCRATCH_TEST(sparse_ids_are_fine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
