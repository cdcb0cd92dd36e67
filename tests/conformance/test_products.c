/* gemm and its kin, and gram. */
#include <math.h>

#include "backend/composed.h"
#include "reference.h"
#include "tests.h"

typedef struct product_case {
    int64_t m, n, k;
    int transpose_a, transpose_b;
    int32_t a, b, c;
    double alpha, beta;
} product_case;

static const char *transposed(int flag) {
    return flag ? "^T" : "";
}

static void gemm_case(bench *b, const product_case *p) {
    case_begin(b, SLOT_gemm, "%s[%lld, %lld] = %g %s%s %s%s + %g c, k %lld", dtype_name(p->c),
               (long long)p->m, (long long)p->n, p->alpha, dtype_name(p->a), transposed(p->transpose_a),
               dtype_name(p->b), transposed(p->transpose_b), p->beta, (long long)p->k);
    double *want = case_array(b, p->m * p->n), *magnitude = case_array(b, p->m * p->n);
    operand *left =
        operand_random(b, "a", p->a, p->transpose_a ? p->k : p->m, p->transpose_a ? p->m : p->k, 1.0);
    operand *right =
        operand_random(b, "b", p->b, p->transpose_b ? p->n : p->k, p->transpose_b ? p->k : p->n, 1.0);
    operand *out = p->beta == 0.0 ? operand_filled(b, "c", p->c, p->m, p->n, (double)NAN)
                                  : operand_random(b, "c", p->c, p->m, p->n, 1.0);
    CALL_OK(b, gemm, b->queue, p->transpose_a, p->transpose_b, p->alpha, left->view, right->view, p->beta,
            out->view);
    reference_product product = {p->transpose_a, p->transpose_b, p->m,        p->n,         p->k,
                                 p->alpha,       p->beta,        left->value, right->value, out->value};
    reference_gemm(&product, want, magnitude);
    expect_close(b, out, want, magnitude);
    case_end(b);
}

/* All four transposes and all dtypes of one size; alpha and beta take turns. */
static void gemm_size(bench *b, int64_t m, int64_t n, int64_t k) {
    static const int32_t types[][3] = {
        {BALORA_F32, BALORA_F32, BALORA_F32},  {BALORA_F32, BALORA_BF16, BALORA_F32},
        {BALORA_BF16, BALORA_F32, BALORA_F32}, {BALORA_BF16, BALORA_BF16, BALORA_F32},
        {BALORA_F32, BALORA_F16, BALORA_F32},  {BALORA_F16, BALORA_F32, BALORA_F32},
        {BALORA_F16, BALORA_F16, BALORA_F32},  {BALORA_F16, BALORA_BF16, BALORA_F32},
        {BALORA_F64, BALORA_F64, BALORA_F64},  {BALORA_BF16, BALORA_BF16, BALORA_BF16},
        {BALORA_F32, BALORA_F32, BALORA_BF16}, {BALORA_BF16, BALORA_F32, BALORA_BF16},
        {BALORA_F16, BALORA_BF16, BALORA_BF16}};
    enum { F32_TYPES = 9 }; /* the first ones, for devices without BF16 activations */
    static const double factors[][2] = {{1.0, 0.0}, {1.0, 1.0}, {-0.75, 0.5}, {0.3, 1.0}, {2.0, 0.0}};
    int64_t turn = m + n + k;
    for (int64_t t = 0; t < (takes_bf16(b) ? COUNT_OF(types) : F32_TYPES); t++)
        for (int transposes = 0; transposes < 4; transposes++) {
            const double *factor = factors[turn++ % COUNT_OF(factors)];
            product_case p = {m,           n,           k,           transposes & 1, transposes >> 1,
                              types[t][0], types[t][1], types[t][2], factor[0],      factor[1]};
            gemm_case(b, &p);
        }
}

void test_products_gemm(bench *b) {
    static const int64_t shapes[][3] = {{1, 1, 1},     {2, 3, 1},      {3, 2, 7},      {5, 7, 3},
                                        {7, 5, 2},     {17, 31, 33},   {33, 64, 65},   {65, 100, 1},
                                        {100, 1, 257}, {1, 257, 100},  {257, 33, 5},   {1, 1, 300},
                                        {64, 17, 64},  {31, 257, 128}, {300, 16, 257}, {16, 96, 512}};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        gemm_size(b, shapes[s][0], shapes[s][1], shapes[s][2]);
}

/* Weights of more rows and columns than any panel that a backend may widen at a time. */
void test_products_gemm_wide(bench *b) {
    static const int32_t types[] = {BALORA_F32, BALORA_BF16, BALORA_F16};
    for (int64_t t = 0; t < COUNT_OF(types); t++)
        for (int transpose = 0; transpose < 2; transpose++) {
            product_case tall = {5, 2111, 401, 0, transpose, BALORA_F32, types[t], BALORA_F32, 1.0, 0.0};
            product_case deep = {9, 301, 3001, 0, transpose, BALORA_F32, types[t], BALORA_F32, -0.5, 1.0};
            product_case outer = {701, 603, 9, 1, transpose, types[t], BALORA_F32, BALORA_F32, 1.0, 1.0};
            gemm_case(b, &tall);
            gemm_case(b, &deep);
            gemm_case(b, &outer);
        }
}

/* The low-rank path: many rows, and a rank for the columns or for what is summed. */
void test_products_gemm_skinny(bench *b) {
    static const int64_t shapes[][3] = {
        {517, 32, 300}, {700, 129, 33}, {130, 515, 96}, {261, 17, 513}, {96, 130, 701}};
    static const int32_t types[][2] = {
        {BALORA_F32, BALORA_F32}, {BALORA_F32, BALORA_BF16}, {BALORA_F16, BALORA_F32}};
    static const double factors[][2] = {{1.0, 0.0}, {0.5, 1.0}, {-2.0, 0.25}};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t t = 0; t < COUNT_OF(types); t++)
            for (int transposes = 0; transposes < 4; transposes++) {
                const double *factor = factors[(s + t + transposes) % COUNT_OF(factors)];
                product_case p = {shapes[s][0], shapes[s][1], shapes[s][2], transposes & 1, transposes >> 1,
                                  types[t][0],  types[t][1],  BALORA_F32,   factor[0],      factor[1]};
                gemm_case(b, &p);
            }
}

/* No rows, no columns, or nothing to sum: c = beta c. */
void test_products_gemm_empty(bench *b) {
    static const int64_t shapes[][3] = {{0, 5, 7}, {5, 0, 7}, {5, 7, 0}, {0, 0, 0}};
    static const int32_t types[] = {BALORA_F32, BALORA_BF16, BALORA_F64};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t t = 0; t < COUNT_OF(types); t++)
            for (int beta = 0; beta < 2; beta++) {
                int32_t c = types[t] == BALORA_F64 ? BALORA_F64 : BALORA_F32;
                product_case p = {shapes[s][0], shapes[s][1], shapes[s][2], 0, 1, types[t], types[t], c,
                                  1.0,          0.5 * beta};
                gemm_case(b, &p);
            }
}

/* --- gemm_bias: the slot, or what composed.h makes of gemm and add_row --- */

static void gemm_bias_case(bench *b, const product_case *p) {
    case_begin(b, SLOT_gemm_bias, "%s[%lld, %lld] = %g %s%s %s%s + %g c + bias, k %lld", dtype_name(p->c),
               (long long)p->m, (long long)p->n, p->alpha, dtype_name(p->a), transposed(p->transpose_a),
               dtype_name(p->b), transposed(p->transpose_b), p->beta, (long long)p->k);
    double *want = case_array(b, p->m * p->n), *magnitude = case_array(b, p->m * p->n);
    operand *left =
        operand_random(b, "a", p->a, p->transpose_a ? p->k : p->m, p->transpose_a ? p->m : p->k, 1.0);
    operand *right =
        operand_random(b, "b", p->b, p->transpose_b ? p->n : p->k, p->transpose_b ? p->k : p->n, 1.0);
    operand *bias = operand_random(b, "bias", BALORA_F32, 1, p->n, 1.0);
    operand *out = p->beta == 0.0 ? operand_filled(b, "c", p->c, p->m, p->n, (double)NAN)
                                  : operand_random(b, "c", p->c, p->m, p->n, 1.0);
    bench_enter(b, SLOT_gemm_bias);
    balora_status status = composed_gemm_bias(b->ops, b->queue, p->transpose_a, p->transpose_b, p->alpha,
                                              left->view, right->view, p->beta, out->view, bias->view);
    bench_expect(b, SLOT_gemm_bias, BALORA_OK, bench_leave(b, status));
    reference_product product = {p->transpose_a, p->transpose_b, p->m,        p->n,         p->k,
                                 p->alpha,       p->beta,        left->value, right->value, out->value};
    reference_gemm(&product, want, magnitude);
    for (int64_t i = 0; i < p->m * p->n; i++) {
        want[i] += bias->value[i % p->n];
        magnitude[i] += fabs(bias->value[i % p->n]);
    }
    expect_close(b, out, want, magnitude);
    case_end(b);
}

/* The composition rounds twice to 16 bits and has no slot to blame: BF16 results are the slot's alone. */
void test_products_gemm_bias(bench *b) {
    static const int64_t shapes[][3] = {{1, 1, 1},     {5, 7, 3},    {17, 31, 33}, {33, 64, 65}, {65, 100, 1},
                                        {130, 96, 64}, {64, 17, 64}, {0, 5, 7},    {5, 7, 0}};
    static const int32_t types[][3] = {{BALORA_F32, BALORA_F32, BALORA_F32},
                                       {BALORA_F32, BALORA_BF16, BALORA_F32},
                                       {BALORA_BF16, BALORA_BF16, BALORA_BF16}};
    bool all = takes_bf16(b) && b->ops->gemm_bias != NULL;
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t t = 0; t < COUNT_OF(types) - !all; t++)
            for (int beta = 0; beta < 2; beta++)
                for (int transpose = 0; transpose < 2; transpose++) {
                    product_case p = {shapes[s][0], shapes[s][1], shapes[s][2], 0,    transpose,
                                      types[t][0],  types[t][1],  types[t][2],  0.75, beta};
                    gemm_bias_case(b, &p);
                }
}

/* --- gemm_batched --- */

/* `count` matrices [rows, cols] in one operand: behind each other, or side by side in its rows as heads are. */
typedef struct batch_operand {
    operand *all;
    matrix_view first;
    int64_t stride;
} batch_operand;

static batch_operand batch_of(bench *b, const char *name, int32_t type, int64_t count, int64_t rows,
                              int64_t cols, bool beside, double deviation) {
    batch_operand out;
    out.all = beside ? operand_random(b, name, type, rows, count * cols, deviation)
                     : operand_random(b, name, type, count * rows, cols, deviation);
    out.first = out.all->view;
    out.first.rows = rows;
    out.first.cols = cols;
    out.stride = beside ? cols : rows * out.first.ld;
    return out;
}

/* Element [row, column] of matrix i, of values or results. */
static double *batch_at(const batch_operand *x, double *values, int64_t i, int64_t row, int64_t column) {
    bool beside = x->all->view.rows == x->first.rows && x->all->view.cols != x->first.cols;
    int64_t at_row = beside ? row : i * x->first.rows + row,
            at_column = beside ? i * x->first.cols + column : column;
    return &values[at_row * x->all->view.cols + at_column];
}

static double *batch_copy(bench *b, const batch_operand *x, int64_t i) {
    double *copy = case_array(b, x->first.rows * x->first.cols);
    for (int64_t row = 0; row < x->first.rows; row++)
        for (int64_t column = 0; column < x->first.cols; column++)
            copy[row * x->first.cols + column] = *batch_at(x, x->all->value, i, row, column);
    return copy;
}

/* shared: 1, the same a for all; 2, the same b. */
static void batched_case(bench *b, const product_case *p, int64_t count, bool beside, int shared) {
    case_begin(b, SLOT_gemm_batched, "%lld of %s[%lld, %lld] = %g %s%s %s%s + %g c, k %lld%s%s",
               (long long)count, dtype_name(p->c), (long long)p->m, (long long)p->n, p->alpha,
               dtype_name(p->a), transposed(p->transpose_a), dtype_name(p->b), transposed(p->transpose_b),
               p->beta, (long long)p->k, beside ? ", side by side" : "",
               shared == 0   ? ""
               : shared == 1 ? ", one a"
                             : ", one b");
    batch_operand left = batch_of(b, "a", p->a, shared == 1 ? 1 : count, p->transpose_a ? p->k : p->m,
                                  p->transpose_a ? p->m : p->k, beside, 1.0);
    batch_operand right = batch_of(b, "b", p->b, shared == 2 ? 1 : count, p->transpose_b ? p->n : p->k,
                                   p->transpose_b ? p->k : p->n, beside, 1.0);
    batch_operand out = batch_of(b, "c", p->c, count, p->m, p->n, beside, 1.0);
    gemm_batch batch = {count,
                        shared == 1 ? 0 : left.stride,
                        shared == 2 ? 0 : right.stride,
                        out.stride,
                        left.first,
                        right.first,
                        out.first,
                        p->alpha,
                        p->beta,
                        p->transpose_a,
                        p->transpose_b};
    CALL_OK(b, gemm_batched, b->queue, &batch);
    double *want = case_array(b, count * p->m * p->n), *magnitude = case_array(b, count * p->m * p->n);
    double *one = case_array(b, p->m * p->n), *one_magnitude = case_array(b, p->m * p->n);
    for (int64_t i = 0; i < count; i++) {
        reference_product product = {p->transpose_a,
                                     p->transpose_b,
                                     p->m,
                                     p->n,
                                     p->k,
                                     p->alpha,
                                     p->beta,
                                     batch_copy(b, &left, shared == 1 ? 0 : i),
                                     batch_copy(b, &right, shared == 2 ? 0 : i),
                                     batch_copy(b, &out, i)};
        reference_gemm(&product, one, one_magnitude);
        for (int64_t at = 0; at < p->m * p->n; at++) {
            *batch_at(&out, want, i, at / p->n, at % p->n) = one[at];
            *batch_at(&out, magnitude, i, at / p->n, at % p->n) = one_magnitude[at];
        }
    }
    expect_close(b, out.all, want, magnitude);
    case_end(b);
}

void test_products_gemm_batched(bench *b) {
    static const int64_t shapes[][4] = {{1, 3, 2, 5},    {2, 7, 5, 3},    {3, 17, 31, 33},
                                        {7, 33, 16, 64}, {12, 65, 65, 8}, {5, 64, 64, 32},
                                        {4, 1, 9, 40},   {0, 3, 4, 5},    {3, 4, 5, 0}}; /* count m n k */
    static const int32_t types[][3] = {{BALORA_F32, BALORA_F32, BALORA_F32},
                                       {BALORA_F32, BALORA_BF16, BALORA_F32},
                                       {BALORA_F64, BALORA_F64, BALORA_F64},
                                       {BALORA_BF16, BALORA_BF16, BALORA_BF16}};
    static const double factors[][2] = {{1.0, 0.0}, {0.125, 0.0}, {1.0, 1.0}, {-0.75, 0.5}};
    int64_t turn = 0;
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t t = 0; t < COUNT_OF(types) - !takes_bf16(b); t++)
            for (int transposes = 0; transposes < 4; transposes++, turn++) {
                const double *factor = factors[turn % COUNT_OF(factors)];
                product_case p = {shapes[s][1], shapes[s][2], shapes[s][3], transposes & 1, transposes >> 1,
                                  types[t][0],  types[t][1],  types[t][2],  factor[0],      factor[1]};
                batched_case(b, &p, shapes[s][0], turn % 2 == 0, 0);
                batched_case(b, &p, shapes[s][0], turn % 2 == 1, (int)(turn / 2 % 3));
            }
}

/* Leave to round F32 operands to TF32, taken back: products must be F32 again. */
void test_products_allow_tf32(bench *b) {
    enum { M = 33, N = 40, K = 70 };
    for (int allowed = 1; allowed >= 0; allowed--) {
        case_begin(b, SLOT_gemm, "TF32 allowed: %d", allowed);
        CALL_OK(b, allow_tf32, b->queue, allowed);
        operand *left = operand_random(b, "a", BALORA_F32, M, K, 1.0);
        operand *right = operand_random(b, "b", BALORA_F32, K, N, 1.0);
        operand *out = operand_filled(b, "c", BALORA_F32, M, N, (double)NAN);
        double *want = case_array(b, (int64_t)M * N), *magnitude = case_array(b, (int64_t)M * N);
        CALL_OK(b, gemm, b->queue, 0, 0, 1.0, left->view, right->view, 0.0, out->view);
        reference_product product = {0, 0, M, N, K, 1.0, 0.0, left->value, right->value, NULL};
        reference_gemm(&product, want, magnitude);
        for (int i = 0; i < M * N && allowed; i++)
            magnitude[i] *= 1e-3 / 2e-6; /* both operands rounded to 11 bits, against F32's tolerance */
        expect_close(b, out, want, magnitude);
        case_end(b);
    }
}

static void gram_case(bench *b, int32_t type, int transpose, int64_t rows, int64_t cols) {
    int64_t n = transpose ? cols : rows, k = transpose ? rows : cols;
    int32_t out_type = type == BALORA_F64 ? BALORA_F64 : BALORA_F32;
    case_begin(b, SLOT_gram, "%s a [%lld, %lld], transpose %d", dtype_name(type), (long long)rows,
               (long long)cols, transpose);
    double *want = case_array(b, n * n), *magnitude = case_array(b, n * n);
    operand *a = operand_random(b, "a", type, rows, cols, 1.0);
    operand *c = operand_filled(b, "c", out_type, n, n, (double)NAN);
    CALL_OK(b, gram, b->queue, transpose, a->view, c->view);
    reference_product product = {transpose, !transpose, n, n, k, 1.0, 0.0, a->value, a->value, NULL};
    reference_gemm(&product, want, magnitude);
    expect_close(b, c, want, magnitude);
    for (int64_t i = 0; i < n * n; i++)
        if (c->result[i] != c->result[i % n * n + i / n]) {
            bench_report(b, "not symmetric at [%lld, %lld]: %.9g and %.9g", (long long)(i / n),
                         (long long)(i % n), c->result[i], c->result[i % n * n + i / n]);
            break;
        }
    case_end(b);
}

void test_products_gram(bench *b) {
    static const int64_t shapes[][2] = {{1, 1},  {2, 3},   {7, 5},    {31, 17},  {33, 64},
                                        {64, 1}, {1, 100}, {100, 65}, {257, 33}, {40, 1200}};
    static const int32_t types[] = {BALORA_F32, BALORA_BF16, BALORA_F16, BALORA_F64};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t t = 0; t < COUNT_OF(types); t++) {
            gram_case(b, types[t], 0, shapes[s][0], shapes[s][1]);
            gram_case(b, types[t], 1, shapes[s][0], shapes[s][1]);
        }
    gram_case(b, BALORA_BF16, 1, 90, 1100);
}
