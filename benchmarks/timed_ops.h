/*
 * A backend table that passes every call on and adds up the wall time of each kind of work: where a step's
 * time goes, without a line of measuring in the library.
 *
 * It waits for the device before and after each call, so that the time of work that is enqueued is attributed to the
 * call that enqueued it: on a GPU a step then takes longer than without, since the host's work is no longer hidden.
 * Work cannot be captured into a graph through it.
 */
#ifndef BENCHMARKS_TIMED_OPS_H
#define BENCHMARKS_TIMED_OPS_H

#include "backend/ops.h"

/* Kinds of work that a step's time is split into. */
enum {
    PART_BODY_GEMM,     /* frozen weights of the blocks */
    PART_HEAD_GEMM,     /* logits and their way back */
    PART_LOW_RANK_GEMM, /* A, B and their gradients */
    PART_ATTENTION,
    PART_LOSS_HEAD,
    PART_SPECTRAL, /* everything in F64, and the coefficients of its gradient */
    PART_ROWS,     /* norms, rotary positions, activations, copies, gathers */
    PART_OPTIMIZER,
    PART_COUNT
};

typedef struct part_time {
    const char *name;
    double seconds;
    double flops; /* of matrix products only */
} part_time;

/* The timed twin of `ops`; one at a time. `vocabulary` and `rank_limit` tell the kinds of GEMM apart. */
const backend_ops *timed_ops(const backend_ops *ops, int64_t vocabulary, int64_t rank_limit);

/* The sums so far [PART_COUNT], and starting anew. */
const part_time *timed_parts(void);
void timed_reset(void);

/* Parts in the processor time of all threads from now on, not in that of the wall: on a machine that others keep busy. */
void timed_use_process_seconds(void);

#endif
