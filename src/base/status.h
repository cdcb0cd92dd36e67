/* Failing with a status code and a thread-local detail. */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include "balora/status.h"

#define STATUS_MESSAGE_BYTES 2048

/* What balora_error_... tell of a thread's last failure. */
typedef struct status_detail {
    balora_status status;
    int32_t origin;
    int64_t native_code;
    char message[STATUS_MESSAGE_BYTES];
} status_detail;

/* Record the detail of a failure and return `status`, so that `return status_fail(...)` is one line. */
balora_status status_fail(balora_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same with the software that failed first and its own code; libc: the text of errno is appended. */
balora_status status_fail_native(balora_status status, int32_t origin, int64_t native_code,
                                 const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Put "prefix: " before this thread's message, to say where a failure of a lower room was met. Returns
 * `status`. */
balora_status status_prefix(balora_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Keep this thread's detail, and put it back after failures that the caller's call does not end by: one that succeeds
 * leaves the detail alone. */
void status_keep(status_detail *out);
void status_put_back(const status_detail *detail);

/* Evaluate once; leave the function with the status when it is a failure. */
#define STATUS_TRY(expression)                                                                               \
    do {                                                                                                     \
        balora_status try_status_ = (expression);                                                            \
        if (try_status_ != BALORA_OK)                                                                        \
            return try_status_;                                                                              \
    } while (0)

/* The same for functions with one `fail:` label and a local `status`. */
#define STATUS_GOTO(expression)                                                                              \
    do {                                                                                                     \
        status = (expression);                                                                               \
        if (status != BALORA_OK)                                                                             \
            goto fail;                                                                                       \
    } while (0)

#endif
