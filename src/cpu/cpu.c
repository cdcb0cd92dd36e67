/* The CPU's dispatch table. */
#include "backend/registry.h"
#include "cpu/internal.h"

#define CPU_ENTER_SLOT(slot) .slot = cpu_##slot,
static const backend_ops table = {BACKEND_HEADER("cpu") BACKEND_SLOTS(CPU_ENTER_SLOT, BACKEND_SLOT_NONE)};
#undef CPU_ENTER_SLOT

const backend_ops *cpu_backend(void) {
    return &table;
}
