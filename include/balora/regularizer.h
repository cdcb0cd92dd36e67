/*
 * The regularizer set of BA-LoRA (arXiv 2408.04556, ICLR 2026):
 *   L = L_task + lambda1 L_consistency + lambda2 L_diversity + lambda3 L_svd
 * on the logits at M positions (or of M inputs), student Z_F and frozen teacher Z_P (the pre-trained model itself), V the
 * size of the vocabulary or the number of classes:
 *   consistency  KL:         T^2 / M sum KL(softmax(Z_P / T) || softmax(Z_F / T))
 *                normalized: 1 / (M V) sum ||z_F / |z_F| - z_P / |z_P| ||^2           (2024)
 *   diversity    entropy:    -1 / M sum H(softmax(top K of Z_F))
 *                covariance: 1 / V sum over i != j of C_ij^2,  C = Zc^T Zc / (M - 1), Zc = Z_F centred over the rows
 *   svd          -(sum of the first k singular values of Z_F) / ||Z_F||_F, or / the sum of all (nuclear);
 *                k at most M and V; absent where M < 2 or the denominator is at most 1e-8
 * A set goes to a trainer (balora/trainer.h), or is evaluated on the logits of a host's own model, below.
 */
#ifndef BALORA_REGULARIZER_H
#define BALORA_REGULARIZER_H

#include "balora/tensor.h"

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
    double adaptive_minimum;  /* adaptive schedule: least lambda; negative: a tenth of lambda_consistency */
    double adaptive_maximum;  /* adaptive schedule: largest lambda; negative: lambda_consistency */
    int32_t consistency_form; /* BALORA_CONSISTENCY_FORM_...; a trainer takes KL only */
    int32_t diversity_form;   /* BALORA_DIVERSITY_FORM_...; a trainer takes entropy only */
} balora_regularizer_options;

#define BALORA_REGULARIZER_OPTIONS_INIT                                                                      \
    {                                                                                                        \
        sizeof(balora_regularizer_options), 0.025, 0.005, 0.005, 2.0, 20, 10, BALORA_SVD_FROBENIUS,          \
            BALORA_POSITIONS_LABEL, BALORA_CONSISTENCY_COSINE, BALORA_FOCUS_TWO_PHASE, 0.2, 0.05, -1.0,      \
            -1.0, BALORA_CONSISTENCY_FORM_KL, BALORA_DIVERSITY_FORM_ENTROPY                                  \
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

/*
 * The options of a preset (BALORA_PRESET_...), in place of _INIT:
 *   generation:          as BALORA_REGULARIZER_OPTIONS_INIT
 *   understanding:       lambdas 0.15, 0.03, 0.03; KL at T = 2; covariance; nuclear with k = 5
 *   understanding, 2024: lambdas 1e-4, 3e-4, 1e-4, constant; normalized; covariance; nuclear with k = 5
 * out->struct_size is set by the caller. Errors: ARGUMENT, ABI. Since 0.1.
 */
BALORA_API balora_status balora_regularizer_options_preset(balora_regularizer_options *out, int32_t preset);

/*
 * What balora_regularizers_evaluate reads, and where it writes. All tensors are borrowed for the call, in any layout that
 * strides describe on the CPU; on a CUDA device rows must follow each other at one distance without gaps between columns.
 * Leading dimensions are rows: [batch, length, V] is as good as [M, V].
 */
typedef struct balora_regularizer_inputs {
    uint64_t struct_size;
    const balora_tensor *student; /* logits [.., V], V >= 1: float32, bfloat16 or float16 */
    const balora_tensor
        *teacher; /* of the student's shape and device; may be NULL where consistency is off */
    /* Rows that take part; both NULL: all. On the CPU wherever the logits are. What the other rows hold does not matter. */
    const balora_tensor *mask;    /* bool, uint8, int32 or int64, an element a row: not 0 takes part */
    const balora_tensor *indices; /* int32 or int64: numbers of rows, each once, in any order */
    /* Where the gradient of the weighted sum with respect to `student` goes, same shape and device, float32, bfloat16 or
     * float16; NULL: not wanted. Rows that take no part get 0. It may be the very view `student`, whose logits are then
     * lost; other overlaps are refused. */
    const balora_tensor *gradient;
    int32_t accumulate;  /* 1: the gradient is added to what is there; 0: it takes its place */
    int32_t use_lambdas; /* 1: `lambdas` are the weights; 0: the set's, by its schedules */
    double lambdas[3];   /* consistency, diversity, svd; 0: off */
    int64_t step;        /* optimizer step from 0, below total_steps */
    int64_t total_steps; /* 0: no schedule: the set's lambdas themselves (adaptive stays adaptive) */
    double
        gradient_scale; /* factor of the gradient, such as 1 / accumulation steps; not 0 where a gradient is wanted */
} balora_regularizer_inputs;

#define BALORA_REGULARIZER_INPUTS_INIT                                                                       \
    { sizeof(balora_regularizer_inputs), NULL, NULL, NULL, NULL, NULL, 0, 0, {0.0, 0.0, 0.0}, 0, 0, 1.0 }

typedef struct balora_regularizer_terms {
    uint64_t struct_size;
    double loss;                        /* lambda1 consistency + lambda2 diversity + lambda3 svd */
    double consistency, diversity, svd; /* unweighted; 0 where the term is off or absent */
    double lambda_consistency, lambda_diversity, lambda_svd; /* in force */
    double relative_teacher_entropy; /* over ln V; 0 unless the adaptive schedule has asked for it */
    int64_t rows;                    /* M */
    int64_t workspace_bytes;         /* that the set holds for such calls, on the device */
} balora_regularizer_terms;

#define BALORA_REGULARIZER_TERMS_INIT                                                                        \
    { sizeof(balora_regularizer_terms), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0 }

/*
 * Terms of the set on a host's logits, their weights, their weighted sum and, where it is wanted, its gradient.
 *
 * A term is on where its lambda (of the set's options, or of `lambdas`) is not 0; with a schedule that has it at 0 for
 * now its value is still told. Sums run in float64; the SVD and covariance terms are computed in float64 altogether, the
 * softmaxes in float32 with an error of some 1e-7 of a logit. 16-bit logits count as what they are, and a 16-bit gradient
 * is rounded once.
 *
 * Memory, beside the tensors: three chunks of rows of at most 8 MiB each on the CPU (one row at least; twice that for the
 * normalized form), 24 MiB for the SVD term with two matrices [n, n] and one [k, V] of float64, n = min(M, V) (k = n in
 * the nuclear norm), two matrices [V, V] for covariance, which is for V up to 4096. They are made by the first call, grow
 * with the largest and stay with the set.
 *
 * The set is used by one thread at a time. On a CUDA device ("cuda" plugin) all earlier work on the tensors must be done
 * (synchronize the stream that made them); the call returns when its own is.
 *
 * Errors: ARGUMENT (an input, named), MISMATCH (shapes, devices), UNSUPPORTED (strides on a device, classes), NUMERIC (a
 * logit of a row that takes part is not finite; the gradient is then unspecified), MEMORY, CANCELLED, ABI, and the
 * device's. *out is untouched after a failure. Since 0.1.
 */
BALORA_API balora_status balora_regularizers_evaluate(balora_regularizers *regularizers,
                                                      const balora_regularizer_inputs *inputs,
                                                      balora_regularizer_terms *out);

BALORA_END_DECLS

#endif
