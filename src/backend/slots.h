/*
 * The slots of the dispatch table by name, in its order: the one list that the backends' tables and declarations and
 * the conformance suite are made of.
 */
#ifndef BACKEND_SLOTS_H
#define BACKEND_SLOTS_H

#include <assert.h>
#include <stddef.h>

#include "backend/ops.h"

/* REQUIRED and OPTIONAL are macros of one argument, the slot's name. */
#define BACKEND_SLOTS(REQUIRED, OPTIONAL)                                                                    \
    REQUIRED(device_count)                                                                                   \
    REQUIRED(device_open)                                                                                    \
    REQUIRED(device_close)                                                                                   \
    REQUIRED(device_properties)                                                                              \
    REQUIRED(queue_open)                                                                                     \
    REQUIRED(queue_close)                                                                                    \
    REQUIRED(prepare)                                                                                        \
    REQUIRED(synchronize)                                                                                    \
    REQUIRED(buffer_allocate)                                                                                \
    REQUIRED(buffer_free)                                                                                    \
    REQUIRED(upload)                                                                                         \
    REQUIRED(download)                                                                                       \
    REQUIRED(fill_zero)                                                                                      \
    REQUIRED(copy)                                                                                           \
    REQUIRED(gather_rows)                                                                                    \
    REQUIRED(scatter_add_rows)                                                                               \
    REQUIRED(scale_add)                                                                                      \
    REQUIRED(add_row)                                                                                        \
    REQUIRED(scale_rows)                                                                                     \
    REQUIRED(sum_rows)                                                                                       \
    REQUIRED(sum_squares)                                                                                    \
    REQUIRED(trace)                                                                                          \
    REQUIRED(gemm)                                                                                           \
    REQUIRED(gram)                                                                                           \
    REQUIRED(eigh_top)                                                                                       \
    REQUIRED(orthonormalize_rows)                                                                            \
    REQUIRED(svd)                                                                                            \
    REQUIRED(rms_norm)                                                                                       \
    REQUIRED(rms_norm_backward)                                                                              \
    REQUIRED(rope)                                                                                           \
    REQUIRED(gated_activation)                                                                               \
    REQUIRED(gated_activation_backward)                                                                      \
    REQUIRED(attention)                                                                                      \
    REQUIRED(attention_backward)                                                                             \
    REQUIRED(loss_head)                                                                                      \
    REQUIRED(entropy_rows)                                                                                   \
    REQUIRED(spectral_coefficients)                                                                          \
    REQUIRED(clip_scale)                                                                                     \
    REQUIRED(adamw)                                                                                          \
    /* since minor 1 */                                                                                      \
    REQUIRED(event_open)                                                                                     \
    REQUIRED(event_close)                                                                                    \
    REQUIRED(event_record)                                                                                   \
    REQUIRED(event_wait)                                                                                     \
    REQUIRED(event_elapsed)                                                                                  \
    REQUIRED(memory_usage)                                                                                   \
    REQUIRED(allow_tf32)                                                                                     \
    OPTIONAL(capture_begin)                                                                                  \
    OPTIONAL(capture_end)                                                                                    \
    REQUIRED(fill_normal)                                                                                    \
    REQUIRED(dequantize)                                                                                     \
    REQUIRED(quantize)                                                                                       \
    OPTIONAL(gemm_bias)                                                                                      \
    REQUIRED(gemm_batched)                                                                                   \
    REQUIRED(svd_top)                                                                                        \
    REQUIRED(softmax_rows)                                                                                   \
    REQUIRED(softmax_rows_backward)                                                                          \
    REQUIRED(layer_norm)                                                                                     \
    REQUIRED(layer_norm_backward)                                                                            \
    REQUIRED(covariance)                                                                                     \
    /* since minor 2 */                                                                                      \
    REQUIRED(scale_columns)                                                                                  \
    REQUIRED(dot_columns)                                                                                    \
    REQUIRED(row_norms)                                                                                      \
    REQUIRED(divide)                                                                                         \
    REQUIRED(dropout)                                                                                        \
    REQUIRED(optimizer_step)                                                                                 \
    REQUIRED(buffer_wrap)                                                                                    \
    REQUIRED(soft_cap)                                                                                       \
    REQUIRED(soft_cap_backward)

/* What a table begins with. */
#define BACKEND_HEADER(backend_name)                                                                         \
    .magic = BACKEND_MAGIC, .abi_major = BACKEND_ABI_MAJOR, .abi_minor = BACKEND_ABI_MINOR, .reserved = 0,   \
    .struct_size = sizeof(backend_ops), .name = (backend_name),

#define BACKEND_SLOT_ONE(name)  +1
#define BACKEND_SLOT_NONE(name) /* for a table that leaves its optional slots out */

static_assert(offsetof(backend_ops, device_count) +
                      (0 BACKEND_SLOTS(BACKEND_SLOT_ONE, BACKEND_SLOT_ONE)) * sizeof(void (*)(void)) ==
                  sizeof(backend_ops),
              "a slot of backend_ops is missing in BACKEND_SLOTS");

/* The type of the function behind a slot, to declare one: BACKEND_SLOT_TYPE(copy) cpu_copy; */
#define BACKEND_SLOT_TYPE(name) __typeof__(*((backend_ops *)0)->name)

#endif
