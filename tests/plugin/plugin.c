/*
 * Plugins for tests: one that works, and ones that are wrong in one way each. Which one is made is said by one of
 * these macros: GOOD, NO_DEVICES, COUNT_FAILS, OPEN_FAILS, NEWER_MINOR, WITHOUT_OPTIONAL (all loadable), OTHER_MAJOR,
 * OLDER_MINOR, BAD_MAGIC, TRUNCATED, WITHOUT_SYMBOL, REFUSES_HOST, EMPTY_SLOT, HALF_CAPTURE, OTHER_NAME,
 * WITHOUT_NAME, UNRESOLVED. Its devices can be opened and described, and nothing else.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "backend/plugin.h"

enum { DEVICES = 2, NATIVE_CODE = 46 };

struct backend_device {
    allocator *memory;
    int32_t index;
};

static const backend_host *host;

#ifdef UNRESOLVED
void a_function_that_nobody_has(void);
#endif

static balora_status device_count(int32_t *count) {
    *count = 0;
#ifdef COUNT_FAILS
    return host->fail(BALORA_ERROR_BACKEND, BALORA_ORIGIN_CUDA, NATIVE_CODE,
                      "counting devices: the driver is upset");
#endif
#ifndef NO_DEVICES
    *count = DEVICES;
#endif
    return BALORA_OK;
}

static balora_status device_open(backend_device **out, allocator *memory, int32_t index, int32_t threads) {
    char message[96];
    int32_t count;
    *out = NULL;
    (void)threads;
    (void)device_count(&count);
#ifdef OPEN_FAILS
    return host->fail(BALORA_ERROR_BACKEND, BALORA_ORIGIN_CUDA, NATIVE_CODE, "cuda:0: all of it is in use");
#endif
    if (index >= count) {
        snprintf(message, sizeof message, "cuda:%d does not exist; %d devices were found", index, count);
        return host->fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUDA, 0, message);
    }
    balora_status status = host->allocate(memory, out, 1, sizeof **out, "a test's device");
    if (status != BALORA_OK)
        return status;
    (*out)->memory = memory;
    (*out)->index = index;
    return BALORA_OK;
}

static void device_close(backend_device *device) {
    host->release(device->memory, device);
}

static balora_status device_properties(backend_device *device, backend_properties *out) {
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "Test GPU \xe9 %d", device->index); /* no UTF-8 */
    snprintf(out->features, sizeof out->features, "sm_90,driver=13.0");
    out->memory_bytes = INT64_C(80) << 30;
    return BALORA_OK;
}

static balora_status memory_usage(backend_device *device, backend_memory *out) {
    (void)device;
    *out = (backend_memory){0, 0, INT64_C(70) << 30, INT64_C(80) << 30};
    return BALORA_OK;
}

/* Stands in every slot that no test calls. */
static void not_called(void) {
}

static void fill_slots(unsigned char *table, size_t bytes) {
    void (*function)(void) = not_called;
    for (size_t at = offsetof(backend_ops, device_count); at < bytes; at += sizeof function)
        memcpy(table + at, &function, sizeof function);
}

static void make_table(backend_ops *table) {
    fill_slots((unsigned char *)table, sizeof *table);
    table->magic = BACKEND_MAGIC;
    table->abi_major = BACKEND_ABI_MAJOR;
    table->abi_minor = BACKEND_ABI_MINOR;
    table->struct_size = sizeof *table;
    table->name = "cuda";
    table->device_count = device_count;
    table->device_open = device_open;
    table->device_close = device_close;
    table->device_properties = device_properties;
    table->memory_usage = memory_usage;
#if defined BAD_MAGIC
    table->magic = 0x12345678;
#elif defined OTHER_MAJOR
    table->abi_major = BACKEND_ABI_MAJOR + 1;
#elif defined OLDER_MINOR
    table->abi_minor = BACKEND_ABI_MINOR - 1;
#elif defined NEWER_MINOR
    table->abi_minor = BACKEND_ABI_MINOR + 1;
    table->struct_size = sizeof *table + sizeof(void *);
#elif defined WITHOUT_OPTIONAL
    table->gemm_bias = NULL;
    table->capture_begin = NULL;
    table->capture_end = NULL;
#elif defined HALF_CAPTURE
    table->capture_end = NULL;
#elif defined EMPTY_SLOT
    table->eigh_top = NULL;
#elif defined OTHER_NAME
    table->name = "vulkan";
#elif defined WITHOUT_NAME
    table->name = NULL;
#elif defined TRUNCATED
    table->struct_size = offsetof(backend_ops, event_open);
#endif
}

#ifdef WITHOUT_SYMBOL
#define balora_backend_plugin another_function
#endif

const backend_ops *balora_backend_plugin(const backend_host *lent);

__attribute__((visibility("default"))) const backend_ops *balora_backend_plugin(const backend_host *lent) {
#ifdef TRUNCATED
    /* As long as it says, so that a sanitizer sees who reads on. */
    static unsigned char bytes[offsetof(backend_ops, event_open)] __attribute__((aligned(sizeof(void *))));
    static backend_ops whole;
    make_table(&whole);
    memcpy(bytes, &whole, sizeof bytes);
    const backend_ops *table = (const backend_ops *)(const void *)bytes;
#else
    static backend_ops table[1];
    make_table(table);
#endif
#ifdef UNRESOLVED
    a_function_that_nobody_has();
#endif
#ifdef REFUSES_HOST
    return NULL;
#endif
    int known = lent->magic == BACKEND_MAGIC && lent->abi_major == BACKEND_ABI_MAJOR &&
                lent->abi_minor >= BACKEND_ABI_MINOR && lent->struct_size >= sizeof *lent;
    host = lent;
    return known ? table : NULL;
}
