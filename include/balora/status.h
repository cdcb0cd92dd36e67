/*
 * Status codes and the detail of the last failure.
 *
 * Every function that can fail returns a balora_status. BALORA_OK and BALORA_DONE are successes; everything
 * else is a failure whose detail is kept per thread until the next failing call of that thread. A call that
 * succeeds leaves the detail alone.
 */
#ifndef BALORA_STATUS_H
#define BALORA_STATUS_H

#include <stdint.h>

#include "balora/export.h"

BALORA_BEGIN_DECLS

typedef int32_t balora_status;

enum {
    BALORA_OK = 0,
    BALORA_DONE = 1, /* nothing is left to do: the run has reached its last step */

    BALORA_ERROR_ARGUMENT = 100,    /* an argument or option is out of its bounds */
    BALORA_ERROR_STATE = 110,       /* the call does not fit the handle's state */
    BALORA_ERROR_ABI = 120,         /* the caller was built against a newer header than the library knows */
    BALORA_ERROR_UNSUPPORTED = 130, /* valid, but this version cannot do it */
    BALORA_ERROR_CANCELLED = 140,   /* balora_context_cancel, or a callback asked to stop */

    BALORA_ERROR_MEMORY = 200,    /* an allocation failed */
    BALORA_ERROR_IO = 210,        /* the operating system refused a read or write */
    BALORA_ERROR_NOT_FOUND = 220, /* a file, tensor or key that must be there is not */
    BALORA_ERROR_FORMAT = 230,    /* a file breaks its format's rules */
    BALORA_ERROR_MISMATCH = 240,  /* two inputs are valid but do not belong together (shapes, vocabularies) */

    BALORA_ERROR_NUMERIC = 300, /* a non-finite value, or an iteration that did not converge */
    BALORA_ERROR_BACKEND = 310, /* a numerical library or the device failed: see origin and native code */
    BALORA_ERROR_INTERNAL = 400 /* a broken promise inside the library: please report it */
};

/* Which software reported the failure first. */
enum {
    BALORA_ORIGIN_BALORA = 0,
    BALORA_ORIGIN_LIBC = 10,     /* native code: errno */
    BALORA_ORIGIN_LAPACK = 20,   /* native code: info */
    BALORA_ORIGIN_JSON = 30,     /* native code: byte position */
    BALORA_ORIGIN_CUDA = 40,     /* native code: cudaError_t */
    BALORA_ORIGIN_CUBLAS = 50,   /* native code: cublasStatus_t */
    BALORA_ORIGIN_CUSOLVER = 60, /* native code: cusolverStatus_t, or info */
    BALORA_ORIGIN_CUDNN = 70     /* native code: cudnnStatus_t */
};

/* Short name of a code, such as "BALORA_ERROR_FORMAT"; "unknown status" for others. Static storage. Since
 * 0.1. */
BALORA_API const char *balora_status_name(balora_status status);

/*
 * Detail of this thread's last failure: what, where, what was expected, what to do. Never NULL; empty before
 * the first failure. Borrowed: valid until the next failing call of this thread. Since 0.1.
 */
BALORA_API const char *balora_error_message(void);

/* Status, origin (BALORA_ORIGIN_...) and native code of this thread's last failure. Since 0.1. */
BALORA_API balora_status balora_error_status(void);
BALORA_API int32_t balora_error_origin(void);
BALORA_API int64_t balora_error_native_code(void);

BALORA_END_DECLS

#endif
