/* The model folders of tests/fixtures/tokenizer and what the package `tokenizers` made of the texts there. */
#ifndef TESTS_TOKENIZER_FIXTURES_H
#define TESTS_TOKENIZER_FIXTURES_H

#include <jansson.h>

#include "scratch.h"
#include "text/tokenizer.h"

static inline const char *fixture_path(const char *name) {
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    const char *folder = getenv("BALORA_TOKENIZER_FIXTURES");
    if (folder == NULL)
        fail_msg("BALORA_TOKENIZER_FIXTURES is not set; run the tests through meson");
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

/* JSON of a fixture, NUL characters allowed; json_decref. */
static inline json_t *fixture_json(const char *name) {
    json_error_t error;
    json_t *value = json_load_file(fixture_path(name), JSON_ALLOW_NUL, &error);
    if (value == NULL)
        fail_msg("%s: %s", fixture_path(name), error.text);
    return value;
}

static inline tokenizer *fixture_tokenizer(scratch *self, const char *family) {
    tokenizer *opened;
    expect_ok(tokenizer_open(&opened, &self->memory, fixture_path(family)));
    return opened;
}

static inline void expect_ids(const token_buffer *found, const int32_t *expected, size_t count) {
    assert_int_equal(found->count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(found->ids[i], expected[i]);
}

#endif
