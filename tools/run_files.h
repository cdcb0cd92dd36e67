/* What `balora train` writes beside the checkpoints: lines of figures, the page, the result. */
#ifndef TOOLS_RUN_FILES_H
#define TOOLS_RUN_FILES_H

#include <stdio.h>

#include "settings.h"

typedef struct run_files {
    char *metrics_path, *evaluations_path, *report_path, *result_path, *checkpoint_path; /* owned */
    FILE *metrics, *evaluations; /* evaluations: NULL without --eval-data */
} run_files;

/* Make OUT and open its files, before the heavy work: what cannot be written is told at once. Nothing of an earlier
 * run is changed yet. Exit code. */
int run_files_open(run_files *self, const command_settings *settings);

/* A run that starts anew leaves the checkpoints of an earlier one in peace: they are renamed. Exit code. */
int run_files_make_room(const run_files *self);

/* The run begins behind `step`, and its evaluations behind `evaluated_step`: later lines are of a life that was
 * cut short, or at 0 of another run, and go. Exit code. */
int run_files_start(run_files *self, int64_t step, int64_t evaluated_step);

/* Bring the lines to the disk, as a checkpoint is there. Exit code. */
int run_files_sync(const run_files *self);

/* Close and free. Exit code. */
int run_files_close(run_files *self);

#endif
