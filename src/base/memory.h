/* Host memory through the context's allocator, counted. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "balora/context.h"

#define MEMORY_ALIGNMENT 64 /* a cache line, and the widest vector */

typedef struct allocator allocator;

struct allocator {
    balora_allocate_callback allocate;
    balora_release_callback release;
    void *user;
    _Atomic uint64_t current_bytes;
    _Atomic uint64_t peak_bytes;
    _Atomic uint64_t allocations;
};

/* Start with the given callbacks; both NULL means the C library. */
void memory_init(allocator *self, balora_allocate_callback allocate, balora_release_callback release,
                 void *user);

/* `count * size` zeroed bytes at *out, aligned to MEMORY_ALIGNMENT. Overflow or refusal: BALORA_ERROR_MEMORY,
 * *out NULL. A product of 0 gives a valid pointer. `what` names the purpose in the message. */
balora_status memory_zeroed(allocator *self, void *out, size_t count, size_t size, const char *what);

/* The same without clearing. */
balora_status memory_new(allocator *self, void *out, size_t count, size_t size, const char *what);

/* Grow a block made by this room from `old_count` to `new_count` elements, keeping its contents. */
balora_status memory_grow(allocator *self, void *block, size_t old_count, size_t new_count, size_t size,
                          const char *what);

/* Give a block back; NULL is allowed. The size is remembered by the block itself. */
void memory_free(allocator *self, void *block);

/* A copy of the string (of its first `length` bytes). */
balora_status memory_string(allocator *self, char **out, const char *text);
balora_status memory_string_n(allocator *self, char **out, const char *text, size_t length);

#endif
