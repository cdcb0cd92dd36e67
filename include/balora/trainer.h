/*
 * The trainer: optimizer steps over a data set, and evaluation.
 *
 *     while ((status = balora_trainer_step(trainer, &metrics)) == BALORA_OK)
 *         ...
 *
 * All memory of a step is planned and taken when the trainer is made; a step allocates nothing.
 */
#ifndef BALORA_TRAINER_H
#define BALORA_TRAINER_H

#include "balora/data.h"
#include "balora/optimizer.h"
#include "balora/regularizer.h"

BALORA_BEGIN_DECLS

typedef struct balora_train_options {
    uint64_t struct_size;
    double learning_rate;
    double max_grad_norm;          /* gradient clipping by the global norm; 0: none */
    double warmup_ratio;           /* share of the run over which the learning rate rises, 0 to 1 */
    double epochs;                 /* passes over the data, when max_steps is 0 */
    int64_t max_steps;             /* optimizer steps; 0: from epochs */
    int64_t batch_size;            /* sequences of a micro-batch */
    int64_t gradient_accumulation; /* micro-batches of an optimizer step */
    uint64_t seed;                 /* of the order of the data, and of dropout */
    int32_t lr_schedule;           /* BALORA_LR_... */
    int32_t loss_reduction;        /* BALORA_REDUCTION_... */
    int32_t shuffle;               /* 1: a new order every epoch; 0: the file's order */
    int32_t packing;     /* 1: the sequences of a micro-batch form one token stream; 0: one by one */
    int64_t logit_chunk; /* rows of logits held at once; 0: chosen by the vocabulary's size */
    balora_regularizers
        *regularizers; /* NULL: for an adapter made with BALORA_METHOD_BA_LORA the defaults, else none */
    balora_optimizer *optimizer; /* NULL: AdamW with its defaults */
    int32_t device_graph; /* 1: run each step as one graph where the device can; gains on small models */
    int32_t reserved;
    int64_t
        max_skipped_steps; /* so many steps in a row without a finite gradient end the run; 0: 10. Since 0.1. */
} balora_train_options;

#define BALORA_TRAIN_OPTIONS_INIT                                                                            \
    {                                                                                                        \
        sizeof(balora_train_options), 2e-5, 1.0, 0.03, 1.0, 0, 4, 1, 0, BALORA_LR_COSINE,                    \
            BALORA_REDUCTION_GLOBAL, 1, 1, 0, NULL, NULL, 0, 0, 10                                           \
    }

/*
 * Plan and take everything that training needs. Adapter, data, regularizers and optimizer are kept alive. One
 * trainer is used by one thread at a time. Errors: ARGUMENT (naming the field and its bounds), STATE (the
 * adapter has a trainer already), MISMATCH (adapter and data of different models), MEMORY (naming the bytes
 * that were planned), ABI. Since 0.1.
 */
BALORA_API balora_status balora_trainer_create(balora_trainer **out, balora_adapter *adapter,
                                               balora_data *data, const balora_train_options *options);

/* Give the handle back; NULL is allowed. Since 0.1. */
BALORA_API void balora_trainer_free(balora_trainer *trainer);

typedef struct balora_step_metrics {
    uint64_t struct_size;
    int64_t step;                             /* from 1 */
    double epoch;                             /* passes over the data, this step included */
    double loss;                              /* task + the weighted terms */
    double task, consistency, diversity, svd; /* raw terms; NaN where a term is off or absent */
    double grad_norm;                         /* before clipping */
    double lambda_consistency, lambda_diversity, lambda_svd; /* in force */
    double learning_rate;
    int64_t tokens;            /* all tokens of the step */
    int64_t supervised_tokens; /* positions of the task loss */
    double seconds;            /* wall time of the step */
    int64_t peak_memory_bytes; /* of the process so far; of a GPU, what the model's device took of it */
    int64_t skipped;           /* 1: the gradient was not finite and nothing was changed */
} balora_step_metrics;

#define BALORA_STEP_METRICS_INIT                                                                             \
    { sizeof(balora_step_metrics), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * One optimizer step. BALORA_OK: done, `metrics` (may be NULL) is filled. BALORA_DONE: the run had ended
 * before. Errors: CANCELLED (nothing of this step was applied), NUMERIC (the gradient was not finite for
 * max_skipped_steps in a row; the message names the first number of it), BACKEND, STATE. Since 0.1.
 */
BALORA_API balora_status balora_trainer_step(balora_trainer *trainer, balora_step_metrics *metrics);

typedef struct balora_trainer_information {
    uint64_t struct_size;
    int64_t total_steps;
    int64_t micro_batch_tokens; /* the most tokens of a micro-batch in this run */
    int64_t micro_batch_rows;   /* the most rows of logits that a micro-batch needs */
    int64_t activation_bytes;   /* the arena of a step */
    int64_t head_bytes;         /* of it: logits and what the loss head needs */
    int64_t weight_bytes, adapter_bytes, optimizer_bytes;
} balora_trainer_information;

#define BALORA_TRAINER_INFORMATION_INIT                                                                      \
    { sizeof(balora_trainer_information), 0, 0, 0, 0, 0, 0, 0, 0 }

/* Length of the run and its memory plan in bytes. Errors: ARGUMENT, ABI. Since 0.1. */
BALORA_API balora_status balora_trainer_describe(const balora_trainer *trainer,
                                                 balora_trainer_information *out);

typedef struct balora_evaluation {
    uint64_t struct_size;
    double loss;              /* mean cross entropy of the supervised next tokens, nats */
    double perplexity;        /* exp(loss) */
    double token_accuracy;    /* share of them that have the largest logit */
    double sequence_accuracy; /* share of sequences whose supervised tokens all have the largest logit */
    double drift;             /* mean KL(base || adapted) in nats at those positions; 0 without an adapter */
    double entropy;           /* mean entropy of the adapted model's prediction there, nats */
    int64_t tokens, supervised_tokens, sequences;
    double seconds;
} balora_evaluation;

#define BALORA_EVALUATION_INIT                                                                               \
    { sizeof(balora_evaluation), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/*
 * Receives logits [rows, vocabulary] F32 of consecutive tokens in file order; borrowed for the call. Non-zero
 * stops the evaluation with BALORA_ERROR_CANCELLED.
 */
typedef int (*balora_logits_callback)(const float *logits, int64_t rows, int64_t vocabulary, void *user);

/*
 * Evaluate the model, with `adapter` or without (NULL), on a data set in file order. With `logits` every
 * position's logits are computed and handed over, else only those that the figures need. Makes and frees its
 * own memory. Errors: ARGUMENT, MISMATCH, MEMORY, CANCELLED, ABI. Since 0.1.
 */
BALORA_API balora_status balora_evaluate(balora_evaluation *out, balora_model *model, balora_adapter *adapter,
                                         balora_data *data, balora_logits_callback logits, void *user);

BALORA_END_DECLS

#endif
