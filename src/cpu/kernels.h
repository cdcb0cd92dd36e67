/*
 * Row kernels: the arithmetic of the slots on plain pointers, compiled once per instruction set
 * (src/cpu/simd).
 *
 * The slots check, split the work over threads and call these. A kernel's result does not depend on the
 * number of threads or on how many rows a call holds.
 */
#ifndef CPU_KERNELS_H
#define CPU_KERNELS_H

#include <stdint.h>

/* Multiples that packed tiles of every instruction set fit: tile rows are 6 or 12, tile columns 8, 16 or 32.
 */
#define TILE_MULTIPLE 96

/* c [rows, columns] = alpha left right + beta c, c not being read when beta is 0. Strides are in floats. */
typedef struct multiply_call {
    const float *left; /* [rows, depth] */
    int64_t left_row_stride, left_depth_stride;
    const float *right; /* [depth, columns]; when transposed [columns, depth] */
    int64_t right_stride;
    float *c;
    int64_t c_stride;
    int64_t rows, columns, depth;
    int32_t right_transposed;
    float alpha, beta;
    int32_t reserved;
    float *scratch; /* multiply_scratch floats, aligned to 64 bytes */
} multiply_call;

typedef struct attention_tile_sizes {
    int64_t length;   /* tokens of the sequence */
    int64_t head_dim; /* d */
    int64_t group;    /* query heads of one key head */
    int64_t window;   /* 0: none */
    float scale;
    float soft_cap; /* 0: none */
} attention_tile_sizes;

/* One sequence and one key head. Pointers are to its first token and first head; strides are in floats. */
typedef struct attention_item {
    attention_tile_sizes sizes;
    const float *q, *k, *v;                          /* [length, ...] */
    float *out;                                      /* forward; may be q */
    float *logsumexp;                                /* forward: may be NULL */
    const float *dout, *saved_out, *saved_logsumexp; /* backward */
    float *dq, *dk, *dv;                             /* backward; dq may be dout */
    int64_t q_stride, k_stride, v_stride, out_stride, logsumexp_stride;
    int64_t dout_stride, dq_stride, dk_stride, dv_stride;
    float *scratch; /* attention_*_scratch floats, aligned to 64 bytes */
} attention_item;

/* One row of the loss head. Weights are 0 for terms that give no gradient. */
typedef struct loss_row {
    const float *logits;  /* [vocabulary] */
    const float *teacher; /* [vocabulary], or NULL */
    float *slope;         /* [vocabulary]: the gradient when `gradient`; may be the logits */
    int64_t vocabulary, top_k;
    int32_t target, regularized, gradient, reserved;
    float task_weight, consistency_weight, diversity_weight, temperature;
    double *terms;  /* [LOSS_COLUMNS] */
    float *scratch; /* loss_scratch floats, aligned to 64 bytes */
} loss_row;

typedef struct adamw_factors {
    float keep;          /* 1 - learning_rate * weight_decay */
    float first, second; /* 1 - beta1, 1 - beta2 */
    float beta2;
    float step_size;       /* learning_rate / (1 - beta1^t) */
    float root_correction; /* sqrt(1 - beta2^t) */
    float epsilon;
    float scale; /* of the gradient */
} adamw_factors;

/* A piece of a row of dropout; `index` is its first Philox block's, of 4 columns each. */
typedef struct dropout_span {
    const float *x;
    float *y; /* may be x */
    int64_t count;
    uint64_t seed, stream, index;
    uint32_t threshold; /* of the words that keep their element */
    float scale, beta;  /* y = beta y + kept scale x; y is not read when beta is 0 */
    int32_t reserved;
} dropout_span;

typedef struct lion_factors {
    float keep;      /* 1 - learning_rate * weight_decay */
    float now, past; /* 1 - beta1, 1 - beta2 */
    float learning_rate;
    float scale; /* of the gradient */
} lion_factors;

#define MOMENT_CODES 256

/* What the codes of quantised moments stand for, ascending, and the borders: x is nearest to values[i] between
 * borders[i - 1] and borders[i]. */
typedef struct moment_map {
    float values[MOMENT_CODES], borders[MOMENT_CODES - 1];
    int32_t zero; /* the code nearest to 0 */
} moment_map;

/* One block of at most MOMENT_CODES numbers. */
typedef struct quantised_block {
    float *parameter;
    const float *gradient;
    unsigned char *first, *second; /* codes */
    float *first_scale, *second_scale;
    int64_t count;
} quantised_block;

typedef struct cpu_kernels {
    const char *name;

    /* F32 from F32, BF16 or F16, and back with rounding to nearest even. */
    void (*widen)(float *out, const void *in, int32_t dtype, int64_t count);
    void (*narrow)(void *out, int32_t dtype, const float *in, int64_t count);

    void (*scale_add)(float alpha, const float *x, float beta, float *y, int64_t count);
    double (*sum_squares)(const float *x, int64_t count);
    void (*add_to_double)(double *sum, const float *x, int64_t count);

    void (*rms_norm)(const float *x, const float *weight, float weight_offset, float epsilon, float *y,
                     int64_t count);
    /* dweight [count] += this row's part; NULL: not wanted. */
    void (*rms_norm_backward)(const float *x, const float *weight, float weight_offset, float epsilon,
                              const float *dy, float *dx, double *dweight, int64_t count);
    void (*rope)(float *x, const float *table, int64_t heads, int64_t head_dim, int inverse);
    void (*gated_activation)(int32_t activation, const float *gate, const float *up, float *out,
                             int64_t count);
    void (*gated_activation_backward)(int32_t activation, const float *gate, const float *up,
                                      const float *dout, float *dgate, float *dup, int64_t count);

    /* Also in place. */
    void (*soft_cap)(float cap, const float *x, float *y, int64_t count);
    void (*soft_cap_backward)(float cap, const float *y, const float *dy, float *dx, int64_t count);

    int64_t (*multiply_scratch)(void);
    void (*multiply)(const multiply_call *call);

    /* Scratch floats for sequences of `length` tokens. */
    int64_t (*attention_scratch)(int64_t length, int64_t head_dim);
    int64_t (*attention_backward_scratch)(int64_t length, int64_t head_dim);
    /* Query rows [first, last) of every head of the item. */
    void (*attention)(const attention_item *item, int64_t first, int64_t last);
    void (*attention_backward)(const attention_item *item);

    void (*loss_row)(const loss_row *row);
    double (*entropy)(const float *logits, float temperature, int64_t count);

    void (*adamw)(const adamw_factors *factors, float *parameter, const float *gradient, float *first_moment,
                  float *second_moment, int64_t count);

    void (*dropout)(const dropout_span *span);

    void (*lion)(const lion_factors *factors, float *parameter, const float *gradient, float *moment,
                 int64_t count);
    void (*adamw_8bit)(const adamw_factors *factors, const moment_map *first, const moment_map *second,
                       const quantised_block *block);
} cpu_kernels;

extern const cpu_kernels cpu_x86_64_kernels, cpu_avx2_kernels, cpu_avx512_kernels;

/* Scratch floats of loss_row. */
static inline int64_t loss_scratch(int64_t vocabulary) {
    return 4 * ((vocabulary + 15) / 16 * 16);
}

#endif
