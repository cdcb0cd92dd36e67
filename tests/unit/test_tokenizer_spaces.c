/* Tokenizer files with byte fallback that are unsupported, broken or poor. */
#include "tokenizer_sections.h"

#define MARK                "\xE2\x96\x81"
#define STRING(text)        "\"pattern\":{\"String\":\"" text "\"}"
#define REPLACE(from, to)   "{\"type\":\"Replace\"," STRING(from) ",\"content\":\"" to "\"}"
#define PREPEND             "{\"type\":\"Prepend\",\"prepend\":\"" MARK "\"}"
#define SPLIT(at, behavior) "{\"type\":\"Split\"," STRING(at) ",\"behavior\":\"" behavior "\"}"
#define NORMALIZERS(list)   "{\"type\":\"Sequence\",\"normalizers\":[" list "]}"
#define DECODERS(list)      "{\"type\":\"Sequence\",\"decoders\":[" list "]}"
#define METASPACE(options)  "{\"type\":\"Metaspace\",\"replacement\":\"" MARK "\"" options "}"
#define STRIP(options)      "{\"type\":\"Strip\",\"content\":\" \"," options "}"
#define TO_SPACES           REPLACE(MARK, " ") ",{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"

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
        {{.pre_tokenizer = SPLIT(" ", "Removed")},
         BALORA_ERROR_UNSUPPORTED,
         "Split has the behavior \"Removed\""},
        {{.pre_tokenizer = SPLIT(" ", "MergedWithPrevious\",\"invert\":true,\"x\":\"")},
         BALORA_ERROR_UNSUPPORTED,
         "Split has invert on"},
        {{.pre_tokenizer = SPLIT("x", "MergedWithPrevious")},
         BALORA_ERROR_UNSUPPORTED,
         "Split has the pattern \"x\""},
        {{.normalizer = "null", .pre_tokenizer = SPLIT(" ", "MergedWithPrevious")},
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

static void damaged_files_do_no_harm(void **state) {
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

static void refused_memory_is_an_error(void **state) {
    (void)state;
    refuse_memory("gemma");
    refuse_memory("edge_spaces");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(other_forms_with_byte_fallback_are_named),
        SCRATCH_TEST(a_poor_vocabulary_does_no_harm),
        SCRATCH_TEST(damaged_files_do_no_harm),
        SCRATCH_TEST(refused_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
