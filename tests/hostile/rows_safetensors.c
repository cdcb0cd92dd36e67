/* The safetensors container, as the weights of a model. */
#include "hostile.h"

#define FILE_NAME "model/model.safetensors"
#define EMBEDDING "model.embed_tokens.weight"
#define NORM      "model.norm.weight"

#define LENGTH_ROW(name, number, part)                                                                       \
    BAD(name, OPEN_MODEL, LENGTH, FILE_NAME, NULL, NULL, number, BALORA_ERROR_FORMAT, FILE_NAME, part)
#define CUT_ROW(name, number, part)                                                                          \
    BAD(name, OPEN_MODEL, CUT, FILE_NAME, NULL, NULL, number, BALORA_ERROR_FORMAT, FILE_NAME, part)
#define HEADER_ROW(name, text, part)                                                                         \
    BAD(name, OPEN_MODEL, HEADER_TEXT, FILE_NAME, NULL, text, 0, BALORA_ERROR_FORMAT, FILE_NAME, part)
#define MEMBER_ROW(name, member, value, part)                                                                \
    BAD(name, OPEN_MODEL, HEADER_SET, FILE_NAME, NORM "/" member, value, 0, BALORA_ERROR_FORMAT, FILE_NAME,  \
        NORM, part)

static const bad_input rows[] = {
    CUT_ROW("an empty file", 0, "0 bytes are too few"),
    CUT_ROW("seven bytes", 7, "7 bytes are too few"),
    CUT_ROW("nothing behind the header's length", 8, "the file has 0 behind the length"),
    CUT_ROW("half a header", 500, "behind the length"),
    CUT_ROW("the last byte is missing", -1, "data_offsets"),
    CUT_ROW("the data are missing", 1600, NULL),
    BAD("a byte too many", OPEN_MODEL, APPEND, FILE_NAME, NULL, "x", 0, BALORA_ERROR_FORMAT, FILE_NAME,
        "not fully downloaded"),
    LENGTH_ROW("a header of no bytes", 0, "must begin with '{'"),
    LENGTH_ROW("a header of one byte", 1, "not valid JSON"),
    LENGTH_ROW("a header one byte short", 1000, "not valid JSON"),
    LENGTH_ROW("a header as long as the limit", 100000000, "behind the length"),
    LENGTH_ROW("a header beyond the limit", 100000001, "at most 100000000 are read"),
    LENGTH_ROW("a header of 2^63 bytes", INT64_MIN, "at most 100000000 are read"),
    LENGTH_ROW("a header of 2^64 - 1 bytes", -1, "at most 100000000 are read"),
    HEADER_ROW("a header that is a number", "123456", "must begin with '{'"),
    HEADER_ROW("a header that is an array", "[1, 2]", "must begin with '{'"),
    HEADER_ROW("a header that begins with a space", " {}", "must begin with '{'"),
    HEADER_ROW("a header that does not close", "{\"a\": {", "line 1"),
    HEADER_ROW("a header with something behind it", "{} x", "line 1"),
    HEADER_ROW("a header that is not UTF-8", "{\"\xff\": 1}", "unable to decode byte 0xff"),
    HEADER_ROW("a header with a lone surrogate", "{\"\\ud800\": 1}", "line 1"),
    HEADER_ROW("a tensor's name with a NUL", "{\"a\\u0000b\": 1}", "NUL"),
    HEADER_ROW("two tensors of one name",
               "{\"a\": {\"dtype\": \"U8\", \"shape\": [], \"data_offsets\": [0, 1]}, \"a\": {}}",
               "duplicate"),
    HEADER_ROW("no tensor, but data", "{}", "the tensors end at offset 10"),
    HEADER_ROW("a tensor without a name", "{\"\": 1}", "a name of 0 bytes"),
    BAD("a tensor that is a number", OPEN_MODEL, HEADER_SET, FILE_NAME, NORM, "7", 0, BALORA_ERROR_FORMAT,
        FILE_NAME, NORM, "expected an object"),
    BAD("a tensor that is null", OPEN_MODEL, HEADER_SET, FILE_NAME, NORM, "null", 0, BALORA_ERROR_FORMAT,
        FILE_NAME, NORM, "expected an object"),
    MEMBER_ROW("a type that is a number", "dtype", "32", "\"dtype\""),
    MEMBER_ROW("a type that is null", "dtype", "null", "\"dtype\""),
    MEMBER_ROW("a type of another size", "dtype", "\"F16\"", "data_offsets give 16 bytes"),
    MEMBER_ROW("a shape that is a number", "shape", "4", "\"shape\""),
    MEMBER_ROW("a shape that is null", "shape", "null", "\"shape\""),
    MEMBER_ROW("a shape of texts", "shape", "[\"4\"]", "\"shape\""),
    MEMBER_ROW("a shape of reals", "shape", "[4.0]", "\"shape\""),
    MEMBER_ROW("a negative size", "shape", "[-4]", "\"shape\""),
    MEMBER_ROW("nine dimensions", "shape", "[1,1,1,1,1,1,1,1,4]", "9 dimensions"),
    MEMBER_ROW("a product that overflows", "shape", "[4294967296, 4294967296]", "overflows"),
    MEMBER_ROW("a product of bits that overflows", "shape", "[4611686018427387904]", "overflows"),
    HEADER_ROW("a size beyond 64 bits",
               "{\"a\": {\"dtype\": \"U8\", \"shape\": [18446744073709551616], \"data_offsets\": [0, 1]}}",
               "\"shape\""),
    MEMBER_ROW("more elements than bytes", "shape", "[5]", "takes 20"),
    MEMBER_ROW("an empty dimension with data", "shape", "[0]", "takes 0"),
    MEMBER_ROW("offsets that are missing", "data_offsets", "null", "\"data_offsets\""),
    MEMBER_ROW("one offset", "data_offsets", "[0]", "\"data_offsets\""),
    MEMBER_ROW("three offsets", "data_offsets", "[0, 8, 16]", "\"data_offsets\""),
    MEMBER_ROW("offsets of texts", "data_offsets", "[\"0\", \"16\"]", "\"data_offsets\""),
    MEMBER_ROW("a negative offset", "data_offsets", "[-16, 0]", "data_offsets [-16, 0]"),
    MEMBER_ROW("offsets that fall", "data_offsets", "[32, 16]", "data_offsets [32, 16]"),
    MEMBER_ROW("offsets beyond the file", "data_offsets", "[9007199254740976, 9007199254740992]",
               "must rise and stay within"),
    BAD("an overlap", OPEN_MODEL, HEADER_SET, FILE_NAME, NORM "/data_offsets", "[0, 16]", 0,
        BALORA_ERROR_FORMAT, FILE_NAME, EMBEDDING, "overlap"),
    BAD("a hole", OPEN_MODEL, HEADER_REMOVE, FILE_NAME, NORM, NULL, 0, BALORA_ERROR_FORMAT, FILE_NAME,
        "hole"),
    BAD("metadata that are a text", OPEN_MODEL, HEADER_SET, FILE_NAME, "__metadata__", "\"pt\"", 0,
        BALORA_ERROR_FORMAT, FILE_NAME, "__metadata__"),
    BAD("metadata with a number", OPEN_MODEL, HEADER_SET, FILE_NAME, "__metadata__", "{\"format\": 1}", 0,
        BALORA_ERROR_FORMAT, FILE_NAME, "__metadata__", "\"format\""),
    BAD("deep nesting in a header", OPEN_MODEL, HEADER_SET, FILE_NAME, "x",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"
        "]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        0, BALORA_ERROR_FORMAT, FILE_NAME, "deeper than 64"),
    BAD("a weight of another shape", OPEN_MODEL, HEADER_SET, FILE_NAME, EMBEDDING "/shape", "[4, 100]", 0,
        BALORA_ERROR_MISMATCH, FILE_NAME, EMBEDDING, "expected [100, 4]"),
    BAD("a weight of another rank", OPEN_MODEL, HEADER_SET, FILE_NAME, NORM "/shape", "[1, 4]", 0,
        BALORA_ERROR_MISMATCH, FILE_NAME, NORM, "expected [4]"),
    BAD("a weight of integers", OPEN_MODEL, HEADER_SET, FILE_NAME, NORM "/dtype", "\"I32\"", 0,
        BALORA_ERROR_UNSUPPORTED, FILE_NAME, NORM, "I32"),
    BAD("a weight of an unknown type", OPEN_MODEL, HEADER_SET, FILE_NAME, NORM "/dtype", "\"F9_X\"", 0,
        BALORA_ERROR_UNSUPPORTED, FILE_NAME, NORM, "F9_X"),
};

const bad_inputs safetensors_inputs = {rows, sizeof rows / sizeof *rows};
