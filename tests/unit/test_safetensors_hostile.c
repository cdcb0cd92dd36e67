/* Broken safetensors files: every one gets its status and a message that says what is wrong, and nothing
 * leaks. */
#include "format/safetensors.h"
#include "scratch.h"

#define WHOLE UINT64_MAX

typedef struct broken_file {
    const char *header;
    uint64_t length;   /* as the file states it; WHOLE: the header's true length */
    size_t data_bytes; /* zeros behind the header */
    balora_status status;
    const char *fragment;
} broken_file;

#define TENSOR(dtype, shape, offsets)                                                                        \
    "{\"w\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"

static const broken_file broken_files[] = {
    /* the length and the header as a whole */
    {"", 0, 0, BALORA_ERROR_FORMAT, "offset 8: the header must begin with '{'"},
    {"{}", 3, 0, BALORA_ERROR_FORMAT, "a header of 3 bytes, but the file has 2 behind the length"},
    {"{}", UINT64_C(100000001), 0, BALORA_ERROR_FORMAT, "at most 100000000 are read"},
    {"{}", UINT64_MAX - 1, 0, BALORA_ERROR_FORMAT, "a header of 18446744073709551614 bytes"},
    {"{}", UINT64_C(1) << 63, 0, BALORA_ERROR_FORMAT, "a header of 9223372036854775808 bytes"},
    {"{}", WHOLE, 1, BALORA_ERROR_FORMAT, "the tensors end at offset 10, but the file has 11 bytes"},
    {" {}", WHOLE, 0, BALORA_ERROR_FORMAT, "must begin with '{'"},
    {"[]", WHOLE, 0, BALORA_ERROR_FORMAT, "must begin with '{'"},
    {"{", WHOLE, 0, BALORA_ERROR_FORMAT, "not valid JSON"},
    {"{}x", WHOLE, 0, BALORA_ERROR_FORMAT, "end of file expected"},
    {"{\"a\":\"\xff\"}", WHOLE, 0, BALORA_ERROR_FORMAT, "not valid JSON"},
    {"{\"w\\u0000v\":{}}", WHOLE, 0, BALORA_ERROR_FORMAT, "NUL"},
    {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"w\":{\"dtype\":\"U8\",\"shape\":[1],"
     "\"data_offsets\":[1,2]}}",
     WHOLE, 2, BALORA_ERROR_FORMAT, "duplicate object key"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", WHOLE, 1, BALORA_ERROR_FORMAT,
     "a name of 0 bytes; expected 1 to 1024"},
    /* metadata */
    {"{\"__metadata__\":[]}", WHOLE, 0, BALORA_ERROR_FORMAT,
     "expected \"__metadata__\" to be an object of strings"},
    {"{\"__metadata__\":{\"format\":1}}", WHOLE, 0, BALORA_ERROR_FORMAT,
     "\"format\": expected a string, found a number"},
    /* one tensor's description */
    {"{\"w\":3}", WHOLE, 0, BALORA_ERROR_FORMAT, "tensor \"w\": expected an object"},
    {"{\"w\":{}}", WHOLE, 0, BALORA_ERROR_FORMAT, "tensor \"w\": expected \"dtype\" to be a string"},
    {TENSOR("32", "[1]", "[0,4]"), WHOLE, 4, BALORA_ERROR_FORMAT, "expected \"dtype\" to be a string"},
    {"{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", WHOLE, 4, BALORA_ERROR_FORMAT,
     "expected \"shape\""},
    {TENSOR("\"F32\"", "4", "[0,16]"), WHOLE, 16, BALORA_ERROR_FORMAT, "expected \"shape\" to be an array"},
    {TENSOR("\"F32\"", "[-1]", "[0,4]"), WHOLE, 4, BALORA_ERROR_FORMAT, "integers of 0 and above"},
    {TENSOR("\"F32\"", "[1.0]", "[0,4]"), WHOLE, 4, BALORA_ERROR_FORMAT, "integers of 0 and above"},
    {TENSOR("\"F32\"", "[\"1\"]", "[0,4]"), WHOLE, 4, BALORA_ERROR_FORMAT, "integers of 0 and above"},
    {TENSOR("\"F32\"", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), WHOLE, 4, BALORA_ERROR_FORMAT,
     "9 dimensions; at most 8"},
    {TENSOR("\"F32\"", "[4294967296,4294967296]", "[0,0]"), WHOLE, 0, BALORA_ERROR_FORMAT,
     "overflows 64 bits"},
    {TENSOR("\"F32\"", "[9223372036854775807]", "[0,0]"), WHOLE, 0, BALORA_ERROR_FORMAT, "overflows 64 bits"},
    {TENSOR("\"F32\"", "[4611686018427387904]", "[0,0]"), WHOLE, 0, BALORA_ERROR_FORMAT, "overflows 64 bits"},
    {TENSOR("\"F32\"", "[18446744073709551616]", "[0,0]"), WHOLE, 0, BALORA_ERROR_FORMAT,
     "integers of 0 and above"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1]}}", WHOLE, 4, BALORA_ERROR_FORMAT, "expected \"data_offsets\""},
    {TENSOR("\"F32\"", "[1]", "[0]"), WHOLE, 4, BALORA_ERROR_FORMAT, "an array of two integers"},
    {TENSOR("\"F32\"", "[1]", "[0,4,8]"), WHOLE, 4, BALORA_ERROR_FORMAT, "an array of two integers"},
    {TENSOR("\"F32\"", "[1]", "[0,\"4\"]"), WHOLE, 4, BALORA_ERROR_FORMAT, "an array of two integers"},
    {TENSOR("\"F32\"", "[1]", "{\"0\":0,\"1\":4}"), WHOLE, 4, BALORA_ERROR_FORMAT,
     "an array of two integers"},
    {TENSOR("\"F32\"", "[1]", "[4,0]"), WHOLE, 4, BALORA_ERROR_FORMAT, "data_offsets [4, 0] must rise"},
    {TENSOR("\"F32\"", "[1]", "[-4,0]"), WHOLE, 4, BALORA_ERROR_FORMAT, "data_offsets [-4, 0] must rise"},
    {TENSOR("\"F32\"", "[2]", "[0,8]"), WHOLE, 7, BALORA_ERROR_FORMAT, "within the file's 7 bytes of data"},
    {TENSOR("\"F32\"", "[1]", "[0,9223372036854775807]"), WHOLE, 4, BALORA_ERROR_FORMAT,
     "within the file's 4 bytes"},
    {TENSOR("\"F32\"", "[2]", "[0,4]"), WHOLE, 4, BALORA_ERROR_FORMAT,
     "data_offsets give 4 bytes, but [2] of F32 takes 8"},
    {TENSOR("\"BF16\"", "[]", "[0,4]"), WHOLE, 4, BALORA_ERROR_FORMAT, "but [] of BF16 takes 2"},
    {TENSOR("\"F32\"", "[0]", "[0,4]"), WHOLE, 4, BALORA_ERROR_FORMAT, "but [0] of F32 takes 0"},
    {TENSOR("\"F4\"", "[3]", "[0,2]"), WHOLE, 2, BALORA_ERROR_FORMAT, "do not fill whole bytes"},
    /* places that do not fit together */
    {TENSOR("\"F32\"", "[1]", "[4,8]"), WHOLE, 8, BALORA_ERROR_FORMAT, "expected neither hole nor overlap"},
    {TENSOR("\"F32\"", "[1]", "[0,4]"), WHOLE, 8, BALORA_ERROR_FORMAT, "not fully downloaded"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[1,3]}}",
     WHOLE, 3, BALORA_ERROR_FORMAT, "tensor \"b\": begins at offset"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[0,2]}}",
     WHOLE, 2, BALORA_ERROR_FORMAT, "expected neither overlap nor hole"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],"
     "\"data_offsets\":[3,5]}}",
     WHOLE, 5, BALORA_ERROR_FORMAT, "expected neither hole nor overlap"},
};

static const char *write_file(scratch *self, const char *header, uint64_t length, size_t data_bytes) {
    size_t header_bytes = strlen(header), total = 8 + header_bytes + data_bytes;
    unsigned char *bytes = calloc(total, 1);
    assert_non_null(bytes);
    if (length == WHOLE)
        length = header_bytes;
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(length >> (8 * i));
    memcpy(bytes + 8, header, header_bytes);
    const char *path = scratch_bytes(self, "broken.safetensors", bytes, total);
    free(bytes);
    return path;
}

static void expect_broken(scratch *self, const char *path, balora_status status, const char *fragment) {
    safetensors_file file;
    expect_failure(safetensors_open(&file, &self->memory, path), status, fragment);
    assert_non_null(strstr(balora_error_message(), "broken.safetensors"));
    assert_null(file.entries);
    assert_int_equal(self->memory.current_bytes, 0);
}

static void every_broken_file_is_refused(void **state) {
    scratch *self = *state;
    for (size_t i = 0; i < sizeof broken_files / sizeof broken_files[0]; i++) {
        const broken_file *broken = &broken_files[i];
        expect_broken(self, write_file(self, broken->header, broken->length, broken->data_bytes),
                      broken->status, broken->fragment);
    }
}

static void short_files_are_refused(void **state) {
    scratch *self = *state;
    expect_broken(self, scratch_bytes(self, "broken.safetensors", "", 0), BALORA_ERROR_FORMAT,
                  "0 bytes are too few");
    expect_broken(self, scratch_bytes(self, "broken.safetensors", "\2\0\0\0\0\0\0", 7), BALORA_ERROR_FORMAT,
                  "7 bytes are too few");
    expect_broken(self, scratch_path(self, "no-broken.safetensors"), BALORA_ERROR_NOT_FOUND, "cannot open");
}

static void a_long_name_is_refused(void **state) {
    scratch *self = *state;
    char header[2000];
    for (int length = 1024; length <= 1025; length++) {
        char name[1026] = {0};
        memset(name, 'n', (size_t)length);
        snprintf(header, sizeof header, "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
                 name);
        const char *path = write_file(self, header, WHOLE, 1);
        safetensors_file file;
        if (length == 1024) {
            expect_ok(safetensors_open(&file, &self->memory, path));
            safetensors_close(&file);
        } else {
            expect_broken(self, path, BALORA_ERROR_FORMAT, "a name of 1025 bytes");
        }
    }
}

static void deep_headers_are_refused(void **state) {
    scratch *self = *state;
    enum { DEEP = 200000 };
    char *header = calloc(DEEP + 16, 1);
    assert_non_null(header);
    strcpy(header, "{\"w\":");
    memset(header + 5, '[', DEEP);
    expect_broken(self, write_file(self, header, WHOLE, 0), BALORA_ERROR_FORMAT, "nested deeper than 64");
    free(header);
}

/* Cut a good file at every length: no prefix of it is good, and none is read beyond its end. */
static void every_prefix_is_refused(void **state) {
    scratch *self = *state;
    float numbers[6] = {0};
    safetensors_tensor tensors[] = {{"a", BALORA_F32, 2, {2, 2}, numbers},
                                    {"b", BALORA_F32, 1, {2}, numbers}};
    const char *path = scratch_path(self, "whole.safetensors");
    char *whole;
    uint64_t bytes;
    expect_ok(safetensors_save(&self->memory, path, tensors, 2, NULL));
    expect_ok(file_read_all(&whole, &bytes, &self->memory, path, 10000));
    for (uint64_t length = 0; length < bytes; length++) {
        safetensors_file file;
        path = scratch_bytes(self, "broken.safetensors", whole, length);
        assert_int_equal(safetensors_open(&file, &self->memory, path), BALORA_ERROR_FORMAT);
    }
    memory_free(&self->memory, whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(every_broken_file_is_refused), SCRATCH_TEST(short_files_are_refused),
        SCRATCH_TEST(a_long_name_is_refused),       SCRATCH_TEST(deep_headers_are_refused),
        SCRATCH_TEST(every_prefix_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
