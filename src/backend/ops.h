/*
 * THE dispatch table: everything that the library asks of a device.
 *
 * A backend is one `static const backend_ops`. Rooms above reach device memory through these slots only.
 *
 * Conventions
 * - A slot returns a status; results that a slot computes stay on the device, in the views given to it.
 * - Work is enqueued on `queue` in order and may be asynchronous; `synchronize` waits. Host arrays passed to
 *   `upload` may be reused at once; those passed to `download` are valid after `synchronize`.
 * - Matrices are row-major views. `ld` is the distance of two rows in elements, at least `cols`. Bytes
 *   between `cols` and `ld` are never touched. Views of one call do not overlap unless the slot says so.
 * - "float" is F32, BF16 or F16; arithmetic is F32 with F32 accumulation at least, F64 where all operands are
 *   F64.
 * - A vector of n elements is a view [1, n]; a scalar is [1, 1].
 * - A slot checks shapes and dtypes and answers BALORA_ERROR_INTERNAL when they do not fit: callers are our
 *   own rooms.
 * - Results do not depend on timing: the same call with the same number of threads gives the same bits.
 *
 * The table is append-only: slots are added at the end with a rise of BACKEND_ABI_MINOR.
 */
#ifndef BACKEND_OPS_H
#define BACKEND_OPS_H

#include <stdint.h>

#include "balora/types.h"
#include "base/memory.h"

#define BACKEND_MAGIC     UINT32_C(0x42614C6F) /* "BaLo" */
#define BACKEND_ABI_MAJOR 1
#define BACKEND_ABI_MINOR 0

typedef struct backend_device backend_device; /* a place with memory */
typedef struct backend_queue
    backend_queue; /* an ordered stream of work on a device, with its scratch memory */
typedef struct backend_buffer backend_buffer; /* a block of device memory */

/* A row-major matrix inside a buffer. */
typedef struct matrix_view {
    backend_buffer *buffer;
    int64_t offset; /* of element [0, 0], in bytes */
    int64_t rows, cols, ld;
    int32_t dtype; /* BALORA_F32, ... */
    int32_t reserved;
} matrix_view;

typedef struct backend_properties {
    char name[96];        /* of the device, for people */
    char features[256];   /* instruction sets and libraries in use, comma-separated */
    int64_t memory_bytes; /* total memory of the device */
    int32_t threads;
    int32_t reserved;
} backend_properties;

/* The largest sizes that a caller is going to ask for; `prepare` makes scratch for them once. 0: never used.
 */
typedef struct backend_limits {
    int64_t gemm_columns;    /* inner or outer size of a weight held in 16 bits */
    int64_t eigh_size;       /* n of eigh_top */
    int64_t sequence_length; /* longest sequence of attention */
    int64_t head_dim;
    int64_t vocabulary; /* columns of loss_head and entropy_rows */
} backend_limits;

/* Gated activations: out = activation(gate) * up. */
enum { ACTIVATION_SILU = 1, ACTIVATION_GELU_TANH = 2 };

/*
 * Causal attention of packed sequences, head h of the queries reading head h / (heads / key_heads) of keys
 * and values: out_i = sum_j p_ij v_j,  p_ij = softmax_j(scale q_i . k_j)  over j <= i of the same sequence,
 * and i - j < window where window > 0.
 */
typedef struct attention_shape {
    int64_t sequences;        /* B */
    int64_t longest_sequence; /* tokens of the longest one */
    int64_t heads, key_heads, head_dim;
    int64_t window; /* 0: none */
    float scale;
    int32_t reserved;
} attention_shape;

typedef struct attention_forward {
    attention_shape shape;
    matrix_view offsets;   /* I32 [1, B + 1]: first row of each sequence, and the number of rows at the end */
    matrix_view q;         /* F32 [tokens, heads * head_dim] */
    matrix_view k, v;      /* F32 [tokens, key_heads * head_dim] */
    matrix_view out;       /* F32 [tokens, heads * head_dim]; may be the view q itself */
    matrix_view logsumexp; /* F32 [tokens, heads]: kept for backward; a NULL buffer: not wanted */
} attention_forward;

typedef struct attention_backward {
    attention_shape shape;
    matrix_view offsets, q, k, v, out, logsumexp; /* as forward took and left them */
    matrix_view dout;                             /* F32 [tokens, heads * head_dim] */
    matrix_view dq, dk, dv;                       /* overwritten; dq may be the view dout itself */
} attention_backward;

/* Columns of loss_head's per-row results. */
enum {
    LOSS_TASK = 0,        /* cross entropy of the target; 0 without one */
    LOSS_CONSISTENCY = 1, /* T^2 KL(teacher || student) at temperature T; 0 where not regularized */
    LOSS_DIVERSITY = 2, /* minus the entropy of the softmax over the top_k logits; 0 where not regularized */
    LOSS_CORRECT = 3,   /* 1 where the largest logit (the first of equals) is the target's */
    LOSS_COLUMNS = 4
};

/*
 * The fused loss head over a chunk of rows: terms, and the gradient of
 *   sum over rows of  task_weight CE + consistency_weight T^2 KL + diversity_weight sum(q ln q)
 * with respect to the student's logits, in place of them (method: consistency and diversity of BA-LoRA,
 * generation).
 */
typedef struct loss_head_rows {
    matrix_view logits;  /* F32 [rows, vocabulary]; overwritten by the gradient when `gradient` is not 0 */
    matrix_view teacher; /* F32 [rows, vocabulary]; NULL buffer: no consistency term. May be overwritten. */
    matrix_view targets; /* I32 [1, rows]: token to predict, or -1 */
    matrix_view regularized; /* I32 [1, rows]: 1 where the regularizers act, else 0 */
    matrix_view terms;       /* F64 [rows, LOSS_COLUMNS], overwritten */
    float task_weight, consistency_weight, diversity_weight;
    float temperature;
    int64_t top_k; /* 0: the whole vocabulary */
    int32_t gradient;
    int32_t reserved;
} loss_head_rows;

/*
 * Coefficients of the SVD term's gradient from the eigenvalues sigma^2 of a Gram matrix:
 *   T = sum of the first `top` sigmas; frobenius: N = sqrt(trace), nuclear: N = the sum of all sigmas given;
 *   value = -T / N, and d value / dH = gamma P + sum_i c_i a_i b_i, see regularizer/spectral.c.
 *   frobenius: c_i = -1 / (sigma_i N) for i < top, gamma = T / N^3;
 *   nuclear:   c_i = (T / N^2 - [i < top] / N) / sigma_i, gamma = 0; sigma_i <= sqrt(n) 1e-7 sigma_0 gets c_i
 * = 0. With N <= 1e-8 value, gamma and all c_i are 0. `scale` multiplies c_i and gamma, `value_scale`
 * multiplies the value.
 */
typedef struct spectral_coefficients {
    matrix_view eigenvalues; /* F64 [1, n], descending */
    matrix_view trace;       /* F64 [1, 1] */
    matrix_view weights;     /* F64 [1, n], overwritten: c_i */
    matrix_view gamma;       /* F64 [1, 1], overwritten */
    matrix_view value;       /* F64 [1, 1]: += value_scale * value */
    double scale, value_scale;
    int64_t top;
    int32_t norm; /* BALORA_SVD_FROBENIUS or BALORA_SVD_NUCLEAR */
    int32_t reserved;
} spectral_coefficients;

/*
 * AdamW as torch.optim.AdamW: decoupled decay, bias correction, epsilon outside the root. All views have one
 * shape. The gradient is multiplied by *scale first; a *scale that is not finite leaves everything untouched.
 */
typedef struct adamw_update {
    matrix_view parameter, gradient, first_moment, second_moment; /* F32 */
    matrix_view scale;                                            /* F32 [1, 1] */
    double learning_rate, beta1, beta2, epsilon, weight_decay;
    int64_t step; /* from 1 */
} adamw_update;

typedef struct backend_ops {
    uint32_t magic;
    uint32_t abi_major, abi_minor;
    uint32_t reserved;
    uint64_t struct_size;
    const char *name; /* "cpu", "cuda" */

    /* --- device --- */

    balora_status (*device_count)(int32_t *count);
    /* `threads`: host threads that queues of this device may use. `memory` outlives the device. */
    balora_status (*device_open)(backend_device **out, allocator *memory, int32_t index, int32_t threads);
    void (*device_close)(backend_device *device);
    balora_status (*device_properties)(backend_device *device, backend_properties *out);
    balora_status (*queue_open)(backend_queue **out, backend_device *device);
    void (*queue_close)(backend_queue *queue);
    /* Make scratch for the sizes to come: afterwards no slot within them allocates. Sizes beyond still work.
     */
    balora_status (*prepare)(backend_queue *queue, const backend_limits *limits);
    balora_status (*synchronize)(backend_queue *queue);

    /* --- memory --- */

    /* Contents are unspecified; aligned to 64 bytes. */
    balora_status (*buffer_allocate)(backend_buffer **out, backend_device *device, int64_t bytes);
    void (*buffer_free)(backend_device *device, backend_buffer *buffer);
    balora_status (*upload)(backend_queue *queue, backend_buffer *buffer, int64_t offset, const void *host,
                            int64_t bytes);
    balora_status (*download)(backend_queue *queue, void *host, backend_buffer *buffer, int64_t offset,
                              int64_t bytes);
    balora_status (*fill_zero)(backend_queue *queue, matrix_view x);

    /* --- rows and elements --- */

    /* dst = src with conversion between F64 and the float types; rounded once, to nearest even. */
    balora_status (*copy)(backend_queue *queue, matrix_view dst, matrix_view src);
    /* dst[i, :] = src[indices[i], :], src float, dst F32; indices I32 [1, rows of dst]. */
    balora_status (*gather_rows)(backend_queue *queue, matrix_view dst, matrix_view src, matrix_view indices);
    /* dst[indices[i], :] += src[i, :], F32; equal indices add up in the order of i. */
    balora_status (*scatter_add_rows)(backend_queue *queue, matrix_view dst, matrix_view src,
                                      matrix_view indices);
    /* y = alpha x + beta y, F32 or F64; y is not read when beta is 0. */
    balora_status (*scale_add)(backend_queue *queue, double alpha, matrix_view x, double beta, matrix_view y);
    /* y[i, :] += row, row float [1, cols], y F32. */
    balora_status (*add_row)(backend_queue *queue, matrix_view y, matrix_view row);
    /* x[i, :] *= weights[i]; F64, weights [1, rows]. */
    balora_status (*scale_rows)(backend_queue *queue, matrix_view x, matrix_view weights);
    /* out = beta out + sum of the rows of x; F32 or F64, out [1, cols]. */
    balora_status (*sum_rows)(backend_queue *queue, matrix_view x, double beta, matrix_view out);
    /* out = beta out + sum of x^2, x F32, out F64 [1, 1], accumulated in F64. */
    balora_status (*sum_squares)(backend_queue *queue, matrix_view x, double beta, matrix_view out);
    /* out = sum of the diagonal of a square F64 matrix; out F64 [1, 1]. */
    balora_status (*trace)(backend_queue *queue, matrix_view a, matrix_view out);

    /* --- BLAS and factorizations --- */

    /* c = alpha op(a) op(b) + beta c; op transposes when the flag is not 0. a, b float with c F32, or all
     * F64. c is not read when beta is 0. */
    balora_status (*gemm)(backend_queue *queue, int transpose_a, int transpose_b, double alpha, matrix_view a,
                          matrix_view b, double beta, matrix_view c);
    /* c = a a^T, or a^T a when transpose is not 0; c F32 with a float, or both F64. Both triangles are
     * written. */
    balora_status (*gram)(backend_queue *queue, int transpose, matrix_view a, matrix_view c);
    /* The k largest eigenvalues of the symmetric a, descending, and their unit eigenvectors as rows. F64; a
     * [n, n] is destroyed; values [1, k], vectors [k, n]. */
    balora_status (*eigh_top)(backend_queue *queue, matrix_view a, matrix_view values, matrix_view vectors);
    /* Replace the rows of x [l, n], l <= n, by an orthonormal basis of their span (Householder). F32 or F64.
     */
    balora_status (*orthonormalize_rows)(backend_queue *queue, matrix_view x);
    /* Thin SVD a = u diag(s) vt, F32; a [m, n] is destroyed, p = min(m, n): u [m, p], s [1, p] descending, vt
     * [p, n]. */
    balora_status (*svd)(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s, matrix_view vt);

    /* --- transformer --- */

    /* y = x / rms(x) * (weight + weight_offset), rms = sqrt(mean(x^2) + epsilon). F32; weight [1, cols]. */
    balora_status (*rms_norm)(backend_queue *queue, matrix_view x, matrix_view weight, float weight_offset,
                              float epsilon, matrix_view y);
    /* dx += gradient of x for dy; dweight += gradient of weight (NULL buffer: not wanted). */
    balora_status (*rms_norm_backward)(backend_queue *queue, matrix_view x, matrix_view weight,
                                       float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                       matrix_view dweight);
    /* Rotate pairs (j, j + head_dim / 2) of every head in place by the angle of the row's position;
     * half-split form. x F32 [tokens, heads * head_dim]; positions I32 [1, tokens]; table F32 [positions,
     * head_dim]: cosines, then sines. inverse: rotate back, which is also the gradient. */
    balora_status (*rope)(backend_queue *queue, matrix_view x, int64_t head_dim, matrix_view positions,
                          matrix_view table, int inverse);
    /* out = activation(gate) * up; all F32 [rows, cols]; out may be the view gate. */
    balora_status (*gated_activation)(backend_queue *queue, int32_t activation, matrix_view gate,
                                      matrix_view up, matrix_view out);
    /* dgate, dup from dout; they may be the views gate and up. */
    balora_status (*gated_activation_backward)(backend_queue *queue, int32_t activation, matrix_view gate,
                                               matrix_view up, matrix_view dout, matrix_view dgate,
                                               matrix_view dup);
    balora_status (*attention)(backend_queue *queue, const attention_forward *args);
    balora_status (*attention_backward)(backend_queue *queue, const attention_backward *args);

    /* --- objective --- */

    /* The terms do not depend on the weights, nor a row's results on the other rows of the call. */
    balora_status (*loss_head)(backend_queue *queue, const loss_head_rows *args);
    /* out[i] = entropy in nats of softmax(logits[i, :] / temperature); logits F32, out F64 [rows, 1]. */
    balora_status (*entropy_rows)(backend_queue *queue, matrix_view logits, float temperature,
                                  matrix_view out);
    balora_status (*spectral_coefficients)(backend_queue *queue, const spectral_coefficients *args);

    /* --- optimizer --- */

    /* scale = min(1, max_norm / (sqrt(sum_squares) + 1e-6)), 1 when max_norm is 0; NaN when sum_squares is
     * not finite, whatever max_norm is. sum_squares F64 [1, 1], scale F32 [1, 1]. */
    balora_status (*clip_scale)(backend_queue *queue, matrix_view sum_squares, double max_norm,
                                matrix_view scale);
    balora_status (*adamw)(backend_queue *queue, const adamw_update *args);
} backend_ops;

#endif
