#include "backend/registry.h"

#include <string.h>

#include "base/status.h"

balora_status backend_open(backend *out, allocator *memory, const char *device_name, int32_t threads) {
    memset(out, 0, sizeof *out);
    if (strcmp(device_name, "cpu") != 0 && strcmp(device_name, "cpu:0") != 0)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "device \"%s\" is not available; this build has: cpu",
                           device_name);
    const backend_ops *ops = cpu_backend();
    STATUS_TRY(ops->device_open(&out->device, memory, 0, threads));
    out->ops = ops;
    return BALORA_OK;
}

void backend_close(backend *self) {
    if (self->ops != NULL)
        self->ops->device_close(self->device);
    memset(self, 0, sizeof *self);
}
