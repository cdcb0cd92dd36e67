/*
 * The optimizer handle: the moments of a flat array of parameters, an adapter's or (host.h) a host's, and the groups of
 * its tensors.
 */
#ifndef OPTIM_OPTIMIZER_H
#define OPTIM_OPTIMIZER_H

#include "adapter/adapter.h"
#include "balora/optimizer.h"
#include "optim/blocks.h"
#include "optim/groups.h"

struct balora_optimizer {
    _Atomic int references;
    balora_context *context;
    balora_adapter *adapter;   /* NULL: a host's, */
    struct host_tensors *host; /* which are here */
    const backend *device;
    backend_queue *queue;
    balora_optimizer_options options; /* without the texts, which were the caller's */
    group_set groups;
    int64_t count;             /* parameters, padding included */
    int64_t blocks;            /* with scales, or listed; 0: neither */
    bool listed;               /* blocks have a table: starts and groups */
    uint64_t layout;           /* a hash of the tensors' places: states of two layouts do not fit */
    arena arena;               /* all of: */
    matrix_view first, second; /* [1, count], F32 or U8 codes; none that the kind lacks */
    matrix_view first_scales, second_scales; /* F32 [1, blocks], of codes */
    matrix_view first_map, second_map;       /* F32 [1, 256], of codes */
    matrix_view block_starts, block_groups;  /* I64 [1, blocks + 1], U8 [1, blocks]; none where not listed */
    int64_t steps;                           /* applied so far */
};

balora_status optimizer_create(balora_optimizer **out, balora_adapter *adapter,
                               const balora_optimizer_options *options);
/* A handle without parameters, with its groups read: for optimizer_create and its like. */
balora_status optimizer_new(balora_optimizer **out, balora_context *context,
                            const balora_optimizer_options *options);
/* Take memory for the state of self->count numbers in self->blocks blocks, zeroed; `table` where they are listed. */
balora_status optimizer_take_memory(balora_optimizer *self, const block_table *table);
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

/* BACKEND's number of the kind. */
int32_t optimizer_kind(const balora_optimizer *optimizer);
/* What an update takes beside its arrays: kind, betas, maps, the next step and the groups' rates. */
optimizer_update optimizer_next(const balora_optimizer *optimizer, double learning_rate);

/* One array of an optimizer's state in device memory, such as "first_moment": contiguous, any dtype. */
typedef named_view optimizer_array;

#define OPTIMIZER_STATE_LIMIT 8

/*
 * Everything that the next update depends on beside the parameters, the options and `steps`: what a checkpoint
 * keeps. Fills `out` and returns the number of arrays; it is the same for as long as the handle lives.
 */
int32_t optimizer_state(const balora_optimizer *optimizer, optimizer_array out[OPTIMIZER_STATE_LIMIT]);

/* A checksum of the groups' rates and of what is in which: other groups differ in it. */
balora_status optimizer_fingerprint(uint32_t *out, const balora_optimizer *optimizer);

#endif
