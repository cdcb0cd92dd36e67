#include "balora/context.h"

#include "describe.h"
#include "facade.h"
#include "options.h"

balora_status balora_context_create(balora_context **out, const balora_context_options *options) {
    FACADE_OUT(out);
    balora_context_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_CONTEXT, &complete, options));
    if ((complete.allocate == NULL) != (complete.release == NULL))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "balora_context_options: only %s is given; expected allocate and release together",
                           complete.allocate != NULL ? "allocate" : "release");
    return context_new(out, &complete);
}

void balora_context_free(balora_context *context) {
    context_release(context);
}

void balora_context_cancel(balora_context *context) {
    if (context != NULL)
        atomic_store(&context->cancelled, 1);
}

void balora_context_resume(balora_context *context) {
    if (context != NULL)
        atomic_store(&context->cancelled, 0);
}

balora_status balora_context_memory(const balora_context *context, balora_memory_statistics *out) {
    FACADE_REQUIRE(context);
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_memory_statistics"));
    balora_memory_statistics statistics = {sizeof statistics, atomic_load(&context->memory.current_bytes),
                                           atomic_load(&context->memory.peak_bytes),
                                           atomic_load(&context->memory.allocations)};
    options_export(out, &statistics, sizeof statistics);
    return BALORA_OK;
}

balora_status balora_context_describe(char **out, balora_context *context) {
    FACADE_OUT(out);
    FACADE_REQUIRE(context);
    facade_call call;
    STATUS_TRY(facade_enter(&call, context));
    return facade_leave(&call, describe_machine(out, context));
}

void balora_string_free(balora_context *context, char *string) {
    if (context != NULL)
        memory_free(&context->memory, string);
}
