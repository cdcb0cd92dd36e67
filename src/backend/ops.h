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
 *   F64. "activation" is F32, and BF16 where the device's properties say `bf16_activations`: results are then
 *   computed in F32 and rounded once. The activation operands of a call have one dtype unless the slot says
 *   otherwise.
 * - A vector of n elements is a view [1, n]; a scalar is [1, 1].
 * - A slot checks shapes and dtypes and answers BALORA_ERROR_INTERNAL when they do not fit: callers are our
 *   own rooms.
 * - Results do not depend on timing: the same call with the same number of threads gives the same bits.
 * - Indices in device memory and values that are not finite are checked where that needs no wait
 *   (BALORA_ERROR_INTERNAL, BALORA_ERROR_NUMERIC); a device that would have to wait for them leaves NaN in
 *   what depends on them instead, and never reads or writes outside its operands.
 *
 * The table is append-only: slots are added at the end with a rise of BACKEND_ABI_MINOR. A slot is required
 * unless its comment says "optional": NULL then, and a composition of other slots (backend/composed.h) or
 * nothing takes its place.
 */
#ifndef BACKEND_OPS_H
#define BACKEND_OPS_H

#include <stdint.h>

#include "balora/types.h"

#define BACKEND_MAGIC     UINT32_C(0x42614C6F) /* "BaLo" */
#define BACKEND_ABI_MAJOR 1
#define BACKEND_ABI_MINOR 2

typedef struct allocator allocator;           /* base/memory.h */
typedef struct backend_event backend_event;   /* a moment of a queue */
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
    int32_t bf16_activations; /* 1: "activation" operands may be BF16, and that is the faster way */
    int64_t logit_bytes;      /* a chunk of logits that keeps the device busy */
} backend_properties;

/* The largest sizes that a caller is going to ask for; `prepare` makes scratch for them once. 0: never used.
 */
typedef struct backend_limits {
    int64_t gemm_columns;    /* inner or outer size of a weight held in 16 bits */
    int64_t eigh_size;       /* n of eigh_top */
    int64_t sequence_length; /* longest sequence of attention */
    int64_t head_dim;
    int64_t vocabulary; /* columns of loss_head and entropy_rows */
    int64_t eigh_count; /* k of eigh_top; 0: as many as eigh_size */
    int64_t tokens;     /* rows of attention */
    int64_t heads;      /* query heads of attention */
} backend_limits;

/* Gated activations: out = activation(gate) * up. */
enum { ACTIVATION_SILU = 1, ACTIVATION_GELU_TANH = 2 };

/*
 * Causal attention of packed sequences, head h of the queries reading head h / (heads / key_heads) of keys
 * and values: out_i = sum_j p_ij v_j,  p_ij = softmax_j(c(scale q_i . k_j))  over j <= i of the same sequence,
 * and i - j < window where window > 0; c(x) = soft_cap tanh(x / soft_cap) where soft_cap > 0, else x.
 */
typedef struct attention_shape {
    int64_t sequences;        /* B */
    int64_t longest_sequence; /* tokens of the longest one */
    int64_t heads, key_heads, head_dim;
    int64_t window; /* 0: none */
    float scale;
    float soft_cap; /* 0: none */
} attention_shape;

typedef struct attention_forward {
    attention_shape shape;
    matrix_view offsets;   /* I32 [1, B + 1]: first row of each sequence, and the number of rows at the end */
    matrix_view q;         /* activation [tokens, heads * head_dim] */
    matrix_view k, v;      /* activation [tokens, key_heads * head_dim] */
    matrix_view out;       /* activation [tokens, heads * head_dim]; may be the view q itself */
    matrix_view logsumexp; /* F32 [tokens, heads]: kept for backward; a NULL buffer: not wanted */
} attention_forward;

typedef struct attention_backward {
    attention_shape shape;
    matrix_view offsets, q, k, v, out, logsumexp; /* as forward took and left them */
    matrix_view dout;                             /* activation [tokens, heads * head_dim] */
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
 * with respect to the student's logits (method: consistency and diversity of BA-LoRA, generation).
 */
typedef struct loss_head_rows {
    matrix_view logits;      /* F32 [rows, vocabulary]; not written unless the gradient goes there */
    matrix_view teacher;     /* F32 [rows, vocabulary]; NULL buffer: no consistency term. Not written. */
    matrix_view targets;     /* I32 [1, rows]: token to predict, or -1 */
    matrix_view regularized; /* I32 [1, rows]: 1 where the regularizers act, else 0 */
    matrix_view terms;       /* F64 [rows, LOSS_COLUMNS], overwritten */
    float task_weight, consistency_weight, diversity_weight;
    float temperature;
    int64_t top_k; /* 0: the whole vocabulary */
    int32_t gradient;
    int32_t reserved;
    /* Where the gradient goes, activation [rows, vocabulary]; NULL buffer: in place of the logits. */
    matrix_view gradient_out;
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

/* Rules by which optimizer_step changes parameters p with gradients g (after *scale). */
enum {
    OPTIMIZER_ADAMW = 1, /* as adamw */
    OPTIMIZER_LION = 2, /* p -= rate (decay p + sign(beta1 m + (1 - beta1) g)), m = beta2 m + (1 - beta2) g */
    OPTIMIZER_ADAMW_8BIT =
        3 /* adamw whose moments are kept as codes: value = map[code] times the block's scale */
};

#define OPTIMIZER_BLOCK  256 /* most numbers of a block */
#define OPTIMIZER_GROUPS 16  /* most groups of a call */

/* Blocks of one group share them. */
typedef struct optimizer_group {
    double learning_rate, weight_decay;
} optimizer_group;

/*
 * One step of a flat array that is cut in blocks. A *scale that is not finite leaves everything untouched.
 *
 * ADAMW_8BIT takes the moments in F32 out of their codes, updates them and the parameters with them as they are, and
 * gives each block the scale max |moment| and each moment the code of the nearest map value. Two rules keep it from
 * dividing by a moment that was rounded away: a second moment above 0 never gets a code below 1, and in a block whose
 * scale is 0 or not finite all codes are those of 0.
 */
typedef struct optimizer_update {
    int32_t kind; /* OPTIMIZER_... */
    int32_t group_count;
    optimizer_group groups[OPTIMIZER_GROUPS];
    matrix_view parameter, gradient; /* F32 [1, n] */
    matrix_view first_moment;        /* F32 [1, n]; ADAMW_8BIT: U8 codes */
    matrix_view second_moment;       /* the same; LION: none */
    /* ADAMW_8BIT only. Maps ascend; the first moment's holds a 0 (so that zeros stay so), the second's begins with it. */
    matrix_view first_scales, second_scales; /* F32 [1, blocks] */
    matrix_view first_map, second_map;       /* F32 [1, 256] */
    /* I64 [1, blocks + 1], ascending: block i holds the numbers from starts[i] to before starts[i + 1], 256 at most;
     * those before the first and after the last block are not touched. NULL buffer: 256 a block from the first on. */
    matrix_view block_starts;
    matrix_view block_groups; /* U8 [1, blocks]; NULL buffer: all are of group 0 */
    matrix_view scale;        /* F32 [1, 1]: of the gradient */
    double beta1, beta2, epsilon;
    int64_t step; /* from 1 */
} optimizer_update;

/* c_i = alpha op(a_i) op(b_i) + beta c_i for i < count: a_i are the views a, b, c moved by i strides. */
typedef struct gemm_batch {
    int64_t count;
    int64_t stride_a, stride_b, stride_c; /* in elements; 0: the same operand each time (not for c) */
    matrix_view a, b, c;                  /* of i = 0; dtypes as gemm has them */
    double alpha, beta;
    int32_t transpose_a, transpose_b;
} gemm_batch;

/* How the codes of a quantised matrix are read. */
enum {
    QUANTIZED_4BIT = 1, /* w = map[code] scales[i / 64] along the flat matrix; two codes a byte, the first in
                               the high half (bitsandbytes NF4 and FP4) */
    QUANTIZED_INT8_ROWS = 2 /* w = code scales[row] / 127, codes signed (bitsandbytes LLM.int8) */
};

#define QUANTIZED_BLOCK 64 /* weights that share a scale in QUANTIZED_4BIT */

typedef struct quantized_matrix {
    matrix_view values; /* float [rows, cols]: written by dequantize, read by quantize */
    matrix_view codes;  /* U8: [1, ceil(rows cols / 2)] or [rows, cols] */
    matrix_view scales; /* F32: [1, ceil(rows cols / 64)] or [1, rows]; the largest |w| of its block or row */
    matrix_view map;    /* F32 [1, 16], ascending not needed; NULL buffer for INT8_ROWS */
    int32_t kind;
    int32_t reserved;
} quantized_matrix;

/*
 * Inverted dropout with a mask that is computed, not stored: y = beta y + kept x / (1 - p). Element [i, j] is kept
 * where word j % 4 of the Philox block of base/random.h, random_block(seed, keys[0, i] << 32 | keys[1, i],
 * site << 32 | j / 4), is at least p 2^32.
 */
typedef struct dropout_rows {
    matrix_view x, y; /* activations of any dtypes [rows, cols]; y may be the view x */
    matrix_view keys; /* I32 [2, rows]: what tells a row from all others of the run */
    uint64_t seed;
    uint32_t site;      /* which of the places that drop the same rows */
    float beta;         /* 0: y is not read */
    double probability; /* p, 0 <= p < 1 */
} dropout_rows;

/* Of the whole device, in bytes. */
typedef struct backend_memory {
    int64_t current, peak; /* taken through buffer_allocate and for scratch by this device handle */
    int64_t free, total;   /* as the driver counts */
} backend_memory;

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
    /* dst[i, :] = src[indices[i], :], src float, dst activation of any dtype; indices I32 [1, rows of dst]. */
    balora_status (*gather_rows)(backend_queue *queue, matrix_view dst, matrix_view src, matrix_view indices);
    /* dst[indices[i], :] += src[i, :], activations, dst F32 or as src; equal indices add up in the order of
     * i. */
    balora_status (*scatter_add_rows)(backend_queue *queue, matrix_view dst, matrix_view src,
                                      matrix_view indices);
    /* y = alpha x + beta y, F64 or activations of any dtypes; y is not read when beta is 0. */
    balora_status (*scale_add)(backend_queue *queue, double alpha, matrix_view x, double beta, matrix_view y);
    /* y[i, :] += row, row float [1, cols], y activation. */
    balora_status (*add_row)(backend_queue *queue, matrix_view y, matrix_view row);
    /* x[i, :] *= weights[i]; F64, weights [1, rows]. */
    balora_status (*scale_rows)(backend_queue *queue, matrix_view x, matrix_view weights);
    /* out = beta out + sum of the rows of x; x activation and out F32, or both F64; out [1, cols]. */
    balora_status (*sum_rows)(backend_queue *queue, matrix_view x, double beta, matrix_view out);
    /* out = beta out + sum of x^2, x F32, out F64 [1, 1], accumulated in F64. */
    balora_status (*sum_squares)(backend_queue *queue, matrix_view x, double beta, matrix_view out);
    /* out = sum of the diagonal of a square F64 matrix; out F64 [1, 1]. */
    balora_status (*trace)(backend_queue *queue, matrix_view a, matrix_view out);

    /* --- BLAS and factorizations --- */

    /* c = alpha op(a) op(b) + beta c; op transposes when the flag is not 0. a, b float with c an activation, or
     * all F64. c is not read when beta is 0. */
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

    /* y = x / rms(x) * (weight + weight_offset), rms = sqrt(mean(x^2) + epsilon). x, y activations of any
     * dtypes; weight F32 [1, cols]; y may be the view x. Since minor 2 the weight may have fewer columns, of which
     * those of x are a multiple: so many at a time are normed by themselves. */
    balora_status (*rms_norm)(backend_queue *queue, matrix_view x, matrix_view weight, float weight_offset,
                              float epsilon, matrix_view y);
    /* dx += gradient of x for dy; dweight += gradient of weight (NULL buffer: not wanted), F32, as many columns as
     * weight. x, dy, dx are activations of any dtypes. */
    balora_status (*rms_norm_backward)(backend_queue *queue, matrix_view x, matrix_view weight,
                                       float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                       matrix_view dweight);
    /* Rotate pairs (j, j + head_dim / 2) of every head in place by the angle of the row's position;
     * half-split form. x activation [tokens, heads * head_dim]; positions I32 [1, tokens]; table F32 [positions,
     * head_dim]: cosines, then sines. inverse: rotate back, which is also the gradient. */
    balora_status (*rope)(backend_queue *queue, matrix_view x, int64_t head_dim, matrix_view positions,
                          matrix_view table, int inverse);
    /* out = activation(gate) * up; all activations [rows, cols]; out may be the view gate. */
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

    /* === since minor 1 === */

    /* --- device --- */

    balora_status (*event_open)(backend_event **out, backend_device *device);
    void (*event_close)(backend_event *event);
    /* The moment when all work of the queue so far is done; an event may be recorded again. */
    balora_status (*event_record)(backend_queue *queue, backend_event *event);
    /* Later work of the queue begins after the event, which another queue of the device may have recorded. */
    balora_status (*event_wait)(backend_queue *queue, backend_event *event);
    /* Seconds from one recorded event to another; waits for both. */
    balora_status (*event_elapsed)(backend_event *begin, backend_event *end, double *seconds);
    balora_status (*memory_usage)(backend_device *device, backend_memory *out);
    /* Allow products of F32 operands to round them to TF32 (10 bits) where the device gains by it; off at
     * first. A device without TF32 does nothing. */
    balora_status (*allow_tf32)(backend_queue *queue, int32_t allowed);
    /* Optional, both or neither. Record the work enqueued from begin to end instead of running it, then run it
     * as one graph, or with `run` 0 drop it: what a caller does whose work failed in between. No `synchronize`,
     * event or allocation in between. Downloads are valid after `synchronize` as always. */
    balora_status (*capture_begin)(backend_queue *queue);
    balora_status (*capture_end)(backend_queue *queue, int32_t run);

    /* --- rows and elements --- */

    /* x = standard normal numbers times deviation: element i of the flat matrix is base/random.h's
     * random_normal(seed, stream, i), up to rounding. x float. */
    balora_status (*fill_normal)(backend_queue *queue, matrix_view x, uint64_t seed, uint64_t stream,
                                 double deviation);
    /* Block-wise 4-bit or row-wise 8-bit codes to numbers and back, rounded to the nearest code (the first of
     * equally near ones for 4 bits, ties to even for 8); quantize writes codes and scales. */
    balora_status (*dequantize)(backend_queue *queue, const quantized_matrix *args);
    balora_status (*quantize)(backend_queue *queue, const quantized_matrix *args);

    /* --- BLAS and factorizations --- */

    /* Optional, composed of gemm and add_row: c = alpha op(a) op(b) + beta c + bias in every row; operands as
     * gemm, bias F32 [1, columns of c]. */
    balora_status (*gemm_bias)(backend_queue *queue, int transpose_a, int transpose_b, double alpha,
                               matrix_view a, matrix_view b, double beta, matrix_view c, matrix_view bias);
    balora_status (*gemm_batched)(backend_queue *queue, const gemm_batch *args);
    /* The k largest singular values of a, descending, with their vectors: u [m, k], s [1, k], vt [k, n]; F32; a
     * [m, n] is destroyed. */
    balora_status (*svd_top)(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s,
                             matrix_view vt);

    /* --- transformer --- */

    /* y[i, :] = softmax(scale x[i, :]); activations of any dtypes, y may be the view x. */
    balora_status (*softmax_rows)(backend_queue *queue, float scale, matrix_view x, matrix_view y);
    /* dx = scale y (dy - sum(y dy)) from y as forward left it; overwritten, may be the view dy. */
    balora_status (*softmax_rows_backward)(backend_queue *queue, float scale, matrix_view y, matrix_view dy,
                                           matrix_view dx);
    /* y = (x - mean) / sqrt(variance + epsilon) * weight + bias, variance over cols without correction.
     * weight, bias F32 [1, cols]; x, y as rms_norm. */
    balora_status (*layer_norm)(backend_queue *queue, matrix_view x, matrix_view weight, matrix_view bias,
                                float epsilon, matrix_view y);
    /* dx += gradient of x for dy; dweight and dbias += theirs (NULL buffers: not wanted), F32. */
    balora_status (*layer_norm_backward)(backend_queue *queue, matrix_view x, matrix_view weight,
                                         float epsilon, matrix_view dy, matrix_view dx, matrix_view dweight,
                                         matrix_view dbias);

    /* --- objective --- */

    /* mean [1, D] of the rows of z F32 [N, D], N >= 2, and c [D, D] = (z - mean)^T (z - mean) / (N - 1); both
     * F64 (method: diversity of BA-LoRA, understanding). */
    balora_status (*covariance)(backend_queue *queue, matrix_view z, matrix_view mean, matrix_view c);

    /* === since minor 2 === */

    /* --- rows and elements --- */

    /* y[i, j] = scale[j] x[i, j] + beta y[i, j]; x, y activations of any dtypes, scale F32 [1, cols]. y is not read
     * when beta is 0, and may be the view x. */
    balora_status (*scale_columns)(backend_queue *queue, matrix_view x, matrix_view scale, double beta,
                                   matrix_view y);
    /* out[j] += sum over i of x[i, j] y[i, j] / divisor[j], summed in F64; nothing where divisor[j] is 0. x, y
     * activations of any dtypes; divisor, out F32 [1, cols]. */
    balora_status (*dot_columns)(backend_queue *queue, matrix_view x, matrix_view y, matrix_view divisor,
                                 matrix_view out);
    /* out[i] = sqrt(sum of x[i, :]^2), squares summed in F64; x and out F32 or both F64, out [1, rows]. */
    balora_status (*row_norms)(backend_queue *queue, matrix_view x, matrix_view out);
    /* out = x / y, 0 where y is 0; all F32 or all F64, of one shape; out may be the view x or y. */
    balora_status (*divide)(backend_queue *queue, matrix_view x, matrix_view y, matrix_view out);
    balora_status (*dropout)(backend_queue *queue, const dropout_rows *args);

    /* --- optimizer --- */

    /* adamw and its like over blocks of one flat array, with rates by group. */
    balora_status (*optimizer_step)(backend_queue *queue, const optimizer_update *args);

    /* --- memory --- */

    /* A buffer over memory of somebody else that the device reads and writes, for as long as it is used; buffer_free
     * leaves that memory alone, and memory_usage does not count it. ARGUMENT: the memory is not the device's, where
     * that can be told. Queues do not wait for work on it that others have enqueued. */
    balora_status (*buffer_wrap)(backend_buffer **out, backend_device *device, void *memory, int64_t bytes);

    /* --- objective --- */

    /* y = cap tanh(x / cap), cap > 0; F32, y may be the view x. */
    balora_status (*soft_cap)(backend_queue *queue, float cap, matrix_view x, matrix_view y);
    /* dx = dy (1 - (y / cap)^2) from y F32 as forward left it; dy, dx activations of one dtype, dx may be the view
     * dy. */
    balora_status (*soft_cap_backward)(backend_queue *queue, float cap, matrix_view y, matrix_view dy,
                                       matrix_view dx);
} backend_ops;

#endif
