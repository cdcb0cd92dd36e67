/* tokenizer.json and the files beside it. */
#include "hostile.h"

#define TOKENIZER "model/tokenizer.json"
#define BESIDE    "model/tokenizer_config.json"

#define SET_ROW(name, key, value, status, ...)                                                               \
    BAD(name, OPEN_TOKENIZER, SET, TOKENIZER, key, value, 0, status, TOKENIZER, __VA_ARGS__)
#define WRONG(name, key, value, ...) SET_ROW(name, key, value, BALORA_ERROR_FORMAT, __VA_ARGS__)
#define OTHER(name, key, value, ...) SET_ROW(name, key, value, BALORA_ERROR_UNSUPPORTED, __VA_ARGS__)
#define TEMPLATE(ids)                                                                                        \
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"        \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\","  \
    "\"ids\":" ids ",\"tokens\":[\"<s>\"]}}}"

static const bad_input rows[] = {
    BAD("an empty tokenizer", OPEN_TOKENIZER, TEXT, TOKENIZER, NULL, "", 0, BALORA_ERROR_FORMAT, TOKENIZER,
        "not valid JSON"),
    BAD("a tokenizer that is a list", OPEN_TOKENIZER, TEXT, TOKENIZER, NULL, "[]", 0, BALORA_ERROR_FORMAT,
        TOKENIZER, "found an array"),
    BAD("a tokenizer that was cut", OPEN_TOKENIZER, CUT, TOKENIZER, NULL, NULL, 600, BALORA_ERROR_FORMAT,
        TOKENIZER, "line 1"),
    BAD("a tokenizer of 65 MB", OPEN_TOKENIZER, SIZE, TOKENIZER, NULL, NULL, 65 << 20, BALORA_ERROR_FORMAT,
        TOKENIZER, "at most 67108864"),
    BAD("a tokenizer of brackets", OPEN_TOKENIZER, DEEP, TOKENIZER, NULL, "[", 1000000, BALORA_ERROR_FORMAT,
        TOKENIZER, "deeper than 64"),
    BAD("no tokenizer", OPEN_TOKENIZER, DELETE, TOKENIZER, NULL, NULL, 0, BALORA_ERROR_NOT_FOUND, TOKENIZER),
    BAD("a tokenizer without a model", OPEN_TOKENIZER, REMOVE, TOKENIZER, "model", NULL, 0,
        BALORA_ERROR_FORMAT, TOKENIZER, "model"),
    WRONG("a model that is a text", "model", "\"BPE\"", "model"),
    OTHER("a unigram model", "model/type", "\"Unigram\"", "model.type", "Unigram"),
    OTHER("a word-piece model", "model/type", "\"WordPiece\"", "model.type", "WordPiece"),
    WRONG("a model's type that is a number", "model/type", "1", "type"),
    WRONG("a vocabulary that is a list", "model/vocab", "[]", "vocab"),
    WRONG("a vocabulary that is missing", "model/vocab", "null", "vocab"),
    WRONG("merges that are an object", "model/merges", "{}", "merges"),
    WRONG("a token's id that is a text", "model/vocab/a", "\"7\"", "model.vocab", "\"a\""),
    WRONG("a token's negative id", "model/vocab/a", "-1", "model.vocab", "\"a\""),
    WRONG("a token's id beyond the limit", "model/vocab/a", "2097152", "model.vocab", "\"a\""),
    WRONG("a token's id beyond 64 bits", "model/vocab/a", "1e30", "model.vocab", "\"a\""),
    WRONG("two tokens of one id", "model/vocab/a", "1", "model.vocab", "unique"),
    WRONG("a merge of an unknown token", "model/merges/0", "\"\xc3\xa9\xc3\xa9 a\"", "merges[0]"),
    WRONG("a merge without a space", "model/merges/0", "\"ab\"", "merges[0]"),
    WRONG("a merge with two spaces", "model/merges/0", "\"a b c\"", "merges[0]"),
    WRONG("a merge that is a number", "model/merges/0", "5", "merges[0]"),
    WRONG("a merge of three", "model/merges/0", "[\"a\", \"b\", \"c\"]", "merges[0]"),
    WRONG("a merge whose result is no token", "model/merges/0", "\"a b\"", "merges[0]"),
    OTHER("dropout", "model/dropout", "0.1", "dropout"),
    OTHER("byte fallback", "model/byte_fallback", "true", "byte_fallback"),
    OTHER("a prefix of subwords", "model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix"),
    WRONG("an unknown token that is none", "model/unk_token", "\"<no such>\"", "unk_token"),
    WRONG("added tokens that are an object", "added_tokens", "{}", "added_tokens"),
    WRONG("an added token that is a text", "added_tokens/0", "\"<|im_end|>\"", "added_tokens"),
    WRONG("an added token without an id", "added_tokens/0/id", "null", "added_tokens"),
    WRONG("an added token of a negative id", "added_tokens/0/id", "-5", "added_tokens"),
    WRONG("an added token without content", "added_tokens/0/content", "null", "content"),
    WRONG("an added token's switch as a number", "added_tokens/0/lstrip", "1", "lstrip"),
    WRONG("two added tokens of one id", "added_tokens/0/id", "98", "added_tokens", "98"),
    WRONG("two added tokens of one text", "added_tokens/0/content", "\"<|im_start|>\"", "added_tokens"),
    OTHER("a normalizer that nobody knows", "normalizer", "{\"type\": \"Rot13\"}", "normalizer", "Rot13"),
    WRONG("a normalizer without a type", "normalizer", "{}", "normalizer"),
    OTHER("no pre-tokenizer", "pre_tokenizer", "null", "pre_tokenizer"),
    OTHER("a pre-tokenizer that nobody knows", "pre_tokenizer/type", "\"Telepathy\"", "pre_tokenizer",
          "Telepathy"),
    WRONG("a pre-tokenizer's type as a number", "pre_tokenizer/type", "5", "pre_tokenizer"),
    OTHER("a decoder that nobody knows", "decoder/type", "\"Echo\"", "decoder", "Echo"),
    OTHER("a post-processor that nobody knows", "post_processor", "{\"type\": \"Echo\"}", "post_processor",
          "Echo"),
    WRONG("a template without ids", "post_processor", TEMPLATE("null"), "post_processor", "<s>"),
    WRONG("a template with a text for an id", "post_processor", TEMPLATE("[\"1\"]"), "post_processor",
          "ids[0]"),
    WRONG("a template with an id that no token has", "post_processor", TEMPLATE("[99]"), "post_processor",
          "99"),
    BAD("a broken file beside the tokenizer", OPEN_TOKENIZER, TEXT, BESIDE, NULL, "{\"eos_token\"", 0,
        BALORA_ERROR_FORMAT, BESIDE, "line 1"),
    BAD("a file beside the tokenizer that is a list", OPEN_TOKENIZER, TEXT, BESIDE, NULL, "[]", 0,
        BALORA_ERROR_FORMAT, BESIDE, "found an array"),
    BAD("a file beside the tokenizer that is a folder", OPEN_TOKENIZER, FOLDER, BESIDE, NULL, NULL, 0,
        BALORA_ERROR_IO, BESIDE, "regular file"),
    BAD("a tokenizer of a larger model", OPEN_ROWS, SET, TOKENIZER, "added_tokens/0/id", "100", 0,
        BALORA_ERROR_MISMATCH, "rows.jsonl:1", "token 100", "vocabulary has 100"),
};

const bad_inputs tokenizer_inputs = {rows, sizeof rows / sizeof *rows};
