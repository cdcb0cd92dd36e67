#include "data/dataset.h"

#include <string.h>

#include "base/arith.h"
#include "base/checksum.h"
#include "base/status.h"

static balora_status check_offsets(const dataset *self, const char *origin, balora_status structure) {
    if (self->offsets[0] != 0)
        return status_fail(structure, "%s: offsets[0] is %lld; expected 0", origin,
                           (long long)self->offsets[0]);
    for (int64_t i = 0; i < self->sequences; i++) {
        int64_t begin = self->offsets[i], end = self->offsets[i + 1];
        if (end < begin || end > self->tokens)
            return status_fail(
                structure, "%s: offsets[%lld] is %lld; expected %lld (the one before) to %lld (the tokens)",
                origin, (long long)(i + 1), (long long)end, (long long)begin, (long long)self->tokens);
        if (end - begin > INT32_MAX)
            return status_fail(structure, "%s: sequence %lld has %lld tokens; at most %d are supported",
                               origin, (long long)i, (long long)(end - begin), INT32_MAX);
    }
    if (self->offsets[self->sequences] != self->tokens)
        return status_fail(structure, "%s: the last of offsets is %lld; expected the number of tokens, %lld",
                           origin, (long long)self->offsets[self->sequences], (long long)self->tokens);
    return BALORA_OK;
}

static balora_status check_tokens(const dataset *self, int64_t vocabulary, const char *origin) {
    for (int64_t i = 0; i < self->tokens; i++) {
        int32_t id = self->ids[i], label = self->labels[i];
        if (id < 0 || id >= vocabulary)
            return status_fail(
                BALORA_ERROR_MISMATCH,
                "%s: input_ids[%lld] is %d; expected 0 to %lld, as the model's vocabulary has it", origin,
                (long long)i, id, (long long)vocabulary - 1);
        if (label != LABEL_NONE && (label < 0 || label >= vocabulary))
            return status_fail(
                BALORA_ERROR_MISMATCH,
                "%s: labels[%lld] is %d; expected -100 (not supervised) or 0 to %lld, as the model's "
                "vocabulary has it",
                origin, (long long)i, label, (long long)vocabulary - 1);
    }
    return BALORA_OK;
}

/* Drop empty sequences and the tails beyond max_length, moving the rest together. */
static void compact(dataset *self, int64_t max_length) {
    int64_t kept = 0, place = 0, begin = 0;
    for (int64_t i = 0; i < self->sequences; i++) {
        int64_t end = self->offsets[i + 1], length = end - begin;
        if (max_length > 0 && length > max_length) {
            length = max_length;
            self->truncated_rows++;
        }
        if (length > 0) {
            memmove(self->ids + place, self->ids + begin, (size_t)length * sizeof *self->ids);
            memmove(self->labels + place, self->labels + begin, (size_t)length * sizeof *self->labels);
            place += length;
            self->offsets[++kept] = place;
        } else {
            self->skipped_rows++;
        }
        begin = end;
    }
    self->sequences = kept;
    self->tokens = place;
}

static sequence_counts count_positions(const int32_t *labels, int64_t length) {
    sequence_counts counts = {0};
    for (int64_t i = 0; i < length; i++) {
        bool own = labels[i] != LABEL_NONE, next = i + 1 < length && labels[i + 1] != LABEL_NONE;
        counts.own += own;
        counts.next += next;
        counts.either += own || next;
    }
    return counts;
}

static balora_status count_sequences(dataset *self) {
    size_t count = (size_t)self->sequences;
    STATUS_TRY(memory_new(self->memory, &self->counts, count, sizeof *self->counts, "counts of sequences"));
    for (int64_t i = 0; i < self->sequences; i++) {
        int64_t length = dataset_length(self, i);
        self->counts[i] = count_positions(self->labels + self->offsets[i], length);
        self->supervised_tokens += self->counts[i].own;
        self->target_tokens += self->counts[i].next;
        self->longest_sequence = arith_max(self->longest_sequence, length);
    }
    return BALORA_OK;
}

balora_status dataset_complete(dataset *self, int64_t vocabulary, int64_t max_length, const char *origin,
                               balora_status structure) {
    STATUS_TRY(check_offsets(self, origin, structure));
    STATUS_TRY(check_tokens(self, vocabulary, origin));
    compact(self, max_length);
    if (self->sequences == 0)
        return status_fail(structure, "%s: no sequence to learn from (%lld rows skipped)", origin,
                           (long long)self->skipped_rows);
    return count_sequences(self);
}

balora_status dataset_from_tokens(dataset *out, allocator *memory, const int32_t *ids, const int32_t *labels,
                                  const int64_t *offsets, int64_t sequences, int64_t vocabulary) {
    static const char origin[] = "tokens in memory";
    memset(out, 0, sizeof *out);
    out->memory = memory;
    balora_status status;
    if (sequences < 1 || offsets[sequences] < 0)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s: %lld sequences; expected at least one, with offsets from 0", origin,
                           (long long)sequences);
    size_t tokens = (size_t)offsets[sequences];
    out->sequences = sequences;
    out->tokens = offsets[sequences];
    STATUS_GOTO(
        memory_new(memory, &out->offsets, (size_t)sequences + 1, sizeof *offsets, "offsets of sequences"));
    STATUS_GOTO(memory_new(memory, &out->ids, tokens, sizeof *ids, "tokens"));
    STATUS_GOTO(memory_new(memory, &out->labels, tokens, sizeof *ids, "labels"));
    memcpy(out->offsets, offsets, ((size_t)sequences + 1) * sizeof *offsets);
    memcpy(out->ids, ids, tokens * sizeof *ids);
    memcpy(out->labels, labels != NULL ? labels : ids, tokens * sizeof *ids);
    STATUS_GOTO(dataset_complete(out, vocabulary, 0, origin, BALORA_ERROR_ARGUMENT));
    return BALORA_OK;
fail:
    dataset_free(out);
    return status;
}

void dataset_free(dataset *self) {
    allocator *memory = self->memory;
    if (memory == NULL)
        return;
    memory_free(memory, self->ids);
    memory_free(memory, self->labels);
    memory_free(memory, self->offsets);
    memory_free(memory, self->counts);
    memset(self, 0, sizeof *self);
}

uint32_t dataset_fingerprint(const dataset *self) {
    uint32_t sum = checksum_add(0, self->offsets, (uint64_t)(self->sequences + 1) * sizeof *self->offsets);
    sum = checksum_add(sum, self->ids, (uint64_t)self->tokens * sizeof *self->ids);
    return checksum_add(sum, self->labels, (uint64_t)self->tokens * sizeof *self->labels);
}
