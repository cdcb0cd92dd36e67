/* The SVD term of a trainer: by hidden states, or under a soft-cap by logits. */
#ifndef TRAIN_SVD_H
#define TRAIN_SVD_H

#include "train/trainer.h"

/* What the term will be asked for. */
typedef struct svd_request {
    bool wanted, by_logits;
    bool keep_logits; /* by logits: those of all rows, see head_svd.h */
    spectral_options hidden;
    spectral_logits_options logits;
    int64_t eigh_size, eigh_count; /* for the device's scratch */
} svd_request;

svd_request svd_plan(const balora_trainer *trainer, const batch_counts *capacity);

/* Take memory; trainer->pass is there. */
balora_status svd_create(balora_trainer *trainer, const svd_request *request);
void svd_free(balora_trainer *trainer); /* also when nothing was created */

/* head_forward_backward with the term of micro-batch `index`, whose record says how much it weighs. */
balora_status svd_forward_backward(balora_trainer *trainer, int64_t index, head_objective *objective);

#endif
