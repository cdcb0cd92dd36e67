#include "backend/table.h"

#include <stddef.h>
#include <string.h>

#include "backend/slots.h"
#include "base/status.h"

typedef struct slot {
    const char *name;
    size_t offset;
    int required;
} slot;

#define REQUIRED_SLOT(name) {#name, offsetof(backend_ops, name), 1},
#define OPTIONAL_SLOT(name) {#name, offsetof(backend_ops, name), 0},

static const slot slots[] = {BACKEND_SLOTS(REQUIRED_SLOT, OPTIONAL_SLOT)};

enum { SLOT_COUNT = sizeof slots / sizeof slots[0] };

static balora_status check_versions(const backend_ops *ops) {
    if (ops->magic != BACKEND_MAGIC)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "its table begins with 0x%08x instead of 0x%08x: it is no backend of libbalora",
                           ops->magic, BACKEND_MAGIC);
    if (ops->abi_major != BACKEND_ABI_MAJOR || ops->abi_minor < BACKEND_ABI_MINOR)
        return status_fail(
            BALORA_ERROR_ABI,
            "it was built for backend ABI %u.%u; this library needs %d.%d or a later minor version: "
            "install library and plugin of one release",
            ops->abi_major, ops->abi_minor, BACKEND_ABI_MAJOR, BACKEND_ABI_MINOR);
    if (ops->struct_size < sizeof *ops)
        return status_fail(
            BALORA_ERROR_ABI,
            "its table has %llu bytes; backend ABI %u.%u has at least %zu: it was built wrongly",
            (unsigned long long)ops->struct_size, ops->abi_major, ops->abi_minor, sizeof *ops);
    return BALORA_OK;
}

static int is_empty(const backend_ops *ops, const slot *which) {
    void (*function)(void);
    memcpy(&function, (const char *)ops + which->offset, sizeof function);
    return function == NULL;
}

balora_status table_check(const backend_ops *ops, const char *name) {
    STATUS_TRY(check_versions(ops));
    if (ops->name == NULL || strcmp(ops->name, name) != 0)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "it is the backend \"%s\"; expected \"%s\"",
                           ops->name != NULL ? ops->name : "", name);
    for (size_t i = 0; i < SLOT_COUNT; i++)
        if (slots[i].required && is_empty(ops, &slots[i]))
            return status_fail(
                BALORA_ERROR_ABI,
                "its table lacks %s, which every backend of ABI %u.%u has: it was built wrongly",
                slots[i].name, ops->abi_major, ops->abi_minor);
    if ((ops->capture_begin == NULL) != (ops->capture_end == NULL))
        return status_fail(BALORA_ERROR_ABI,
                           "its table has one of capture_begin and capture_end; expected both or neither");
    return BALORA_OK;
}
