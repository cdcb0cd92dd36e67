/* A flat array cut in blocks that no tensor's border crosses, each of one group: what backend/ops.h's optimizer_step takes. */
#ifndef OPTIM_BLOCKS_H
#define OPTIM_BLOCKS_H

#include <stdint.h>

#include "base/memory.h"

/* Neighbouring numbers of one group. */
typedef struct block_range {
    int64_t first, count;
    int32_t group;
} block_range;

typedef struct block_table {
    int64_t *starts;       /* [blocks + 1] */
    unsigned char *groups; /* [blocks] */
    int64_t blocks;
    allocator *memory;
} block_table;

/*
 * Cut all of [0, count). `ranges` in any order, which is changed; what lies in none is of group 0.
 * INTERNAL: ranges overlap or leave the array.
 */
balora_status blocks_cut(block_table *out, allocator *memory, block_range *ranges, int64_t range_count,
                         int64_t count);
/* One more range into a hash of a layout (FNV-1a), which starts as 0. */
uint64_t blocks_hash(uint64_t hash, int64_t first, int64_t count);

void blocks_free(block_table *self); /* also on a zeroed one */

#endif
