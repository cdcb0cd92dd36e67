#include "backend/host.h"

#include "base/memory.h"
#include "base/status.h"

static balora_status fail(balora_status status, int32_t origin, int64_t native_code, const char *message) {
    return status_fail_native(status, origin, native_code, "%s", message);
}

static const backend_host services = {
    .magic = BACKEND_MAGIC,
    .abi_major = BACKEND_ABI_MAJOR,
    .abi_minor = BACKEND_ABI_MINOR,
    .struct_size = sizeof(backend_host),
    .fail = fail,
    .allocate = memory_zeroed,
    .release = memory_free,
};

const backend_host *backend_host_services(void) {
    return &services;
}
