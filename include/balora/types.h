/* Values that several handles share. Enumerations cross the ABI as int32_t; their values never change. */
#ifndef BALORA_TYPES_H
#define BALORA_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include "balora/export.h"
#include "balora/status.h"

BALORA_BEGIN_DECLS

/* Storage types of numbers. */
enum {
    BALORA_DTYPE_AUTO = 0, /* as the model folder has it */
    BALORA_F32 = 10,
    BALORA_F16 = 20,
    BALORA_BF16 = 30,
    BALORA_F64 = 40,
    BALORA_I32 = 50,
    BALORA_I64 = 60,
    BALORA_U8 = 70
};

/* How the trained weights start and what is trained. */
enum {
    BALORA_METHOD_BA_LORA = 0, /* PiSSA factors, trained with the three regularizers (BA-LoRA) */
    BALORA_METHOD_PISSA = 10,  /* PiSSA factors, task loss only (arXiv 2404.02948) */
    BALORA_METHOD_LORA = 20,   /* A from a Kaiming-uniform distribution, B zero, task loss only */
    BALORA_METHOD_DORA = 30,   /* the same with trained magnitudes (arXiv 2402.09353): use_dora is implied */
    BALORA_METHOD_FULL = 40    /* every weight, embeddings and head included, task loss only */
};

/* How an adapter's factors start. */
enum {
    BALORA_INIT_AUTO = 0,      /* as the method says: PISSA with BA_LORA and PISSA, else KAIMING */
    BALORA_INIT_KAIMING = 10,  /* A uniform within 1 / sqrt(in), B zero */
    BALORA_INIT_GAUSSIAN = 20, /* A normal with deviation 1 / rank, B zero */
    BALORA_INIT_PISSA = 30     /* leading singular vectors of the weight */
};

/* Biases of the model's linear layers that are trained beside the factors, as PEFT's `bias` says. */
enum {
    BALORA_BIAS_NONE = 0,
    BALORA_BIAS_ALL = 10,
    BALORA_BIAS_LORA_ONLY = 20 /* those of adapted layers */
};

/* Learning-rate schedules, as Hugging Face Transformers defines them. */
enum { BALORA_LR_COSINE = 0, BALORA_LR_LINEAR = 10, BALORA_LR_CONSTANT = 20 };

/* Optimizers. */
enum {
    BALORA_OPTIMIZER_ADAMW = 0, /* as torch.optim.AdamW; two F32 moments a number */
    BALORA_OPTIMIZER_LION =
        10, /* the sign of a mean of gradients (arXiv 2302.06675); one F32 moment a number */
    BALORA_OPTIMIZER_ADAMW_8BIT =
        20 /* AdamW with its moments in 8 bits (arXiv 2110.02861); 2 bytes a number */
};

/* How token terms are averaged over the micro-batches of one optimizer step. */
enum {
    BALORA_REDUCTION_GLOBAL = 0,        /* one division by the step's count: 8 x 1 sequences equal 1 x 8 */
    BALORA_REDUCTION_MEAN_OF_MEANS = 10 /* the mean of each micro-batch's own mean, as the reference */
};

/* Positions that the regularizers act on. */
enum {
    BALORA_POSITIONS_LABEL = 0,   /* whose own token is supervised, as the reference */
    BALORA_POSITIONS_PREDICT = 10 /* whose next token is supervised, as the task loss */
};

/* Denominator of the SVD term. */
enum { BALORA_SVD_FROBENIUS = 0, BALORA_SVD_NUCLEAR = 10 };

/* What the consistency term compares. */
enum {
    BALORA_CONSISTENCY_FORM_KL = 0,         /* T^2 KL of the softmaxes at temperature T */
    BALORA_CONSISTENCY_FORM_NORMALIZED = 10 /* squared difference of the L2-normalised logits, as in 2024 */
};

/* What the diversity term measures. */
enum {
    BALORA_DIVERSITY_FORM_ENTROPY = 0,    /* entropy of each row's softmax: generation */
    BALORA_DIVERSITY_FORM_COVARIANCE = 10 /* covariance of the classes over the batch: understanding */
};

/* Sets of regularizer options, as the papers have them. */
enum {
    BALORA_PRESET_GENERATION = 0,         /* BALORA_REGULARIZER_OPTIONS_INIT */
    BALORA_PRESET_UNDERSTANDING = 10,     /* classification, ICLR 2026 */
    BALORA_PRESET_UNDERSTANDING_2024 = 20 /* classification, the first version */
};

/* Schedules of the consistency weight (lambda 1). */
enum { BALORA_CONSISTENCY_COSINE = 0, BALORA_CONSISTENCY_CONSTANT = 10, BALORA_CONSISTENCY_ADAPTIVE = 20 };

/* Schedules of the diversity and SVD weights (lambda 2 and 3). */
enum {
    BALORA_FOCUS_TWO_PHASE = 0,
    BALORA_FOCUS_CONSTANT = 10,
    BALORA_FOCUS_LINEAR_WARMUP = 20,
    BALORA_FOCUS_QUADRATIC_WARMUP = 30
};

typedef struct balora_context balora_context;
typedef struct balora_model balora_model;
typedef struct balora_adapter balora_adapter;
typedef struct balora_regularizers balora_regularizers;
typedef struct balora_optimizer balora_optimizer;
typedef struct balora_data balora_data;
typedef struct balora_trainer balora_trainer;

BALORA_END_DECLS

#endif
