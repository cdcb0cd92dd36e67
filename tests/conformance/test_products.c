/* gemm and gram. */
#include <math.h>

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
        {BALORA_F64, BALORA_F64, BALORA_F64}};
    static const double factors[][2] = {{1.0, 0.0}, {1.0, 1.0}, {-0.75, 0.5}, {0.3, 1.0}, {2.0, 0.0}};
    int64_t turn = m + n + k;
    for (int64_t t = 0; t < COUNT_OF(types); t++)
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
