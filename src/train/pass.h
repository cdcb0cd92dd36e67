/*
 * One micro-batch through student and teacher: all memory of it, its upload and its forward. Training and
 * evaluation share this.
 */
#ifndef TRAIN_PASS_H
#define TRAIN_PASS_H

#include "adapter/adapter.h"
#include "train/head.h"

typedef struct pass_options {
    balora_model *model;
    balora_adapter *adapter; /* NULL: the bare model as student */
    const dataset *data;
    batch_counts capacity;
    int64_t logit_chunk;           /* 0: chosen */
    int64_t eigh_size, eigh_count; /* of the SVD term, for the device's scratch */
    int32_t copies;                /* 2: with teacher */
    bool backward;
    bool keep_logits; /* of all rows, for the SVD term under a soft-cap */
    double dropout;   /* of the adapter; 0: none, as in every evaluation */
} pass_options;

/* Points into itself: it must stay where it was created. */
typedef struct pass {
    pass_options options;
    allocator *memory;
    backend_queue *queue;
    arena arena;
    activations activations;
    decoder decoder;
    loss_head head;
    rope_table rope;
    token_batch batch;
    int64_t first_slot;  /* of the batch's sequences among those of its step: with dropout */
    int32_t *staging;    /* host: tokens, positions, offsets, needed rows of all copies, keys of dropout */
    decoder_batch shape; /* of the loaded micro-batch */
    int64_t head_bytes;
} pass;

balora_status pass_create(pass *out, const pass_options *options);
void pass_free(pass *self); /* also on a zeroed one */

/* Send self->batch, filled by the caller, to the device. */
balora_status pass_load(pass *self);

/* Everything up to the student's normed hidden states at the needed rows (self->head.hidden). */
balora_status pass_forward(pass *self);

#endif
