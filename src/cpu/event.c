/* Events: work is done when its call returns, so that a moment of a queue is a moment of the clock. */
#include "base/clock.h"
#include "cpu/internal.h"

struct backend_event {
    allocator *memory;
    double seconds;
    int32_t recorded;
    int32_t reserved;
};

balora_status cpu_event_open(backend_event **out, backend_device *device) {
    STATUS_TRY(memory_zeroed(device->memory, out, 1, sizeof **out, "a cpu event"));
    (*out)->memory = device->memory;
    return BALORA_OK;
}

void cpu_event_close(backend_event *event) {
    if (event != NULL)
        memory_free(event->memory, event);
}

balora_status cpu_event_record(backend_queue *queue, backend_event *event) {
    (void)queue;
    event->seconds = clock_seconds();
    event->recorded = 1;
    return BALORA_OK;
}

balora_status cpu_event_wait(backend_queue *queue, backend_event *event) {
    (void)queue;
    (void)event;
    return BALORA_OK;
}

balora_status cpu_event_elapsed(backend_event *begin, backend_event *end, double *seconds) {
    *seconds = 0;
    if (!begin->recorded || !end->recorded)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu event_elapsed: an event was never recorded");
    *seconds = end->seconds - begin->seconds;
    return BALORA_OK;
}
