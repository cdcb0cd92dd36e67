/* The context behind the public handle: allocator, log, threads, cancellation, lifetime. */
#ifndef BASE_CONTEXT_H
#define BASE_CONTEXT_H

#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "balora/context.h"
#include "base/memory.h"

struct balora_context {
    allocator memory;
    _Atomic int references;
    atomic_int cancelled; /* lock-free: set from signal handlers */
    int threads;
    int log_level;
    char *plugin_path; /* of the options, or NULL */
    balora_log_callback log;
    void *log_user;
    pid_t process; /* a forked child must not use the parent's threads */
};

/* `options` is complete and checked by the facade. */
balora_status context_new(balora_context **out, const balora_context_options *options);

/* Count one more user; give one back, freeing at the last. */
balora_context *context_retain(balora_context *context);
void context_release(balora_context *context);

/* BALORA_ERROR_CANCELLED when cancellation was asked for, BALORA_ERROR_STATE after a fork. */
balora_status context_poll(balora_context *context);

/* Send a message to the log callback; its wish to stop comes back as BALORA_ERROR_CANCELLED. */
balora_status context_log(balora_context *context, int32_t level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
