/* An optimizer's state as one block of bytes. */
#ifndef OPTIM_STATE_H
#define OPTIM_STATE_H

#include "optim/optimizer.h"

uint64_t state_bytes(const balora_optimizer *optimizer);

/* `bytes` is state_bytes' answer. */
balora_status state_save(const balora_optimizer *optimizer, void *buffer);

/* MISMATCH: of another optimizer, with `field` and both values; FORMAT: no state, or a damaged one. Nothing has changed
 * then. */
balora_status state_load(balora_optimizer *optimizer, const void *buffer, uint64_t bytes);

#endif
