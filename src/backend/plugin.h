/*
 * A backend that is loaded at run time: a shared library with one symbol, BACKEND_PLUGIN_SYMBOL.
 *
 * The library hands the plugin what it may call of the host (backend_host), the plugin hands back its table.
 * Each side checks the other's magic and ABI numbers first. A plugin links nothing of libbalora.
 */
#ifndef BACKEND_PLUGIN_H
#define BACKEND_PLUGIN_H

#include "backend/ops.h"

#define BACKEND_PLUGIN_SYMBOL "balora_backend_plugin"

/* What a plugin may call. */
typedef struct backend_host {
    uint32_t magic; /* BACKEND_MAGIC */
    uint32_t abi_major, abi_minor;
    uint32_t reserved;
    uint64_t struct_size;
    /* Record this thread's failure and return `status`. `origin` is a BALORA_ORIGIN_..., `native_code` the failing
     * software's own code. */
    balora_status (*fail)(balora_status status, int32_t origin, int64_t native_code, const char *message);
    /* base/memory.h: memory_zeroed and memory_free. */
    balora_status (*allocate)(allocator *memory, void *out, size_t count, size_t size, const char *what);
    void (*release)(allocator *memory, void *block);
} backend_host;

/* The symbol's type. Keeps `host`, which stays valid for the life of the process. NULL: the host is not one that
 * this plugin can work with. */
typedef const backend_ops *(*backend_plugin_entry)(const backend_host *host);

#endif
