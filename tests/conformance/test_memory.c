/* Devices, queues, buffers and transfers. */
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "tests.h"

void test_memory_device(bench *b) {
    int32_t count = 0;
    case_begin(b, SLOT_device_count, "devices");
    CALL_OK(b, device_count, &count);
    if (count <= b->index)
        bench_report(b, "%d devices, though device %d is open", (int)count, (int)b->index);

    backend_device *none = b->device;
    case_begin(b, SLOT_device_open, "index %d beyond the last", (int)count);
    if (CALL(b, device_open, &none, &b->memory, count, 1) == BALORA_OK)
        bench_report(b, "a device that does not exist was opened");

    backend_properties properties;
    memset(&properties, 0xFF, sizeof properties);
    case_begin(b, SLOT_device_properties, "of the open device");
    CALL_OK(b, device_properties, b->device, &properties);
    if (memchr(properties.name, '\0', sizeof properties.name) == NULL || properties.name[0] == '\0' ||
        memchr(properties.features, '\0', sizeof properties.features) == NULL)
        bench_report(b, "name and features must be strings, the name not empty");
    if (properties.memory_bytes <= 0 || properties.threads != b->threads)
        bench_report(b, "%lld bytes and %d threads, opened with %d", (long long)properties.memory_bytes,
                     (int)properties.threads, (int)b->threads);

    case_begin(b, SLOT_prepare, "no limits at all");
    CALL_OK(b, prepare, b->queue, &(backend_limits){0});

    /* Two queues of one device work side by side. */
    backend_queue *second;
    case_begin(b, SLOT_queue_open, "a second queue");
    CALL_OK(b, queue_open, &second, b->device);
    operand *x = operand_random(b, "x", BALORA_F32, 7, 33, 1.0);
    CALL_OK(b, synchronize, b->queue); /* x was uploaded there */
    CALL_OK(b, fill_zero, second, x->view);
    CALL_OK(b, synchronize, second);
    CALL_VOID(b, queue_close, second);
    expect_close(b, x, case_array(b, 7 * 33), NULL);
    case_end(b);
}

void test_memory_transfers(bench *b) {
    enum { BYTES = 4099 };
    static const struct {
        int64_t offset, bytes;
    } pieces[] = {{0, 1},       {1, 1},     {3, 64},   {63, 65}, {129, 1000},
                  {1131, 2901}, {4032, 67}, {4099, 0}, {17, 0}};
    unsigned char host[BYTES], expected[BYTES], got[BYTES], guarded[BYTES + 2];
    backend_buffer *buffer = NULL;
    case_begin(b, SLOT_upload, "%d bytes in pieces at odd offsets", BYTES);
    CALL_OK(b, buffer_allocate, &buffer, b->device, BYTES);
    memset(expected, 0xA5, sizeof expected);
    CALL_OK(b, upload, b->queue, buffer, 0, expected, BYTES);
    for (int64_t i = 0; i < COUNT_OF(pieces); i++) {
        for (int64_t j = 0; j < pieces[i].bytes; j++)
            host[j] = (unsigned char)random_bits(1, 3, (uint64_t)(i * BYTES + j));
        memcpy(expected + pieces[i].offset, host, (size_t)pieces[i].bytes);
        CALL_OK(b, upload, b->queue, buffer, pieces[i].offset, host, pieces[i].bytes);
        memset(host, 0, sizeof host); /* host memory may be reused at once */
    }
    CALL_OK(b, download, b->queue, got, buffer, 0, BYTES);
    CALL_OK(b, synchronize, b->queue);
    if (memcmp(got, expected, BYTES) != 0)
        bench_report(b, "the buffer does not hold what was uploaded");
    for (int64_t i = 0; i < COUNT_OF(pieces); i++) {
        memset(guarded, 0x5A, sizeof guarded);
        CALL_OK(b, download, b->queue, guarded + 1, buffer, pieces[i].offset, pieces[i].bytes);
        CALL_OK(b, synchronize, b->queue);
        if (memcmp(guarded + 1, expected + pieces[i].offset, (size_t)pieces[i].bytes) != 0 ||
            guarded[0] != 0x5A || guarded[1 + pieces[i].bytes] != 0x5A)
            bench_report(b, "download of %lld bytes at %lld is wrong", (long long)pieces[i].bytes,
                         (long long)pieces[i].offset);
    }
    CALL_VOID(b, buffer_free, b->device, buffer);
    case_end(b);
}

/* A buffer over a part of another one's memory, as a host's tensor is one: both backends keep the address first. */
void test_memory_wrapped(bench *b) {
    enum { BYTES = 1024, FIRST = 192, PART = 516 };
    unsigned char host[BYTES], got[BYTES];
    backend_buffer *owner = NULL, *part = NULL, *empty = NULL;
    unsigned char *memory;
    backend_memory before, after;
    case_begin(b, SLOT_buffer_wrap, "%d bytes at byte %d of a buffer", PART, FIRST);
    CALL_OK(b, buffer_allocate, &owner, b->device, BYTES);
    memcpy(&memory, owner, sizeof memory);
    CALL_OK(b, memory_usage, b->device, &before);
    CALL_OK(b, buffer_wrap, &part, b->device, memory + FIRST, PART);
    CALL_OK(b, memory_usage, b->device, &after);
    if (after.current != before.current)
        bench_report(b, "memory of somebody else is counted");
    for (int64_t i = 0; i < BYTES; i++)
        host[i] = (unsigned char)random_bits(1, 9, (uint64_t)i);
    CALL_OK(b, upload, b->queue, owner, 0, host, BYTES);
    matrix_view row = {part, 4, 1, (PART - 4) / 4, (PART - 4) / 4, BALORA_F32, 0};
    CALL_OK(b, fill_zero, b->queue, row);
    memset(host + FIRST + 4, 0, PART - 4);
    CALL_OK(b, download, b->queue, got, part, 0, PART);
    CALL_OK(b, synchronize, b->queue);
    if (memcmp(got, host + FIRST, PART) != 0)
        bench_report(b, "the wrapped buffer does not hold what its memory does");
    row.cols++;
    if (CALL(b, fill_zero, b->queue, row) != BALORA_ERROR_INTERNAL)
        bench_report(b, "a view beyond the wrapped bytes was accepted");
    CALL_VOID(b, buffer_free, b->device, part);
    CALL_OK(b, download, b->queue, got, owner, 0, BYTES);
    CALL_OK(b, synchronize, b->queue);
    if (memcmp(got, host, BYTES) != 0)
        bench_report(b, "the memory under a freed wrapped buffer has changed");
    CALL_VOID(b, buffer_free, b->device, owner);
    case_begin(b, SLOT_buffer_wrap, "nothing");
    CALL_OK(b, buffer_wrap, &empty, b->device, NULL, 0);
    CALL_VOID(b, buffer_free, b->device, empty);
    if (CALL(b, buffer_wrap, &empty, b->device, NULL, 4) != BALORA_ERROR_INTERNAL || empty != NULL)
        bench_report(b, "4 bytes at NULL were wrapped");
    case_end(b);
}

/* An allocator that refuses one call, and everything after it. */
typedef struct stingy {
    int64_t calls, refused_from;
} stingy;

static void *stingy_allocate(uint64_t bytes, uint64_t alignment, void *user) {
    stingy *self = user;
    if (self->calls++ >= self->refused_from)
        return NULL;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void stingy_release(void *block, uint64_t bytes, void *user) {
    (void)bytes;
    (void)user;
    free(block);
}

static balora_status open_and_prepare(bench *b, backend_device **device, backend_queue **queue,
                                      backend_buffer **buffer, allocator *memory) {
    static const backend_limits limits = {
        .gemm_columns = 700, .eigh_size = 40, .sequence_length = 90, .head_dim = 24, .vocabulary = 500};
    balora_status status = CALL(b, device_open, device, memory, b->index, b->threads);
    if (status == BALORA_OK)
        status = CALL(b, queue_open, queue, *device);
    if (status == BALORA_OK)
        status = CALL(b, prepare, *queue, &limits);
    if (status == BALORA_OK)
        status = CALL(b, buffer_allocate, buffer, *device, 12345);
    return status;
}

/* Refusing the n-th allocation gives BALORA_ERROR_MEMORY and leaks nothing, for every n until all goes
 * through. */
void test_memory_refused_allocations(bench *b) {
    enum { CALLS_AT_MOST = 200 };
    balora_status status = BALORA_ERROR_MEMORY;
    int64_t refused = 0;
    for (; refused < CALLS_AT_MOST && status != BALORA_OK; refused++) {
        stingy user = {0, refused};
        allocator memory;
        memory_init(&memory, stingy_allocate, stingy_release, &user);
        backend_device *device = NULL;
        backend_queue *queue = NULL;
        backend_buffer *buffer = NULL;
        case_begin(b, SLOT_device_open, "allocation %lld refused", (long long)refused);
        status = open_and_prepare(b, &device, &queue, &buffer, &memory);
        if (status != BALORA_OK && status != BALORA_ERROR_MEMORY)
            bench_report(b, "answered %s, expected BALORA_ERROR_MEMORY", balora_status_name(status));
        if (buffer != NULL)
            CALL_VOID(b, buffer_free, device, buffer);
        if (queue != NULL)
            CALL_VOID(b, queue_close, queue);
        if (device != NULL)
            CALL_VOID(b, device_close, device);
        if (atomic_load(&memory.current_bytes) != 0)
            bench_report(b, "%llu bytes leaked", (unsigned long long)atomic_load(&memory.current_bytes));
    }
    if (status != BALORA_OK)
        bench_report(b, "still failing after %lld allowed allocations", (long long)refused);
    if (refused < 2)
        bench_report(b, "a device, a queue and a buffer were made without the given allocator");
}
