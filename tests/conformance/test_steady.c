/*
 * One round of every slot that computes, at sizes where threads share the work: the same bits each time, and
 * no allocation within prepared limits.
 */
#include <math.h>
#include <string.h>

#include "backend/composed.h"
#include "tests.h"

enum {
    TOKENS = 260,
    BATCH_ROWS = 80,
    HEADS = 6,
    KEY_HEADS = 2,
    HEAD_DIM = 32,
    HIDDEN = HEADS * HEAD_DIM,
    KEY_WIDTH = KEY_HEADS * HEAD_DIM,
    WIDE = 512,
    RANK = 16,
    VOCABULARY = 3001,
    LOGIT_ROWS = 37,
    EIGEN = 48,
    LONGEST = 150
};

static const backend_limits limits = {.gemm_columns = WIDE,
                                      .eigh_size = EIGEN,
                                      .sequence_length = LONGEST,
                                      .head_dim = HEAD_DIM,
                                      .vocabulary = VOCABULARY,
                                      .eigh_count = 10,
                                      .tokens = TOKENS,
                                      .heads = HEADS};

/* A running FNV-1a hash of what each slot wrote. */
typedef struct digests {
    uint64_t hash[SLOT_COUNT];
} digests;

static void round_begin(bench *b, slot_number slot) {
    case_begin(b, slot, "in a round of all slots");
}

static void round_end(bench *b, digests *d) {
    uint64_t hash = d->hash[b->slot] ^ UINT64_C(0xCBF29CE484222325);
    for (int i = 0; i < b->operand_count; i++) {
        operand *self = &b->operands[i];
        operand_fetch(b, self);
        for (int64_t at = 0; at < self->view.rows * self->view.cols; at++) {
            uint64_t bits;
            memcpy(&bits, &self->result[at], sizeof bits);
            hash = (hash ^ bits) * UINT64_C(0x100000001B3);
        }
    }
    d->hash[b->slot] = hash;
    case_end(b);
}

static matrix_view random_view(bench *b, const char *name, int32_t dtype, int64_t rows, int64_t cols) {
    return operand_random(b, name, dtype, rows, cols, 1.0)->view;
}

static matrix_view indices_view(bench *b, int64_t count, int64_t bound) {
    double *indices = case_array(b, count);
    for (int64_t i = 0; i < count; i++)
        indices[i] = (double)draw_below(b, bound);
    return operand_of(b, "indices", BALORA_I32, 1, count, indices)->view;
}

static void round_of_elements(bench *b, digests *d) {
    static const int32_t types[] = {BALORA_F32, BALORA_BF16, BALORA_F16, BALORA_F64};
    round_begin(b, SLOT_fill_zero);
    CALL_OK(b, fill_zero, b->queue, random_view(b, "x", BALORA_F32, TOKENS, HIDDEN));
    round_end(b, d);
    for (int64_t t = 0; t < COUNT_OF(types); t++) {
        round_begin(b, SLOT_copy);
        matrix_view src = random_view(b, "src", BALORA_F32, TOKENS, HIDDEN);
        CALL_OK(b, copy, b->queue, random_view(b, "dst", types[t], TOKENS, HIDDEN), src);
        round_end(b, d);
    }
    round_begin(b, SLOT_gather_rows);
    matrix_view table = random_view(b, "table", BALORA_BF16, 100, HIDDEN),
                rows = indices_view(b, TOKENS, 100);
    CALL_OK(b, gather_rows, b->queue, random_view(b, "dst", BALORA_F32, TOKENS, HIDDEN), table, rows);
    round_end(b, d);
    round_begin(b, SLOT_scatter_add_rows);
    rows = indices_view(b, TOKENS, 50);
    matrix_view added = random_view(b, "src", BALORA_F32, TOKENS, HIDDEN);
    CALL_OK(b, scatter_add_rows, b->queue, random_view(b, "dst", BALORA_F32, 50, HIDDEN), added, rows);
    round_end(b, d);
    round_begin(b, SLOT_scale_add);
    matrix_view x = random_view(b, "x", BALORA_F32, TOKENS, HIDDEN);
    CALL_OK(b, scale_add, b->queue, 0.3, x, 1.0, random_view(b, "y", BALORA_F32, TOKENS, HIDDEN));
    round_end(b, d);
    round_begin(b, SLOT_add_row);
    x = random_view(b, "row", BALORA_BF16, 1, HIDDEN);
    CALL_OK(b, add_row, b->queue, random_view(b, "y", BALORA_F32, TOKENS, HIDDEN), x);
    round_end(b, d);
    round_begin(b, SLOT_scale_rows);
    x = random_view(b, "weights", BALORA_F64, 1, TOKENS);
    CALL_OK(b, scale_rows, b->queue, random_view(b, "x", BALORA_F64, TOKENS, HIDDEN), x);
    round_end(b, d);
    round_begin(b, SLOT_sum_rows);
    x = random_view(b, "x", BALORA_F32, TOKENS, HIDDEN);
    CALL_OK(b, sum_rows, b->queue, x, 1.0, random_view(b, "out", BALORA_F32, 1, HIDDEN));
    round_end(b, d);
    round_begin(b, SLOT_sum_squares);
    x = random_view(b, "x", BALORA_F32, TOKENS, HIDDEN);
    CALL_OK(b, sum_squares, b->queue, x, 1.0, random_view(b, "out", BALORA_F64, 1, 1));
    round_end(b, d);
    round_begin(b, SLOT_trace);
    x = random_view(b, "a", BALORA_F64, TOKENS, TOKENS);
    CALL_OK(b, trace, b->queue, x, random_view(b, "out", BALORA_F64, 1, 1));
    round_end(b, d);
    round_begin(b, SLOT_fill_normal);
    CALL_OK(b, fill_normal, b->queue, random_view(b, "x", BALORA_F32, TOKENS, HIDDEN), 11, 5, 0.5);
    round_end(b, d);
}

static void one_quantization(bench *b, digests *d, int32_t kind) {
    int64_t count = (int64_t)RANK * WIDE, blocks = count / QUANTIZED_BLOCK;
    bool rows = kind == QUANTIZED_INT8_ROWS;
    round_begin(b, SLOT_quantize);
    quantized_matrix matrix = {
        .values = random_view(b, "values", BALORA_F32, RANK, WIDE),
        .codes = operand_filled(b, "codes", BALORA_U8, rows ? RANK : 1, rows ? WIDE : count / 2, 0.0)->view,
        .scales = random_view(b, "scales", BALORA_F32, 1, rows ? RANK : blocks),
        .map = random_view(b, "map", BALORA_F32, 1, 16),
        .kind = kind};
    CALL_OK(b, quantize, b->queue, &matrix);
    matrix.values = random_view(b, "dequantized", BALORA_BF16, RANK, WIDE);
    CALL_OK(b, dequantize, b->queue, &matrix);
    round_end(b, d);
}

static void one_gemm(bench *b, digests *d, int transpose_a, int transpose_b, const int64_t size[3],
                     int32_t type_a, int32_t type_b, double beta) {
    int64_t m = size[0], n = size[1], k = size[2];
    round_begin(b, SLOT_gemm);
    matrix_view left = random_view(b, "a", type_a, transpose_a ? k : m, transpose_a ? m : k);
    matrix_view right = random_view(b, "b", type_b, transpose_b ? n : k, transpose_b ? k : n);
    matrix_view out = random_view(b, "c", type_a == BALORA_F32 ? BALORA_F32 : type_a, m, n);
    CALL_OK(b, gemm, b->queue, transpose_a, transpose_b, 0.7, left, right, beta, out);
    round_end(b, d);
}

static void one_batch(bench *b, digests *d, int32_t type) {
    round_begin(b, SLOT_gemm_batched);
    matrix_view q = random_view(b, "q", type, BATCH_ROWS, HIDDEN),
                k = random_view(b, "k", type, BATCH_ROWS, HIDDEN);
    matrix_view scores = random_view(b, "scores", type, BATCH_ROWS, HEADS * BATCH_ROWS);
    gemm_batch batch = {.count = HEADS,
                        .stride_a = HEAD_DIM,
                        .stride_b = HEAD_DIM,
                        .stride_c = BATCH_ROWS,
                        .a = view_columns(q, 0, HEAD_DIM),
                        .b = view_columns(k, 0, HEAD_DIM),
                        .c = view_columns(scores, 0, BATCH_ROWS),
                        .alpha = 0.2,
                        .transpose_b = 1};
    CALL_OK(b, gemm_batched, b->queue, &batch);
    round_end(b, d);
}

static void one_gemm_bias(bench *b, digests *d, int32_t type) {
    round_begin(b, SLOT_gemm_bias);
    matrix_view x = random_view(b, "x", type, TOKENS, HIDDEN),
                weight = random_view(b, "weight", type, WIDE, HIDDEN);
    matrix_view bias = random_view(b, "bias", BALORA_F32, 1, WIDE);
    matrix_view y = random_view(b, "y", type, TOKENS, WIDE);
    bench_enter(b, SLOT_gemm_bias);
    balora_status status = composed_gemm_bias(b->ops, b->queue, 0, 1, 1.0, x, weight, 0.0, y, bias);
    bench_expect(b, SLOT_gemm_bias, BALORA_OK, bench_leave(b, status));
    round_end(b, d);
}

/* The products of a linear layer: forward and input gradient on the weight, low-rank path, factor gradients.
 */
static void round_of_products(bench *b, digests *d) {
    static const int32_t weights[] = {BALORA_F32, BALORA_BF16, BALORA_F16};
    for (int64_t t = 0; t < COUNT_OF(weights); t++) {
        one_gemm(b, d, 0, 1, (const int64_t[]){TOKENS, WIDE, HIDDEN}, BALORA_F32, weights[t], 0.0);
        one_gemm(b, d, 0, 0, (const int64_t[]){TOKENS, HIDDEN, WIDE}, BALORA_F32, weights[t], 1.0);
        one_gemm(b, d, 0, 1, (const int64_t[]){3, HIDDEN, WIDE}, BALORA_F32, weights[t], 0.0);
    }
    one_gemm(b, d, 0, 1, (const int64_t[]){TOKENS, RANK, HIDDEN}, BALORA_F32, BALORA_F32, 0.0);
    one_gemm(b, d, 0, 1, (const int64_t[]){TOKENS, WIDE, RANK}, BALORA_F32, BALORA_F32, 1.0);
    one_gemm(b, d, 1, 0, (const int64_t[]){RANK, HIDDEN, TOKENS}, BALORA_F32, BALORA_F32, 1.0);
    one_gemm(b, d, 0, 0, (const int64_t[]){TOKENS, EIGEN, HIDDEN}, BALORA_F64, BALORA_F64, 0.0);
    if (takes_bf16(b)) {
        one_gemm(b, d, 0, 1, (const int64_t[]){TOKENS, WIDE, HIDDEN}, BALORA_BF16, BALORA_BF16, 0.0);
        one_gemm(b, d, 0, 0, (const int64_t[]){TOKENS, HIDDEN, WIDE}, BALORA_BF16, BALORA_F16, 1.0);
    }
    for (int type = 0; type < b->activation_count; type++) {
        one_batch(b, d, activation_types[type]);
        one_gemm_bias(b, d, activation_types[type]);
    }
    static const int32_t types[] = {BALORA_F32, BALORA_BF16, BALORA_F64};
    for (int64_t t = 0; t < COUNT_OF(types); t++) {
        round_begin(b, SLOT_gram);
        matrix_view a = random_view(b, "a", types[t], WIDE, EIGEN);
        int32_t out_type = types[t] == BALORA_F64 ? BALORA_F64 : BALORA_F32;
        CALL_OK(b, gram, b->queue, 1, a, random_view(b, "c", out_type, EIGEN, EIGEN));
        round_end(b, d);
    }
    round_begin(b, SLOT_eigh_top);
    double *values = case_array(b, EIGEN * EIGEN);
    for (int64_t i = 0; i < EIGEN; i++)
        for (int64_t j = 0; j <= i; j++)
            values[i * EIGEN + j] = values[j * EIGEN + i] = draw_normal(b);
    matrix_view a = operand_of(b, "a", BALORA_F64, EIGEN, EIGEN, values)->view;
    matrix_view top = random_view(b, "values", BALORA_F64, 1, 10);
    CALL_OK(b, eigh_top, b->queue, a, top, random_view(b, "vectors", BALORA_F64, 10, EIGEN));
    round_end(b, d);
}

/* Made once at the start of a training, without prepared limits. */
static void round_of_factors(bench *b, digests *d) {
    round_begin(b, SLOT_orthonormalize_rows);
    CALL_OK(b, orthonormalize_rows, b->queue, random_view(b, "x", BALORA_F32, 40, HIDDEN));
    round_end(b, d);
    round_begin(b, SLOT_svd);
    matrix_view a = random_view(b, "a", BALORA_F32, 100, 60), u = random_view(b, "u", BALORA_F32, 100, 60);
    matrix_view s = random_view(b, "s", BALORA_F32, 1, 60);
    CALL_OK(b, svd, b->queue, a, u, s, random_view(b, "vt", BALORA_F32, 60, 60));
    round_end(b, d);
    round_begin(b, SLOT_svd_top);
    a = random_view(b, "a", BALORA_F32, 100, 60);
    u = random_view(b, "u", BALORA_F32, 100, RANK);
    s = random_view(b, "s", BALORA_F32, 1, RANK);
    CALL_OK(b, svd_top, b->queue, a, u, s, random_view(b, "vt", BALORA_F32, RANK, 60));
    round_end(b, d);
    one_quantization(b, d, QUANTIZED_4BIT);
    one_quantization(b, d, QUANTIZED_INT8_ROWS);
    round_begin(b, SLOT_covariance);
    a = random_view(b, "z", BALORA_F32, TOKENS, 130);
    matrix_view mean = random_view(b, "mean", BALORA_F64, 1, 130);
    CALL_OK(b, covariance, b->queue, a, mean, random_view(b, "c", BALORA_F64, 130, 130));
    round_end(b, d);
}

static void round_of_rows(bench *b, digests *d, int32_t type) {
    round_begin(b, SLOT_rms_norm);
    matrix_view x = random_view(b, "x", type, TOKENS, HIDDEN),
                weight = random_view(b, "w", BALORA_F32, 1, HIDDEN);
    CALL_OK(b, rms_norm, b->queue, x, weight, 0.0F, 1e-5F, random_view(b, "y", type, TOKENS, HIDDEN));
    round_end(b, d);
    round_begin(b, SLOT_layer_norm);
    x = random_view(b, "x", type, TOKENS, HIDDEN);
    weight = random_view(b, "w", BALORA_F32, 1, HIDDEN);
    matrix_view bias = random_view(b, "bias", BALORA_F32, 1, HIDDEN);
    CALL_OK(b, layer_norm, b->queue, x, weight, bias, 1e-5F, random_view(b, "y", type, TOKENS, HIDDEN));
    round_end(b, d);
    round_begin(b, SLOT_softmax_rows);
    x = random_view(b, "x", type, TOKENS, HIDDEN);
    CALL_OK(b, softmax_rows, b->queue, 0.5F, x, random_view(b, "y", type, TOKENS, HIDDEN));
    round_end(b, d);
    round_begin(b, SLOT_rope);
    x = random_view(b, "x", type, TOKENS, HIDDEN);
    matrix_view table = random_view(b, "table", BALORA_F32, 99, HEAD_DIM);
    CALL_OK(b, rope, b->queue, x, HEAD_DIM, indices_view(b, TOKENS, 99), table, 0);
    round_end(b, d);
    round_begin(b, SLOT_gated_activation);
    matrix_view gate = random_view(b, "gate", type, TOKENS, WIDE),
                up = random_view(b, "up", type, TOKENS, WIDE);
    CALL_OK(b, gated_activation, b->queue, ACTIVATION_SILU, gate, up, gate);
    round_end(b, d);
}

static void round_of_rows_backward(bench *b, digests *d, int32_t type) {
    round_begin(b, SLOT_rms_norm_backward);
    matrix_view x = random_view(b, "x", type, TOKENS, HIDDEN),
                weight = random_view(b, "w", BALORA_F32, 1, HIDDEN);
    matrix_view dy = random_view(b, "dy", type, TOKENS, HIDDEN),
                dx = random_view(b, "dx", type, TOKENS, HIDDEN);
    matrix_view dweight = random_view(b, "dweight", BALORA_F32, 1, HIDDEN);
    CALL_OK(b, rms_norm_backward, b->queue, x, weight, 0.0F, 1e-5F, dy, dx, dweight);
    round_end(b, d);
    round_begin(b, SLOT_layer_norm_backward);
    x = random_view(b, "x", type, TOKENS, HIDDEN);
    weight = random_view(b, "w", BALORA_F32, 1, HIDDEN);
    dy = random_view(b, "dy", type, TOKENS, HIDDEN);
    dx = random_view(b, "dx", type, TOKENS, HIDDEN);
    dweight = random_view(b, "dweight", BALORA_F32, 1, HIDDEN);
    matrix_view dbias = random_view(b, "dbias", BALORA_F32, 1, HIDDEN);
    CALL_OK(b, layer_norm_backward, b->queue, x, weight, 1e-5F, dy, dx, dweight, dbias);
    round_end(b, d);
    round_begin(b, SLOT_softmax_rows_backward);
    x = random_view(b, "y", type, TOKENS, HIDDEN);
    dy = random_view(b, "dy", type, TOKENS, HIDDEN);
    CALL_OK(b, softmax_rows_backward, b->queue, 0.5F, x, dy, random_view(b, "dx", type, TOKENS, HIDDEN));
    round_end(b, d);
    round_begin(b, SLOT_gated_activation_backward);
    matrix_view gate = random_view(b, "gate", type, TOKENS, WIDE),
                up = random_view(b, "up", type, TOKENS, WIDE);
    matrix_view dout = random_view(b, "dout", type, TOKENS, WIDE);
    CALL_OK(b, gated_activation_backward, b->queue, ACTIVATION_SILU, gate, up, dout, gate, up);
    round_end(b, d);
    round_begin(b, SLOT_soft_cap);
    x = random_view(b, "x", BALORA_F32, TOKENS, WIDE);
    CALL_OK(b, soft_cap, b->queue, 2.0F, x, x);
    dy = random_view(b, "dy", type, TOKENS, WIDE);
    CALL_OK(b, soft_cap_backward, b->queue, 2.0F, x, dy, dy);
    round_end(b, d);
}

static void round_of_attention(bench *b, digests *d, int32_t type, float soft_cap) {
    static const double offsets[] = {0, 60, 61, LONGEST + 61, TOKENS};
    const attention_shape shape = {4, LONGEST, HEADS, KEY_HEADS, HEAD_DIM, 0, 0.2F, soft_cap};
    round_begin(b, SLOT_attention);
    matrix_view ends = operand_of(b, "offsets", BALORA_I32, 1, COUNT_OF(offsets), offsets)->view;
    matrix_view q = random_view(b, "q", type, TOKENS, HIDDEN),
                k = random_view(b, "k", type, TOKENS, KEY_WIDTH);
    matrix_view v = random_view(b, "v", type, TOKENS, KEY_WIDTH);
    matrix_view out = random_view(b, "out", type, TOKENS, HIDDEN);
    matrix_view sums = random_view(b, "logsumexp", BALORA_F32, TOKENS, HEADS);
    attention_forward forward = {shape, ends, q, k, v, out, sums};
    CALL_OK(b, attention, b->queue, &forward);
    matrix_view dout = random_view(b, "dout", type, TOKENS, HIDDEN);
    matrix_view dq = random_view(b, "dq", type, TOKENS, HIDDEN);
    matrix_view dk = random_view(b, "dk", type, TOKENS, KEY_WIDTH);
    matrix_view dv = random_view(b, "dv", type, TOKENS, KEY_WIDTH);
    attention_backward backward = {shape, ends, q, k, v, out, sums, dout, dq, dk, dv};
    CALL_OK(b, attention_backward, b->queue, &backward);
    round_end(b, d);
}

static void round_of_objective(bench *b, digests *d) {
    round_begin(b, SLOT_loss_head);
    loss_head_rows rows = {.logits = random_view(b, "logits", BALORA_F32, LOGIT_ROWS, VOCABULARY),
                           .teacher = random_view(b, "teacher", BALORA_F32, LOGIT_ROWS, VOCABULARY),
                           .targets = indices_view(b, LOGIT_ROWS, VOCABULARY),
                           .regularized = indices_view(b, LOGIT_ROWS, 2),
                           .terms = random_view(b, "terms", BALORA_F64, LOGIT_ROWS, LOSS_COLUMNS),
                           .task_weight = 0.1F,
                           .consistency_weight = 0.02F,
                           .diversity_weight = 0.01F,
                           .temperature = 2.0F,
                           .top_k = 20,
                           .gradient = 1};
    CALL_OK(b, loss_head, b->queue, &rows);
    rows.logits = random_view(b, "other logits", BALORA_F32, LOGIT_ROWS, VOCABULARY);
    rows.top_k = 0;
    CALL_OK(b, loss_head, b->queue, &rows);
    rows.logits = random_view(b, "more logits", BALORA_F32, LOGIT_ROWS, VOCABULARY);
    rows.top_k = 1000;
    CALL_OK(b, loss_head, b->queue, &rows);
    round_end(b, d);
    round_begin(b, SLOT_loss_head);
    for (int type = 0; type < b->activation_count; type++) {
        rows.logits = random_view(b, "logits", BALORA_F32, LOGIT_ROWS, VOCABULARY);
        rows.teacher = random_view(b, "teacher", BALORA_F32, LOGIT_ROWS, VOCABULARY);
        rows.targets = indices_view(b, LOGIT_ROWS, VOCABULARY);
        rows.regularized = indices_view(b, LOGIT_ROWS, 2);
        rows.terms = random_view(b, "terms", BALORA_F64, LOGIT_ROWS, LOSS_COLUMNS);
        rows.gradient_out = random_view(b, "gradient_out", activation_types[type], LOGIT_ROWS, VOCABULARY);
        CALL_OK(b, loss_head, b->queue, &rows);
    }
    round_end(b, d);
    round_begin(b, SLOT_entropy_rows);
    matrix_view logits = random_view(b, "logits", BALORA_F32, LOGIT_ROWS, VOCABULARY);
    CALL_OK(b, entropy_rows, b->queue, logits, 2.0F, random_view(b, "out", BALORA_F64, LOGIT_ROWS, 1));
    round_end(b, d);
    round_begin(b, SLOT_spectral_coefficients);
    double values[EIGEN];
    for (int i = 0; i < EIGEN; i++)
        values[i] = (double)(EIGEN - i);
    spectral_coefficients spectral = {.eigenvalues =
                                          operand_of(b, "eigenvalues", BALORA_F64, 1, EIGEN, values)->view,
                                      .trace = operand_filled(b, "trace", BALORA_F64, 1, 1, 5000.0)->view,
                                      .weights = random_view(b, "weights", BALORA_F64, 1, EIGEN),
                                      .gamma = random_view(b, "gamma", BALORA_F64, 1, 1),
                                      .value = random_view(b, "value", BALORA_F64, 1, 1),
                                      .scale = 1.0,
                                      .value_scale = 1.0,
                                      .top = 10,
                                      .norm = BALORA_SVD_FROBENIUS};
    CALL_OK(b, spectral_coefficients, b->queue, &spectral);
    round_end(b, d);
}

static void round_of_optimizer_step(bench *b, digests *d, int32_t kind) {
    enum { NUMBERS = RANK * WIDE, BLOCKS = NUMBERS / OPTIMIZER_BLOCK, CODES = 256 };
    bool codes = kind == OPTIMIZER_ADAMW_8BIT;
    double map[CODES], groups[BLOCKS];
    for (int i = 0; i < CODES; i++)
        map[i] = i / (double)(CODES - 1);
    for (int i = 0; i < BLOCKS; i++)
        groups[i] = i % 2;
    round_begin(b, SLOT_optimizer_step);
    optimizer_update update = {
        .kind = kind,
        .group_count = 2,
        .groups = {{1e-3, 0.01}, {1e-2, 0}},
        .parameter = random_view(b, "parameter", BALORA_F32, 1, NUMBERS),
        .gradient = random_view(b, "gradient", BALORA_F32, 1, NUMBERS),
        .first_moment = operand_filled(b, "first", codes ? BALORA_U8 : BALORA_F32, 1, NUMBERS, codes)->view,
        .second_moment = operand_filled(b, "second", codes ? BALORA_U8 : BALORA_F32, 1, NUMBERS, codes)->view,
        .first_scales = operand_filled(b, "first_scales", BALORA_F32, 1, BLOCKS, 0.5)->view,
        .second_scales = operand_filled(b, "second_scales", BALORA_F32, 1, BLOCKS, 0.5)->view,
        .first_map = operand_of(b, "first_map", BALORA_F32, 1, CODES, map)->view,
        .second_map = operand_of(b, "second_map", BALORA_F32, 1, CODES, map)->view,
        .block_groups = operand_of(b, "block_groups", BALORA_U8, 1, BLOCKS, groups)->view,
        .scale = operand_filled(b, "scale", BALORA_F32, 1, 1, 0.5)->view,
        .beta1 = 0.9,
        .beta2 = 0.999,
        .epsilon = 1e-8,
        .step = 3};
    CALL_OK(b, optimizer_step, b->queue, &update);
    round_end(b, d);
}

static void round_of_optimizer(bench *b, digests *d) {
    round_begin(b, SLOT_clip_scale);
    matrix_view sum = operand_filled(b, "sum", BALORA_F64, 1, 1, 7.0)->view;
    matrix_view scale = random_view(b, "scale", BALORA_F32, 1, 1);
    CALL_OK(b, clip_scale, b->queue, sum, 1.0, scale);
    round_end(b, d);
    round_begin(b, SLOT_adamw);
    adamw_update update = {.parameter = random_view(b, "parameter", BALORA_F32, RANK, WIDE),
                           .gradient = random_view(b, "gradient", BALORA_F32, RANK, WIDE),
                           .first_moment = random_view(b, "first", BALORA_F32, RANK, WIDE),
                           .second_moment = operand_filled(b, "second", BALORA_F32, RANK, WIDE, 0.5)->view,
                           .scale = operand_filled(b, "scale", BALORA_F32, 1, 1, 0.5)->view,
                           .learning_rate = 1e-3,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .epsilon = 1e-8,
                           .weight_decay = 0.01,
                           .step = 3};
    CALL_OK(b, adamw, b->queue, &update);
    round_end(b, d);
    for (int32_t kind = OPTIMIZER_ADAMW; kind <= OPTIMIZER_ADAMW_8BIT; kind++)
        round_of_optimizer_step(b, d, kind);
}

/* What a training step asks for. */
static void round_of_columns(bench *b, digests *d) {
    round_begin(b, SLOT_scale_columns);
    matrix_view x = random_view(b, "x", BALORA_F32, TOKENS, HIDDEN);
    matrix_view scale = random_view(b, "scale", BALORA_F32, 1, HIDDEN);
    CALL_OK(b, scale_columns, b->queue, x, scale, 1.0, random_view(b, "y", BALORA_F32, TOKENS, HIDDEN));
    round_end(b, d);
    round_begin(b, SLOT_dot_columns);
    x = random_view(b, "x", BALORA_F32, TOKENS, WIDE);
    matrix_view y = random_view(b, "y", BALORA_F32, TOKENS, WIDE);
    scale = random_view(b, "divisor", BALORA_F32, 1, WIDE);
    CALL_OK(b, dot_columns, b->queue, x, y, scale, random_view(b, "out", BALORA_F32, 1, WIDE));
    round_end(b, d);
    round_begin(b, SLOT_row_norms);
    x = random_view(b, "x", BALORA_F32, WIDE, HIDDEN);
    CALL_OK(b, row_norms, b->queue, x, random_view(b, "out", BALORA_F32, 1, WIDE));
    round_end(b, d);
    round_begin(b, SLOT_divide);
    x = random_view(b, "x", BALORA_F32, 1, WIDE);
    y = random_view(b, "y", BALORA_F32, 1, WIDE);
    CALL_OK(b, divide, b->queue, x, y, random_view(b, "out", BALORA_F32, 1, WIDE));
    round_end(b, d);
    round_begin(b, SLOT_dropout);
    dropout_rows drop = {.x = random_view(b, "x", BALORA_F32, TOKENS, HIDDEN),
                         .y = random_view(b, "y", BALORA_F32, TOKENS, HIDDEN),
                         .keys = operand_filled(b, "keys", BALORA_I32, 2, TOKENS, 7.0)->view,
                         .seed = 3,
                         .beta = 1.0F,
                         .probability = 0.3};
    CALL_OK(b, dropout, b->queue, &drop);
    round_end(b, d);
}

static void round_of_step(bench *b, digests *d) {
    round_of_elements(b, d);
    round_of_columns(b, d);
    round_of_products(b, d);
    for (int type = 0; type < b->activation_count; type++) {
        round_of_rows(b, d, activation_types[type]);
        round_of_rows_backward(b, d, activation_types[type]);
        round_of_attention(b, d, activation_types[type], 0.0F);
        round_of_attention(b, d, activation_types[type], 2.0F);
    }
    round_of_objective(b, d);
    round_of_optimizer(b, d);
}

/* Run on a device and a queue of its own, so that no earlier test has grown the scratch. */
static bool open_fresh(bench *b, bench *fresh) {
    balora_status status = bench_open(fresh, b->ops, b->index, b->threads);
    case_begin(b, SLOT_device_open, "a second device");
    bench_expect(b, SLOT_device_open, BALORA_OK, status);
    return status == BALORA_OK;
}

static void close_fresh(bench *b, bench *fresh) {
    bench_close(fresh);
    b->failures += fresh->failures;
    if (atomic_load(&fresh->memory.current_bytes) != 0)
        bench_report(b, "%llu bytes kept after device_close",
                     (unsigned long long)atomic_load(&fresh->memory.current_bytes));
}

void test_steady_same_bits(bench *b) {
    enum { ROUNDS = 2 };
    bench fresh;
    if (!open_fresh(b, &fresh))
        return;
    digests rounds[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        memset(&rounds[r], 0, sizeof rounds[r]);
        fresh.draws = 0;
        round_of_factors(&fresh, &rounds[r]);
        round_of_step(&fresh, &rounds[r]);
        for (int slot = 0; slot < SLOT_COUNT; slot++)
            if (rounds[r].hash[slot] != rounds[0].hash[slot]) {
                case_begin(&fresh, (slot_number)slot, "the same calls, round %d", r);
                bench_report(&fresh, "other bits than in the first round");
            }
    }
    close_fresh(b, &fresh);
}

void test_steady_no_allocation(bench *b) {
    bench fresh;
    if (!open_fresh(b, &fresh))
        return;
    digests ignored = {{0}};
    case_begin(&fresh, SLOT_prepare, "limits of a step");
    bench_expect(&fresh, SLOT_prepare, BALORA_OK, CALL(&fresh, prepare, fresh.queue, &limits));
    fresh.no_allocation = true;
    round_of_step(&fresh, &ignored);
    fresh.no_allocation = false;
    close_fresh(b, &fresh);
}
