/*
 * The optimizer: AdamW with decoupled weight decay and bias correction, as torch.optim.AdamW; Lion (arXiv 2302.06675),
 * which keeps one moment instead of two; or AdamW with block-wise quantised moments of 8 bits (arXiv 2110.02861).
 */
#ifndef BALORA_OPTIMIZER_H
#define BALORA_OPTIMIZER_H

#include "balora/adapter.h"

BALORA_BEGIN_DECLS

typedef struct balora_optimizer_options {
    uint64_t struct_size;
    double beta1, beta2; /* 0 <= beta < 1; beta2 is AdamW's */
    double epsilon;      /* greater than 0; AdamW's */
    double weight_decay; /* 0 or more, multiplied by the learning rate of the parameter's group */
    int32_t optimizer;   /* BALORA_OPTIMIZER_... */
    int32_t reserved;
    double
        lora_plus_ratio; /* LoRA+ (arXiv 2402.12354): B learns at this multiple of A's rate; 0 or 1: at the same */
    double
        lion_beta2; /* 0 <= beta < 1: Lion's decay of the moment. Lion wants a third to a tenth of AdamW's rate */
    const char
        *parameter_groups; /* rates by name, see below; NULL: none. Borrowed until the optimizer is made */
} balora_optimizer_options;

#define BALORA_OPTIMIZER_OPTIONS_INIT                                                                        \
    { sizeof(balora_optimizer_options), 0.9, 0.999, 1e-8, 0.0, BALORA_OPTIMIZER_ADAMW, 0, 1.0, 0.99, NULL }

/*
 * parameter_groups is "PATTERN=FACTOR" or "PATTERN=FACTOR:DECAY", up to seven of them with commas between, such as
 * "lora_A=0.5,bias=1:0". A tensor is of the first group whose pattern is a part of its name: it learns at FACTOR times
 * the learning rate, with DECAY in place of weight_decay. Names are those of PEFT and the model's files:
 * "model.layers.0.self_attn.q_proj.lora_A.weight", "model.embed_tokens.weight". The LoRA+ ratio multiplies FACTOR where
 * the name holds lora_B.
 *
 * The 8-bit moments' codes are those of bitsandbytes' 8-bit optimizers (dynamic maps, signed for the first moment,
 * unsigned for the second; blocks of 256 numbers, each with the largest moment as its scale), with two differences: every
 * tensor is quantised however small it is (its last block is just shorter), and a second moment above 0 never becomes 0,
 * by which a step would be the first moment over epsilon.
 *
 * State a parameter: AdamW 8 bytes, Lion 4, 8-bit AdamW 2.07.
 */

/*
 * Make an optimizer for an adapter's trainable parameters. The adapter is kept alive; an optimizer serves one trainer at
 * a time. Errors: ARGUMENT, MEMORY, ABI. Since 0.1.
 */
BALORA_API balora_status balora_optimizer_create(balora_optimizer **out, balora_adapter *adapter,
                                                 const balora_optimizer_options *options);

/* Give the handle back; NULL is allowed. Since 0.1. */
BALORA_API void balora_optimizer_free(balora_optimizer *optimizer);

BALORA_END_DECLS

#endif
