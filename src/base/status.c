#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local status_detail last_error;

static void record(balora_status status, int32_t origin, int64_t native_code, const char *format,
                   va_list arguments) {
    /* Formatted aside first: an argument may be the old message itself. */
    char message[STATUS_MESSAGE_BYTES];
    vsnprintf(message, sizeof message, format, arguments);
    memcpy(last_error.message, message, sizeof message);
    last_error.status = status;
    last_error.origin = origin;
    last_error.native_code = native_code;
}

balora_status status_fail(balora_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    record(status, BALORA_ORIGIN_BALORA, 0, format, arguments);
    va_end(arguments);
    return status;
}

balora_status status_fail_native(balora_status status, int32_t origin, int64_t native_code,
                                 const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    record(status, origin, native_code, format, arguments);
    va_end(arguments);
    if (origin == BALORA_ORIGIN_LIBC) {
        char reason[128];
        /* The GNU strerror_r: it may return static text instead of filling the buffer. */
        const char *text = strerror_r((int)native_code, reason, sizeof reason);
        size_t length = strlen(last_error.message);
        snprintf(last_error.message + length, sizeof last_error.message - length, ": %s", text);
    }
    return status;
}

balora_status status_prefix(balora_status status, const char *format, ...) {
    char prefix[STATUS_MESSAGE_BYTES];
    char message[STATUS_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    size_t length = strlen(prefix);
    memcpy(message, last_error.message, sizeof message);
    if (length > sizeof prefix - 3)
        length = sizeof prefix - 3;
    memcpy(last_error.message, prefix, length);
    snprintf(last_error.message + length, sizeof last_error.message - length, ": %s", message);
    return status;
}

void status_keep(status_detail *out) {
    *out = last_error;
}

void status_put_back(const status_detail *detail) {
    last_error = *detail;
}

const char *balora_error_message(void) {
    return last_error.message;
}

balora_status balora_error_status(void) {
    return last_error.status;
}

int32_t balora_error_origin(void) {
    return last_error.origin;
}

int64_t balora_error_native_code(void) {
    return last_error.native_code;
}

const char *balora_status_name(balora_status status) {
    switch (status) {
    case BALORA_OK:
        return "BALORA_OK";
    case BALORA_DONE:
        return "BALORA_DONE";
    case BALORA_ERROR_ARGUMENT:
        return "BALORA_ERROR_ARGUMENT";
    case BALORA_ERROR_STATE:
        return "BALORA_ERROR_STATE";
    case BALORA_ERROR_ABI:
        return "BALORA_ERROR_ABI";
    case BALORA_ERROR_UNSUPPORTED:
        return "BALORA_ERROR_UNSUPPORTED";
    case BALORA_ERROR_CANCELLED:
        return "BALORA_ERROR_CANCELLED";
    case BALORA_ERROR_MEMORY:
        return "BALORA_ERROR_MEMORY";
    case BALORA_ERROR_IO:
        return "BALORA_ERROR_IO";
    case BALORA_ERROR_NOT_FOUND:
        return "BALORA_ERROR_NOT_FOUND";
    case BALORA_ERROR_FORMAT:
        return "BALORA_ERROR_FORMAT";
    case BALORA_ERROR_MISMATCH:
        return "BALORA_ERROR_MISMATCH";
    case BALORA_ERROR_NUMERIC:
        return "BALORA_ERROR_NUMERIC";
    case BALORA_ERROR_BACKEND:
        return "BALORA_ERROR_BACKEND";
    case BALORA_ERROR_INTERNAL:
        return "BALORA_ERROR_INTERNAL";
    default:
        return "unknown status";
    }
}
