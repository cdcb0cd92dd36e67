/* Matrix products by OpenBLAS. Operands of 16 bits are widened panel by panel, just before they are read. */
#include <cblas.h>
#include <string.h>

#include "cpu/internal.h"

#define PANEL INT64_C(128) /* rows or columns of an operand that are widened at a time */

int64_t gemm_scratch_bytes(int64_t columns, int64_t threads) {
    (void)threads;
    return 2 * PANEL * columns * (int64_t)sizeof(float);
}

static balora_status check_index_range(const char *slot, matrix_view view) {
    if (view.rows > INT32_MAX || view.ld > INT32_MAX)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "cpu %s: a matrix [%lld, %lld] is too large for BLAS", slot,
                           (long long)view.rows, (long long)view.cols);
    return BALORA_OK;
}

static CBLAS_TRANSPOSE flag(int transpose) {
    return transpose ? CblasTrans : CblasNoTrans;
}

static blasint leading(matrix_view view) {
    return (blasint)arith_max(1, view.ld);
}

typedef struct widening {
    const cpu_kernels *kernels;
    matrix_view source;
    float *out;
} widening;

static void widen_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const widening *w = user;
    for (int64_t i = begin; i < end; i++)
        w->kernels->widen(w->out + i * w->source.cols, view_row(w->source, i), w->source.dtype, w->source.cols);
}

/* The operand as contiguous F32 in `out`. */
static void widen_view(const backend_queue *queue, matrix_view source, float *out) {
    widening w = {queue->kernels, source, out};
    parallel_for(source.rows, row_grain(source.cols), widen_rows, &w);
}

static matrix_view part(matrix_view view, int by_rows, int64_t first, int64_t count) {
    view.offset += first * (by_rows ? view.ld : 1) * element_size(view.dtype);
    if (by_rows)
        view.rows = count;
    else
        view.cols = count;
    return view;
}

/* A float operand as it is multiplied: in place or widened. */
typedef struct float_operand {
    const float *data;
    blasint ld;
} float_operand;

static float_operand as_float(const backend_queue *queue, matrix_view view, float *scratch) {
    if (view.dtype == BALORA_F32)
        return (float_operand){view_f32(view), leading(view)};
    widen_view(queue, view, scratch);
    return (float_operand){scratch, (blasint)arith_max(1, view.cols)};
}

/* c = alpha op(a) op(b) + beta c in panels of the inner dimension; `scratch` holds a panel of each operand. */
static void multiply_panels(const backend_queue *queue, int transpose_a, int transpose_b, float alpha, matrix_view a,
                            matrix_view b, float beta, matrix_view c, int64_t inner, int64_t panel, float *scratch) {
    for (int64_t first = 0; first == 0 || first < inner; first += panel) {
        int64_t depth = arith_min(panel, inner - first);
        matrix_view left = part(a, transpose_a != 0, first, depth), right = part(b, transpose_b == 0, first, depth);
        float_operand l = as_float(queue, left, scratch);
        float_operand r = as_float(queue, right, scratch + (left.dtype == BALORA_F32 ? 0 : left.rows * left.cols));
        cblas_sgemm(CblasRowMajor, flag(transpose_a), flag(transpose_b), (blasint)c.rows, (blasint)c.cols,
                    (blasint)depth, alpha, l.data, l.ld, r.data, r.ld, first == 0 ? beta : 1, view_f32(c), leading(c));
    }
}

static balora_status multiply_floats(backend_queue *queue, int transpose_a, int transpose_b, double alpha,
                                     matrix_view a, matrix_view b, double beta, matrix_view c, int64_t inner) {
    int64_t panel = inner, outer = 0;
    if (a.dtype != BALORA_F32)
        outer += c.rows;
    if (b.dtype != BALORA_F32)
        outer += c.cols;
    if (outer > 0)
        panel = PANEL;
    float *scratch;
    STATUS_TRY(scratch_reserve(queue, outer * panel * (int64_t)sizeof(float), &scratch));
    multiply_panels(queue, transpose_a, transpose_b, (float)alpha, a, b, (float)beta, c, inner, arith_max(1, panel),
                    scratch);
    return BALORA_OK;
}

balora_status cpu_gemm(backend_queue *queue, int transpose_a, int transpose_b, double alpha, matrix_view a,
                       matrix_view b, double beta, matrix_view c) {
    int64_t inner = transpose_a ? a.rows : a.cols;
    int doubles = c.dtype == BALORA_F64;
    STATUS_TRY(operand_check("gemm", "c", c, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    STATUS_TRY(operand_check("gemm", "a", a, transpose_a ? inner : c.rows, transpose_a ? c.rows : inner,
                             doubles ? IN_F64 : IN_FLOAT));
    STATUS_TRY(operand_check("gemm", "b", b, transpose_b ? c.cols : inner, transpose_b ? inner : c.cols,
                             doubles ? IN_F64 : IN_FLOAT));
    STATUS_TRY(check_index_range("gemm", a));
    STATUS_TRY(check_index_range("gemm", b));
    STATUS_TRY(check_index_range("gemm", c));
    if (c.rows == 0 || c.cols == 0)
        return BALORA_OK;
    if (!doubles)
        return multiply_floats(queue, transpose_a, transpose_b, alpha, a, b, beta, c, inner);
    cblas_dgemm(CblasRowMajor, flag(transpose_a), flag(transpose_b), (blasint)c.rows, (blasint)c.cols, (blasint)inner,
                alpha, view_f64(a), leading(a), view_f64(b), leading(b), beta, view_f64(c), leading(c));
    return BALORA_OK;
}

/* Copy the upper triangle into the lower one. */
static void mirror_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const matrix_view *c = user;
    for (int64_t i = begin; i < end; i++) {
        if (c->dtype == BALORA_F64)
            for (int64_t j = 0; j < i; j++)
                view_f64(*c)[i * c->ld + j] = view_f64(*c)[j * c->ld + i];
        else
            for (int64_t j = 0; j < i; j++)
                view_f32(*c)[i * c->ld + j] = view_f32(*c)[j * c->ld + i];
    }
}

balora_status cpu_gram(backend_queue *queue, int transpose, matrix_view a, matrix_view c) {
    int64_t n = transpose ? a.cols : a.rows, inner = transpose ? a.rows : a.cols;
    int doubles = c.dtype == BALORA_F64;
    STATUS_TRY(operand_check("gram", "c", c, n, n, IN_F32 | IN_F64));
    STATUS_TRY(operand_check("gram", "a", a, ANY_SIZE, ANY_SIZE, doubles ? IN_F64 : IN_FLOAT));
    STATUS_TRY(check_index_range("gram", a));
    STATUS_TRY(check_index_range("gram", c));
    if (n == 0)
        return BALORA_OK;
    if (doubles) {
        cblas_dsyrk(CblasRowMajor, CblasUpper, flag(transpose), (blasint)n, (blasint)inner, 1, view_f64(a), leading(a),
                    0, view_f64(c), leading(c));
    } else {
        int64_t panel = a.dtype == BALORA_F32 ? arith_max(1, inner) : PANEL;
        float *scratch;
        STATUS_TRY(scratch_reserve(queue, PANEL * n * (int64_t)sizeof(float), &scratch));
        for (int64_t first = 0; first == 0 || first < inner; first += panel) {
            int64_t depth = arith_min(panel, inner - first);
            float_operand x = as_float(queue, part(a, transpose != 0, first, depth), scratch);
            cblas_ssyrk(CblasRowMajor, CblasUpper, flag(transpose), (blasint)n, (blasint)depth, 1, x.data, x.ld,
                        first == 0 ? 0 : 1, view_f32(c), leading(c));
        }
    }
    parallel_for(n, arith_max(1, 8192 / n), mirror_rows, &c);
    return BALORA_OK;
}
