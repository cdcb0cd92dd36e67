/* JSON lines: one object an optimizer step, and one an evaluation. Not-a-number and infinity are written as
 * null. */
#ifndef TOOLS_METRICS_H
#define TOOLS_METRICS_H

#include <jansson.h>
#include <stdio.h>

#include <balora/balora.h>

/* How figures are written: 0.1 stays 0.1. */
#define METRICS_JSON JSON_REAL_PRECISION(15)

/* Append one line and flush it. Exit code; `path` is for the message. */
int metrics_write_step(FILE *file, const char *path, const balora_step_metrics *metrics);
int metrics_write_evaluation(FILE *file, const char *path, int64_t step, const balora_evaluation *evaluation);

/* An evaluation's figures under "PREFIXloss", ...; owned. */
json_t *metrics_evaluation(const balora_evaluation *evaluation, const char *prefix);

#endif
