/* An allocator that refuses. */
#ifndef TESTS_FAULTY_H
#define TESTS_FAULTY_H

#include <stdint.h>
#include <stdlib.h>

/* Refuses the call whose turn it is, and all behind it when it is asked to. */
typedef struct faulty {
    int64_t calls, refused;
    int from_then_on;
} faulty;

static void *faulty_allocate(uint64_t bytes, uint64_t alignment, void *user) {
    faulty *self = user;
    int64_t call = self->calls++;
    if (call == self->refused || (self->from_then_on && call > self->refused))
        return NULL;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void faulty_release(void *block, uint64_t bytes, void *user) {
    (void)bytes;
    (void)user;
    free(block);
}

#endif
