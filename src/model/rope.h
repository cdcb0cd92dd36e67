/*
 * Tables of cosines and sines for rotary positions (Su et al., "RoFormer", 2021), with every context
 * extension that LLaMA's rope_scaling names.
 */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include "model/config.h"
#include "tensor/view.h"

/*
 * Tables on the device. Rows are positions; with dynamic scaling the frequencies depend on the sequence's
 * length, so every length beyond the model's maximum has its own section of rows.
 */
typedef struct rope_table {
    const backend *device; /* NULL: empty */
    allocator *memory;
    backend_buffer *buffer;
    matrix_view table;       /* F32 [rows, head_dim]: cosines, then sines */
    matrix_view local_table; /* the same rows for the local layers; `table` itself where they have no other */
    int64_t *long_lengths;   /* ascending, dynamic scaling only */
    int64_t *long_rows;      /* first row of each one's section */
    int64_t long_count;
} rope_table;

/* Make the rows that sequences of the given lengths need. */
balora_status rope_table_create(rope_table *out, allocator *memory, const backend *device,
                                backend_queue *queue, const model_config *config, const int64_t *lengths,
                                int64_t count);
void rope_table_free(rope_table *table); /* also on a zeroed one */

/* Row of the table where position 0 of a sequence of this length stands. */
int64_t rope_table_first_row(const rope_table *table, int64_t length);

/* Frequencies [head_dim / 2] of one of the model's ropes for a sequence of `length` tokens. */
void rope_frequencies(const model_config *config, const rope_config *rope, int64_t length, float *out);

#endif
