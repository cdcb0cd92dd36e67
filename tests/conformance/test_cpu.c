/* The CPU's table against the suite, with one thread and with two. An argument filters tests by name. */
#include "backend/registry.h"
#include "conformance.h"

int main(int argc, char **argv) {
    int failed = 0;
    for (int32_t threads = 1; threads <= 2; threads++) {
        conformance_options options = {.threads = threads, .filter = argc > 1 ? argv[1] : NULL};
        failed += conformance_run(cpu_backend(), 0, &options);
    }
    return failed == 0 ? 0 : 1;
}
