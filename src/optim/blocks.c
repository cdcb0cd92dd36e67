#include "optim/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "backend/ops.h"
#include "base/arith.h"
#include "base/status.h"

static int compare_first(const void *left, const void *right) {
    const block_range *a = left, *b = right;
    return (a->first > b->first) - (a->first < b->first);
}

/* Blocks from the table's end on for [first, end); without memory they are counted only. */
static void add_blocks(block_table *self, int64_t first, int64_t end, int32_t group) {
    for (int64_t at = first; at < end; at += OPTIMIZER_BLOCK) {
        if (self->starts != NULL) {
            self->starts[self->blocks] = at;
            self->groups[self->blocks] = (unsigned char)group;
        }
        self->blocks++;
    }
}

static balora_status cut(block_table *self, const block_range *ranges, int64_t range_count, int64_t count) {
    int64_t at = 0;
    self->blocks = 0;
    for (int64_t i = 0; i < range_count; i++) {
        if (ranges[i].first < at || ranges[i].count < 0 || ranges[i].count > count - ranges[i].first)
            return status_fail(BALORA_ERROR_INTERNAL,
                               "numbers %lld to %lld of an optimizer's %lld do not follow number %lld",
                               (long long)ranges[i].first, (long long)(ranges[i].first + ranges[i].count),
                               (long long)count, (long long)at);
        add_blocks(self, at, ranges[i].first, 0);
        at = ranges[i].first + ranges[i].count;
        add_blocks(self, ranges[i].first, at, ranges[i].group);
    }
    add_blocks(self, at, count, 0);
    if (self->starts != NULL)
        self->starts[self->blocks] = count;
    return BALORA_OK;
}

balora_status blocks_cut(block_table *out, allocator *memory, block_range *ranges, int64_t range_count,
                         int64_t count) {
    balora_status status;
    memset(out, 0, sizeof *out);
    out->memory = memory;
    if (range_count > 0)
        qsort(ranges, (size_t)range_count, sizeof *ranges, compare_first);
    STATUS_TRY(cut(out, ranges, range_count, count));
    STATUS_GOTO(memory_new(memory, &out->starts, (size_t)out->blocks + 1, sizeof *out->starts,
                           "starts of an optimizer's blocks"));
    STATUS_GOTO(memory_new(memory, &out->groups, (size_t)out->blocks, sizeof *out->groups,
                           "groups of an optimizer's blocks"));
    STATUS_GOTO(cut(out, ranges, range_count, count));
    return BALORA_OK;
fail:
    blocks_free(out);
    return status;
}

void blocks_free(block_table *self) {
    if (self->memory == NULL)
        return;
    memory_free(self->memory, self->starts);
    memory_free(self->memory, self->groups);
    memset(self, 0, sizeof *self);
}

uint64_t blocks_hash(uint64_t hash, int64_t first, int64_t count) {
    const uint64_t words[] = {(uint64_t)first, (uint64_t)count};
    hash ^= UINT64_C(0xCBF29CE484222325);
    for (int i = 0; i < 16; i++)
        hash = (hash ^ (words[i / 8] >> (i % 8 * 8) & 255)) * UINT64_C(0x100000001B3);
    return hash;
}
