/* eigh_top, orthonormalize_rows, svd and svd_top: judged by residuals, since the factors are unique up to signs and
 * rotations. */
#include <math.h>

#include "reference.h"
#include "tests.h"
#include "tolerance.h"

/* x [rows, cols] against rows that must be orthonormal. */
static void expect_orthonormal(bench *b, operand *self) {
    int64_t rows = self->view.rows, cols = self->view.cols;
    double worst = 0.0,
           allowed = tolerance_of(b->slot, self->view.dtype).relative * (1.0 + sqrt((double)cols));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j <= i; j++)
            worst = fmax(worst,
                         fabs(array_dot(self->result + i * cols, self->result + j * cols, cols) - (i == j)));
    expect_near(b, "largest entry of x x^T - 1", worst, 0.0, allowed);
}

/* --- eigh_top --- */

typedef enum spectrum {
    SPECTRUM_RANDOM, /* of a random Gram matrix */
    SPECTRUM_INDEFINITE,
    SPECTRUM_REPEATED,  /* 2 + rank one: all but one eigenvalue are equal */
    SPECTRUM_DEFICIENT, /* rank n / 3 */
    SPECTRUM_GRADED,    /* over twelve decades */
    SPECTRUM_ZERO,
    SPECTRUM_COUNT
} spectrum;

static double *symmetric(bench *b, spectrum kind, int64_t n) {
    int64_t rank = kind == SPECTRUM_DEFICIENT ? n / 3 + 1 : n;
    double *factor = case_array(b, rank * n), *a = case_array(b, n * n);
    for (int64_t i = 0; i < rank * n; i++)
        factor[i] =
            draw_normal(b) * (kind == SPECTRUM_GRADED ? pow(10.0, -6.0 * (double)(i / n) / (double)n) : 1.0);
    for (int64_t i = 0; i < n && kind != SPECTRUM_ZERO; i++)
        for (int64_t j = 0; j < n; j++) {
            if (kind == SPECTRUM_INDEFINITE)
                a[i * n + j] = factor[i * n + j] + factor[j * n + i];
            else if (kind == SPECTRUM_REPEATED)
                a[i * n + j] = (i == j ? 2.0 : 0.0) + factor[i] * factor[j];
            else
                for (int64_t r = 0; r < rank; r++)
                    a[i * n + j] += factor[r * n + i] * factor[r * n + j];
        }
    return a;
}

static void eigh_case(bench *b, spectrum kind, int64_t n, int64_t k) {
    case_begin(b, SLOT_eigh_top, "n %lld, k %lld, spectrum %d", (long long)n, (long long)k, (int)kind);
    double *matrix = symmetric(b, kind, n), *want = case_array(b, n), *want_vectors = case_array(b, n * n);
    operand *a = operand_of(b, "a", BALORA_F64, n, n, matrix);
    operand *values = operand_filled(b, "values", BALORA_F64, 1, k, (double)NAN);
    operand *vectors = operand_filled(b, "vectors", BALORA_F64, k, n, (double)NAN);
    CALL_OK(b, eigh_top, b->queue, a->view, values->view, vectors->view);
    operand_may_change(a);
    reference_eigh(n, matrix, want, want_vectors);
    double norm = fmax(fabs(want[0]), fabs(want[n - 1])),
           allowed = tolerance_of(b->slot, BALORA_F64).relative * norm;
    double *magnitude = case_array(b, k);
    for (int64_t i = 0; i < k; i++)
        magnitude[i] = norm;
    expect_close(b, values, want, magnitude);
    operand_fetch(b, vectors);
    expect_orthonormal(b, vectors);
    double worst = 0.0;
    for (int64_t i = 0; i < k; i++)
        for (int64_t row = 0; row < n; row++) {
            const double *vector = vectors->result + i * n;
            double residual = array_dot(matrix + row * n, vector, n) - values->result[i] * vector[row];
            worst = fmax(worst, fabs(residual));
        }
    expect_near(b, "largest entry of a v - lambda v", worst, 0.0, allowed);
    for (int64_t i = 1; i < k; i++)
        if (values->result[i] > values->result[i - 1])
            bench_report(b, "eigenvalue %lld is larger than the one before", (long long)i);
    case_end(b);
}

void test_factors_eigh(bench *b) {
    static const int64_t sizes[] = {1, 2, 3, 5, 17, 33, 64};
    for (int kind = 0; kind < SPECTRUM_COUNT; kind++)
        for (int64_t s = 0; s < COUNT_OF(sizes); s++) {
            int64_t n = sizes[s];
            eigh_case(b, (spectrum)kind, n, n);
            eigh_case(b, (spectrum)kind, n, 1);
            if (n > 3)
                eigh_case(b, (spectrum)kind, n, n / 3);
        }
    eigh_case(b, SPECTRUM_RANDOM, 100, 100);
    eigh_case(b, SPECTRUM_REPEATED, 100, 31);
    /* Sizes at which a backend may go from one way to another: all at once, or the top by iteration. */
    eigh_case(b, SPECTRUM_RANDOM, 128, 60);
    eigh_case(b, SPECTRUM_RANDOM, 130, 16);
    eigh_case(b, SPECTRUM_GRADED, 200, 10);
    eigh_case(b, SPECTRUM_DEFICIENT, 160, 10);
    eigh_case(b, SPECTRUM_REPEATED, 128, 4);
    eigh_case(b, SPECTRUM_ZERO, 128, 4);
}

/* --- orthonormalize_rows --- */

static void orthonormalize_case(bench *b, int32_t type, int64_t rows, int64_t cols, double dependence) {
    case_begin(b, SLOT_orthonormalize_rows, "%s [%lld, %lld], rows %g apart", dtype_name(type),
               (long long)rows, (long long)cols, dependence);
    operand *x = operand_random(b, "x", type, rows, cols, 1.0);
    for (int64_t i = 1; i < rows && dependence < 1.0; i++) /* every row is nearly the first */
        for (int64_t j = 0; j < cols; j++)
            x->result[i * cols + j] = x->result[j] + dependence * x->result[i * cols + j];
    operand_set(b, x, x->result);
    CALL_OK(b, orthonormalize_rows, b->queue, x->view);
    operand_fetch(b, x);
    expect_orthonormal(b, x);
    /* The basis spans what the rows spanned: nothing of a row is outside. */
    double worst = 0.0, *rest = case_array(b, cols);
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++)
            rest[j] = x->value[i * cols + j];
        double norm = array_norm(rest, cols);
        for (int64_t r = 0; r < rows; r++) {
            double part = array_dot(x->value + i * cols, x->result + r * cols, cols);
            for (int64_t j = 0; j < cols; j++)
                rest[j] -= part * x->result[r * cols + j];
        }
        worst = fmax(worst, norm > 0.0 ? array_norm(rest, cols) / norm : 0.0);
    }
    expect_near(b, "largest part of a row outside of the new span", worst, 0.0,
                tolerance_of(b->slot, type).relative * (1.0 + sqrt((double)rows)));
    case_end(b);
}

void test_factors_orthonormalize(bench *b) {
    static const int64_t shapes[][2] = {{1, 1},   {1, 7},   {2, 2},   {3, 100},  {7, 7},    {17, 33},
                                        {33, 64}, {64, 65}, {65, 65}, {40, 257}, {100, 300}};
    static const double dependences[] = {1.0, 1e-3, 1e-6};
    static const int32_t types[] = {BALORA_F32, BALORA_F64};
    for (int64_t t = 0; t < COUNT_OF(types); t++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++)
            for (int64_t d = 0; d < COUNT_OF(dependences); d++)
                orthonormalize_case(b, types[t], shapes[s][0], shapes[s][1], dependences[d]);
}

/* --- svd --- */

static void expect_reconstruction(bench *b, const operand *a, const operand *u, const operand *s,
                                  const operand *vt) {
    int64_t m = a->view.rows, n = a->view.cols, p = s->view.cols;
    double worst = 0.0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (int64_t r = 0; r < p; r++)
                sum += u->result[i * p + r] * s->result[r] * vt->result[r * n + j];
            worst = fmax(worst, fabs(sum - a->value[i * n + j]));
        }
    expect_near(b, "largest entry of u s vt - a", worst, 0.0,
                tolerance_of(b->slot, BALORA_F32).relative * fmax(s->result[0], 1e-30));
}

static void expect_orthonormal_columns(bench *b, const operand *self) {
    int64_t rows = self->view.rows, cols = self->view.cols;
    double worst = 0.0;
    for (int64_t i = 0; i < cols; i++)
        for (int64_t j = 0; j <= i; j++) {
            double dot = 0.0;
            for (int64_t r = 0; r < rows; r++)
                dot += self->result[r * cols + i] * self->result[r * cols + j];
            worst = fmax(worst, fabs(dot - (i == j)));
        }
    expect_near(b, "largest entry of u^T u - 1", worst, 0.0, tolerance_of(b->slot, BALORA_F32).relative);
}

/* Of the given rank, its r-th part smaller by decay^r. */
static double *matrix_of_rank(bench *b, int64_t m, int64_t n, int64_t rank, double decay) {
    double *values = case_array(b, m * n), *left = case_array(b, m * rank), *right = case_array(b, rank * n);
    for (int64_t i = 0; i < m * rank; i++)
        left[i] = draw_normal(b);
    for (int64_t i = 0; i < rank * n; i++)
        right[i] = draw_normal(b) * pow(decay, (double)(i / n));
    for (int64_t i = 0; i < m * n; i++)
        for (int64_t r = 0; r < rank; r++)
            values[i] += left[i / n * rank + r] * right[r * n + i % n];
    return values;
}

static void expect_descending(bench *b, const operand *s) {
    for (int64_t i = 0; i < s->view.cols; i++)
        if (s->result[i] < 0.0 || (i > 0 && s->result[i] > s->result[i - 1]))
            bench_report(b, "singular value %lld is negative or larger than the one before", (long long)i);
}

static void svd_case(bench *b, int64_t m, int64_t n, int64_t rank) {
    case_begin(b, SLOT_svd, "[%lld, %lld] of rank %lld", (long long)m, (long long)n, (long long)rank);
    int64_t p = m < n ? m : n;
    double *values = matrix_of_rank(b, m, n, rank, 1.0);
    operand *a = operand_of(b, "a", BALORA_F32, m, n, values);
    operand *u = operand_filled(b, "u", BALORA_F32, m, p, (double)NAN);
    operand *s = operand_filled(b, "s", BALORA_F32, 1, p, (double)NAN);
    operand *vt = operand_filled(b, "vt", BALORA_F32, p, n, (double)NAN);
    CALL_OK(b, svd, b->queue, a->view, u->view, s->view, vt->view);
    operand_may_change(a);
    operand_fetch(b, u);
    operand_fetch(b, s);
    operand_fetch(b, vt);
    expect_orthonormal_columns(b, u);
    expect_orthonormal(b, vt);
    expect_reconstruction(b, a, u, s, vt);
    expect_descending(b, s);
    case_end(b);
}

void test_factors_svd(bench *b) {
    static const int64_t shapes[][2] = {{1, 1},   {1, 7},   {7, 1},    {2, 3},    {5, 5},   {17, 33},
                                        {64, 65}, {65, 31}, {100, 40}, {40, 100}, {64, 64}, {257, 20}};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
        int64_t p = shapes[s][0] < shapes[s][1] ? shapes[s][0] : shapes[s][1];
        svd_case(b, shapes[s][0], shapes[s][1], p);
        svd_case(b, shapes[s][0], shapes[s][1], p / 3 + 1);
    }
    svd_case(b, 7, 9, 0);
}

/* --- svd_top --- */

/* a v_i = s_i u_i and a^T u_i = s_i v_i. */
static void expect_singular_pairs(bench *b, const operand *a, const operand *u, const operand *s,
                                  const operand *vt, double allowed) {
    int64_t m = a->view.rows, n = a->view.cols, k = s->view.cols;
    double worst = 0.0;
    for (int64_t r = 0; r < k; r++) {
        for (int64_t i = 0; i < m; i++)
            worst = fmax(worst, fabs(array_dot(a->value + i * n, vt->result + r * n, n) -
                                     s->result[r] * u->result[i * k + r]));
        for (int64_t j = 0; j < n; j++) {
            double sum = 0.0;
            for (int64_t i = 0; i < m; i++)
                sum += a->value[i * n + j] * u->result[i * k + r];
            worst = fmax(worst, fabs(sum - s->result[r] * vt->result[r * n + j]));
        }
    }
    expect_near(b, "largest entry of a v - s u and a^T u - s v", worst, 0.0, allowed);
}

static void svd_top_case(bench *b, int64_t m, int64_t n, int64_t k, int64_t rank, double decay) {
    case_begin(b, SLOT_svd_top, "%lld of [%lld, %lld] of rank %lld, decay %g", (long long)k, (long long)m,
               (long long)n, (long long)rank, decay);
    operand *a = operand_of(b, "a", BALORA_F32, m, n, matrix_of_rank(b, m, n, rank, decay));
    operand *u = operand_filled(b, "u", BALORA_F32, m, k, (double)NAN);
    operand *s = operand_filled(b, "s", BALORA_F32, 1, k, (double)NAN);
    operand *vt = operand_filled(b, "vt", BALORA_F32, k, n, (double)NAN);
    CALL_OK(b, svd_top, b->queue, a->view, u->view, s->view, vt->view);
    operand_may_change(a);
    operand_fetch(b, u);
    operand_fetch(b, vt);
    /* In double, the roots of the smaller Gram matrix's eigenvalues are right to 1e-8 of the largest. */
    int64_t p = m < n ? m : n, step = m < n ? n : 1, other = m < n ? 1 : n, length = m < n ? n : m;
    double *gram = case_array(b, p * p), *values = case_array(b, p), *vectors = case_array(b, p * p);
    double *want = case_array(b, k), *magnitude = case_array(b, k);
    for (int64_t i = 0; i < p * p; i++)
        for (int64_t l = 0; l < length; l++)
            gram[i] += a->value[i / p * step + l * other] * a->value[i % p * step + l * other];
    reference_eigh(p, gram, values, vectors);
    for (int64_t i = 0; i < k; i++) {
        want[i] = sqrt(fmax(values[i], 0.0));
        magnitude[i] = sqrt(fmax(values[0], 0.0));
    }
    expect_close(b, s, want, magnitude);
    expect_descending(b, s);
    expect_orthonormal_columns(b, u);
    expect_orthonormal(b, vt);
    expect_singular_pairs(b, a, u, s, vt, tolerance_of(b->slot, BALORA_F32).relative * fmax(want[0], 1e-30));
    case_end(b);
}

void test_factors_svd_top(bench *b) {
    static const int64_t shapes[][3] = {{1, 1, 1},    {1, 7, 1},    {7, 1, 1},     {5, 5, 5},
                                        {17, 33, 4},  {65, 31, 8},  {100, 40, 16}, {40, 100, 1},
                                        {64, 64, 33}, {257, 20, 20}};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
        int64_t m = shapes[s][0], n = shapes[s][1], p = m < n ? m : n;
        svd_top_case(b, m, n, shapes[s][2], p, 1.0);
        svd_top_case(b, m, n, shapes[s][2], p, 0.7);
    }
    svd_top_case(b, 40, 30, 8, 3, 1.0); /* fewer values than asked for that are not 0 */
}
