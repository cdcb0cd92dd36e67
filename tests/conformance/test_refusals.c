/* Calls that do not fit: BALORA_ERROR_INTERNAL, and case_end holds every operand to what it was. */
#include "tests.h"

static matrix_view as_type(matrix_view view, int32_t dtype) {
    view.dtype = dtype;
    return view;
}

static matrix_view as_shape(matrix_view view, int64_t rows, int64_t cols) {
    view.rows = rows;
    view.cols = cols;
    return view;
}

static matrix_view with_ld(matrix_view view, int64_t ld) {
    view.ld = ld;
    return view;
}

static void refuse_quantization(bench *b) {
    case_begin(b, SLOT_quantize, "shapes and dtypes that do not fit");
    matrix_view values = operand_random(b, "values", BALORA_F32, 3, 50, 1.0)->view;
    matrix_view codes = operand_filled(b, "codes", BALORA_U8, 3, 50, 1.0)->view;
    matrix_view pairs = operand_filled(b, "pairs", BALORA_U8, 1, 75, 1.0)->view;
    matrix_view scales = operand_random(b, "scales", BALORA_F32, 1, 3, 1.0)->view;
    matrix_view map = operand_random(b, "map", BALORA_F32, 1, 16, 1.0)->view;
    quantized_matrix rows = {values, codes, scales, view_none(), QUANTIZED_INT8_ROWS, 0};
    quantized_matrix blocks = {values, pairs, scales, map, QUANTIZED_4BIT, 0};
    quantized_matrix bad[] = {rows, rows, rows, rows, blocks, blocks, blocks, blocks};
    bad[0].codes = pairs;
    bad[1].scales = as_shape(scales, 1, 2);
    bad[2].values = as_type(values, BALORA_I32);
    bad[3].kind = 77;
    bad[4].codes = as_shape(pairs, 1, 74);
    bad[5].scales = as_shape(scales, 1, 2);
    bad[6].map = view_none();
    bad[7].codes = as_type(as_shape(map, 1, 15), BALORA_F32);
    for (int64_t i = 0; i < COUNT_OF(bad); i++) {
        CALL_FAILS(b, dequantize, b->queue, &bad[i]);
        CALL_FAILS(b, quantize, b->queue, &bad[i]);
    }
    case_end(b);
}

/* BF16 where the device keeps its activations in F32. */
static void refuse_activations(bench *b) {
    if (takes_bf16(b))
        return;
    case_begin(b, SLOT_scale_add, "BF16 on a device without BF16 activations");
    matrix_view x = operand_random(b, "x", BALORA_F32, 5, 8, 1.0)->view;
    matrix_view half = operand_random(b, "half", BALORA_BF16, 5, 8, 1.0)->view;
    matrix_view row = operand_random(b, "row", BALORA_F32, 1, 8, 1.0)->view;
    matrix_view indices = operand_filled(b, "indices", BALORA_I32, 1, 5, 1.0)->view;
    matrix_view table = operand_random(b, "table", BALORA_F32, 9, 4, 1.0)->view;
    CALL_FAILS(b, gather_rows, b->queue, half, x, indices);
    CALL_FAILS(b, scatter_add_rows, b->queue, half, x, indices);
    CALL_FAILS(b, scale_add, b->queue, 1.0, x, 1.0, half);
    CALL_FAILS(b, add_row, b->queue, half, row);
    CALL_FAILS(b, sum_rows, b->queue, half, 0.0, row);
    CALL_FAILS(b, scale_columns, b->queue, half, row, 0.0, x);
    CALL_FAILS(b, dot_columns, b->queue, x, half, row, row);
    CALL_FAILS(b, gemm, b->queue, 0, 1, 1.0, x, x, 0.0, as_shape(half, 5, 5));
    CALL_FAILS(b, rms_norm, b->queue, half, row, 0.0F, 1e-5F, x);
    CALL_FAILS(b, rms_norm_backward, b->queue, x, row, 0.0F, 1e-5F, half, x, view_none());
    CALL_FAILS(b, layer_norm, b->queue, x, row, row, 1e-5F, half);
    CALL_FAILS(b, softmax_rows, b->queue, 1.0F, half, half);
    CALL_FAILS(b, rope, b->queue, half, 4, indices, table, 0);
    CALL_FAILS(b, gated_activation, b->queue, ACTIVATION_SILU, half, half, half);
    case_end(b);
}

static void refuse_columns(bench *b) {
    case_begin(b, SLOT_scale_columns, "shapes and dtypes that do not fit");
    matrix_view x = operand_random(b, "x", BALORA_F32, 5, 8, 1.0)->view;
    matrix_view y = operand_random(b, "y", BALORA_F32, 5, 8, 1.0)->view;
    matrix_view wide = operand_random(b, "wide", BALORA_F64, 5, 8, 1.0)->view;
    matrix_view half = operand_random(b, "half", BALORA_F16, 5, 8, 1.0)->view;
    matrix_view row = operand_random(b, "row", BALORA_F32, 1, 8, 1.0)->view;
    matrix_view keys = operand_filled(b, "keys", BALORA_I32, 2, 5, 1.0)->view;
    CALL_FAILS(b, scale_columns, b->queue, x, as_shape(row, 1, 7), 0.0, y);
    CALL_FAILS(b, scale_columns, b->queue, x, row, 0.0, as_shape(y, 4, 8));
    CALL_FAILS(b, scale_columns, b->queue, wide, row, 0.0, y);
    CALL_FAILS(b, scale_columns, b->queue, half, row, 0.0, y);
    CALL_FAILS(b, dot_columns, b->queue, x, as_shape(y, 4, 8), row, row);
    CALL_FAILS(b, dot_columns, b->queue, x, y, as_shape(row, 1, 7), row);
    CALL_FAILS(b, dot_columns, b->queue, x, y, row, as_shape(row, 1, 7));
    CALL_FAILS(b, dot_columns, b->queue, wide, wide, row, row);
    CALL_FAILS(b, row_norms, b->queue, x, as_shape(row, 1, 4));
    CALL_FAILS(b, row_norms, b->queue, wide, as_shape(row, 1, 5));
    CALL_FAILS(b, row_norms, b->queue, half, as_shape(row, 1, 5));
    CALL_FAILS(b, divide, b->queue, x, y, wide);
    CALL_FAILS(b, divide, b->queue, x, as_shape(y, 5, 7), y);
    CALL_FAILS(b, divide, b->queue, half, half, half);
    dropout_rows good = {.x = x, .y = y, .keys = keys, .probability = 0.5};
    dropout_rows bad[] = {good, good, good, good, good, good};
    bad[0].y = as_shape(y, 5, 7);
    bad[1].x = half;
    bad[2].keys = as_shape(keys, 2, 4);
    bad[3].keys = as_shape(keys, 1, 5);
    bad[4].probability = 1.0;
    bad[5].probability = -0.1;
    for (int64_t i = 0; i < COUNT_OF(bad); i++)
        CALL_FAILS(b, dropout, b->queue, &bad[i]);
    case_end(b);
}

void test_refusals_elements(bench *b) {
    case_begin(b, SLOT_copy, "shapes and dtypes that do not fit");
    matrix_view x = operand_random(b, "x", BALORA_F32, 5, 8, 1.0)->view;
    matrix_view y = operand_random(b, "y", BALORA_F32, 5, 8, 1.0)->view;
    matrix_view wide = operand_random(b, "wide", BALORA_F64, 5, 8, 1.0)->view;
    matrix_view half = operand_random(b, "half", BALORA_F16, 5, 8, 1.0)->view;
    matrix_view row = operand_random(b, "row", BALORA_F32, 1, 8, 1.0)->view;
    matrix_view one = operand_filled(b, "one", BALORA_F64, 1, 1, 1.0)->view;
    matrix_view square = operand_random(b, "square", BALORA_F64, 5, 5, 1.0)->view;
    matrix_view weights = operand_random(b, "weights", BALORA_F64, 1, 5, 1.0)->view;
    matrix_view indices = operand_filled(b, "indices", BALORA_I32, 1, 5, 1.0)->view;

    CALL_FAILS(b, fill_zero, b->queue, as_type(x, 12345));
    CALL_FAILS(b, fill_zero, b->queue, with_ld(x, 7));
    CALL_FAILS(b, fill_zero, b->queue, as_shape(x, -1, 8));
    CALL_FAILS(b, copy, b->queue, y, as_shape(x, 4, 8));
    CALL_FAILS(b, copy, b->queue, as_shape(y, 5, 7), x);
    CALL_FAILS(b, copy, b->queue, y, as_type(x, BALORA_I32));
    CALL_FAILS(b, gather_rows, b->queue, y, x, as_type(indices, BALORA_F32));
    CALL_FAILS(b, gather_rows, b->queue, y, x, as_shape(indices, 1, 4));
    CALL_FAILS(b, gather_rows, b->queue, half, x, indices);
    CALL_FAILS(b, gather_rows, b->queue, y, as_shape(x, 5, 7), indices);
    CALL_FAILS(b, scatter_add_rows, b->queue, y, as_shape(x, 5, 7), indices);
    CALL_FAILS(b, scatter_add_rows, b->queue, y, x, as_shape(indices, 1, 4));
    CALL_FAILS(b, scatter_add_rows, b->queue, y, half, indices);
    CALL_FAILS(b, scale_add, b->queue, 1.0, x, 1.0, wide);
    CALL_FAILS(b, scale_add, b->queue, 1.0, x, 1.0, as_shape(y, 4, 8));
    CALL_FAILS(b, scale_add, b->queue, 1.0, half, 1.0, half);
    CALL_FAILS(b, add_row, b->queue, y, as_shape(row, 1, 7));
    CALL_FAILS(b, add_row, b->queue, half, row);
    CALL_FAILS(b, scale_rows, b->queue, wide, as_shape(weights, 1, 4));
    CALL_FAILS(b, scale_rows, b->queue, x, weights);
    CALL_FAILS(b, sum_rows, b->queue, x, 0.0, as_shape(row, 1, 7));
    CALL_FAILS(b, sum_rows, b->queue, wide, 0.0, row);
    CALL_FAILS(b, sum_squares, b->queue, x, 0.0, as_type(row, BALORA_F32));
    CALL_FAILS(b, sum_squares, b->queue, wide, 0.0, one);
    CALL_FAILS(b, trace, b->queue, as_shape(square, 5, 4), one);
    CALL_FAILS(b, trace, b->queue, square, as_type(one, BALORA_F32));
    CALL_FAILS(b, clip_scale, b->queue, as_shape(row, 1, 1), 1.0, as_shape(row, 1, 1));
    CALL_FAILS(b, clip_scale, b->queue, one, 1.0, one);
    CALL_FAILS(b, fill_normal, b->queue, wide, 1, 1, 1.0);
    CALL_FAILS(b, fill_normal, b->queue, as_shape(x, -1, 8), 1, 1, 1.0);
    CALL_FAILS(b, covariance, b->queue, x, as_shape(weights, 1, 4), square);
    CALL_FAILS(b, covariance, b->queue, as_shape(x, 1, 5), weights, square);
    CALL_FAILS(b, covariance, b->queue, as_shape(x, 5, 5), weights, as_shape(square, 5, 4));
    CALL_FAILS(b, covariance, b->queue, as_shape(half, 5, 5), weights, square);
    case_end(b);
    refuse_columns(b);
    refuse_quantization(b);
    refuse_activations(b);
}

/* A batch of which only the last product lies outside is refused before any is made. */
static void refuse_batches(bench *b) {
    case_begin(b, SLOT_gemm_batched, "batches that do not fit");
    matrix_view left = operand_random(b, "left", BALORA_F32, 6, 4, 1.0)->view;
    matrix_view right = operand_random(b, "right", BALORA_F32, 4, 5, 1.0)->view;
    matrix_view out = operand_random(b, "out", BALORA_F32, 6, 5, 1.0)->view;
    matrix_view half = operand_random(b, "half", BALORA_F16, 6, 5, 1.0)->view;
    int64_t beyond = 4096; /* elements: more than the operands' buffers hold */
    gemm_batch good = {.count = 3,
                       .stride_a = 2 * left.ld,
                       .stride_c = 2 * out.ld,
                       .a = as_shape(left, 2, 4),
                       .b = right,
                       .c = as_shape(out, 2, 5),
                       .alpha = 1.0};
    gemm_batch bad[] = {good, good, good, good, good, good, good};
    bad[0].count = -1;
    bad[1].stride_a = beyond;
    bad[2].stride_b = beyond;
    bad[3].stride_c = beyond;
    bad[4].stride_c = 0;
    bad[5].transpose_b = 1;
    bad[6].c = as_shape(half, 2, 5);
    for (int64_t i = 0; i < COUNT_OF(bad); i++)
        CALL_FAILS(b, gemm_batched, b->queue, &bad[i]);
    if (b->ops->gemm_bias != NULL) {
        matrix_view bias = operand_random(b, "bias", BALORA_F32, 1, 5, 1.0)->view;
        CALL_FAILS(b, gemm_bias, b->queue, 0, 0, 1.0, left, right, 0.0, out, as_shape(bias, 1, 4));
        CALL_FAILS(b, gemm_bias, b->queue, 0, 0, 1.0, left, right, 0.0, out, as_type(bias, BALORA_I32));
        CALL_FAILS(b, gemm_bias, b->queue, 0, 1, 1.0, left, right, 0.0, out, bias);
    }
    case_end(b);
}

void test_refusals_products(bench *b) {
    case_begin(b, SLOT_gemm, "shapes and dtypes that do not fit");
    matrix_view left = operand_random(b, "left", BALORA_F32, 6, 4, 1.0)->view;
    matrix_view right = operand_random(b, "right", BALORA_F32, 4, 5, 1.0)->view;
    matrix_view out = operand_random(b, "out", BALORA_F32, 6, 5, 1.0)->view;
    matrix_view wide = operand_random(b, "wide", BALORA_F64, 6, 5, 1.0)->view;
    matrix_view square = operand_random(b, "square", BALORA_F64, 6, 6, 1.0)->view;
    matrix_view values = operand_random(b, "values", BALORA_F64, 1, 6, 1.0)->view;
    matrix_view vectors = operand_random(b, "vectors", BALORA_F64, 6, 6, 1.0)->view;
    matrix_view half = operand_random(b, "half", BALORA_F16, 6, 5, 1.0)->view;
    matrix_view u = operand_random(b, "u", BALORA_F32, 6, 4, 1.0)->view;
    matrix_view s = operand_random(b, "s", BALORA_F32, 1, 4, 1.0)->view;
    matrix_view vt = operand_random(b, "vt", BALORA_F32, 4, 4, 1.0)->view;

    CALL_FAILS(b, gemm, b->queue, 0, 1, 1.0, left, right, 0.0, out);
    CALL_FAILS(b, gemm, b->queue, 1, 0, 1.0, left, right, 0.0, out);
    CALL_FAILS(b, gemm, b->queue, 0, 0, 1.0, left, right, 0.0, as_shape(out, 6, 4));
    CALL_FAILS(b, gemm, b->queue, 0, 0, 1.0, left, right, 0.0, as_shape(out, 5, 5));
    CALL_FAILS(b, gemm, b->queue, 0, 0, 1.0, left, right, 0.0, half);
    CALL_FAILS(b, gemm, b->queue, 0, 0, 1.0, left, right, 0.0, wide);
    CALL_FAILS(b, gemm, b->queue, 0, 0, 1.0, as_type(left, BALORA_I32), right, 0.0, out);
    CALL_FAILS(b, gemm, b->queue, 0, 0, 1.0, as_shape(square, 6, 4), right, 0.0, out);
    CALL_FAILS(b, gemm, b->queue, 0, 0, 1.0, with_ld(left, 3), right, 0.0, out);
    CALL_FAILS(b, gram, b->queue, 0, left, as_shape(out, 4, 4));
    CALL_FAILS(b, gram, b->queue, 1, left, as_shape(out, 4, 5));
    CALL_FAILS(b, gram, b->queue, 0, left, square);
    CALL_FAILS(b, gram, b->queue, 0, wide, as_type(as_shape(square, 6, 6), BALORA_F32));
    CALL_FAILS(b, eigh_top, b->queue, as_shape(square, 5, 6), values, vectors);
    CALL_FAILS(b, eigh_top, b->queue, square, as_shape(values, 1, 5), vectors);
    CALL_FAILS(b, eigh_top, b->queue, square, values, as_shape(vectors, 6, 5));
    CALL_FAILS(b, eigh_top, b->queue, as_shape(square, 5, 5), values, as_shape(vectors, 6, 5));
    CALL_FAILS(b, eigh_top, b->queue, as_type(square, BALORA_F32), values, vectors);
    CALL_FAILS(b, orthonormalize_rows, b->queue, left);
    CALL_FAILS(b, orthonormalize_rows, b->queue, as_shape(half, 2, 5));
    CALL_FAILS(b, svd, b->queue, left, as_shape(u, 6, 3), s, vt);
    CALL_FAILS(b, svd, b->queue, left, u, as_shape(s, 1, 3), vt);
    CALL_FAILS(b, svd, b->queue, left, u, s, as_shape(vt, 3, 4));
    CALL_FAILS(b, svd, b->queue, as_type(as_shape(wide, 6, 4), BALORA_BF16), u, s, vt);
    CALL_FAILS(b, svd_top, b->queue, left, as_shape(u, 6, 3), s, vt);
    CALL_FAILS(b, svd_top, b->queue, left, u, s, as_shape(vt, 3, 4));
    CALL_FAILS(b, svd_top, b->queue, as_shape(left, 3, 4), as_shape(u, 3, 4), s, vt);
    CALL_FAILS(b, svd_top, b->queue, as_type(as_shape(wide, 6, 4), BALORA_BF16), u, s, vt);
    case_end(b);
    refuse_batches(b);
}

static void refuse_attention(bench *b) {
    case_begin(b, SLOT_attention, "shapes and dtypes that do not fit");
    matrix_view offsets = operand_of(b, "offsets", BALORA_I32, 1, 2, (const double[]){0.0, 7.0})->view;
    matrix_view q = operand_random(b, "q", BALORA_F32, 7, 24, 1.0)->view;
    matrix_view k = operand_random(b, "k", BALORA_F32, 7, 12, 1.0)->view;
    matrix_view v = operand_random(b, "v", BALORA_F32, 7, 12, 1.0)->view;
    matrix_view out = operand_random(b, "out", BALORA_F32, 7, 24, 1.0)->view;
    matrix_view sums = operand_random(b, "logsumexp", BALORA_F32, 7, 4, 1.0)->view;
    matrix_view dout = operand_random(b, "dout", BALORA_F32, 7, 24, 1.0)->view;
    matrix_view dk = operand_random(b, "dk", BALORA_F32, 7, 12, 1.0)->view;
    attention_shape shape = {1, 7, 4, 2, 6, 0, 0.4F, 0};
    matrix_view half = operand_random(b, "half", BALORA_F16, 7, 24, 1.0)->view;
    attention_forward good = {shape, offsets, q, k, v, out, sums}, bad = good;
    bad.shape.key_heads = 3;
    CALL_FAILS(b, attention, b->queue, &bad);
    bad = good;
    bad.shape.head_dim = 5;
    CALL_FAILS(b, attention, b->queue, &bad);
    bad = good;
    bad.shape.sequences = 2;
    CALL_FAILS(b, attention, b->queue, &bad);
    bad = good;
    bad.k = as_shape(k, 6, 12);
    CALL_FAILS(b, attention, b->queue, &bad);
    bad = good;
    bad.logsumexp = as_shape(sums, 7, 3);
    CALL_FAILS(b, attention, b->queue, &bad);
    bad = good;
    bad.offsets = as_type(offsets, BALORA_F32);
    CALL_FAILS(b, attention, b->queue, &bad);
    bad = good;
    bad.v = as_type(v, BALORA_BF16); /* another dtype than q's */
    CALL_FAILS(b, attention, b->queue, &bad);
    bad = good;
    bad.q = bad.out = half;
    CALL_FAILS(b, attention, b->queue, &bad);
    bad = good;
    bad.shape.soft_cap = -1.0F;
    CALL_FAILS(b, attention, b->queue, &bad);

    attention_backward back = {shape, offsets, q, k, v, out, sums, dout, dout, dk, dk}, broken = back;
    broken.dv = as_shape(dk, 7, 11);
    CALL_FAILS(b, attention_backward, b->queue, &broken);
    broken = back;
    broken.dout = as_shape(dout, 6, 24);
    CALL_FAILS(b, attention_backward, b->queue, &broken);
    broken = back;
    broken.logsumexp = view_none();
    CALL_FAILS(b, attention_backward, b->queue, &broken);
    case_end(b);
}

void test_refusals_transformer(bench *b) {
    case_begin(b, SLOT_rms_norm, "shapes and dtypes that do not fit");
    matrix_view x = operand_random(b, "x", BALORA_F32, 5, 12, 1.0)->view;
    matrix_view y = operand_random(b, "y", BALORA_F32, 5, 12, 1.0)->view;
    matrix_view z = operand_random(b, "z", BALORA_F32, 5, 12, 1.0)->view;
    matrix_view out = operand_random(b, "out", BALORA_F32, 5, 12, 1.0)->view;
    matrix_view more = operand_random(b, "more", BALORA_F32, 5, 12, 1.0)->view;
    matrix_view weight = operand_random(b, "weight", BALORA_F32, 1, 12, 1.0)->view;
    matrix_view half = operand_random(b, "half", BALORA_F16, 5, 12, 1.0)->view;
    matrix_view positions = operand_filled(b, "positions", BALORA_I32, 1, 5, 1.0)->view;
    matrix_view table = operand_random(b, "table", BALORA_F32, 9, 4, 1.0)->view;

    CALL_FAILS(b, rms_norm, b->queue, x, as_shape(weight, 1, 11), 0.0F, 1e-5F, y);
    CALL_FAILS(b, rms_norm, b->queue, x, weight, 0.0F, 1e-5F, as_shape(y, 4, 12));
    CALL_FAILS(b, rms_norm, b->queue, half, weight, 0.0F, 1e-5F, y);
    CALL_FAILS(b, rms_norm_backward, b->queue, x, weight, 0.0F, 1e-5F, y, as_shape(z, 5, 11), view_none());
    CALL_FAILS(b, rms_norm_backward, b->queue, x, weight, 0.0F, 1e-5F, half, z, view_none());
    CALL_FAILS(b, rms_norm_backward, b->queue, x, weight, 0.0F, 1e-5F, y, z, as_shape(out, 1, 11));
    CALL_FAILS(b, layer_norm, b->queue, x, as_shape(weight, 1, 11), weight, 1e-5F, y);
    CALL_FAILS(b, layer_norm, b->queue, x, weight, as_shape(weight, 1, 11), 1e-5F, y);
    CALL_FAILS(b, layer_norm, b->queue, x, weight, weight, 1e-5F, as_shape(y, 4, 12));
    CALL_FAILS(b, layer_norm, b->queue, half, weight, weight, 1e-5F, y);
    CALL_FAILS(b, layer_norm_backward, b->queue, x, weight, 1e-5F, y, as_shape(z, 5, 11), view_none(),
               view_none());
    CALL_FAILS(b, layer_norm_backward, b->queue, x, weight, 1e-5F, y, z, as_shape(out, 1, 11), view_none());
    CALL_FAILS(b, layer_norm_backward, b->queue, x, weight, 1e-5F, y, z, view_none(), as_shape(out, 1, 11));
    CALL_FAILS(b, softmax_rows, b->queue, 1.0F, x, as_shape(y, 4, 12));
    CALL_FAILS(b, softmax_rows, b->queue, 1.0F, half, y);
    CALL_FAILS(b, softmax_rows_backward, b->queue, 1.0F, x, y, as_shape(z, 5, 11));
    CALL_FAILS(b, softmax_rows_backward, b->queue, 1.0F, x, half, z);
    CALL_FAILS(b, rope, b->queue, x, 5, positions, table, 0);
    CALL_FAILS(b, rope, b->queue, x, 6, positions, table, 0);
    CALL_FAILS(b, rope, b->queue, x, 3, positions, as_shape(table, 9, 3), 0);
    CALL_FAILS(b, rope, b->queue, x, 4, as_shape(positions, 1, 4), table, 0);
    CALL_FAILS(b, rope, b->queue, x, 4, as_type(positions, BALORA_F32), table, 0);
    CALL_FAILS(b, rope, b->queue, half, 4, positions, table, 0);
    CALL_FAILS(b, gated_activation, b->queue, ACTIVATION_SILU, x, as_shape(y, 5, 11), out);
    CALL_FAILS(b, gated_activation, b->queue, 77, x, y, out);
    CALL_FAILS(b, gated_activation, b->queue, ACTIVATION_SILU, half, y, out);
    CALL_FAILS(b, gated_activation_backward, b->queue, ACTIVATION_SILU, x, y, as_shape(z, 4, 12), out, more);
    CALL_FAILS(b, gated_activation_backward, b->queue, 0, x, y, z, out, more);
    CALL_FAILS(b, soft_cap, b->queue, 30.0F, x, as_shape(y, 5, 11));
    CALL_FAILS(b, soft_cap, b->queue, 30.0F, half, y);
    CALL_FAILS(b, soft_cap_backward, b->queue, -1.0F, x, y, z);
    CALL_FAILS(b, soft_cap_backward, b->queue, 30.0F, x, as_shape(y, 4, 12), z);
    CALL_FAILS(b, soft_cap_backward, b->queue, 30.0F, x, y, half);
    CALL_FAILS(b, gated_activation_backward, b->queue, ACTIVATION_GELU_TANH, x, y, z, out, half);
    CALL_FAILS(b, soft_cap, b->queue, 0.0F, x, y);
    case_end(b);
    refuse_attention(b);
}

static void refuse_loss_head(bench *b) {
    case_begin(b, SLOT_loss_head, "shapes and dtypes that do not fit");
    matrix_view logits = operand_random(b, "logits", BALORA_F32, 4, 9, 1.0)->view;
    matrix_view teacher = operand_random(b, "teacher", BALORA_F32, 4, 9, 1.0)->view;
    matrix_view targets = operand_filled(b, "targets", BALORA_I32, 1, 4, 2.0)->view;
    matrix_view regularized = operand_filled(b, "regularized", BALORA_I32, 1, 4, 1.0)->view;
    matrix_view terms = operand_random(b, "terms", BALORA_F64, 4, LOSS_COLUMNS, 1.0)->view;
    matrix_view slope = operand_random(b, "gradient_out", BALORA_F32, 4, 9, 1.0)->view;
    loss_head_rows good = {logits, teacher, targets, regularized, terms, 1.0F, 0.1F,
                           0.1F,   2.0F,    3,       1,           0,     slope},
                   bad = good;
    bad.teacher = as_shape(teacher, 4, 8);
    CALL_FAILS(b, loss_head, b->queue, &bad);
    bad = good;
    bad.targets = as_shape(targets, 1, 3);
    CALL_FAILS(b, loss_head, b->queue, &bad);
    bad = good;
    bad.regularized = as_type(regularized, BALORA_F32);
    CALL_FAILS(b, loss_head, b->queue, &bad);
    bad = good;
    bad.terms = as_shape(terms, 4, LOSS_COLUMNS - 1);
    CALL_FAILS(b, loss_head, b->queue, &bad);
    bad = good;
    bad.terms = as_type(terms, BALORA_F32);
    CALL_FAILS(b, loss_head, b->queue, &bad);
    bad = good;
    bad.logits = as_type(logits, BALORA_BF16);
    CALL_FAILS(b, loss_head, b->queue, &bad);
    bad = good;
    bad.gradient_out = as_shape(slope, 4, 8);
    CALL_FAILS(b, loss_head, b->queue, &bad);
    bad = good;
    bad.gradient_out = as_type(slope, BALORA_F16);
    CALL_FAILS(b, loss_head, b->queue, &bad);
    case_end(b);
}

void test_refusals_objective(bench *b) {
    refuse_loss_head(b);

    case_begin(b, SLOT_entropy_rows, "shapes and dtypes that do not fit");
    matrix_view logits = operand_random(b, "logits", BALORA_F32, 4, 9, 1.0)->view;
    matrix_view out = operand_random(b, "out", BALORA_F64, 4, 1, 1.0)->view;
    CALL_FAILS(b, entropy_rows, b->queue, logits, 1.0F, as_shape(out, 3, 1));
    CALL_FAILS(b, entropy_rows, b->queue, logits, 1.0F, as_type(out, BALORA_F32));
    CALL_FAILS(b, entropy_rows, b->queue, as_type(logits, BALORA_BF16), 1.0F, out);
    case_end(b);

    case_begin(b, SLOT_spectral_coefficients, "shapes and dtypes that do not fit");
    matrix_view values = operand_filled(b, "eigenvalues", BALORA_F64, 1, 5, 1.0)->view;
    matrix_view one = operand_filled(b, "trace", BALORA_F64, 1, 1, 5.0)->view;
    matrix_view weights = operand_random(b, "weights", BALORA_F64, 1, 5, 1.0)->view;
    matrix_view gamma = operand_random(b, "gamma", BALORA_F64, 1, 1, 1.0)->view;
    matrix_view value = operand_random(b, "value", BALORA_F64, 1, 1, 1.0)->view;
    spectral_coefficients good = {values, one, weights, gamma, value, 1.0, 1.0, 2, BALORA_SVD_FROBENIUS, 0},
                          bad = good;
    bad.weights = as_shape(weights, 1, 4);
    CALL_FAILS(b, spectral_coefficients, b->queue, &bad);
    bad = good;
    bad.norm = 77;
    CALL_FAILS(b, spectral_coefficients, b->queue, &bad);
    bad = good;
    bad.value = as_type(value, BALORA_F32);
    CALL_FAILS(b, spectral_coefficients, b->queue, &bad);
    case_end(b);

    case_begin(b, SLOT_adamw, "shapes and dtypes that do not fit");
    matrix_view parameter = operand_random(b, "parameter", BALORA_F32, 3, 5, 1.0)->view;
    matrix_view gradient = operand_random(b, "gradient", BALORA_F32, 3, 5, 1.0)->view;
    matrix_view first = operand_random(b, "first", BALORA_F32, 3, 5, 1.0)->view;
    matrix_view second = operand_filled(b, "second", BALORA_F32, 3, 5, 1.0)->view;
    matrix_view scale = operand_filled(b, "scale", BALORA_F32, 1, 1, 1.0)->view;
    adamw_update update = {parameter, gradient, first, second, scale, 1e-3, 0.9, 0.999, 1e-8, 0.0, 1},
                 broken = update;
    broken.gradient = as_shape(gradient, 3, 4);
    CALL_FAILS(b, adamw, b->queue, &broken);
    broken = update;
    broken.parameter = as_type(parameter, BALORA_BF16);
    CALL_FAILS(b, adamw, b->queue, &broken);
    broken = update;
    broken.scale = as_type(scale, BALORA_F64);
    CALL_FAILS(b, adamw, b->queue, &broken);
    case_end(b);
}
