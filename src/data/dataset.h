/*
 * A data set: every sequence of a file, tokenized, in one flat store.
 */
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "text/label.h"

/* What a sequence contributes to the terms of the objective. */
typedef struct sequence_counts {
    int32_t own;    /* positions whose own token is supervised */
    int32_t next;   /* positions whose next token is supervised: the task loss */
    int32_t either; /* positions of one or the other */
} sequence_counts;

typedef struct dataset {
    allocator *memory;
    int32_t *ids;            // [tokens]
    int32_t *labels;         // [tokens], LABEL_NONE or a token
    int64_t *offsets;        // [sequences + 1]
    sequence_counts *counts; // [sequences]
    int64_t sequences, tokens;
    int64_t supervised_tokens; /* sum of own */
    int64_t target_tokens;     /* sum of next */
    int64_t longest_sequence;
    int64_t skipped_rows, truncated_rows;
} dataset;

/*
 * Check and describe sequences whose arrays are filled (`offsets`, `ids`, `labels`, `sequences`), which
 * `self` owns: offsets rise from 0, ids lie in [0, vocabulary), labels there or are LABEL_NONE. Empty
 * sequences are dropped and counted as skipped; with max_length > 0 longer ones lose their tail. `origin`
 * names the source in messages; `structure` is the status of broken offsets.
 */
balora_status dataset_complete(dataset *self, int64_t vocabulary, int64_t max_length, const char *origin,
                               balora_status structure);

/* From arrays in memory, which are copied; `labels` may be NULL: everything is supervised. */
balora_status dataset_from_tokens(dataset *out, allocator *memory, const int32_t *ids, const int32_t *labels,
                                  const int64_t *offsets, int64_t sequences, int64_t vocabulary);

void dataset_free(dataset *self); /* also on a zeroed value, and twice */

/* A checksum of every token, label and border. */
uint32_t dataset_fingerprint(const dataset *self);

static inline int64_t dataset_length(const dataset *self, int64_t sequence) {
    return self->offsets[sequence + 1] - self->offsets[sequence];
}

#endif
