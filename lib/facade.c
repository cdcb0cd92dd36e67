#include "facade.h"

#include "base/parallel.h"

balora_status facade_enter(facade_call *call, balora_context *context) {
    STATUS_TRY(context_poll(context));
    call->previous_threads = parallel_enter(context->threads);
    return BALORA_OK;
}

balora_status facade_leave(facade_call *call, balora_status status) {
    parallel_leave(call->previous_threads);
    return status;
}
