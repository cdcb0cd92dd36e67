/* What may fail: calls of the public interface on handles that were made before. */
#ifndef TESTS_SCENARIOS_H
#define TESTS_SCENARIOS_H

#include "../hostile/hostile.h"

/* The valid folder of tests/hostile, and the handles that a scenario needs. */
typedef struct stage {
    scratch *files;
    balora_context *context;
    balora_model *model;
    balora_adapter *adapter;
    balora_data *data;
    balora_trainer *trainer;
} stage;

enum { NEEDS_MODEL = 1, NEEDS_ADAPTER = 2, NEEDS_DATA = 4, NEEDS_TRAINER = 8, NEEDS_CHECKPOINTS = 16 };

typedef struct scenario {
    const char *name;
    unsigned needs;
    balora_status (*run)(stage *self);
    bool writes;   /* into out/, whose files are old or new behind a failure, and never half */
    bool forgives; /* may end well with a warning: an old checkpoint stays, or a damaged one is skipped */
} scenario;

extern const scenario scenarios[];
extern const size_t scenario_count;

/* Checkpoints of steps 1 and 2 lie in out/checkpoints where they are needed, and the trainer is at step 3. */

/* Handles of one thread whose memory comes from inject.h. */
void stage_open(stage *out, scratch *files, unsigned needs);
void stage_close(stage *self);

#endif
