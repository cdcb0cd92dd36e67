/* The optimizer handle: AdamW's moments for an adapter's flat parameters. */
#ifndef OPTIM_OPTIMIZER_H
#define OPTIM_OPTIMIZER_H

#include "adapter/adapter.h"
#include "balora/optimizer.h"

struct balora_optimizer {
    _Atomic int references;
    balora_adapter *adapter;
    balora_optimizer_options options;
    arena moments;
    matrix_view first, second; /* F32 [1, parameters] */
    int64_t steps;             /* applied so far */
};

balora_status optimizer_create(balora_optimizer **out, balora_adapter *adapter,
                               const balora_optimizer_options *options);
balora_optimizer *optimizer_retain(balora_optimizer *optimizer);
void optimizer_release(balora_optimizer *optimizer); /* NULL is allowed */

/*
 * Update the adapter's parameters from its gradients, multiplied by the device scalar `scale` (F32); one that
 * is not finite changes nothing. The caller counts the step with optimizer_count once it knows that it was
 * applied.
 */
balora_status optimizer_apply(balora_optimizer *optimizer, backend_queue *queue, double learning_rate,
                              matrix_view scale);
void optimizer_count(balora_optimizer *optimizer);

/* One array of an optimizer's state in device memory: contiguous, any dtype. Names are static. */
typedef struct optimizer_array {
    const char *name; /* "first_moment" */
    matrix_view view;
} optimizer_array;

#define OPTIMIZER_STATE_LIMIT 8

/*
 * Everything that the next update depends on beside the parameters, the options and `steps`: what a checkpoint
 * keeps. Fills `out` and returns the number of arrays; it is the same for as long as the handle lives.
 */
int32_t optimizer_state(const balora_optimizer *optimizer, optimizer_array out[OPTIMIZER_STATE_LIMIT]);

#endif
