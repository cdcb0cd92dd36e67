/* trainer.json: the place of a run and what its result depends on. */
#ifndef TRAIN_CHECKPOINT_STATE_H
#define TRAIN_CHECKPOINT_STATE_H

#include "train/checkpoint.h"

/* The numbers of a trainer that go on. */
typedef struct trainer_numbers {
    int64_t step, sequences; /* sequences: of the data's endless order, taken so far */
    int64_t optimizer_steps;
    int64_t skipped, skipped_in_a_row;
    run_state run;
} trainer_numbers;

trainer_numbers trainer_numbers_of(const balora_trainer *trainer);
void trainer_numbers_take(balora_trainer *trainer, const trainer_numbers *numbers);

balora_status trainer_state_write(balora_trainer *trainer, const checkpoint_request *request,
                                  const char *path);

/* Read and hold to this trainer. MISMATCH: of another run; the message names what is different. FORMAT: broken. Where
 * only roundings may differ `warning` says why, and is empty otherwise. */
balora_status trainer_state_read(trainer_numbers *out, balora_trainer *trainer,
                                 const checkpoint_request *request, const char *path, int64_t step,
                                 char *warning, size_t capacity);

#endif
