/* The tests of the suite, by file. Each runs its cases on the bench and reports failures there. */
#ifndef CONFORMANCE_TESTS_H
#define CONFORMANCE_TESTS_H

#include "bench.h"

#define CONFORMANCE_TESTS(X)                                                                                 \
    /* test_memory.c */                                                                                      \
    X(memory_device)                                                                                         \
    X(memory_transfers)                                                                                      \
    X(memory_refused_allocations)                                                                            \
    X(memory_wrapped)                                                                                        \
    /* test_queue.c */                                                                                       \
    X(queue_events)                                                                                          \
    X(queue_event_wait)                                                                                      \
    X(queue_memory_usage)                                                                                    \
    X(queue_capture)                                                                                         \
    /* test_elements.c */                                                                                    \
    X(elements_fill_zero)                                                                                    \
    X(elements_copy)                                                                                         \
    X(elements_copy_rounding)                                                                                \
    X(elements_gather)                                                                                       \
    X(elements_scatter)                                                                                      \
    X(elements_scale_add)                                                                                    \
    X(elements_add_row)                                                                                      \
    X(elements_scale_rows)                                                                                   \
    X(elements_sum_rows)                                                                                     \
    X(elements_sum_squares)                                                                                  \
    X(elements_trace)                                                                                        \
    X(elements_fill_normal)                                                                                  \
    /* test_columns.c */                                                                                     \
    X(columns_scale)                                                                                         \
    X(columns_dot)                                                                                           \
    X(columns_row_norms)                                                                                     \
    X(columns_divide)                                                                                        \
    /* test_dropout.c */                                                                                     \
    X(dropout)                                                                                               \
    /* test_quantize.c */                                                                                    \
    X(quantize_dequantize)                                                                                   \
    X(quantize_quantize)                                                                                     \
    X(quantize_ties)                                                                                         \
    /* test_covariance.c */                                                                                  \
    X(covariance)                                                                                            \
    /* test_products.c */                                                                                    \
    X(products_gemm)                                                                                         \
    X(products_gemm_wide)                                                                                    \
    X(products_gemm_skinny)                                                                                  \
    X(products_gemm_empty)                                                                                   \
    X(products_gemm_bias)                                                                                    \
    X(products_gemm_batched)                                                                                 \
    X(products_allow_tf32)                                                                                   \
    X(products_gram)                                                                                         \
    /* test_factors.c */                                                                                     \
    X(factors_eigh)                                                                                          \
    X(factors_orthonormalize)                                                                                \
    X(factors_svd)                                                                                           \
    X(factors_svd_top)                                                                                       \
    /* test_norms.c */                                                                                       \
    X(norms_rms_norm)                                                                                        \
    X(norms_rms_norm_backward)                                                                               \
    X(norms_layer_norm)                                                                                      \
    X(norms_layer_norm_backward)                                                                             \
    X(norms_softmax)                                                                                         \
    X(norms_softmax_backward)                                                                                \
    /* test_transformer.c */                                                                                 \
    X(transformer_rope)                                                                                      \
    X(transformer_gated_activation)                                                                          \
    X(transformer_gated_activation_backward)                                                                 \
    X(transformer_soft_cap)                                                                                  \
    X(transformer_soft_cap_backward)                                                                         \
    /* test_attention.c */                                                                                   \
    X(attention_forward)                                                                                     \
    X(attention_forward_bf16)                                                                                \
    X(attention_backward)                                                                                    \
    X(attention_backward_bf16)                                                                               \
    X(attention_packed)                                                                                      \
    X(attention_long)                                                                                        \
    X(attention_large_scores)                                                                                \
    /* test_objective.c */                                                                                   \
    X(objective_loss_head)                                                                                   \
    X(objective_loss_head_gradient_out)                                                                      \
    X(objective_loss_head_stability)                                                                         \
    X(objective_loss_head_small_divergence)                                                                  \
    X(objective_loss_head_ties)                                                                              \
    X(objective_loss_head_rows)                                                                              \
    X(objective_entropy)                                                                                     \
    X(objective_spectral)                                                                                    \
    X(objective_spectral_gradient)                                                                           \
    /* test_optimizer.c */                                                                                   \
    X(optimizer_clip_scale)                                                                                  \
    X(optimizer_adamw)                                                                                       \
    X(optimizer_adamw_skips)                                                                                 \
    /* test_optimizer_step.c */                                                                              \
    X(optimizer_step_adamw)                                                                                  \
    X(optimizer_step_lion)                                                                                   \
    X(optimizer_step_8bit)                                                                                   \
    X(optimizer_step_8bit_small_moments)                                                                     \
    X(optimizer_step_skips)                                                                                  \
    X(optimizer_step_refusals)                                                                               \
    /* test_gradients_rows.c */                                                                              \
    X(gradients_rms_norm)                                                                                    \
    X(gradients_layer_norm)                                                                                  \
    X(gradients_soft_cap)                                                                                    \
    X(gradients_softmax)                                                                                     \
    /* test_gradients.c */                                                                                   \
    X(gradients_gated_activation)                                                                            \
    X(gradients_rope)                                                                                        \
    X(gradients_attention)                                                                                   \
    X(gradients_loss_head)                                                                                   \
    /* test_refusals.c */                                                                                    \
    X(refusals_elements)                                                                                     \
    X(refusals_products)                                                                                     \
    X(refusals_transformer)                                                                                  \
    X(refusals_objective)                                                                                    \
    /* test_steady.c */                                                                                      \
    X(steady_same_bits)                                                                                      \
    X(steady_no_allocation)

#define DECLARE_TEST(name) void test_##name(bench *b);
CONFORMANCE_TESTS(DECLARE_TEST)
#undef DECLARE_TEST

#endif
