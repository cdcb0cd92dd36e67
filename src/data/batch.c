#include "data/batch.h"

#include <string.h>

#include "base/arith.h"
#include "base/status.h"

#define EXACT_PLAN_PLACES ((int64_t)1 << 22) /* a second or two of counting */

static balora_status check_capacity(const batch_counts *capacity) {
    /* Tokens are indexed by 32 bits on every device. */
    if (capacity->tokens > INT32_MAX || capacity->sequences >= INT32_MAX)
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "a micro-batch of %lld sequences and %lld tokens; at most %d tokens are supported: lower "
            "batch_size or max_length",
            (long long)capacity->sequences, (long long)capacity->tokens, INT32_MAX);
    return BALORA_OK;
}

balora_status batch_allocate(token_batch *out, allocator *memory, const batch_counts *capacity) {
    memset(out, 0, sizeof *out);
    STATUS_TRY(check_capacity(capacity));
    out->memory = memory;
    out->capacity = *capacity;
    size_t tokens = (size_t)capacity->tokens, sequences = (size_t)capacity->sequences,
           rows = (size_t)capacity->rows;
    balora_status status;
    STATUS_GOTO(memory_new(memory, &out->tokens, tokens, sizeof(int32_t), "tokens of a micro-batch"));
    STATUS_GOTO(memory_new(memory, &out->positions, tokens, sizeof(int32_t), "positions of a micro-batch"));
    STATUS_GOTO(
        memory_new(memory, &out->offsets, sequences + 1, sizeof(int32_t), "offsets of a micro-batch"));
    STATUS_GOTO(memory_new(memory, &out->row_indices, rows, sizeof(int32_t), "rows of a micro-batch"));
    STATUS_GOTO(memory_new(memory, &out->row_targets, rows, sizeof(int32_t), "targets of a micro-batch"));
    STATUS_GOTO(
        memory_new(memory, &out->row_regularized, rows, sizeof(int32_t), "row flags of a micro-batch"));
    batch_clear(out);
    return BALORA_OK;
fail:
    batch_free(out);
    return status;
}

void batch_free(token_batch *self) {
    allocator *memory = self->memory;
    if (memory == NULL)
        return;
    memory_free(memory, self->tokens);
    memory_free(memory, self->positions);
    memory_free(memory, self->offsets);
    memory_free(memory, self->row_indices);
    memory_free(memory, self->row_targets);
    memory_free(memory, self->row_regularized);
    memset(self, 0, sizeof *self);
}

void batch_clear(token_batch *self) {
    self->counts = (batch_counts){0};
    self->offsets[0] = 0;
}

static void add_counts(batch_counts *counts, const dataset *data, int64_t sequence, int32_t rows) {
    sequence_counts own = data->counts[sequence];
    int64_t length = dataset_length(data, sequence);
    counts->sequences++;
    counts->tokens += length;
    counts->longest_sequence = arith_max(counts->longest_sequence, length);
    counts->rows += rows == BATCH_ROWS_ALL ? length : rows == BATCH_ROWS_LABEL ? own.either : own.next;
    counts->targets += own.next;
    counts->regularized += rows == BATCH_ROWS_LABEL ? own.own : rows == BATCH_ROWS_TASK ? 0 : own.next;
}

static bool fits(const batch_counts *counts, const batch_counts *capacity) {
    return counts->sequences <= capacity->sequences && counts->tokens <= capacity->tokens &&
           counts->longest_sequence <= capacity->longest_sequence && counts->rows <= capacity->rows;
}

balora_status batch_append(token_batch *self, const dataset *data, int64_t sequence, int32_t rows) {
    batch_counts grown = self->counts;
    add_counts(&grown, data, sequence, rows);
    if (!fits(&grown, &self->capacity))
        return status_fail(BALORA_ERROR_INTERNAL,
                           "a micro-batch of %lld tokens and %lld rows was not planned for",
                           (long long)grown.tokens, (long long)grown.rows);
    int64_t length = dataset_length(data, sequence), first = self->counts.tokens, row = self->counts.rows;
    const int32_t *ids = data->ids + data->offsets[sequence],
                  *labels = data->labels + data->offsets[sequence];
    memcpy(self->tokens + first, ids, (size_t)length * sizeof *ids);
    for (int64_t i = 0; i < length; i++) {
        self->positions[first + i] = (int32_t)i;
        bool own = labels[i] != LABEL_NONE, next = i + 1 < length && labels[i + 1] != LABEL_NONE;
        bool regularized = rows == BATCH_ROWS_LABEL ? own : rows != BATCH_ROWS_TASK && next;
        if (!next && !regularized && rows != BATCH_ROWS_ALL)
            continue;
        self->row_indices[row] = (int32_t)(first + i);
        self->row_targets[row] = next ? labels[i + 1] : -1;
        self->row_regularized[row] = regularized;
        row++;
    }
    self->counts = grown;
    self->offsets[grown.sequences] = (int32_t)grown.tokens;
    return BALORA_OK;
}

balora_status batch_fill(token_batch *self, const dataset *data, const data_order *order, order_range range,
                         int32_t rows) {
    batch_clear(self);
    for (int64_t place = range.first; place < range.first + range.count; place++)
        STATUS_TRY(batch_append(self, data, order_sequence(order, place), rows));
    return BALORA_OK;
}

batch_counts batch_count(const dataset *data, const data_order *order, order_range range, int32_t rows) {
    batch_counts counts = {0};
    for (int64_t place = range.first; place < range.first + range.count; place++)
        add_counts(&counts, data, order_sequence(order, place), rows);
    return counts;
}

static void take_largest(batch_counts *largest, const batch_counts *counts) {
    largest->sequences = arith_max(largest->sequences, counts->sequences);
    largest->tokens = arith_max(largest->tokens, counts->tokens);
    largest->longest_sequence = arith_max(largest->longest_sequence, counts->longest_sequence);
    largest->rows = arith_max(largest->rows, counts->rows);
    largest->targets = arith_max(largest->targets, counts->targets);
    largest->regularized = arith_max(largest->regularized, counts->regularized);
}

/* Every micro-batch as if all its sequences were the largest one. */
static balora_status bound_plan(batch_counts *out, const dataset *data, const data_order *order,
                                int32_t rows) {
    for (int64_t i = 0; i < data->sequences; i++) {
        batch_counts counts = {0};
        add_counts(&counts, data, i, rows);
        take_largest(out, &counts);
    }
    int64_t size = order->micro_batch_size;
    bool small = out->tokens <= INT32_MAX / size; /* rows are no more than tokens */
    out->sequences = size;
    out->tokens = small ? out->tokens * size : INT64_MAX;
    out->rows = small ? out->rows * size : INT64_MAX;
    out->targets = small ? out->targets * size : INT64_MAX;
    out->regularized = small ? out->regularized * size : INT64_MAX;
    return check_capacity(out);
}

balora_status batch_plan(batch_counts *out, const dataset *data, const data_order *order, int32_t rows) {
    *out = (batch_counts){0};
    if (order->places > EXACT_PLAN_PLACES)
        return bound_plan(out, data, order, rows);
    for (int64_t step = 0; step < order->steps; step++)
        for (int64_t i = 0; i < order_micro_batches(order, step); i++) {
            batch_counts counts = batch_count(data, order, order_micro_batch(order, step, i), rows);
            take_largest(out, &counts);
        }
    return check_capacity(out);
}

int64_t batch_span(const dataset *data, int64_t first, int64_t token_budget) {
    int64_t end = first + 1;
    while (end < data->sequences && data->offsets[end + 1] - data->offsets[first] <= token_budget)
        end++;
    return end - first;
}

balora_status batch_plan_spans(batch_counts *out, const dataset *data, int64_t token_budget, int32_t rows) {
    *out = (batch_counts){0};
    for (int64_t first = 0; first < data->sequences;) {
        int64_t end = first + batch_span(data, first, token_budget);
        batch_counts counts = {0};
        for (; first < end; first++)
            add_counts(&counts, data, first, rows);
        take_largest(out, &counts);
    }
    return check_capacity(out);
}
