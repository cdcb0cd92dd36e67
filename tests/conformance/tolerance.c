#include "tolerance.h"

typedef struct tolerance_entry {
    slot_number slot;
    int32_t dtype; /* of the result */
    tolerance allowed;
} tolerance_entry;

/* Half a unit in the last place, relative to the number: 2^-8 and 2^-11, with a hair for what is rounded being F32.
 * Below F16's normal numbers the unit is 2^-24. */
#define ROUNDING_BF16 3.92e-3
#define ROUNDING_F16  4.9e-4
#define SMALLEST_F16  3e-8

/*
 * U is half a unit in the last place of 1: 6.0e-8 in F32, 1.1e-16 in F64. A sum of n products in any order
 * differs by about U sqrt(n) of its magnitude when errors are independent and by U n at worst; sums here have
 * up to 3000 terms. A backend that rounds its operands to fewer bits (TF32: 5e-4) is far outside.
 */
static const tolerance_entry entries[] = {
    /* copy, gather_rows, fill_zero: one rounding to nearest even, which has one right answer: exact, not
     * listed. scatter_add_rows: additions of F32 in a stated order, exact as well. quantize: codes and scales
     * are exact; what else is nearest is its test's business. */

    /* Two products and a sum, each rounded, alpha and beta rounded to F32 before: 5 U. */
    {SLOT_scale_add, BALORA_F32, {3e-7, 0, 0}},
    {SLOT_scale_add, BALORA_F64, {6e-16, 0, 0}},
    /* One rounding; a second one is allowed for. */
    {SLOT_add_row, BALORA_F32, {1.2e-7, 0, 0}},
    {SLOT_scale_rows, BALORA_F64, {2.3e-16, 0, 0}},
    /* Sums of up to 1300 rows. */
    {SLOT_sum_rows, BALORA_F32, {2e-6, 0, 0}},
    {SLOT_sum_rows, BALORA_F64, {4e-15, 0, 0}},
    /* 1e6 positive terms accumulated in F64. */
    {SLOT_sum_squares, BALORA_F64, {1e-11, 0, 0}},
    {SLOT_trace, BALORA_F64, {1e-14, 0, 0}},

    /* A root, a logarithm and a cosine, all of which F32 may compute; magnitudes are 1 + |x|. */
    {SLOT_fill_normal, BALORA_F32, {1e-6, 0, 0}},
    /* A product, or a product and a quotient by 127. */
    {SLOT_dequantize, BALORA_F32, {2.5e-7, 0, 0}},
    /* Means of up to 1000 rows of F32, taken in F64. */
    {SLOT_covariance, BALORA_F64, {1e-13, 0, 0}},

    /* Two products and a sum. */
    {SLOT_scale_columns, BALORA_F32, {2e-7, 0, 0}},
    /* Sums in F64 of exact products, rounded once to F32. */
    {SLOT_dot_columns, BALORA_F32, {1.2e-7, 0, 0}},
    /* A root of up to 4100 squares summed in F64. */
    {SLOT_row_norms, BALORA_F32, {1.2e-7, 0, 0}},
    {SLOT_row_norms, BALORA_F64, {5e-15, 0, 0}},
    /* One rounding. */
    {SLOT_divide, BALORA_F32, {6.1e-8, 0, 0}},
    {SLOT_divide, BALORA_F64, {1.2e-16, 0, 0}},
    /* A product with a rounded 1 / (1 - p), another and a sum; what is dropped is exactly beta y. */
    {SLOT_dropout, BALORA_F32, {2.5e-7, 0, 0}},

    /* Dot products of up to 1200 terms against the sum of absolute products. */
    {SLOT_gemm, BALORA_F32, {2e-6, 0, 0}},
    {SLOT_gemm, BALORA_F64, {4e-15, 0, 0}},
    {SLOT_gemm_batched, BALORA_F32, {2e-6, 0, 0}},
    {SLOT_gemm_batched, BALORA_F64, {4e-15, 0, 0}},
    {SLOT_gemm_bias, BALORA_F32, {2e-6, 0, 0}},
    {SLOT_gemm_bias, BALORA_F64, {4e-15, 0, 0}},
    {SLOT_gram, BALORA_F32, {2e-6, 0, 0}},
    {SLOT_gram, BALORA_F64, {4e-15, 0, 0}},

    /* Factorizations: backward stable, n up to 100; the magnitude is the norm of the matrix, or 1 for a
       basis. */
    {SLOT_eigh_top, BALORA_F64, {2e-13, 0, 0}},
    {SLOT_orthonormalize_rows, BALORA_F32, {2e-6, 0, 0}},
    {SLOT_orthonormalize_rows, BALORA_F64, {4e-15, 0, 0}},
    {SLOT_svd, BALORA_F32, {5e-6, 0, 0}},
    {SLOT_svd_top, BALORA_F32, {5e-6, 0, 0}},

    /* A root, a quotient and a mean of squares of up to 2000 terms. */
    {SLOT_rms_norm, BALORA_F32, {1e-6, 0, 0}},
    {SLOT_rms_norm_backward, BALORA_F32, {2e-6, 0, 0}},
    /* The same with a mean; magnitudes hold the mean beside each deviation from it. */
    {SLOT_layer_norm, BALORA_F32, {1e-6, 0, 0}},
    {SLOT_layer_norm_backward, BALORA_F32, {2e-6, 0, 0}},
    /* An exponential of 2 ulp and a sum; magnitudes hold 1 + the distance from the largest element. */
    {SLOT_softmax_rows, BALORA_F32, {1e-6, 1e-30, 0}},
    {SLOT_softmax_rows_backward, BALORA_F32, {1e-6, 1e-30, 0}},
    /* Two products and a sum. */
    {SLOT_rope, BALORA_F32, {2.5e-7, 0, 0}},
    /* An exponential of 2 ulp, its argument rounded. Far below 0 it may stop at F32's smallest normal number,
     * times a gate of 1e4 and its cube. */
    {SLOT_gated_activation, BALORA_F32, {1e-6, 1e-30, 0}},
    /* 1 - logistic may be taken in F32: its error of U is multiplied by x u' < 40 before it becomes 0. */
    {SLOT_gated_activation_backward, BALORA_F32, {4e-6, 1e-24, 0}},
    /* tanh within 4 units in the last place, a quotient and a product. */
    {SLOT_soft_cap, BALORA_F32, {6e-7, 0, 0}},
    /* Of |dy|: a quotient, a square and a difference from 1. */
    {SLOT_soft_cap_backward, BALORA_F32, {4e-7, 0, 0}},
    /* Magnitudes hold 1 + the largest score: a score of 100 has an absolute error of 100 U before it is
       exponentiated. */
    {SLOT_attention, BALORA_F32, {2e-6, 1e-30, 0}},
    {SLOT_attention_backward, BALORA_F32, {4e-6, 1e-30, 0}},
    /* Tensor cores multiply BF16 by BF16: the probabilities are rounded before they meet the values, and the
     * result once more. Backward rounds the slopes as well, and takes D from an `out` that was rounded. */
    {SLOT_attention, BALORA_BF16, {6e-3, 1e-30, ROUNDING_BF16}},
    {SLOT_attention_backward, BALORA_BF16, {1.6e-2, 1e-30, ROUNDING_BF16}},

    /* Sums over up to 32,001 columns of exponentials; magnitudes hold 1 + the distance from the largest
     * logit. The F64 terms come out of F32 logits and exponentials. */
    {SLOT_loss_head, BALORA_F32, {4e-6, 1e-30, 0}},
    {SLOT_loss_head, BALORA_F64, {2e-6, 2e-6, 0}},
    {SLOT_entropy_rows, BALORA_F64, {2e-6, 2e-6, 0}},
    {SLOT_spectral_coefficients, BALORA_F64, {1e-13, 0, 0}},

    /* A quotient and a rounding to F32; what F32 cannot hold is 0. */
    {SLOT_clip_scale, BALORA_F32, {2e-7, 1.5e-45, 0}},
    /* A few steps of a dozen rounded operations each. 1 - beta taken in F32 is wrong by 1e-5 and outside. */
    {SLOT_adamw, BALORA_F32, {2e-6, 0, 0}},
    /* The same; codes are exact but for borders between two, which is their test's business. */
    {SLOT_optimizer_step, BALORA_F32, {2e-6, 0, 0}},
};

static const tolerance_entry *find_entry(slot_number slot, int32_t dtype) {
    for (int64_t i = 0; i < COUNT_OF(entries); i++)
        if (entries[i].slot == slot && entries[i].dtype == dtype)
            return &entries[i];
    return NULL;
}

/* A result of 16 bits that has no entry of its own is computed in F32 and rounded once. */
tolerance tolerance_of(slot_number slot, int32_t dtype) {
    const tolerance_entry *entry = find_entry(slot, dtype);
    if (entry != NULL)
        return entry->allowed;
    entry = dtype == BALORA_BF16 || dtype == BALORA_F16 ? find_entry(slot, BALORA_F32) : NULL;
    if (entry == NULL)
        return (tolerance){0.0, 0.0, 0.0};
    tolerance allowed = entry->allowed;
    allowed.rounding = dtype == BALORA_BF16 ? ROUNDING_BF16 : ROUNDING_F16;
    allowed.absolute += dtype == BALORA_F16 ? SMALLEST_F16 : 0.0;
    return allowed;
}
