/* The optimizer: AdamW with decoupled weight decay and bias correction, as torch.optim.AdamW. */
#ifndef BALORA_OPTIMIZER_H
#define BALORA_OPTIMIZER_H

#include "balora/adapter.h"

BALORA_BEGIN_DECLS

typedef struct balora_optimizer_options {
    uint64_t struct_size;
    double beta1, beta2; /* 0 <= beta < 1 */
    double epsilon;      /* greater than 0 */
    double weight_decay; /* 0 or more, multiplied by the learning rate */
} balora_optimizer_options;

#define BALORA_OPTIMIZER_OPTIONS_INIT                                                                        \
    { sizeof(balora_optimizer_options), 0.9, 0.999, 1e-8, 0.0 }

/*
 * Make an optimizer for an adapter's trainable parameters: two F32 moments each. The adapter is kept alive;
 * an optimizer serves one trainer at a time. Errors: ARGUMENT, MEMORY, ABI. Since 0.1.
 */
BALORA_API balora_status balora_optimizer_create(balora_optimizer **out, balora_adapter *adapter,
                                                 const balora_optimizer_options *options);

/* Give the handle back; NULL is allowed. Since 0.1. */
BALORA_API void balora_optimizer_free(balora_optimizer *optimizer);

BALORA_END_DECLS

#endif
