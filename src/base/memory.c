#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"

/* Every block is preceded by its size, so that freeing needs the pointer only. */
typedef struct block_header {
    uint64_t bytes; /* header included */
    unsigned char padding[MEMORY_ALIGNMENT - sizeof(uint64_t)];
} block_header;

_Static_assert(sizeof(block_header) == MEMORY_ALIGNMENT, "the header must keep the alignment");

static void *libc_allocate(uint64_t bytes, uint64_t alignment, void *user) {
    (void)user;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void libc_release(void *block, uint64_t bytes, void *user) {
    (void)bytes;
    (void)user;
    free(block);
}

void memory_init(allocator *self, balora_allocate_callback allocate, balora_release_callback release,
                 void *user) {
    self->allocate = allocate != NULL ? allocate : libc_allocate;
    self->release = release != NULL ? release : libc_release;
    self->user = user;
    atomic_init(&self->current_bytes, 0);
    atomic_init(&self->peak_bytes, 0);
    atomic_init(&self->allocations, 0);
}

static void count_allocation(allocator *self, uint64_t bytes) {
    uint64_t now = atomic_fetch_add(&self->current_bytes, bytes) + bytes;
    uint64_t peak = atomic_load(&self->peak_bytes);
    while (now > peak && !atomic_compare_exchange_weak(&self->peak_bytes, &peak, now))
        ;
    atomic_fetch_add(&self->allocations, 1);
}

balora_status memory_new(allocator *self, void *out, size_t count, size_t size, const char *what) {
    void *none = NULL;
    memcpy(out, &none, sizeof none);
    size_t bytes, total;
    if (!arith_multiply(count, size, &bytes) || !arith_add(bytes, sizeof(block_header), &total))
        return status_fail(BALORA_ERROR_MEMORY, "%s: %zu elements of %zu bytes overflow the address space",
                           what, count, size);
    block_header *block = self->allocate(total, MEMORY_ALIGNMENT, self->user);
    if (block == NULL)
        return status_fail(BALORA_ERROR_MEMORY, "%s: the allocator refused %zu bytes", what, total);
    block->bytes = total;
    count_allocation(self, total);
    void *payload = block + 1;
    memcpy(out, &payload, sizeof payload);
    return BALORA_OK;
}

balora_status memory_zeroed(allocator *self, void *out, size_t count, size_t size, const char *what) {
    STATUS_TRY(memory_new(self, out, count, size, what));
    void *payload;
    memcpy(&payload, out, sizeof payload);
    memset(payload, 0, count * size);
    return BALORA_OK;
}

balora_status memory_grow(allocator *self, void *block, size_t old_count, size_t new_count, size_t size,
                          const char *what) {
    void *old, *grown;
    memcpy(&old, block, sizeof old);
    STATUS_TRY(memory_new(self, &grown, new_count, size, what));
    if (old != NULL)
        memcpy(grown, old, (old_count < new_count ? old_count : new_count) * size);
    memory_free(self, old);
    memcpy(block, &grown, sizeof grown);
    return BALORA_OK;
}

void memory_free(allocator *self, void *block) {
    if (block == NULL)
        return;
    block_header *header = (block_header *)block - 1;
    uint64_t bytes = header->bytes;
    atomic_fetch_sub(&self->current_bytes, bytes);
    self->release(header, bytes, self->user);
}

balora_status memory_string_n(allocator *self, char **out, const char *text, size_t length) {
    STATUS_TRY(memory_new(self, out, length + 1, 1, "a string"));
    memcpy(*out, text, length);
    (*out)[length] = '\0';
    return BALORA_OK;
}

balora_status memory_string(allocator *self, char **out, const char *text) {
    return memory_string_n(self, out, text, strlen(text));
}
