/* Broken GGUF files: every one gets its status and a message that says what is wrong, and nothing leaks. */
#include "format/gguf.h"
#include "gguf_bytes.h"

typedef struct broken_file {
    const char *words; /* see gguf_bytes.h */
    balora_status status;
    const char *fragment;
} broken_file;

#define BROKEN(words, fragment)                                                                              \
    { words, BALORA_ERROR_FORMAT, fragment }
#define UNKNOWN(words, fragment)                                                                             \
    { words, BALORA_ERROR_UNSUPPORTED, fragment }
#define ONE    "'GGUF' 3u 0q 1q "
#define TENSOR "'GGUF' 3u 1q 0q "
#define TWO    "'GGUF' 3u 2q 0q "

static const broken_file broken_files[] = {
    /* the beginning */
    BROKEN("", "offset 0: the magic number takes 4 bytes, but the file has 0 left"),
    BROKEN("'GGU'", "but the file has 3 left"),
    BROKEN("'GGML' 3u 0q 0q", "offset 0: expected the magic number"),
    BROKEN("'GGUF' 3b", "offset 4: the version takes 4 bytes"),
    UNKNOWN("'GGUF' 1u 0q 0q", "offset 4: version 1; expected 2 or 3"),
    UNKNOWN("'GGUF' 4u 0q 0q", "version 4; expected 2 or 3"),
    UNKNOWN("'GGUF' 0x03000000u 0q 0q", "version 0x3000000; the file is of a big-endian machine"),
    BROKEN("'GGUF' 3u 0u", "the number of tensors takes 8 bytes"),
    BROKEN("'GGUF' 3u 0xffffffffffffffffq 0q", "the number of tensors is 18446744073709551615"),
    BROKEN("'GGUF' 3u 1000001q 0q", "the number of tensors is 1000001; at most 1000000 are read"),
    BROKEN("'GGUF' 3u 0q 0x8000000000000000q", "the number of values is 9223372036854775808"),
    BROKEN("'GGUF' 3u 0q 2q *27", "the number of values is 2; at most 1000000 are read, and 27 bytes follow"),
    BROKEN("'GGUF' 3u 2q 0q *41",
           "the number of tensors is 2; at most 1000000 are read, and 49 bytes follow"),
    BROKEN("'GGUF' 3u 0q 0q *32", "offset 24: expected the file's end, but 32 bytes follow"),
    /* keys */
    BROKEN(ONE "0q *20", "offset 24: a key of 0 bytes; expected 1 to 1024"),
    BROKEN(ONE "1025q *2000", "a key of 1025 bytes"),
    BROKEN(ONE "0xffffffffffffffffq *20", "a key of 18446744073709551615 bytes"),
    BROKEN(ONE "30q *20", "offset 32: a key takes 30 bytes, but the file has 20 left"),
    BROKEN(ONE "<a\nb> 0u 1b", "offset 33: a key with the byte 0xa; expected printable ASCII"),
    BROKEN(ONE "<a b> 0u 1b", "a key with the byte 0x20"),
    BROKEN(ONE "<\xc3\xa4> 0u 1b", "a key with the byte 0xc3"),
    BROKEN(ONE "2q 'a' 0b 0u 1b", "a key with the byte 0"),
    BROKEN("'GGUF' 3u 0q 2q <a> 0u 1b <a> 4u 1u", "two values have the key \"a\""),
    /* values */
    BROKEN(ONE "<a> 13u 1q", "offset 33: a value of type 13; expected 0 to 12"),
    BROKEN(ONE "<a> 0xffffffffu 1q", "a value of type 4294967295"),
    BROKEN(ONE "<a> 4u 1h", "offset 37: a value takes 4 bytes, but the file has 2 left"),
    BROKEN(ONE "<a> 8u 3q 'ab'", "offset 45: a text takes 3 bytes, but the file has 2 left"),
    BROKEN(ONE "<a> 8u 0xffffffffffffffffq", "a text takes 18446744073709551615 bytes"),
    BROKEN(ONE "<a> 8u 1u", "the length of a text takes 8 bytes"),
    BROKEN(ONE "<a> 9u 9u 1q 4u 0q",
           "an array of elements of type 9 (array); expected numbers, booleans or texts"),
    BROKEN(ONE "<a> 9u 13u 0q", "an array of elements of type 13 (unknown)"),
    BROKEN(ONE "<a> 9u 4u 0x4000000000000001q 1u", "an array of 4611686018427387905 elements"),
    BROKEN(ONE "<a> 9u 4u 2q 1u", "an array of 2 elements, but the file has 4 bytes left"),
    BROKEN(ONE "<a> 9u 8u 0x2000000000000001q 0q", "an array of 2305843009213693953 elements"),
    BROKEN(ONE "<a> 9u 8u 2q <x> 1b", "an array of 2 elements, but the file has 10 bytes left"),
    BROKEN(ONE "<a> 9u 8u 1q 9q 'x'", "a text in an array takes 9 bytes, but the file has 1 left"),
    BROKEN(ONE "<a> 9u 8u 1q 0xffffffffffffffffq", "a text in an array takes 18446744073709551615 bytes"),
    /* the alignment */
    BROKEN(ONE "<general.alignment> 8u <32>",
           "\"general.alignment\": expected an integer of at most 63 bits, found text"),
    BROKEN(ONE "<general.alignment> 4u 0u", "\"general.alignment\" is 0; expected 1 to 1048576"),
    BROKEN(ONE "<general.alignment> 4u 2097152u", "\"general.alignment\" is 2097152"),
    BROKEN(ONE "<general.alignment> 5u 0xffffffe0u", "\"general.alignment\" is -32"),
    BROKEN(ONE "<general.alignment> 10u 0xffffffffffffffffq", "expected an integer of at most 63 bits"),
    BROKEN(ONE "<general.alignment> 4u 48u", "\"general.alignment\" is 48; expected a power of two"),
    /* one tensor's description */
    BROKEN(TENSOR "0q *40", "a tensor's name of 0 bytes"),
    BROKEN(TENSOR "<w\tv> 1u 1q 0u 0q . 0u", "a tensor's name with the byte 0x9"),
    BROKEN(TENSOR "<w> 5u 1q 1q 1q 1q 1q 0u 0q . 0u", "offset 33: 5 dimensions; at most 4 are read"),
    BROKEN(TENSOR "<w> 0xffffffffu *32", "4294967295 dimensions"),
    BROKEN(TENSOR "<w> 4u 1q 1q", "a tensor's shape takes 8 bytes"),
    BROKEN(TENSOR "<w> 1u 0x8000000000000000q 0u 0q", "a dimension of 9223372036854775808 overflows"),
    BROKEN(TENSOR "<w> 2u 0x100000000q 0x100000000q 0u 0q",
           "tensor \"w\": the product of its shape overflows"),
    BROKEN(TENSOR "<w> 1u 0x2000000000000000q 0u 0q", "tensor \"w\": its size overflows 64 bits"),
    BROKEN(TENSOR "<w> 1u 0x1fffffffffffffffq 0u 0q", "go beyond the file's end"),
    UNKNOWN(TENSOR "<w> 1u 1q 4u 0q . 0u", "tensor \"w\": this version has no element type 4"),
    UNKNOWN(TENSOR "<w> 1u 1q 0xffffffffu 0q . 0u", "no element type 4294967295"),
    BROKEN(TENSOR "<w> 1u 31q 8u 0q . *34", "rows of 31 elements do not fill blocks of 32 (Q8_0)"),
    BROKEN(TENSOR "<w> 2u 16q 2q 8u 0q . *34", "rows of 16 elements do not fill blocks of 32"),
    BROKEN(TENSOR "<w> 0u 14u 0q . *210", "rows of 1 elements do not fill blocks of 256 (Q6_K)"),
    /* places */
    BROKEN(TENSOR "<w> 1u 1q 0u 32q . *36", "tensor \"w\": begins at 32 of the tensors' bytes; expected 0"),
    BROKEN(TENSOR "<w> 1u 1q 0u 4q . *36", "begins at 4 of the tensors' bytes"),
    BROKEN(TENSOR "<w> 1u 1q 0u 0xffffffffffffffe0q . 0u", "begins at 18446744073709551584"),
    BROKEN(TENSOR "<w> 1u 3q 0u 0q . 0u 0u",
           "12 bytes from offset 64 on go beyond the file's end (72 bytes)"),
    BROKEN(TENSOR "<w> 1u 1q 0u 0q", "4 bytes from offset 64 on go beyond the file's end (57 bytes)"),
    BROKEN(TENSOR "<w> 1u 1q 0u 0q . 0u . 0b", "but 29 bytes follow that belong to no tensor"),
    BROKEN(TWO "<a> 1u 1q 0u 0q <b> 1u 1q 0u 0q . 0u",
           "tensor \"b\": begins at 0 of the tensors' bytes; expected 32"),
    BROKEN(TWO "<a> 1u 1q 0u 0q <b> 1u 1q 0u 64q . 0u . *36",
           "begins at 64 of the tensors' bytes; expected 32"),
    BROKEN(TWO "<a> 1u 9q 0u 0q <b> 1u 1q 0u 32q . *100", "begins at 32 of the tensors' bytes; expected 64"),
    BROKEN(TWO "<a> 1u 1q 0u 0q <a> 1u 1q 0u 32q . 0u . 0u", "two tensors have the name \"a\""),
};

static void expect_broken(scratch *self, const char *path, balora_status status, const char *fragment) {
    gguf_file file;
    expect_failure(gguf_open(&file, &self->memory, path), status, fragment);
    assert_non_null(strstr(balora_error_message(), "broken.gguf"));
    assert_null(file.header);
    assert_int_equal(self->memory.current_bytes, 0);
}

static void every_broken_file_is_refused(void **state) {
    scratch *self = *state;
    for (size_t i = 0; i < sizeof broken_files / sizeof broken_files[0]; i++)
        expect_broken(self, gguf_bytes_file(self, "broken.gguf", broken_files[i].words),
                      broken_files[i].status, broken_files[i].fragment);
}

/* What is claimed may be there: then it is the caps that stop it, before memory is taken. The file has a hole. */
static void a_giant_text_is_refused(void **state) {
    scratch *self = *state;
    const char *path = gguf_bytes_file(self, "broken.gguf", ONE "<a> 8u 100000000q");
    assert_int_equal(truncate(path, 200000000), 0);
    uint64_t before = self->memory.peak_bytes;
    expect_broken(self, path, BALORA_ERROR_FORMAT,
                  "a text of 100000000 bytes; a header of at most 100000000 bytes");
    assert_true(self->memory.peak_bytes - before < 1000000);
}

/* A good file cut at every length: its last tensor, an empty one, lies at the end. */
static void every_prefix_is_refused(void **state) {
    scratch *self = *state;
    gguf_bytes whole = gguf_bytes_spell(GGUF_EVERYTHING);
    for (size_t length = 0; length <= whole.count; length++) {
        gguf_file file;
        const char *path = gguf_bytes_write(self, "broken.gguf", whole.data, length);
        if (length < whole.count)
            assert_int_equal(gguf_open(&file, &self->memory, path), BALORA_ERROR_FORMAT);
        else
            expect_ok(gguf_open(&file, &self->memory, path));
        gguf_close(&file);
    }
}

static void read_everything(const gguf_file *file) {
    unsigned char bytes[256];
    for (int64_t i = 0; i < file->value_count; i++) {
        const gguf_value *value = gguf_find_value(file, file->values[i].key);
        const unsigned char *at = value->data;
        uint64_t length, sum = 0;
        assert_ptr_equal(value, &file->values[i]);
        for (uint64_t k = 0; value->element_type == GGUF_TEXT && k < value->count; k++) {
            const char *text = gguf_next_text(&at, &length);
            for (uint64_t c = 0; c < length; c++)
                sum += (unsigned char)text[c];
        }
        assert_true(sum < 100000);
    }
    for (int64_t i = 0; i < file->tensor_count; i++)
        if (file->tensors[i].bytes <= sizeof bytes)
            expect_ok(gguf_read(file, &file->tensors[i], bytes));
}

/* Every byte changed: refused, or still a file of which all can be read. */
static void every_changed_byte_is_survived(void **state) {
    scratch *self = *state;
    gguf_bytes whole = gguf_bytes_spell(GGUF_EVERYTHING);
    static const unsigned char changes[] = {0x01, 0x80, 0xff};
    int refused = 0;
    for (size_t i = 0; i < whole.count; i++)
        for (size_t k = 0; k < sizeof changes; k++) {
            gguf_file file;
            whole.data[i] ^= changes[k];
            balora_status status = gguf_open(&file, &self->memory,
                                             gguf_bytes_write(self, "broken.gguf", whole.data, whole.count));
            whole.data[i] ^= changes[k];
            refused += status != BALORA_OK;
            if (status == BALORA_OK)
                read_everything(&file);
            gguf_close(&file);
            assert_int_equal(self->memory.current_bytes, 0);
        }
    assert_true(refused > 100);
}

/* A value that is not what was asked for. */
static void wrong_values_are_named(void **state) {
    scratch *self = *state;
    const char *path =
        gguf_bytes_file(self, "broken.gguf",
                        "'GGUF' 3u 0q 6q <big> 10u 0x8000000000000000q <nan> 6u 0x7fc00000u "
                        "<flag> 7u 2b <text> 8u 3q 'a' 0b 'b' <array> 9u 4u 1q 1u <five> 0u 5b");
    gguf_file file;
    int64_t integer;
    double number;
    bool flag;
    const char *text;
    const gguf_value *array;
    expect_ok(gguf_open(&file, &self->memory, path));
    expect_failure(gguf_integer(&file, "big", true, 0, 1, &integer), BALORA_ERROR_FORMAT,
                   "at most 63 bits, found u64");
    expect_failure(gguf_integer(&file, "five", true, 6, 9, &integer), BALORA_ERROR_FORMAT,
                   "is 5; expected 6 to 9");
    expect_failure(gguf_integer(&file, "none", true, 6, 9, &integer), BALORA_ERROR_FORMAT,
                   "\"none\" is missing");
    expect_failure(gguf_integer(&file, "array", true, 0, 9, &integer), BALORA_ERROR_FORMAT, "found array");
    expect_failure(gguf_number(&file, "nan", true, &number), BALORA_ERROR_FORMAT, "a finite number");
    expect_failure(gguf_number(&file, "text", true, &number), BALORA_ERROR_FORMAT,
                   "expected a number, found text");
    expect_failure(gguf_flag(&file, "flag", true, &flag), BALORA_ERROR_FORMAT, "is 2; a bool is 0 or 1");
    expect_failure(gguf_flag(&file, "five", true, &flag), BALORA_ERROR_FORMAT, "expected a bool, found u8");
    expect_failure(gguf_text(&file, "text", true, &text), BALORA_ERROR_FORMAT, "a text with a NUL in it");
    expect_failure(gguf_text(&file, "five", true, &text), BALORA_ERROR_FORMAT, "expected a text, found u8");
    expect_failure(gguf_array(&file, "five", true, GGUF_U8, &array), BALORA_ERROR_FORMAT,
                   "expected an array");
    expect_failure(gguf_array(&file, "array", true, GGUF_TEXT, &array), BALORA_ERROR_FORMAT,
                   "expected an array of text, found one of u32");
    gguf_close(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(every_broken_file_is_refused), SCRATCH_TEST(a_giant_text_is_refused),
        SCRATCH_TEST(every_prefix_is_refused),      SCRATCH_TEST(every_changed_byte_is_survived),
        SCRATCH_TEST(wrong_values_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
