/* The backends that this library knows, and a device opened on one of them. */
#ifndef BACKEND_REGISTRY_H
#define BACKEND_REGISTRY_H

#include "backend/loader.h"
#include "backend/ops.h"
#include "base/memory.h"

/* The CPU's table (src/cpu); always there. */
const backend_ops *cpu_backend(void);

/* A device as rooms above hold it: the table beside its opened device. */
typedef struct backend {
    const backend_ops *ops;
    backend_device *device;
} backend;

/* Names of the backends that are plugins, from 0; NULL behind the last. */
const char *backend_plugin_name(int index);

/*
 * Open "cpu", "cuda" (the first GPU) or "cuda:N". `plugin_path` is the file of the backend's plugin, or NULL: searched
 * for, see loader.h. BALORA_ERROR_ARGUMENT: another form; BALORA_ERROR_UNSUPPORTED: no such backend, or its plugin is
 * not there; BALORA_ERROR_ABI: its plugin does not fit; else what the backend answers.
 */
balora_status backend_open(backend *out, allocator *memory, const char *device_name, const char *plugin_path,
                           int32_t threads);
void backend_close(backend *self); /* also on a zeroed one, and twice */

#endif
