/* Training data: JSON Lines and token files. */
#include "hostile.h"

#define LINES  "rows.jsonl"
#define TOKENS "tokens.safetensors"
#define GOOD   "{\"text\": \"good\"}\n"

#define LINE(name, text, status, place, ...)                                                                 \
    BAD(name, OPEN_ROWS, TEXT, LINES, NULL, GOOD text, 0, status, LINES place, __VA_ARGS__)
#define WRONG(name, text, ...) LINE(name, text, BALORA_ERROR_FORMAT, ":2", __VA_ARGS__)

static const bad_input lines[] = {
    BAD("no rows", OPEN_ROWS, TEXT, LINES, NULL, "", 0, BALORA_ERROR_FORMAT, LINES, "no row to learn from"),
    BAD("blank rows", OPEN_ROWS, TEXT, LINES, NULL, "\n \n\t\r\n", 0, BALORA_ERROR_FORMAT, LINES,
        "no row to learn from"),
    BAD("rows without a target", OPEN_ROWS, TEXT, LINES, NULL,
        "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n", 0, BALORA_ERROR_FORMAT, LINES,
        "1 rows have no supervised token"),
    WRONG("a row that is a number", "7\n", "line 1"),
    WRONG("a row that is a list", "[1]\n", "found an array"),
    WRONG("a row that does not close", "{\"text\": \"x\"\n", "not valid JSON"),
    WRONG("two rows in one line", "{\"text\": \"x\"} {\"text\": \"y\"}\n", "not valid JSON"),
    WRONG("a row over two lines", "{\"text\":\n\"x\"}\n", "not valid JSON"),
    WRONG("a row that is not UTF-8", "{\"text\": \"\xff\"}\n", "unable to decode byte"),
    WRONG("a row with an overlong character", "{\"text\": \"\xc0\x80\"}\n", "unable to decode byte"),
    WRONG("a row with half a pair of surrogates", "{\"text\": \"\\udc00\"}\n", "not valid JSON"),
    WRONG("a row with a NUL in its text", "{\"text\": \"a\\u0000b\"}\n", "not valid JSON"),
    WRONG("a key that a row has twice", "{\"text\": \"a\", \"text\": \"b\"}\n", "duplicate"),
    WRONG("a row without a known form", "{\"question\": \"x\"}\n", "\"question\""),
    WRONG("a row of nothing", "{}\n", "keys are none"),
    WRONG("a text that is a number", "{\"text\": 5}\n", "\"text\"", "found a number"),
    WRONG("a text that is null", "{\"text\": null}\n", "\"text\"", "missing"),
    WRONG("an instruction that is a list", "{\"instruction\": [], \"response\": \"x\"}\n", "\"instruction\"",
          "found an array"),
    WRONG("a response that is an object", "{\"instruction\": \"x\", \"response\": {}}\n", "\"response\"",
          "found an object"),
    WRONG("messages that are a text", "{\"messages\": \"hi\"}\n", "\"messages\""),
    WRONG("no messages", "{\"messages\": []}\n", "\"messages\""),
    WRONG("a message that is a text", "{\"messages\": [\"hi\"]}\n", "messages[0]"),
    WRONG("a message without a role", "{\"messages\": [{\"content\": \"x\"}]}\n", "messages[0]", "\"role\""),
    WRONG("a message without content",
          "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}, {\"role\": \"assistant\"}]}\n",
          "messages[1]", "\"content\""),
    WRONG("a role that is a number", "{\"messages\": [{\"role\": 1, \"content\": \"x\"}]}\n", "messages[0]",
          "\"role\""),
    WRONG("a row of brackets",
          "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n",
          "deeper than 64"),
    BAD("rows without the named fields", OPEN_ROWS_FIELDS, TEXT, LINES, NULL,
        "{\"ask\": \"x\", \"text\": \"y\"}\n", 0, BALORA_ERROR_FORMAT, LINES ":1", "\"say\""),
    BAD("a line of more than 64 MB", OPEN_ROWS, SIZE, LINES, NULL, NULL, (64 << 20) + 4096,
        BALORA_ERROR_FORMAT, LINES ":4", "more than 67108864 bytes"),
    BAD("no data file", OPEN_ROWS, DELETE, LINES, NULL, NULL, 0, BALORA_ERROR_NOT_FOUND, LINES,
        "cannot open"),
    BAD("a data file that is a folder", OPEN_ROWS, FOLDER, LINES, NULL, NULL, 0, BALORA_ERROR_IO, LINES,
        "regular file"),
    BAD("rows without a tokenizer", OPEN_ROWS, DELETE, "model/tokenizer.json", NULL, NULL, 0,
        BALORA_ERROR_NOT_FOUND, "tokenizer.json", "token file"),
};

const bad_inputs row_inputs = {lines, sizeof lines / sizeof *lines};

#define PUT(name, tensor, place, value, status, ...)                                                         \
    BAD(name, OPEN_TOKENS, ELEMENT, TOKENS, tensor, value, place, status, TOKENS, __VA_ARGS__)
#define HEADER(name, key, value, ...)                                                                        \
    BAD(name, OPEN_TOKENS, HEADER_SET, TOKENS, key, value, 0, BALORA_ERROR_FORMAT, TOKENS, __VA_ARGS__)

static const bad_input tokens[] = {
    PUT("an id as large as the vocabulary", "input_ids", 3, "100", BALORA_ERROR_MISMATCH,
        "input_ids[3] is 100"),
    PUT("a negative id", "input_ids", 0, "-1", BALORA_ERROR_MISMATCH, "input_ids[0] is -1"),
    PUT("the largest id that fits", "input_ids", 5, "2147483647", BALORA_ERROR_MISMATCH, "input_ids[5]"),
    PUT("a label as large as the vocabulary", "labels", 1, "100", BALORA_ERROR_MISMATCH, "labels[1] is 100"),
    PUT("a negative label", "labels", 2, "-99", BALORA_ERROR_MISMATCH, "labels[2] is -99"),
    PUT("a first offset behind the beginning", "offsets", 0, "1", BALORA_ERROR_FORMAT, "offsets[0] is 1"),
    PUT("a negative first offset", "offsets", 0, "-3", BALORA_ERROR_FORMAT, "offsets[0] is -3"),
    PUT("offsets of sequences that fall", "offsets", 1, "7", BALORA_ERROR_FORMAT, "offsets[1] is 7"),
    PUT("an offset below 0", "offsets", 1, "-9223372036854775808", BALORA_ERROR_FORMAT,
        "offsets[1] is -9223372036854775808"),
    PUT("a last offset before the end", "offsets", 2, "5", BALORA_ERROR_FORMAT, "the last of offsets is 5"),
    PUT("a last offset behind the end", "offsets", 2, "7", BALORA_ERROR_FORMAT, "offsets[2] is 7"),
    HEADER("ids of reals", "input_ids/dtype", "\"F32\"", "input_ids", "F32"),
    HEADER("ids of two dimensions", "input_ids/shape", "[2, 3]", "input_ids", "[2, 3]"),
    HEADER("labels of two dimensions", "labels/shape", "[6, 1]", "labels", "[6, 1]"),
    HEADER("offsets of reals", "offsets/dtype", "\"F64\"", "offsets", "F64"),
    BAD("fewer labels than ids", OPEN_TOKENS, HEADER_TEXT, TOKENS, NULL,
        "{\"input_ids\": {\"dtype\": \"I32\", \"shape\": [8], \"data_offsets\": [0, 32]}, \"labels\": "
        "{\"dtype\": \"I32\", \"shape\": [4], \"data_offsets\": [32, 48]}, \"offsets\": {\"dtype\": \"I64\", "
        "\"shape\": [3], \"data_offsets\": [48, 72]}}",
        0, BALORA_ERROR_FORMAT, TOKENS, "labels has 4 elements; expected 8"),
    BAD("no ids", OPEN_TOKENS, HEADER_TEXT, TOKENS, NULL,
        "{\"ids\": {\"dtype\": \"U8\", \"shape\": [72], \"data_offsets\": [0, 72]}}", 0, BALORA_ERROR_FORMAT,
        TOKENS, "input_ids"),
    BAD("no offsets", OPEN_TOKENS, HEADER_TEXT, TOKENS, NULL,
        "{\"input_ids\": {\"dtype\": \"I32\", \"shape\": [18], \"data_offsets\": [0, 72]}}", 0,
        BALORA_ERROR_FORMAT, TOKENS, "offsets"),
    BAD("one offset for no sequence", OPEN_TOKENS, HEADER_TEXT, TOKENS, NULL,
        "{\"input_ids\": {\"dtype\": \"I32\", \"shape\": [16], \"data_offsets\": [0, 64]}, \"offsets\": "
        "{\"dtype\": \"I64\", \"shape\": [1], \"data_offsets\": [64, 72]}}",
        0, BALORA_ERROR_FORMAT, TOKENS, "offsets has 1 elements"),
    BAD("a token file that was cut", OPEN_TOKENS, CUT, TOKENS, NULL, NULL, -8, BALORA_ERROR_FORMAT, TOKENS,
        "offsets"),
    BAD("a token file that is text", OPEN_TOKENS, TEXT, TOKENS, NULL, "1 2 3 4 5 6 7", 0, BALORA_ERROR_FORMAT,
        TOKENS, "header"),
    BAD("no token file", OPEN_TOKENS, DELETE, TOKENS, NULL, NULL, 0, BALORA_ERROR_NOT_FOUND, TOKENS),
};

const bad_inputs token_inputs = {tokens, sizeof tokens / sizeof *tokens};
