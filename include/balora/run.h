/*
 * Whole runs, and the checkpoints that they survive by.
 *
 *     balora_run_options run = BALORA_RUN_OPTIONS_INIT;
 *     run.checkpoint_folder = "out/checkpoints";
 *     run.resume = 1;
 *     status = balora_trainer_run(trainer, &run, NULL);
 *
 * A run that was killed at any moment and is resumed gives, with the same number of threads on the same machine,
 * byte for byte what the undisturbed run gives. docs/checkpoints.md has the files and what may change between.
 */
#ifndef BALORA_RUN_H
#define BALORA_RUN_H

#include "balora/trainer.h"

BALORA_BEGIN_DECLS

/*
 * Write the whole state of training as FOLDER/step-NNNNNNNN: adapter, optimizer, place in the data and the schedules,
 * and a manifest with checksums. The folder is read back and appears complete or not at all; then older ones are
 * removed down to the newest `keep` (at least 2) and the best of balora_trainer_run. FOLDER is made when it is missing.
 *
 * After a failure (disk full, a cancelled context) nothing of the attempt is left, older checkpoints are untouched and
 * the trainer goes on as if nothing had been asked: free space, call again.
 * Errors: ARGUMENT, STATE (no step is done yet; the trainer runs, has ended with its best adapter, or was left by a
 * failed resume), IO, NUMERIC (naming the trained number that is not finite), MEMORY, CANCELLED. Since 0.1.
 */
BALORA_API balora_status balora_trainer_save_checkpoint(balora_trainer *trainer, const char *folder,
                                                        int64_t keep);

typedef struct balora_resume_information {
    uint64_t struct_size;
    int64_t step;                /* steps done in the checkpoint that was taken */
    int64_t skipped_checkpoints; /* newer ones that were damaged */
    const char *path; /* of the one taken; borrowed from the trainer, as is the next, until its next resume */
    const char *skipped; /* which were skipped and why, a line each; empty: none */
} balora_resume_information;

#define BALORA_RESUME_INFORMATION_INIT                                                                       \
    { sizeof(balora_resume_information), 0, 0, NULL, NULL }

/*
 * Go on from the newest checkpoint in FOLDER whose manifest verifies. Damaged ones are skipped, and told to the log
 * (WARNING) and in `out` (may be NULL). Adapter, data, regularizers, optimizer and options must be those of the
 * checkpoint's run: anything else that would change the result is MISMATCH, and the message says what was and what is.
 * Another number of threads, device or release only changes roundings, and is a warning. What a process that died left
 * half-written is removed. Errors: NOT_FOUND (no folder, no checkpoint), FORMAT (none is whole), MISMATCH, STATE,
 * MEMORY, CANCELLED. After a failure the trainer is as before, except where reading failed in the middle: then it
 * answers STATE until a resume succeeds. Since 0.1.
 */
BALORA_API balora_status balora_trainer_resume(balora_trainer *trainer, const char *folder,
                                               balora_resume_information *out);

/* What a run tells. */
enum {
    BALORA_RUN_START =
        10, /* before the first step: `step` and `evaluated_step` are 0, or those resumed from */
    BALORA_RUN_STEP = 20,       /* `metrics` */
    BALORA_RUN_EVALUATION = 30, /* `evaluation`; `best_step` equals `step` when it is the best so far */
    BALORA_RUN_CHECKPOINT = 40  /* `path` was written */
};

typedef struct balora_run_event {
    uint64_t struct_size;
    int32_t kind; /* BALORA_RUN_... */
    int32_t reserved;
    int64_t step;                        /* steps done */
    int64_t evaluated_step;              /* at which the last evaluation was made; 0: none yet */
    int64_t best_step;                   /* of the evaluation with the least loss; 0: none yet */
    const balora_step_metrics *metrics;  /* STEP */
    const balora_evaluation *evaluation; /* EVALUATION */
    const char *path;                    /* CHECKPOINT: its folder; START: that it resumed from, or NULL */
} balora_run_event;

/*
 * Told as it happens, on the thread of the run; everything is borrowed for the call. Non-zero stops the run with
 * BALORA_ERROR_CANCELLED, as does the log callback. The state is whole then: the adapter may be saved or evaluated
 * inside the callback, and the run be taken up again afterwards.
 */
typedef int (*balora_run_callback)(const balora_run_event *event, void *user);

typedef struct balora_run_options {
    uint64_t struct_size;
    const char *checkpoint_folder; /* receives step-NNNNNNNN/; NULL: no checkpoints */
    int64_t save_steps;            /* a checkpoint every so many steps; 0: only where the run is stopped */
    int64_t keep;       /* newest checkpoints that stay, at least 2; the best one stays beside them */
    int64_t eval_steps; /* evaluate every so many steps and at the end; 0: at the end only */
    int64_t patience;   /* stop after so many evaluations in a row without a lower loss; 0: never */
    int32_t load_best;  /* 1: end with the adapter of the lowest evaluation loss */
    int32_t resume;     /* 1: go on from the newest good checkpoint; where there is none, from the start */
    balora_data *eval_data;       /* NULL: no evaluation */
    balora_run_callback callback; /* NULL: none */
    void *user;
} balora_run_options;

#define BALORA_RUN_OPTIONS_INIT                                                                              \
    { sizeof(balora_run_options), NULL, 500, 2, 0, 0, 0, 0, NULL, NULL, NULL }

/* Why a run came back. */
enum {
    BALORA_STOP_NONE = 0,      /* it failed or was stopped: the status says how */
    BALORA_STOP_COMPLETE = 10, /* every step is done */
    BALORA_STOP_PATIENCE = 20  /* no evaluation improved for `patience` of them */
};

typedef struct balora_run_result {
    uint64_t struct_size;
    int64_t step;          /* steps done, those before a resume included */
    int64_t resumed_step;  /* 0: from the start */
    int64_t saved_step;    /* of the newest checkpoint that holds this run; 0: none */
    int64_t skipped_steps; /* whose gradient was not finite */
    int64_t best_step;     /* of the evaluation with the least loss; 0: no evaluation */
    double best_loss;
    int32_t stop;        /* BALORA_STOP_... */
    int32_t loaded_best; /* 1: the adapter is that of best_step, not of the last step */
} balora_run_result;

#define BALORA_RUN_RESULT_INIT                                                                               \
    { sizeof(balora_run_result), 0, 0, 0, 0, 0, 0.0, 0, 0 }

/*
 * Train to the end: steps, evaluations, checkpoints, early stopping. `options` may be NULL; `result` too, and it is
 * filled whatever the status is.
 *
 * A run that is stopped (balora_context_cancel, a callback) writes a checkpoint first, where it has a folder, and
 * returns CANCELLED. Called again (after balora_context_resume) it goes on where it was. Errors: those of
 * balora_trainer_step, balora_evaluate, balora_trainer_save_checkpoint and, with `resume`, balora_trainer_resume
 * except NOT_FOUND; ARGUMENT (patience or load_best without what they need). Since 0.1.
 */
BALORA_API balora_status balora_trainer_run(balora_trainer *trainer, const balora_run_options *options,
                                            balora_run_result *result);

BALORA_END_DECLS

#endif
