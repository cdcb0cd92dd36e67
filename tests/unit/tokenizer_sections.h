/* tokenizer.json made of sections, and what happens to a reader when bytes or memory are taken from it. */
#ifndef TESTS_TOKENIZER_SECTIONS_H
#define TESTS_TOKENIZER_SECTIONS_H

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

static inline size_t write_sections(char *out, size_t room, const sections *s) {
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

static inline balora_status open_sections(scratch *self, tokenizer **out, sections s) {
    char text[8192];
    scratch_bytes(self, "tokenizer.json", text, write_sections(text, sizeof text, &s));
    return tokenizer_open(out, &self->memory, self->folder);
}

static inline void expect_sections_fail(scratch *self, sections s, balora_status expected,
                                        const char *fragment) {
    tokenizer *opened;
    expect_failure(open_sections(self, &opened, s), expected, fragment);
    assert_null(opened);
    assert_non_null(strstr(balora_error_message(), "tokenizer.json"));
    if (expected == BALORA_ERROR_UNSUPPORTED)
        assert_non_null(strstr(balora_error_message(), "--data FILE.safetensors"));
    assert_int_equal(self->memory.current_bytes, 0);
}

#define ADDED(id, content) "{\"id\":" id ",\"content\":\"" content "\",\"special\":true}"

/* Without the syncing of scratch_bytes, nor that of file systems that sync a truncated file: there are
 * thousands. */
static inline void write_quickly(scratch *self, const char *text, size_t bytes) {
    const char *path = scratch_path(self, "tokenizer.json");
    unlink(path);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

/* Every beginning of a file is refused, and every changed byte is refused or understood, without a leak. */
static inline void damage(scratch *self, const sections *rich) {
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

/* Refuses the allocation number `left` and all behind it. */
static inline void *limited_allocate(uint64_t bytes, uint64_t alignment, void *user) {
    int *left = user;
    return (*left)-- > 0 ? aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment) : NULL;
}

static inline void limited_release(void *memory, uint64_t bytes, void *user) {
    (void)bytes;
    (void)user;
    free(memory);
}

static inline void refuse_memory(const char *family) {
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

#endif
