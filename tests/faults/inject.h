/*
 * Failures of the operating system and of allocators, one at a chosen call. The test programs are linked with
 * --wrap, so that the library's own calls come here first; those of other libraries do not.
 */
#ifndef TESTS_INJECT_H
#define TESTS_INJECT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum fault_kind {
    FAULT_NONE,
    FAULT_ERROR,  /* the call fails: EIO; ENOSPC for what writes, EMFILE for what opens */
    FAULT_SHORT,  /* a read or a write does a part of what was asked for */
    FAULT_SIGNAL, /* EINTR, once; a close has closed all the same */
    FAULT_MEMORY, /* the context's allocator refuses */
    FAULT_JSON,   /* jansson's does */
    FAULT_KINDS
} fault_kind;

/* Count the calls that this kind of fault can hit, and hit call `at` (from 0), or all from it on. */
void inject(fault_kind kind, int64_t at, bool from_then_on);
void inject_nothing(void); /* the counts stay */

typedef struct injected {
    int64_t calls; /* that could have been hit */
    int64_t hits;
    uint64_t numbers; /* bit n: a hit gave errno n */
    const char *call; /* name of the last one that was hit */
} injected;

injected inject_report(void);

/* Allocators for a context (balora_allocate_callback) and for jansson, with counts of what they hold. */
void *inject_allocate(uint64_t bytes, uint64_t alignment, void *user);
void inject_release(void *block, uint64_t bytes, void *user);
void inject_into_json(void);
int64_t inject_json_blocks(void);

#endif
