/*
 * Checkpoints: the whole state of a run in a folder that appears complete or not at all.
 *
 *   FOLDER/step-00000500/  adapter.safetensors    what training changed and what its start drew, exact
 *                          optimizer.safetensors  the optimizer's arrays
 *                          trainer.json           place of the run, what its result depends on
 *                          manifest.json          length and checksum of each; written last
 *
 * What is being written stands in step-00000500.tmp-PID until it is renamed.
 */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "balora/run.h"
#include "format/json.h"
#include "train/trainer.h"

#define CHECKPOINT_KEEP_LEAST 2

typedef struct checkpoint_request {
    const char *folder;
    int64_t keep;
    const json_t
        *options;     /* what the result depends on beside model, data and adapter: "train.seed": "0", ... */
    bool whole_run;   /* balora_trainer_run's evaluation counts as well: keys "evaluation..." */
    bool heed_cancel; /* a cancelled context abandons the attempt */
} checkpoint_request;

balora_status checkpoint_save(balora_trainer *trainer, const checkpoint_request *request);

/* Remove all but the newest, the best and that of the trainer's step, as every save does at its end. */
balora_status checkpoint_prune(balora_trainer *trainer, const checkpoint_request *request);

/* Fill trainer->resumed as well, which out's texts are borrowed from. */
balora_status checkpoint_resume(balora_trainer *trainer, const checkpoint_request *request,
                                balora_resume_information *out);

/* The adapter alone, of the checkpoint of that step. */
balora_status checkpoint_load_adapter(balora_trainer *trainer, const char *folder, int64_t step);

#endif
