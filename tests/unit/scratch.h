/* For tests of files: a folder of its own below the working directory, and failures that are checked in one
 * line. */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/status.h"

typedef struct scratch {
    allocator memory;
    char folder[32];
} scratch;

static inline int scratch_setup(void **state) {
    scratch *self = calloc(1, sizeof *self);
    if (self == NULL)
        return -1;
    memory_init(&self->memory, NULL, NULL, NULL);
    strcpy(self->folder, "scratch-XXXXXX");
    *state = self;
    return mkdtemp(self->folder) == NULL ? -1 : 0;
}

/* Also holds the code under test to giving back all its memory. */
static inline int scratch_teardown(void **state) {
    scratch *self = *state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", self->folder);
    int failed = system(command) != 0 || self->memory.current_bytes != 0;
    free(self);
    return failed ? -1 : 0;
}

/* Path of a file in the folder; valid until eight calls later. */
static const char *scratch_path(const scratch *self, const char *name) {
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", self->folder, name);
    return path;
}

static inline const char *scratch_bytes(scratch *self, const char *name, const void *data, size_t bytes) {
    const char *path = scratch_path(self, name);
    assert_int_equal(file_write_all(&self->memory, path, data, bytes), BALORA_OK);
    return path;
}

static inline const char *scratch_text(scratch *self, const char *name, const char *text) {
    return scratch_bytes(self, name, text, strlen(text));
}

static inline void expect_ok(balora_status status) {
    if (status != BALORA_OK)
        fail_msg("%s: %s", balora_status_name(status), balora_error_message());
}

/* The status, and a part of the message. */
static inline void expect_failure(balora_status found, balora_status expected, const char *fragment) {
    if (found != expected)
        fail_msg("expected %s (\"%s\"), found %s: %s", balora_status_name(expected), fragment,
                 balora_status_name(found), balora_error_message());
    if (strstr(balora_error_message(), fragment) == NULL)
        fail_msg("expected \"%s\" in \"%s\"", fragment, balora_error_message());
}

#define SCRATCH_TEST(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

#endif
