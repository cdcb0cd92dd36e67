/*
 * Micro-batches: the sequences of one packed token stream, and the rows of logits that the objective needs.
 */
#ifndef DATA_BATCH_H
#define DATA_BATCH_H

#include "data/dataset.h"
#include "data/order.h"

/* Which positions get a row of logits, and where the regularizers act. */
enum {
    BATCH_ROWS_TASK,    /* next token supervised; no regularizer */
    BATCH_ROWS_LABEL,   /* own or next token supervised; regularized where the own token is */
    BATCH_ROWS_PREDICT, /* next token supervised; regularized at the same */
    BATCH_ROWS_ALL      /* every token; regularized where the next token is supervised */
};

/* Sizes, as planned or as counted. */
typedef struct batch_counts {
    int64_t sequences;
    int64_t tokens;
    int64_t longest_sequence;
    int64_t rows;        /* of logits */
    int64_t targets;     /* rows with a token to predict */
    int64_t regularized; /* rows on which the regularizers act */
} batch_counts;

typedef struct token_batch {
    allocator *memory;
    batch_counts capacity;
    batch_counts counts;
    int32_t *tokens;          // [tokens]
    int32_t *positions;       // [tokens], from 0 in every sequence
    int32_t *offsets;         // [sequences + 1], first token of each sequence
    int32_t *row_indices;     // [rows], rising: the token whose hidden state the row is made from
    int32_t *row_targets;     // [rows], token to predict, or -1
    int32_t *row_regularized; // [rows], 0 or 1
} token_batch;

/* `capacity`: the largest sizes that will be needed. */
balora_status batch_allocate(token_batch *out, allocator *memory, const batch_counts *capacity);
void batch_free(token_batch *self); /* also on a zeroed value, and twice */

/* Empty the batch; put a sequence behind those that it holds. Neither allocates. */
void batch_clear(token_batch *self);
balora_status batch_append(token_batch *self, const dataset *data, int64_t sequence, int32_t rows);

/* Fill the batch with a piece of the run. */
balora_status batch_fill(token_batch *self, const dataset *data, const data_order *order, order_range range,
                         int32_t rows);

/* What a piece of the run holds. */
batch_counts batch_count(const dataset *data, const data_order *order, order_range range, int32_t rows);

/*
 * The largest of every size over all micro-batches of a run; exact up to some millions of sequences, beyond
 * that the bound that the longest sequence gives.
 */
balora_status batch_plan(batch_counts *out, const dataset *data, const data_order *order, int32_t rows);

/*
 * Evaluation takes the sequences in file order, as many as stay within `token_budget` tokens, and at least
 * one: the number of them from `first` on, and the largest sizes over the whole data set.
 */
int64_t batch_span(const dataset *data, int64_t first, int64_t token_budget);
balora_status batch_plan_spans(batch_counts *out, const dataset *data, int64_t token_budget, int32_t rows);

#endif
