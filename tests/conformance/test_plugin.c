/* The table of a plugin against the suite:  conformance-plugin cuda:0 [FILTER] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/registry.h"
#include "balora/status.h"
#include "conformance.h"

int main(int argc, char **argv) {
    if (argc < 2)
        return fprintf(stderr, "usage: conformance-plugin DEVICE [FILTER]\n"), 2;
    allocator memory;
    backend device;
    memory_init(&memory, NULL, NULL, NULL);
    if (backend_open(&device, &memory, argv[1], NULL, 2) != BALORA_OK)
        return fprintf(stderr, "%s\n", balora_error_message()), 1;
    const backend_ops *ops = device.ops;
    const char *number = strchr(argv[1], ':');
    backend_close(&device); /* the table stays: a plugin is never unloaded */
    conformance_options options = {.threads = 2, .filter = argc > 2 ? argv[2] : NULL};
    return conformance_run(ops, number != NULL ? atoi(number + 1) : 0, &options) == 0 ? 0 : 1;
}
