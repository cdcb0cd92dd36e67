/*
 * GGUF files spelled out, for tests: words separated by blanks.
 *   5b 5h 5u 5q   a number of 1, 2, 4 or 8 bytes       'text'   bytes as they are
 *   <text>        a length of 8 bytes, then the text    .        zeros up to the next multiple of 32
 *   *5            five zeros
 */
#ifndef TESTS_GGUF_BYTES_H
#define TESTS_GGUF_BYTES_H

#include "scratch.h"

typedef struct gguf_bytes {
    unsigned char data[4096];
    size_t count;
} gguf_bytes;

static inline void gguf_bytes_number(gguf_bytes *self, uint64_t number, int bytes) {
    for (int i = 0; i < bytes; i++)
        self->data[self->count++] = (unsigned char)(number >> (8 * i));
}

static inline gguf_bytes gguf_bytes_spell(const char *words) {
    gguf_bytes self = {.count = 0};
    for (const char *at = words; *at != '\0';) {
        char *end = NULL;
        if (*at == ' ') {
            at++;
        } else if (*at == '\'' || *at == '<') {
            const char *close = strchr(at + 1, *at == '<' ? '>' : '\'');
            assert_non_null(close);
            size_t length = (size_t)(close - at) - 1;
            if (*at == '<')
                gguf_bytes_number(&self, length, 8);
            memcpy(self.data + self.count, at + 1, length);
            self.count += length;
            at = close + 1;
        } else if (*at == '.') {
            self.count = (self.count + 31) / 32 * 32;
            at++;
        } else if (*at == '*') {
            self.count += strtoull(at + 1, &end, 10);
            at = end;
        } else {
            uint64_t number = strtoull(at, &end, 0);
            assert_true(end != at && strchr("bhuq", *end) != NULL);
            gguf_bytes_number(&self, number, *end == 'b' ? 1 : *end == 'h' ? 2 : *end == 'u' ? 4 : 8);
            at = end + 1;
        }
        assert_true(self.count < sizeof self.data - 64);
    }
    return self;
}

/* Not synced, as files that the library writes are, and never over an old one, which some file systems sync: there are
 * thousands. */
static inline const char *gguf_bytes_write(scratch *place, const char *name, const void *data, size_t count) {
    const char *path = scratch_path(place, name);
    unlink(path);
    FILE *stream = fopen(path, "wb");
    assert_non_null(stream);
    assert_int_equal(fwrite(data, 1, count, stream), count);
    assert_int_equal(fclose(stream), 0);
    return path;
}

static inline const char *gguf_bytes_file(scratch *place, const char *name, const char *words) {
    gguf_bytes self = gguf_bytes_spell(words);
    return gguf_bytes_write(place, name, self.data, self.count);
}

/* A value and a tensor of every kind. Tensors lie in another order than they are listed in. */
#define GGUF_EVERYTHING                                                                                      \
    "'GGUF' 3u 3q 16q "                                                                                      \
    "<n.u8> 0u 200b <n.i8> 1u 255b <n.u16> 2u 60000h <n.i16> 3u 0xfffeh <n.u32> 4u 4000000000u "             \
    "<n.i32> 5u 0xfffffffdu <n.f32> 6u 0x3fc00000u <flag> 7u 1b <name> 8u <tiny> "                           \
    "<tokens> 9u 8u 3q <a> <> <ccc> <ids> 9u 5u 2q 7u 0xffffffffu "                                          \
    "<n.u64> 10u 0x7fffffffffffffffq <n.i64> 11u 0xfffffffffffffffcq <n.f64> 12u 0x3ff8000000000000q "       \
    "<none> 8u <> <none.at.all> 9u 6u 0q "                                                                   \
    "<late> 2u 2q 3q 0u 64q <packed> 1u 32q 8u 0q <empty> 2u 0q 5q 1u 96q "                                  \
    ". 0x3c00h 1b 2b 3b 4b 5b 6b 7b 8b 9b 10b 11b 12b 13b 14b 15b 16b 17b 18b 19b 20b 21b 22b 23b 24b 25b "  \
    "26b 27b 28b 29b 30b 31b 32b . "                                                                         \
    "0x3f800000u 0x40000000u 0x40400000u 0x40800000u 0x40a00000u 0x40c00000u . "

#endif
