/* The backends that this library knows, and a device opened on one of them. */
#ifndef BACKEND_REGISTRY_H
#define BACKEND_REGISTRY_H

#include "backend/ops.h"
#include "base/memory.h"

/* The CPU's table (src/cpu); always there. */
const backend_ops *cpu_backend(void);

/* A device as rooms above hold it: the table beside its opened device. */
typedef struct backend {
    const backend_ops *ops;
    backend_device *device;
} backend;

/* Open "cpu" (or "cpu:0"). Another name is BALORA_ERROR_UNSUPPORTED and lists what there is. */
balora_status backend_open(backend *out, allocator *memory, const char *device_name, int32_t threads);
void backend_close(backend *self); /* also on a zeroed one, and twice */

#endif
