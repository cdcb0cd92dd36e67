/* A whole run: steps, evaluations, checkpoints, early stopping. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include "train/checkpoint.h"

/* `identity`: the trainer's options as checkpoint_request has them; gets the run's own added. */
balora_status run_execute(balora_trainer *trainer, const balora_run_options *options, json_t *identity,
                          balora_run_result *result);

#endif
