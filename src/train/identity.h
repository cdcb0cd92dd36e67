/*
 * What a run's result depends on beside its state, as flat JSON objects of texts: "data.tokens": "1024". A resumed run
 * is held to what its checkpoint was made with.
 */
#ifndef TRAIN_IDENTITY_H
#define TRAIN_IDENTITY_H

#include "train/checkpoint.h"

/* Data, model, adapter and options: a difference is another run. Owned. */
balora_status identity_make(json_t **out, balora_trainer *trainer, const checkpoint_request *request);

/* Threads, device, release: a difference changes roundings only. Owned. */
balora_status identity_environment(json_t **out, const balora_trainer *trainer);

/* Put "KEY was X, is now Y; ..." for every difference into `text`, and return their number. */
int identity_differences(const json_t *saved, const json_t *current, char *text, size_t capacity);

/* "evaluation.data": what balora_trainer_run with early stopping or the best adapter depends on. */
balora_status identity_add_evaluation(json_t *options, const balora_run_options *run);

#endif
