/* The arrays of a trainer that its checkpoints keep. */
#ifndef TRAIN_CHECKPOINT_PARTS_H
#define TRAIN_CHECKPOINT_PARTS_H

#include "train/checkpoint_files.h"
#include "train/trainer.h"

checkpoint_arrays checkpoint_adapter_arrays(const balora_trainer *trainer, bool heed_cancel);
checkpoint_arrays checkpoint_optimizer_arrays(const balora_trainer *trainer, bool heed_cancel);

#endif
