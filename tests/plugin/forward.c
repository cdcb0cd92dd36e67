/* A plugin "cuda" that computes with a CPU table of its own: a whole run shows that nothing asks which device it has.
 * It lets TF32 not be allowed, so that a test sees who asks for it. */
#include "backend/plugin.h"
#include "backend/registry.h"

static const backend_host *host;

static balora_status allow_tf32(backend_queue *queue, int32_t allowed) {
    (void)queue;
    return allowed ? host->fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUDA, 0, "TF32 was asked for")
                   : BALORA_OK;
}

const backend_ops *balora_backend_plugin(const backend_host *lent);

__attribute__((visibility("default"))) const backend_ops *balora_backend_plugin(const backend_host *lent) {
    static backend_ops table;
    host = lent;
    table = *cpu_backend();
    table.name = "cuda";
    table.allow_tf32 = allow_tf32;
    return &table;
}
