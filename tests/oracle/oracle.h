/*
 * One fixture of the oracle through the public interface: options by key, a run of all steps, and what came
 * out of it. Files are read with the library's own readers, which tests/unit holds to the format.
 */
#ifndef TESTS_ORACLE_H
#define TESTS_ORACLE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "balora/balora.h"
#include "format/json.h"
#include "format/safetensors.h"

#define ORACLE_STEPS_LIMIT 32

/* How a run departs from its case: to show that what must not matter does not. */
typedef struct oracle_changes {
    int32_t threads;                 /* 0: 1 */
    int32_t dtype;                   /* of the model's storage */
    const char *keys[8], *values[8]; /* options that replace the case's; NULL at the end */
} oracle_changes;

typedef struct oracle_run {
    char name[64];
    char folder[512]; /* of the case */
    char scratch[64]; /* of what the run writes */
    json_t *options;  /* case.json */
    balora_context *context;
    balora_model *model;
    balora_adapter *adapter;
    balora_data *data;
    balora_regularizers *regularizers;
    balora_optimizer *optimizer;
    balora_trainer *trainer;
    balora_step_metrics steps[ORACLE_STEPS_LIMIT];
    int64_t step_count;
    balora_status status; /* of the whole run */
    char failure[1024];   /* why it is not BALORA_OK */
} oracle_run;

/* Do everything up to the last step; `changes` may be NULL. A failure is kept in the run. */
void oracle_start(oracle_run *out, const char *fixtures, const char *name, const oracle_changes *changes);
void oracle_finish(oracle_run *run); /* also on a zeroed one */

bool oracle_is_full(const oracle_run *run);
double oracle_option(const oracle_run *run, const char *key); /* a number of case.json */

/* A path in the case's folder, or in the scratch folder; valid until eight calls later. */
const char *oracle_path(const oracle_run *run, const char *name);
const char *oracle_scratch_path(const oracle_run *run, const char *name);

/* Save the adapter, or the merged model of method full, as `name` in the scratch folder. */
balora_status oracle_save(oracle_run *run, const char *name);

/* A tensor of any float type in double precision [*count]; NULL when it is not there. free() it. */
double *oracle_tensor(const safetensors_file *file, const char *name, int64_t *count);

/* s B A [out, in] of a module in a saved PEFT folder. */
double *oracle_saved_delta(const oracle_run *run, const char *folder, const char *module, int64_t *count);

/* Distances of two vectors. */
double oracle_norm(const double *values, int64_t count);
double oracle_distance(const double *a, const double *b, int64_t count); /* norm of the difference */

/* Every logit of an evaluation. */
typedef struct oracle_logits {
    float *values;
    int64_t count, capacity, vocabulary;
} oracle_logits;

/* Evaluate with all logits kept; `adapter` may be NULL. free() the values. */
balora_status oracle_evaluate(oracle_run *run, balora_model *model, balora_adapter *adapter,
                              balora_evaluation *out, oracle_logits *logits);

/* Largest difference over the largest value of `expected`, of the first `count`; infinite where one is NaN.
 */
double oracle_logits_distance(const oracle_logits *found, const double *expected, int64_t count);
double oracle_logits_difference(const oracle_logits *a, const oracle_logits *b);

#endif
