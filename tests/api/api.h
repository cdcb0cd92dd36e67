/* For tests of the public interface: the fixtures' place, and failures checked in one line. */
#ifndef TESTS_API_H
#define TESTS_API_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <balora/balora.h>

/* The call failed with `status` and its message contains `part`. */
static inline void expect_failure(balora_status found, balora_status status, const char *part) {
    if (found != status || strstr(balora_error_message(), part) == NULL)
        fail_msg("found %s \"%s\", expected %s with \"%s\"", balora_status_name(found),
                 balora_error_message(), balora_status_name(status), part);
    assert_int_equal(balora_error_status(), status);
}

/* The call succeeded. */
static inline void expect_done(balora_status found) {
    if (found != BALORA_OK)
        fail_msg("found %s \"%s\"", balora_status_name(found), balora_error_message());
}

/* A path below the oracle's fixtures; one at a time. */
static inline const char *fixture(const char *name) {
    static char path[1024];
    const char *folder = getenv("BALORA_FIXTURES");
    snprintf(path, sizeof path, "%s/%s", folder != NULL ? folder : "tests/oracle/fixtures", name);
    return path;
}

#endif
