/*
 * The regularizer set of BA-LoRA (arXiv 2408.04556, ICLR 2026) for generation:
 *   L = L_task + lambda1 L_consistency + lambda2 L_diversity + lambda3 L_svd
 * on the logits at M positions, student Z_F and frozen teacher Z_P (the pre-trained model itself):
 *   consistency  T^2 / M sum KL(softmax(Z_P / T) || softmax(Z_F / T))
 *   diversity    -1 / M sum H(softmax(top K of Z_F))
 *   svd          -(sum of the first k singular values of Z_F) / ||Z_F||_F, or / the sum of all (nuclear)
 */
#ifndef BALORA_REGULARIZER_H
#define BALORA_REGULARIZER_H

#include "balora/types.h"

BALORA_BEGIN_DECLS

typedef struct balora_regularizer_options {
    uint64_t struct_size;
    double lambda_consistency; /* 0: off, as the other two */
    double lambda_diversity;
    double lambda_svd;
    double temperature;           /* T > 0 */
    int64_t top_k;                /* K; 0: the whole vocabulary */
    int64_t svd_k;                /* k >= 1 */
    int32_t svd_norm;             /* BALORA_SVD_... */
    int32_t positions;            /* BALORA_POSITIONS_... */
    int32_t consistency_schedule; /* BALORA_CONSISTENCY_...: of lambda_consistency over the run */
    int32_t focus_schedule;       /* BALORA_FOCUS_...: of lambda_diversity and lambda_svd */
    double focus_warmup_ratio;    /* share of the run before the focus terms are fully on, 0 to 1 */
    double focus_ramp_ratio;      /* share of the run over which two_phase ramps up, 0 to 1 */
    double adaptive_minimum; /* adaptive schedule: least lambda; negative: a tenth of lambda_consistency */
    double adaptive_maximum; /* adaptive schedule: largest lambda; negative: lambda_consistency */
} balora_regularizer_options;

#define BALORA_REGULARIZER_OPTIONS_INIT                                                                      \
    {                                                                                                        \
        sizeof(balora_regularizer_options), 0.025, 0.005, 0.005, 2.0, 20, 10, BALORA_SVD_FROBENIUS,          \
            BALORA_POSITIONS_LABEL, BALORA_CONSISTENCY_COSINE, BALORA_FOCUS_TWO_PHASE, 0.2, 0.05, -1.0, -1.0 \
    }

/* Make a set; `options` may be NULL. Errors: ARGUMENT (naming the field and its bounds), MEMORY, ABI. Since
 * 0.1. */
BALORA_API balora_status balora_regularizers_create(balora_regularizers **out, balora_context *context,
                                                    const balora_regularizer_options *options);

/* Give the handle back; NULL is allowed. Since 0.1. */
BALORA_API void balora_regularizers_free(balora_regularizers *regularizers);

/*
 * The weights in force at an optimizer step: lambdas[0..2] for consistency, diversity and SVD.
 * step from 0 below total_steps; relative_teacher_entropy, the teacher's mean entropy over ln V (0 to 1), is
 * read by the adaptive schedule only. Errors: ARGUMENT. Since 0.1.
 */
BALORA_API balora_status balora_regularizers_weights(const balora_regularizers *regularizers, int64_t step,
                                                     int64_t total_steps, double relative_teacher_entropy,
                                                     double lambdas[3]);

BALORA_END_DECLS

#endif
