/*
 * The context: allocator, log and number of threads of everything made under it.
 *
 * Contexts are independent of each other. Handles keep their parents alive, so that handles may be freed in
 * any order. One handle is used by one thread at a time, except where its header says otherwise.
 */
#ifndef BALORA_CONTEXT_H
#define BALORA_CONTEXT_H

#include "balora/types.h"

BALORA_BEGIN_DECLS

/* Severity of a log message. */
enum { BALORA_LOG_ERROR = 10, BALORA_LOG_WARNING = 20, BALORA_LOG_INFO = 30, BALORA_LOG_DEBUG = 40 };

/*
 * Called with one line of UTF-8, without a line end; `message` is borrowed for the call. Non-zero asks the
 * running call to stop with BALORA_ERROR_CANCELLED. May come from any thread that runs a call of this
 * context.
 */
typedef int (*balora_log_callback)(int32_t level, const char *message, void *user);

/*
 * Memory for the host side. `allocate` returns `bytes` bytes aligned to `alignment` (a power of two, at most
 * 4096), or NULL; `release` gets what `allocate` returned, with the same size. Both may be called from any
 * thread.
 */
typedef void *(*balora_allocate_callback)(uint64_t bytes, uint64_t alignment, void *user);
typedef void (*balora_release_callback)(void *memory, uint64_t bytes, void *user);

typedef struct balora_context_options {
    uint64_t struct_size;
    int32_t threads;         /* threads a call may use; 0: one a core that this process may run on */
    int32_t log_level;       /* messages above this level are not built; 0: BALORA_LOG_INFO */
    balora_log_callback log; /* NULL: silent */
    void *log_user;
    balora_allocate_callback allocate; /* NULL, together with release: the C library's */
    balora_release_callback release;
    void *allocator_user;
    /* File of the plugin of a backend other than the CPU; NULL: libbalora-cuda.so is searched for beside libbalora, then
     * in the folder that the environment's BALORA_PLUGIN_DIR names. Copied. Since 0.1. */
    const char *plugin_path;
} balora_context_options;

#define BALORA_CONTEXT_OPTIONS_INIT                                                                          \
    { sizeof(balora_context_options), 0, 0, NULL, NULL, NULL, NULL, NULL, NULL }

/*
 * Make a context. `options` may be NULL. On failure *out is NULL.
 * Errors: ARGUMENT (threads out of 0..1024, only one of allocate and release), ABI, MEMORY. Since 0.1.
 */
BALORA_API balora_status balora_context_create(balora_context **out, const balora_context_options *options);

/* Give the handle back; NULL is allowed. Memory goes when its last child is freed. Since 0.1. */
BALORA_API void balora_context_free(balora_context *context);

/*
 * Ask every running call of this context to stop with BALORA_ERROR_CANCELLED at the next micro-batch. May be
 * called from any thread and from a signal handler. Stays in force until balora_context_resume. Since 0.1.
 */
BALORA_API void balora_context_cancel(balora_context *context);
BALORA_API void balora_context_resume(balora_context *context);

typedef struct balora_memory_statistics {
    uint64_t struct_size;
    uint64_t current_bytes; /* held now through this context's allocator */
    uint64_t peak_bytes;    /* the most ever held */
    uint64_t allocations;   /* calls of allocate so far */
} balora_memory_statistics;

#define BALORA_MEMORY_STATISTICS_INIT                                                                        \
    { sizeof(balora_memory_statistics), 0, 0, 0 }

/* Read the allocator's counters; any thread. Errors: ARGUMENT, ABI. Since 0.1. */
BALORA_API balora_status balora_context_memory(const balora_context *context, balora_memory_statistics *out);

/*
 * What this build and this machine offer, as one JSON object: version, backends, plugins with what became of them,
 * devices with their features and memory (docs/formats.md has the keys). Loads the plugins that there are and opens
 * each of their devices for a moment; a plugin that is absent or refused is no failure.
 * *out is owned by the caller: balora_string_free. Errors: ARGUMENT, MEMORY. Since 0.1.
 */
BALORA_API balora_status balora_context_describe(char **out, balora_context *context);

/* Free a string that a balora function returned as owned; NULL is allowed. `context` is the one it came from.
 * Since 0.1. */
BALORA_API void balora_string_free(balora_context *context, char *string);

BALORA_END_DECLS

#endif
