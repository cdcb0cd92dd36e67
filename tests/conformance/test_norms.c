/* Normalizations of rows, and softmax. */
#include <math.h>

#include "reference.h"
#include "tests.h"

static const struct {
    int64_t rows, cols;
} shapes[] = {{1, 1},   {1, 257}, {2, 3},  {3, 2},     {5, 7},    {7, 5}, {17, 31}, {31, 17},
              {33, 64}, {64, 33}, {65, 1}, {257, 100}, {3, 2000}, {0, 5}, {600, 65}};

/* Shapes that are worth another dtype. */
static bool is_small(int64_t rows, int64_t cols) {
    return rows * cols <= 10000;
}

/* Whether the shape is one for this pair of dtypes: all of them in F32. */
static bool is_used(int64_t s, int first, int second) {
    return (first == 0 && second == 0) || is_small(shapes[s].rows, shapes[s].cols);
}

/* --- rms_norm --- */

/* Weight offsets and epsilons as LLaMA and Gemma have them. */
static const struct { float offset, epsilon; } norms[] = {{0.0F, 1e-5F}, {1.0F, 1e-6F}};

/* Heads of q and k: groups of columns that share their weights. */
static const struct {
    int64_t rows, groups, cols;
} grouped[] = {{1, 3, 5}, {4, 2, 16}, {33, 8, 32}, {5, 1, 7}, {3, 4, 2000}, {300, 2, 6}, {0, 3, 8}};

static void rms_norm_case(bench *b, int32_t from, int32_t to, int64_t rows, int64_t cols, int64_t groups,
                          float offset, float epsilon, double size, bool in_place) {
    int64_t wide = cols * groups;
    case_begin(b, SLOT_rms_norm, "%s to %s [%lld, %lld x %lld] of size %g, weight offset %g%s",
               dtype_name(from), dtype_name(to), (long long)rows, (long long)groups, (long long)cols, size,
               (double)offset, in_place ? ", y is x" : "");
    double *want = case_array(b, rows * wide);
    operand *x = operand_random(b, "x", from, rows, wide, size);
    operand *weight = operand_random(b, "weight", BALORA_F32, 1, cols, 0.5);
    operand *y = in_place ? x : operand_filled(b, "y", to, rows, wide, (double)NAN);
    CALL_OK(b, rms_norm, b->queue, x->view, weight->view, offset, epsilon, y->view);
    reference_rms_norm(rows * groups, cols, x->value, weight->value, (double)offset, (double)epsilon, want);
    expect_close(b, y, want, NULL);
    case_end(b);
}

void test_norms_rms_norm(bench *b) {
    for (int from = 0; from < b->activation_count; from++)
        for (int to = 0; to < b->activation_count; to++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                for (int64_t v = 0; v < COUNT_OF(norms) && is_used(s, from, to); v++) {
                    for (double size = 1e-4; size < 1e5; size *= 1e4)
                        rms_norm_case(b, activation_types[from], activation_types[to], shapes[s].rows,
                                      shapes[s].cols, 1, norms[v].offset, norms[v].epsilon, size, false);
                    if (from == to)
                        rms_norm_case(b, activation_types[from], activation_types[to], shapes[s].rows,
                                      shapes[s].cols, 1, norms[v].offset, norms[v].epsilon, 1.0, true);
                }
    for (int type = 0; type < b->activation_count; type++)
        for (int64_t s = 0; s < COUNT_OF(grouped); s++)
            for (int in_place = 0; in_place < 2; in_place++)
                rms_norm_case(b, activation_types[type], activation_types[type], grouped[s].rows,
                              grouped[s].cols, grouped[s].groups, 1.0F, 1e-6F, 1.0, in_place != 0);

    case_begin(b, SLOT_rms_norm, "a row of zeros");
    operand *x = operand_filled(b, "x", BALORA_F32, 3, 33, 0.0);
    operand *weight = operand_random(b, "weight", BALORA_F32, 1, 33, 1.0);
    operand *y = operand_filled(b, "y", BALORA_F32, 3, 33, (double)NAN);
    CALL_OK(b, rms_norm, b->queue, x->view, weight->view, 0.0F, 1e-5F, y->view);
    expect_close(b, y, case_array(b, 3 * 33), NULL);
    case_end(b);
}

/* What backward is given and must give: gradients are added to what is there. */
typedef struct norm_operands {
    operand *x, *weight, *dy, *dx, *dweight, *dbias;
    reference_norm_gradient want;
} norm_operands;

/* x has `groups` times the columns of its weights. */
static norm_operands norm_backward_begin(bench *b, int32_t type, int32_t gradient_type, int64_t rows,
                                         int64_t cols, int64_t groups, double offset) {
    int64_t wide = cols * groups;
    norm_operands o = {.want = {case_array(b, rows * wide), case_array(b, cols), case_array(b, rows * wide),
                                case_array(b, cols), case_array(b, cols), case_array(b, cols)}};
    o.x = operand_random(b, "x", type, rows, wide, 1.5);
    for (int64_t i = 0; i < rows * wide; i++)
        o.x->result[i] = o.x->value[i] + offset;
    operand_set(b, o.x, o.x->result);
    o.weight = operand_random(b, "weight", BALORA_F32, 1, cols, 0.5);
    o.dy = operand_random(b, "dy", gradient_type, rows, wide, 1.0);
    o.dx = operand_random(b, "dx", gradient_type, rows, wide, 1.0);
    o.dweight = operand_random(b, "dweight", BALORA_F32, 1, cols, 1.0);
    o.dbias = operand_random(b, "dbias", BALORA_F32, 1, cols, 1.0);
    for (int64_t i = 0; i < rows * wide; i++) {
        o.want.dx[i] = o.dx->value[i];
        o.want.dx_magnitude[i] = fabs(o.dx->value[i]);
    }
    for (int64_t j = 0; j < cols; j++) {
        o.want.dweight[j] = o.dweight->value[j];
        o.want.dweight_magnitude[j] = fabs(o.dweight->value[j]);
        o.want.dbias[j] = o.dbias->value[j];
        o.want.dbias_magnitude[j] = fabs(o.dbias->value[j]);
    }
    return o;
}

static void rms_norm_backward_case(bench *b, int32_t type, int32_t gradient_type, int64_t rows, int64_t cols,
                                   int64_t groups, float offset, float epsilon, bool wants_weight) {
    case_begin(b, SLOT_rms_norm_backward,
               "%s, gradients %s [%lld, %lld x %lld], weight offset %g, %s dweight", dtype_name(type),
               dtype_name(gradient_type), (long long)rows, (long long)groups, (long long)cols, (double)offset,
               wants_weight ? "with" : "without");
    norm_operands o = norm_backward_begin(b, type, gradient_type, rows, cols, groups, 0.0);
    CALL_OK(b, rms_norm_backward, b->queue, o.x->view, o.weight->view, offset, epsilon, o.dy->view,
            o.dx->view, wants_weight ? o.dweight->view : view_none());
    reference_rms_norm_backward(rows * groups, cols, o.x->value, o.weight->value, (double)offset,
                                (double)epsilon, o.dy->value, &o.want);
    expect_close(b, o.dx, o.want.dx, o.want.dx_magnitude);
    if (wants_weight)
        expect_close(b, o.dweight, o.want.dweight, o.want.dweight_magnitude);
    case_end(b);
}

void test_norms_rms_norm_backward(bench *b) {
    for (int type = 0; type < b->activation_count; type++)
        for (int gradient = 0; gradient < b->activation_count; gradient++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                for (int64_t v = 0; v < COUNT_OF(norms) && is_used(s, type, gradient); v++)
                    for (int wants_weight = 0; wants_weight < 2; wants_weight++)
                        rms_norm_backward_case(b, activation_types[type], activation_types[gradient],
                                               shapes[s].rows, shapes[s].cols, 1, norms[v].offset,
                                               norms[v].epsilon, wants_weight != 0);
    for (int type = 0; type < b->activation_count; type++)
        for (int64_t s = 0; s < COUNT_OF(grouped); s++)
            for (int wants_weight = 0; wants_weight < 2; wants_weight++)
                rms_norm_backward_case(b, activation_types[type], activation_types[type], grouped[s].rows,
                                       grouped[s].cols, grouped[s].groups, 1.0F, 1e-6F, wants_weight != 0);
}

/* --- layer_norm --- */

/* Rows far from 0 beside their spread, where a variance as a difference of squares would be lost in F32. */
static const double offsets[] = {0.0, 30.0, -1000.0};

static void layer_norm_case(bench *b, int32_t from, int32_t to, int64_t rows, int64_t cols, double offset,
                            bool in_place) {
    case_begin(b, SLOT_layer_norm, "%s to %s [%lld, %lld] around %g%s", dtype_name(from), dtype_name(to),
               (long long)rows, (long long)cols, offset, in_place ? ", y is x" : "");
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *x = operand_random(b, "x", from, rows, cols, 1.0);
    for (int64_t i = 0; i < rows * cols; i++)
        x->result[i] = x->value[i] + offset;
    operand_set(b, x, x->result);
    operand *weight = operand_random(b, "weight", BALORA_F32, 1, cols, 0.5);
    operand *bias = operand_random(b, "bias", BALORA_F32, 1, cols, 0.5);
    operand *y = in_place ? x : operand_filled(b, "y", to, rows, cols, (double)NAN);
    CALL_OK(b, layer_norm, b->queue, x->view, weight->view, bias->view, 1e-5F, y->view);
    reference_layer_norm(rows, cols, x->value, weight->value, bias->value, (double)1e-5F, want, magnitude);
    expect_close(b, y, want, magnitude);
    case_end(b);
}

void test_norms_layer_norm(bench *b) {
    for (int from = 0; from < b->activation_count; from++)
        for (int to = 0; to < b->activation_count; to++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                for (int64_t o = 0; o < COUNT_OF(offsets) && is_used(s, from, to); o++)
                    for (int in_place = 0; in_place <= (from == to); in_place++)
                        layer_norm_case(b, activation_types[from], activation_types[to], shapes[s].rows,
                                        shapes[s].cols, offsets[o], in_place != 0);
}

/* wants: bit 0, dweight; bit 1, dbias. */
static void layer_norm_backward_case(bench *b, int32_t type, int32_t gradient_type, int64_t rows,
                                     int64_t cols, double offset, int wants) {
    case_begin(b, SLOT_layer_norm_backward, "%s, gradients %s [%lld, %lld] around %g%s%s", dtype_name(type),
               dtype_name(gradient_type), (long long)rows, (long long)cols, offset,
               wants & 1 ? ", dweight" : "", wants & 2 ? ", dbias" : "");
    norm_operands o = norm_backward_begin(b, type, gradient_type, rows, cols, 1, offset);
    CALL_OK(b, layer_norm_backward, b->queue, o.x->view, o.weight->view, 1e-5F, o.dy->view, o.dx->view,
            wants & 1 ? o.dweight->view : view_none(), wants & 2 ? o.dbias->view : view_none());
    reference_layer_norm_backward(rows, cols, o.x->value, o.weight->value, (double)1e-5F, o.dy->value,
                                  &o.want);
    expect_close(b, o.dx, o.want.dx, o.want.dx_magnitude);
    if (wants & 1)
        expect_close(b, o.dweight, o.want.dweight, o.want.dweight_magnitude);
    if (wants & 2)
        expect_close(b, o.dbias, o.want.dbias, o.want.dbias_magnitude);
    case_end(b);
}

void test_norms_layer_norm_backward(bench *b) {
    for (int type = 0; type < b->activation_count; type++)
        for (int gradient = 0; gradient < b->activation_count; gradient++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                for (int wants = 0; wants < 4 && is_used(s, type, gradient); wants++)
                    layer_norm_backward_case(b, activation_types[type], activation_types[gradient],
                                             shapes[s].rows, shapes[s].cols, offsets[wants % 2], wants);
}

/* --- softmax --- */

static void softmax_case(bench *b, int32_t from, int32_t to, int64_t rows, int64_t cols, float scale,
                         double deviation, bool in_place) {
    case_begin(b, SLOT_softmax_rows, "%s to %s [%lld, %lld] of size %g, scale %g%s", dtype_name(from),
               dtype_name(to), (long long)rows, (long long)cols, deviation, (double)scale,
               in_place ? ", y is x" : "");
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *x = operand_random(b, "x", from, rows, cols, deviation);
    operand *y = in_place ? x : operand_filled(b, "y", to, rows, cols, (double)NAN);
    CALL_OK(b, softmax_rows, b->queue, scale, x->view, y->view);
    reference_softmax(rows, cols, (double)scale, x->value, want, magnitude);
    expect_close(b, y, want, magnitude);
    case_end(b);
}

void test_norms_softmax(bench *b) {
    static const struct {
        float scale;
        double deviation;
    } kinds[] = {{1.0F, 1.0}, {0.125F, 4.0}, {-0.5F, 1.0}, {1.0F, 1e3}};
    for (int from = 0; from < b->activation_count; from++)
        for (int to = 0; to < b->activation_count; to++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                for (int64_t k = 0; k < COUNT_OF(kinds) && is_used(s, from, to); k++)
                    for (int in_place = 0; in_place <= (from == to); in_place++)
                        softmax_case(b, activation_types[from], activation_types[to], shapes[s].rows,
                                     shapes[s].cols, kinds[k].scale, kinds[k].deviation, in_place != 0);
}

static void softmax_backward_case(bench *b, int32_t type, int64_t rows, int64_t cols, bool in_place) {
    const float scale = 0.35F;
    case_begin(b, SLOT_softmax_rows_backward, "%s [%lld, %lld]%s", dtype_name(type), (long long)rows,
               (long long)cols, in_place ? ", dx is dy" : "");
    double *forward = case_array(b, rows * cols), *want = case_array(b, rows * cols);
    double *magnitude = case_array(b, rows * cols);
    operand *y = operand_random(b, "y", type, rows, cols, 2.0);
    reference_softmax(rows, cols, (double)scale, y->value, forward, NULL);
    operand_set(b, y, forward);
    operand *dy = operand_random(b, "dy", type, rows, cols, 1.0);
    operand *dx = in_place ? dy : operand_filled(b, "dx", type, rows, cols, (double)NAN);
    CALL_OK(b, softmax_rows_backward, b->queue, scale, y->view, dy->view, dx->view);
    reference_softmax_backward(rows, cols, (double)scale, y->value, dy->value, want, magnitude);
    expect_close(b, dx, want, magnitude);
    case_end(b);
}

void test_norms_softmax_backward(bench *b) {
    for (int type = 0; type < b->activation_count; type++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++)
            for (int in_place = 0; in_place < 2 && is_used(s, type, type); in_place++)
                softmax_backward_case(b, activation_types[type], shapes[s].rows, shapes[s].cols,
                                      in_place != 0);
}
