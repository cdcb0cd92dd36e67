/* Tokenizer files that are unsupported, broken or hostile, and where begin and end of text come from. */
#include "tokenizer_fixtures.h"

#define BYTE_LEVEL                                                                                           \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true}"
#define VOCAB "{\"a\":0,\"b\":1,\"ab\":2,\"c\":3}"

/* The sections of a small file; NULL leaves the usual one. */
typedef struct sections {
    const char *normalizer, *pre_tokenizer, *post_processor, *decoder, *added_tokens, *model_type, *vocab,
        *merges, *model_options;
} sections;

static const char *or_usual(const char *text, const char *usual) {
    return text != NULL ? text : usual;
}

static size_t write_sections(char *out, size_t room, const sections *s) {
    int bytes = snprintf(
        out, room,
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":%s,\"normalizer\":%s,"
        "\"pre_tokenizer\":%s,\"post_processor\":%s,\"decoder\":%s,\"model\":{\"type\":%s,\"vocab\":%s,"
        "\"merges\":%s%s}}",
        or_usual(s->added_tokens, "[]"), or_usual(s->normalizer, "null"),
        or_usual(s->pre_tokenizer, BYTE_LEVEL), or_usual(s->post_processor, "null"),
        or_usual(s->decoder, BYTE_LEVEL), or_usual(s->model_type, "\"BPE\""), or_usual(s->vocab, VOCAB),
        or_usual(s->merges, "[\"a b\"]"), or_usual(s->model_options, ""));
    assert_in_range(bytes, 1, room - 1);
    return (size_t)bytes;
}

static balora_status open_sections(scratch *self, tokenizer **out, sections s) {
    char text[8192];
    scratch_bytes(self, "tokenizer.json", text, write_sections(text, sizeof text, &s));
    return tokenizer_open(out, &self->memory, self->folder);
}

static void expect_sections_fail(scratch *self, sections s, balora_status expected, const char *fragment) {
    tokenizer *opened;
    expect_failure(open_sections(self, &opened, s), expected, fragment);
    assert_null(opened);
    assert_non_null(strstr(balora_error_message(), "tokenizer.json"));
    if (expected == BALORA_ERROR_UNSUPPORTED)
        assert_non_null(strstr(balora_error_message(), "--data FILE.safetensors"));
    assert_int_equal(self->memory.current_bytes, 0);
}

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

#define MARK               "\xE2\x96\x81"
#define STRING(text)       "\"pattern\":{\"String\":\"" text "\"}"
#define REPLACE(from, to)  "{\"type\":\"Replace\"," STRING(from) ",\"content\":\"" to "\"}"
#define PREPEND            "{\"type\":\"Prepend\",\"prepend\":\"" MARK "\"}"
#define NORMALIZERS(list)  "{\"type\":\"Sequence\",\"normalizers\":[" list "]}"
#define DECODERS(list)     "{\"type\":\"Sequence\",\"decoders\":[" list "]}"
#define METASPACE(options) "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"" options "}"
#define STRIP(options)     "{\"type\":\"Strip\",\"content\":\" \"," options "}"
#define TO_SPACES          REPLACE(MARK, " ") ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"

/* The sections given, in a file with byte fallback. */
static sections with_fallback(sections s) {
    s.model_options = ",\"byte_fallback\":true";
    s.normalizer = or_usual(s.normalizer, REPLACE(" ", MARK));
    s.pre_tokenizer = or_usual(s.pre_tokenizer, "null");
    s.decoder = or_usual(s.decoder, DECODERS(TO_SPACES));
    return s;
}

static void other_forms_with_byte_fallback_are_named(void **state) {
    scratch *self = *state;
    static const struct {
        sections sections;
        balora_status status;
        const char *fragment;
    } cases[] = {
        {{.normalizer = "{\"type\":\"NFC\"}"},
         BALORA_ERROR_UNSUPPORTED,
         "normalizer.type is \"NFC\" beside byte_fallback"},
        {{.normalizer = REPLACE("x", MARK)},
         BALORA_ERROR_UNSUPPORTED,
         "normalizer Replace has the pattern \"x\""},
        {{.normalizer = REPLACE(" ", "_")},
         BALORA_ERROR_UNSUPPORTED,
         "normalizer Replace has the content \"_\""},
        {{.normalizer = "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" \"},\"content\":\"" MARK "\"}"},
         BALORA_ERROR_UNSUPPORTED,
         "normalizer Replace has the pattern \"\""},
        {{.normalizer = "{\"type\":\"Replace\"}"},
         BALORA_ERROR_UNSUPPORTED,
         "normalizer Replace has the pattern \"\""},
        {{.normalizer = NORMALIZERS("{\"type\":\"Prepend\",\"prepend\":\"_\"}")},
         BALORA_ERROR_UNSUPPORTED,
         "normalizer Prepend has the text \"_\""},
        {{.normalizer = PREPEND}, BALORA_ERROR_UNSUPPORTED, "normalizer has Prepend without Replace"},
        {{.normalizer = NORMALIZERS(PREPEND "," PREPEND)}, BALORA_ERROR_UNSUPPORTED, "more than one Prepend"},
        {{.normalizer = NORMALIZERS("3")}, BALORA_ERROR_FORMAT, "normalizer: component 0 has no \"type\""},
        {{.pre_tokenizer = BYTE_LEVEL}, BALORA_ERROR_UNSUPPORTED, "\"ByteLevel\" beside byte_fallback"},
        {{.pre_tokenizer = "{\"type\":\"Sequence\",\"pretokenizers\":[" METASPACE("") "," METASPACE("") "]}"},
         BALORA_ERROR_UNSUPPORTED,
         "pre_tokenizer has 2 parts"},
        {{.pre_tokenizer = "{\"type\":\"Metaspace\",\"replacement\":\"_\"}"},
         BALORA_ERROR_UNSUPPORTED,
         "Metaspace has the replacement \"_\""},
        {{.pre_tokenizer = METASPACE(",\"prepend_scheme\":\"last\"")},
         BALORA_ERROR_FORMAT,
         "prepend_scheme is \"last\", expected always, first or never"},
        {{.pre_tokenizer = METASPACE(",\"prepend_scheme\":1")}, BALORA_ERROR_FORMAT, "prepend_scheme"},
        {{.pre_tokenizer = METASPACE(",\"split\":1")},
         BALORA_ERROR_FORMAT,
         "\"split\": expected true or false"},
        {{.pre_tokenizer = METASPACE(",\"add_prefix_space\":false")},
         BALORA_ERROR_FORMAT,
         "add_prefix_space is false, but prepend_scheme is \"always\""},
        {{.normalizer = NORMALIZERS(PREPEND "," REPLACE(" ", MARK)), .pre_tokenizer = METASPACE("")},
         BALORA_ERROR_UNSUPPORTED,
         "Metaspace behind a normalizer with Prepend"},
        {{.pre_tokenizer = "{\"type\":\"Split\"," STRING("x") "}"},
         BALORA_ERROR_UNSUPPORTED,
         "Split has the pattern \"x\""},
        {{.normalizer = "null", .pre_tokenizer = "{\"type\":\"Split\"," STRING(" ") "}"},
         BALORA_ERROR_UNSUPPORTED,
         "Split cuts at spaces that no normalizer replaces"},
        {{.decoder = "{\"type\":\"WordPiece\"}"},
         BALORA_ERROR_UNSUPPORTED,
         "decoder has \"WordPiece\" at place 0"},
        {{.decoder = REPLACE(MARK, " ")}, BALORA_ERROR_UNSUPPORTED, "decoder has no Fuse"},
        {{.decoder = DECODERS(REPLACE(MARK, "_"))},
         BALORA_ERROR_UNSUPPORTED,
         "decoder Replace has the content \"_\""},
        {{.decoder = DECODERS(REPLACE("x", " "))},
         BALORA_ERROR_UNSUPPORTED,
         "decoder Replace has the pattern \"x\""},
        {{.decoder = DECODERS(TO_SPACES "," STRIP("\"start\":-1,\"stop\":0"))},
         BALORA_ERROR_FORMAT,
         "Strip: \"start\" is not a count"},
        {{.decoder = DECODERS(TO_SPACES "," STRIP("\"start\":1,\"stop\":1"))},
         BALORA_ERROR_UNSUPPORTED,
         "Strip has a stop"},
        {{.decoder =
              DECODERS(TO_SPACES "," STRIP("\"start\":1,\"stop\":0") "," STRIP("\"start\":1,\"stop\":0"))},
         BALORA_ERROR_UNSUPPORTED,
         "decoder has \"Strip\" at place 4"},
        {{.decoder = DECODERS("{\"type\":\"Fuse\"}")},
         BALORA_ERROR_UNSUPPORTED,
         "decoder has \"Fuse\" at place 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        expect_sections_fail(self, with_fallback(cases[i].sections), cases[i].status, cases[i].fragment);
    expect_sections_fail(self, (sections){.model_options = ",\"byte_fallback\":1"}, BALORA_ERROR_FORMAT,
                         "\"byte_fallback\": expected true or false");
}

/* A vocabulary without any byte, without marks and without an unknown token: what has no token vanishes. */
static void a_poor_vocabulary_does_no_harm(void **state) {
    scratch *self = *state;
    tokenizer *opened;
    token_buffer ids = {.memory = &self->memory};
    expect_ok(open_sections(
        self, &opened,
        with_fallback((sections){.pre_tokenizer = METASPACE(",\"prepend_scheme\":\"first\"")})));
    expect_ok(tokenizer_encode(opened,
                               "a ab\xF0\x9F\x99\x82"
                               "b",
                               9, true, &ids));
    const int32_t expected[] = {0, 2, 1};
    expect_ids(&ids, expected, 3);
    token_buffer_free(&ids);
    tokenizer_free(opened);
}

#define ADDED(id, content) "{\"id\":" id ",\"content\":\"" content "\",\"special\":true}"

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

/* Without the syncing of scratch_bytes, nor that of file systems that sync a truncated file: there are
 * thousands. */
static void write_quickly(scratch *self, const char *text, size_t bytes) {
    const char *path = scratch_path(self, "tokenizer.json");
    unlink(path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Every beginning of a file is refused, and every changed byte is refused or understood, without a leak. */
static void damage(scratch *self, const sections *rich) {
    char text[4096];
    size_t bytes = write_sections(text, sizeof text, rich);
    tokenizer *opened;
    for (size_t cut = 0; cut < bytes; cut++) {
        write_quickly(self, text, cut);
        assert_int_not_equal(tokenizer_open(&opened, &self->memory, self->folder), BALORA_OK);
        assert_int_equal(self->memory.current_bytes, 0);
    }
    static const char replacements[] = "0\"[{}],:x9-\x80";
    int understood = 0;
    for (size_t at = 0; at < bytes; at++)
        for (size_t r = 0; r < sizeof replacements - 1; r += 3) {
            char kept = text[at];
            text[at] = replacements[(r + at) % (sizeof replacements - 1)];
            write_quickly(self, text, bytes);
            text[at] = kept;
            if (tokenizer_open(&opened, &self->memory, self->folder) == BALORA_OK) {
                token_buffer ids = {.memory = &self->memory};
                expect_ok(tokenizer_encode(opened, "abc <s> e\xCC\x81 1", 14, true, &ids));
                token_buffer_free(&ids);
                tokenizer_free(opened);
                understood++;
            }
            assert_int_equal(self->memory.current_bytes, 0);
        }
    assert_true(understood > 0);
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
    static const sections spaces = {
        .normalizer = NORMALIZERS(PREPEND "," REPLACE(" ", MARK)),
        .added_tokens = "[" ADDED("4", "<s>") ",{\"id\":5,\"content\":\"b c\",\"normalized\":true}]",
        .vocab = "{\"" MARK "\":0,\"a\":1,\"" MARK "a\":2,\"<0xCC>\":3,\"<0x81>\":6}",
        .merges = "[\"" MARK " a\"]",
        .decoder = DECODERS(TO_SPACES "," STRIP("\"start\":1,\"stop\":0")),
    };
    const sections fallback = with_fallback(spaces);
    damage(*state, &fallback);
}

/* Refuses the allocation number `left` and all behind it. */
static void *limited_allocate(uint64_t bytes, uint64_t alignment, void *user) {
    int *left = user;
    return (*left)-- > 0 ? aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment) : NULL;
}

static void limited_release(void *memory, uint64_t bytes, void *user) {
    (void)bytes;
    (void)user;
    free(memory);
}

static void refuse_memory(const char *family) {
    static const char text[] = "Hello   12345 e\xCC\x81\xCC\xA3 <|im_start|>x keep this";
    int calls = 0;
    balora_status status = BALORA_ERROR_MEMORY;
    for (; status != BALORA_OK; calls++) {
        assert_true(calls < 1000);
        int left = calls;
        allocator memory;
        memory_init(&memory, limited_allocate, limited_release, &left);
        tokenizer *opened;
        token_buffer ids = {.memory = &memory};
        char *decoded = NULL;
        size_t bytes;
        status = tokenizer_open(&opened, &memory, fixture_path(family));
        if (status == BALORA_OK)
            status = tokenizer_encode(opened, text, strlen(text), true, &ids);
        if (status == BALORA_OK)
            status = tokenizer_decode(opened, ids.ids, ids.count, true, &decoded, &bytes, &memory);
        if (status != BALORA_OK)
            assert_int_equal(status, BALORA_ERROR_MEMORY);
        memory_free(&memory, decoded);
        token_buffer_free(&ids);
        tokenizer_free(opened);
        assert_int_equal(memory.current_bytes, 0);
    }
    assert_true(calls > 20);
}

static void refused_memory_is_an_error(void **state) {
    (void)state;
    refuse_memory("qwen");
    refuse_memory("gemma");
    refuse_memory("edge_spaces");
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
        SCRATCH_TEST(other_forms_with_byte_fallback_are_named),
        SCRATCH_TEST(a_poor_vocabulary_does_no_harm),
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
