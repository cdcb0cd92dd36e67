/* What every entry point does before and after its room: argument checks, the context's threads. */
#ifndef LIB_FACADE_H
#define LIB_FACADE_H

#include <stddef.h>

#include "base/context.h"
#include "base/status.h"

/* A NULL argument is a failure that names the function and the parameter. */
#define FACADE_REQUIRE(parameter)                                                                            \
    do {                                                                                                     \
        if ((parameter) == NULL)                                                                             \
            return status_fail(BALORA_ERROR_ARGUMENT, "%s: %s is NULL", __func__, #parameter);               \
    } while (0)

/* The same for an out parameter, which is NULL from here on until the call succeeds. */
#define FACADE_OUT(parameter)                                                                                \
    do {                                                                                                     \
        FACADE_REQUIRE(parameter);                                                                           \
        *(parameter) = NULL;                                                                                 \
    } while (0)

/* A call under way: the calling thread works with the context's number of threads. */
typedef struct facade_call {
    int previous_threads;
} facade_call;

/* Refuse when the context is cancelled or belongs to another process; else take up its number of threads. */
balora_status facade_enter(facade_call *call, balora_context *context);

/* Give the thread its own number of threads back; passes `status` on. */
balora_status facade_leave(facade_call *call, balora_status status);

#endif
