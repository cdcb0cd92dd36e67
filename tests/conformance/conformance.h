/*
 * The conformance suite: what every dispatch table (src/backend/ops.h) must do, whatever device is behind it.
 *
 * The suite reaches device memory through the table only and compares with references in double
 * (reference.h), so a new backend is held to it by a program of ten lines like test_cpu.c.
 */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "backend/ops.h"

typedef struct conformance_options {
    int32_t threads;    /* host threads given to the device */
    const char *filter; /* run tests whose name matches this cmocka pattern only; NULL: all */
} conformance_options;

/* Run the suite on device `index` of `ops`. Returns the number of failed tests. */
int conformance_run(const backend_ops *ops, int32_t index, const conformance_options *options);

#endif
