#include "base/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "base/parallel.h"
#include "base/status.h"

balora_status context_new(balora_context **out, const balora_context_options *options) {
    allocator boot;
    memory_init(&boot, options->allocate, options->release, options->allocator_user);
    balora_context *context;
    STATUS_TRY(memory_zeroed(&boot, &context, 1, sizeof *context, "a context"));
    memory_init(&context->memory, options->allocate, options->release, options->allocator_user);
    atomic_init(&context->references, 1);
    atomic_init(&context->cancelled, 0);
    context->threads = options->threads > 0 ? options->threads : parallel_available();
    context->log_level = options->log_level > 0 ? options->log_level : BALORA_LOG_INFO;
    context->log = options->log;
    context->log_user = options->log_user;
    context->process = getpid();
    if (options->plugin_path != NULL && options->plugin_path[0] != '\0') {
        balora_status status = memory_string(&context->memory, &context->plugin_path, options->plugin_path);
        if (status != BALORA_OK) {
            context_release(context);
            return status;
        }
    }
    *out = context;
    return BALORA_OK;
}

balora_context *context_retain(balora_context *context) {
    atomic_fetch_add(&context->references, 1);
    return context;
}

void context_release(balora_context *context) {
    if (context == NULL || atomic_fetch_sub(&context->references, 1) != 1)
        return;
    memory_free(&context->memory, context->plugin_path);
    allocator last;
    memory_init(&last, context->memory.allocate, context->memory.release, context->memory.user);
    memory_free(&last, context);
}

balora_status context_poll(balora_context *context) {
    if (atomic_load(&context->cancelled) != 0)
        return status_fail(BALORA_ERROR_CANCELLED, "cancelled by balora_context_cancel");
    if (context->process != getpid())
        return status_fail(BALORA_ERROR_STATE,
                           "this context was made before a fork; make a new one in the child process");
    return BALORA_OK;
}

balora_status context_log(balora_context *context, int32_t level, const char *format, ...) {
    if (context->log == NULL || level > context->log_level)
        return BALORA_OK;
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (context->log(level, message, context->log_user) != 0)
        return status_fail(BALORA_ERROR_CANCELLED, "the log callback asked to stop");
    return BALORA_OK;
}
