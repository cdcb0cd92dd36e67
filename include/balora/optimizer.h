/*
 * The optimizer: AdamW with decoupled weight decay and bias correction, as torch.optim.AdamW; Lion (arXiv 2302.06675),
 * which keeps one moment instead of two; or AdamW with block-wise quantised moments of 8 bits (arXiv 2110.02861).
 */
#ifndef BALORA_OPTIMIZER_H
#define BALORA_OPTIMIZER_H

#include "balora/adapter.h"
#include "balora/tensor.h"

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

/*
 * An optimizer for a host that has its own model.
 *
 *     balora_optimizer_create_for(&optimizer, context, &options, NULL, counts, names, tensors);
 *     ...
 *     balora_schedule_learning_rate(&rate, BALORA_LR_COSINE, 2e-5, 0.03, step, total_steps);
 *     balora_optimizer_step(optimizer, parameters, gradients, rate, 1.0, &grad_norm);
 */

/*
 * Make an optimizer for `tensors` tensors that the host keeps, tensor i having counts[i] numbers (0 is allowed). names
 * is NULL, or has the tensors' names (NULL: it has none) for parameter_groups and LoRA+. `device` is where the tensors
 * are, in the form of balora_model_options (NULL: "cpu"); the state is there too. `options` may be NULL. The context is
 * kept alive. One optimizer is used by one thread at a time. Errors: ARGUMENT, UNSUPPORTED (the device), MEMORY, ABI.
 * Since 0.1.
 */
BALORA_API balora_status balora_optimizer_create_for(balora_optimizer **out, balora_context *context,
                                                     const balora_optimizer_options *options,
                                                     const char *device, const int64_t *counts,
                                                     const char *const *names, int64_t tensors);

/*
 * One step: parameters[i] changes by gradients[i], of the same number of elements in row-major order. Each is F32, BF16 or
 * F16, of any shape; rows may lie apart, but a transposed tensor is refused. F32 without gaps is used in place, others
 * through a copy in F32, and 16-bit parameters are rounded to the nearest: a change below half a unit in the last place is
 * lost. Memory must be the device's, with no work on it under way; the step is done when the call returns.
 *
 * Gradients are multiplied by min(1, max_grad_norm / (norm + 1e-6)) with the norm over all of them (0: not).
 * *grad_norm (may be NULL) gets that norm; where it is not finite, nothing has changed and the step does not count.
 * Steps on the same memory as the last one allocate nothing.
 *
 * Errors: ARGUMENT (naming the tensor; nothing has changed), STATE (an optimizer of an adapter), MEMORY, BACKEND,
 * CANCELLED, ABI. Since 0.1.
 */
BALORA_API balora_status balora_optimizer_step(balora_optimizer *optimizer,
                                               const balora_tensor *const *parameters,
                                               const balora_tensor *const *gradients, double learning_rate,
                                               double max_grad_norm, double *grad_norm);

/* Bytes that balora_optimizer_save_state writes. Errors: ARGUMENT. Since 0.1. */
BALORA_API balora_status balora_optimizer_state_bytes(const balora_optimizer *optimizer, uint64_t *bytes);

/*
 * Copy the state (moments, number of steps) into `buffer` of `bytes` bytes, for a host's own checkpoints; not while a
 * trainer steps. The form is this machine's byte order and may change with the library's version, which is told when it
 * is loaded. Errors: ARGUMENT (the buffer is too small), BACKEND. Since 0.1.
 */
BALORA_API balora_status balora_optimizer_save_state(const balora_optimizer *optimizer, void *buffer,
                                                     uint64_t bytes);

/*
 * Take a saved state over, into an optimizer made with the same kind, groups and tensors; steps go on to the same bits.
 * Errors: FORMAT (no state, cut off, or with numbers that no state has), MISMATCH (of another kind or other tensors):
 * nothing has changed then. BACKEND. Since 0.1.
 */
BALORA_API balora_status balora_optimizer_load_state(balora_optimizer *optimizer, const void *buffer,
                                                     uint64_t bytes);

/*
 * The learning rate at optimizer step `step` (from 0) of `total_steps`, as Hugging Face Transformers defines the schedule
 * (BALORA_LR_...): it rises from 0 over ceil(warmup_ratio total_steps) steps to `peak`, then falls to 0 along a cosine or
 * a line; the constant one has no warm-up. Any thread. Errors: ARGUMENT. Since 0.1.
 */
BALORA_API balora_status balora_schedule_learning_rate(double *out, int32_t schedule, double peak,
                                                       double warmup_ratio, int64_t step,
                                                       int64_t total_steps);

BALORA_END_DECLS

#endif
