/* How a run is going: a bar on a terminal, a line now and then elsewhere. */
#ifndef TOOLS_PROGRESS_H
#define TOOLS_PROGRESS_H

#include <balora/balora.h>

typedef struct progress {
    int64_t first_step, total_steps; /* done before, and in all */
    int terminal;
    int64_t steps, tokens;
    double seconds;    /* inside steps */
    double mean_loss;  /* of the last steps, decaying */
    int64_t last_mark; /* twentieths of the run that were told */
    double last_time;  /* of the last line */
    int drawn;         /* the bar stands on the current line */
} progress;

void progress_start(progress *self, int64_t first_step, int64_t total_steps);
void progress_update(progress *self, const balora_step_metrics *metrics);

/* Clear the bar's line, before anything else is printed. */
void progress_pause(progress *self);

#endif
