/* Which parameters learn at which rates, as one number: what a resumed run is held to. */
#include "base/arith.h"
#include "base/checksum.h"
#include "base/status.h"
#include "optim/optimizer.h"

static balora_status add_array(uint32_t *sum, const balora_optimizer *optimizer, matrix_view array) {
    unsigned char piece[4096];
    int64_t bytes = view_is_none(array) ? 0 : view_bytes(array);
    for (int64_t at = 0, count; at < bytes; at += count) {
        count = arith_min(bytes - at, (int64_t)sizeof piece);
        STATUS_TRY(optimizer->device->ops->download(optimizer->queue, piece, array.buffer, array.offset + at,
                                                    count));
        STATUS_TRY(optimizer->device->ops->synchronize(optimizer->queue));
        *sum = checksum_add(*sum, piece, (uint64_t)count);
    }
    return BALORA_OK;
}

balora_status optimizer_fingerprint(uint32_t *out, const balora_optimizer *optimizer) {
    uint32_t sum = 0;
    for (int32_t i = 0; i < optimizer->groups.count; i++) {
        double rates[2] = {optimizer->groups.groups[i].factor, optimizer->groups.groups[i].weight_decay};
        sum = checksum_add(sum, rates, sizeof rates);
    }
    STATUS_TRY(add_array(&sum, optimizer, optimizer->block_starts));
    STATUS_TRY(add_array(&sum, optimizer, optimizer->block_groups));
    *out = sum;
    return BALORA_OK;
}
