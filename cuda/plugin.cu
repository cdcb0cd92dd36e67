/* The GPU's dispatch table, and the symbol by which the library finds it. */
#include "internal.h"
#include "slots.h"

#define CUDA_ENTER_SLOT(slot) .slot = cuda_##slot,
static const backend_ops table = {BACKEND_HEADER("cuda") BACKEND_SLOTS(CUDA_ENTER_SLOT, CUDA_ENTER_SLOT)};
#undef CUDA_ENTER_SLOT

static bool is_known(const backend_host *host) {
    return host != nullptr && host->magic == BACKEND_MAGIC && host->abi_major == BACKEND_ABI_MAJOR &&
           host->abi_minor >= BACKEND_ABI_MINOR && host->struct_size >= sizeof *host;
}

extern "C" __attribute__((visibility("default"))) const backend_ops *balora_backend_plugin(
    const backend_host *host) {
    if (!is_known(host))
        return nullptr;
    cuda_host = host;
    return &table;
}
