/* The CPU's dispatch table. */
#include "backend/registry.h"
#include "cpu/internal.h"

static const backend_ops table = {.magic = BACKEND_MAGIC,
                                  .abi_major = BACKEND_ABI_MAJOR,
                                  .abi_minor = BACKEND_ABI_MINOR,
                                  .struct_size = sizeof(backend_ops),
                                  .name = "cpu",

#define CPU_ENTER_SLOT(slot) .slot = cpu_##slot,
                                  BACKEND_SLOTS(CPU_ENTER_SLOT, BACKEND_SLOT_NONE)
#undef CPU_ENTER_SLOT
};

const backend_ops *cpu_backend(void) {
    return &table;
}
