/*
 * The order of the data in a run: which sequences each optimizer step takes.
 *
 * Sequences form one endless stream: epoch 0's order, then epoch 1's, and so on. Each epoch is a full
 * permutation, computed from (seed, epoch, place), so that a run goes on anywhere without stored state. A
 * place counts sequences from the beginning of the stream.
 */
#ifndef DATA_ORDER_H
#define DATA_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "balora/status.h"

typedef struct order_options {
    int64_t sequences;    /* of the data set */
    int64_t batch_size;   /* sequences of a micro-batch */
    int64_t accumulation; /* micro-batches of an optimizer step */
    double epochs;        /* length of the run when max_steps is 0 */
    int64_t max_steps;
    uint64_t seed;
    bool shuffle;
    bool packing; /* without it a micro-batch holds one sequence, and a step as many of them */
} order_options;

typedef struct data_order {
    int64_t sequences;
    int64_t micro_batch_size; /* sequences */
    int64_t step_size;        /* sequences */
    int64_t places;           /* length of the run */
    int64_t steps;
    uint64_t seed;
    bool shuffle;
} data_order;

/* A piece of the stream. */
typedef struct order_range {
    int64_t first, count; /* places */
} order_range;

/* Errors: ARGUMENT naming the option. The last step is shorter when the epochs end inside it. */
balora_status order_init(data_order *out, const order_options *options);

/* The sequence at a place. */
int64_t order_sequence(const data_order *self, int64_t place);

/* What a step takes (steps count from 0), and its micro-batches. */
order_range order_step(const data_order *self, int64_t step);
int64_t order_micro_batches(const data_order *self, int64_t step);
order_range order_micro_batch(const data_order *self, int64_t step, int64_t micro_batch);

/* Passes over the data when `steps` steps are done. */
double order_epochs(const data_order *self, int64_t steps);

#endif
