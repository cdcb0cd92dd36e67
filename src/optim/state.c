#include "optim/state.h"

#include <math.h>
#include <string.h>

#include "base/status.h"

#define STATE_MAGIC   "balora/o"
#define STATE_VERSION 1

/* What a state begins with; behind it the arrays of optimizer_state, one behind the other. */
typedef struct state_header {
    char magic[8];
    uint32_t version;
    int32_t kind; /* BALORA_OPTIMIZER_... */
    int64_t count, blocks, steps;
    uint64_t layout, bytes;
} state_header;

uint64_t state_bytes(const balora_optimizer *optimizer) {
    optimizer_array arrays[OPTIMIZER_STATE_LIMIT];
    int32_t count = optimizer_state(optimizer, arrays);
    uint64_t bytes = sizeof(state_header);
    for (int32_t i = 0; i < count; i++)
        bytes += (uint64_t)view_bytes(arrays[i].view);
    return bytes;
}

static state_header header_of(const balora_optimizer *optimizer) {
    state_header header = {.version = STATE_VERSION,
                           .kind = optimizer->options.optimizer,
                           .count = optimizer->count,
                           .blocks = optimizer->blocks,
                           .steps = optimizer->steps,
                           .layout = optimizer->layout,
                           .bytes = state_bytes(optimizer)};
    memcpy(header.magic, STATE_MAGIC, sizeof header.magic);
    return header;
}

balora_status state_save(const balora_optimizer *optimizer, void *buffer) {
    const backend_ops *ops = optimizer->device->ops;
    optimizer_array arrays[OPTIMIZER_STATE_LIMIT];
    int32_t count = optimizer_state(optimizer, arrays);
    state_header header = header_of(optimizer);
    char *place = buffer;
    memcpy(place, &header, sizeof header);
    place += sizeof header;
    for (int32_t i = 0; i < count; i++) {
        matrix_view view = arrays[i].view;
        STATUS_TRY(ops->download(optimizer->queue, place, view.buffer, view.offset, view_bytes(view)));
        place += view_bytes(view);
    }
    return ops->synchronize(optimizer->queue);
}

static balora_status check_header(const balora_optimizer *optimizer, const state_header *found,
                                  uint64_t bytes) {
    state_header wanted = header_of(optimizer);
    if (memcmp(found->magic, wanted.magic, sizeof wanted.magic) != 0 || found->bytes != bytes ||
        found->steps < 0)
        return status_fail(BALORA_ERROR_FORMAT, "%llu bytes that are no optimizer's state, or not all of one",
                           (unsigned long long)bytes);
    if (found->version != wanted.version)
        return status_fail(BALORA_ERROR_FORMAT, "the state is of version %u; this library reads version %u",
                           (unsigned)found->version, (unsigned)wanted.version);
    if (found->kind != wanted.kind)
        return status_fail(BALORA_ERROR_MISMATCH, "the state is of optimizer %d; this one is %d",
                           (int)found->kind, (int)wanted.kind);
    if (found->count != wanted.count || found->blocks != wanted.blocks || found->layout != wanted.layout ||
        found->bytes != wanted.bytes)
        return status_fail(BALORA_ERROR_MISMATCH,
                           "the state is of %lld numbers in other tensors; this optimizer has %lld",
                           (long long)found->count, (long long)wanted.count);
    return BALORA_OK;
}

/* Moments and scales are finite, second ones not negative: anything else would spoil every parameter. */
static balora_status check_array(const optimizer_array *array, const char *bytes) {
    bool is_second = strncmp(array->name, "second", 6) == 0;
    if (array->view.dtype != BALORA_F32)
        return BALORA_OK; /* every code is fine */
    for (int64_t i = 0; i < array->view.cols; i++) {
        float value;
        memcpy(&value, bytes + i * (int64_t)sizeof value, sizeof value);
        if (!isfinite(value) || (is_second && value < 0))
            return status_fail(BALORA_ERROR_FORMAT, "the state's %s holds %g at %lld", array->name,
                               (double)value, (long long)i);
    }
    return BALORA_OK;
}

balora_status state_load(balora_optimizer *optimizer, const void *buffer, uint64_t bytes) {
    const backend_ops *ops = optimizer->device->ops;
    optimizer_array arrays[OPTIMIZER_STATE_LIMIT];
    int32_t count = optimizer_state(optimizer, arrays);
    state_header header;
    if (bytes < sizeof header)
        return status_fail(BALORA_ERROR_FORMAT, "%llu bytes are no optimizer's state",
                           (unsigned long long)bytes);
    memcpy(&header, buffer, sizeof header);
    STATUS_TRY(check_header(optimizer, &header, bytes));
    const char *place = (const char *)buffer + sizeof header;
    for (int32_t i = 0; i < count; place += view_bytes(arrays[i].view), i++)
        STATUS_TRY(check_array(&arrays[i], place));
    place = (const char *)buffer + sizeof header;
    for (int32_t i = 0; i < count; place += view_bytes(arrays[i].view), i++)
        STATUS_TRY(ops->upload(optimizer->queue, arrays[i].view.buffer, arrays[i].view.offset, place,
                               view_bytes(arrays[i].view)));
    STATUS_TRY(ops->synchronize(optimizer->queue));
    optimizer->steps = header.steps;
    return BALORA_OK;
}
