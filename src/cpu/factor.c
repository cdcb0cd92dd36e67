/* Factorizations by LAPACK. It reads columns where we have rows, so each call works on the transposed matrix.
 */
#include <lapacke.h>
#include <math.h>
#include <string.h>

#include "cpu/internal.h"

/* LAPACK may loop or answer nonsense on NaN. */
static balora_status check_finite(const char *slot, matrix_view a) {
    for (int64_t i = 0; i < a.rows; i++) {
        double sum = 0; /* x - x is 0 exactly where x is finite */
        if (a.dtype == BALORA_F64)
            for (int64_t j = 0; j < a.cols; j++)
                sum += view_f64(a)[i * a.ld + j] - view_f64(a)[i * a.ld + j];
        else
            for (int64_t j = 0; j < a.cols; j++)
                sum += (double)(view_f32(a)[i * a.ld + j] - view_f32(a)[i * a.ld + j]);
        if (sum != 0)
            return status_fail(BALORA_ERROR_NUMERIC,
                               "cpu %s: row %lld of the matrix holds a value that is not finite", slot,
                               (long long)i);
    }
    return BALORA_OK;
}

/* LAPACK's sizes are 32-bit. */
static balora_status check_index_range(const char *slot, matrix_view a) {
    if (a.rows > INT32_MAX || a.ld > INT32_MAX)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "cpu %s: a matrix [%lld, %lld] is too large for LAPACK",
                           slot, (long long)a.rows, (long long)a.cols);
    return BALORA_OK;
}

static balora_status lapack_failed(const char *slot, const char *routine, lapack_int info) {
    return status_fail_native(BALORA_ERROR_NUMERIC, BALORA_ORIGIN_LAPACK, info, "cpu %s: %s did not converge",
                              slot, routine);
}

/* dsyevr asks for 26 n at least and (block + 6) n at best; its blocks have 64 columns at most. */
static int64_t eigh_work_size(int64_t n) {
    return 70 * arith_max(1, n);
}

/* work, all eigenvalues, and two integer arrays of 10 n and 2 n. */
int64_t eigh_scratch_bytes(int64_t n) {
    int64_t doubles = eigh_work_size(n) + arith_max(1, n), integers = 12 * arith_max(1, n);
    return doubles * (int64_t)sizeof(double) + integers * (int64_t)sizeof(lapack_int);
}

static void swap_rows(double *a, double *b, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        double kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

balora_status cpu_eigh_top(backend_queue *queue, matrix_view a, matrix_view values, matrix_view vectors) {
    const char *slot = "eigh_top";
    int64_t n = a.rows, k = values.cols;
    STATUS_TRY(operand_check(slot, "a", a, ANY_SIZE, n, IN_F64));
    STATUS_TRY(operand_check(slot, "values", values, 1, ANY_SIZE, IN_F64));
    STATUS_TRY(operand_check(slot, "vectors", vectors, k, n, IN_F64));
    STATUS_TRY(check_index_range(slot, a));
    if (k > n)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: %lld eigenvalues of a matrix of %lld rows", slot,
                           (long long)k, (long long)n);
    if (k == 0)
        return BALORA_OK;
    STATUS_TRY(check_finite(slot, a));
    double *work;
    STATUS_TRY(scratch_reserve(queue, eigh_scratch_bytes(n), &work));
    double *ascending = work + eigh_work_size(n);
    lapack_int *integers = (lapack_int *)(ascending + n), found = 0;
    lapack_int info =
        LAPACKE_dsyevr_work(LAPACK_COL_MAJOR, 'V', k == n ? 'A' : 'I', 'U', (lapack_int)n, view_f64(a),
                            (lapack_int)a.ld, 0, 0, (lapack_int)(n - k + 1), (lapack_int)n, 0, &found,
                            ascending, view_f64(vectors), (lapack_int)vectors.ld, integers + 10 * n, work,
                            (lapack_int)eigh_work_size(n), integers, (lapack_int)(10 * n));
    if (info != 0 || found != (lapack_int)k)
        return lapack_failed(slot, "dsyevr", info);
    for (int64_t i = 0; i < k; i++)
        view_f64(values)[i] = ascending[k - 1 - i];
    for (int64_t i = 0; i < k / 2; i++)
        swap_rows(view_row(vectors, i), view_row(vectors, k - 1 - i), n);
    return BALORA_OK;
}

balora_status cpu_orthonormalize_rows(backend_queue *queue, matrix_view x) {
    const char *slot = "orthonormalize_rows";
    STATUS_TRY(operand_check(slot, "x", x, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    STATUS_TRY(check_index_range(slot, x));
    if (x.rows > x.cols)
        return status_fail(BALORA_ERROR_INTERNAL,
                           "cpu %s: %lld rows cannot be orthonormal in %lld dimensions", slot,
                           (long long)x.rows, (long long)x.cols);
    if (x.rows == 0)
        return BALORA_OK;
    STATUS_TRY(check_finite(slot, x));
    lapack_int rows = (lapack_int)x.cols, cols = (lapack_int)x.rows, ld = (lapack_int)x.ld;
    lapack_int work_size = 128 * cols, info;
    if (x.dtype == BALORA_F64) {
        double *work;
        STATUS_TRY(scratch_reserve(queue, ((int64_t)work_size + cols) * (int64_t)sizeof *work, &work));
        double *tau = work + work_size;
        info = LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, rows, cols, view_f64(x), ld, tau, work, work_size);
        if (info == 0)
            info = LAPACKE_dorgqr_work(LAPACK_COL_MAJOR, rows, cols, cols, view_f64(x), ld, tau, work,
                                       work_size);
    } else {
        float *work;
        STATUS_TRY(scratch_reserve(queue, ((int64_t)work_size + cols) * (int64_t)sizeof *work, &work));
        float *tau = work + work_size;
        info = LAPACKE_sgeqrf_work(LAPACK_COL_MAJOR, rows, cols, view_f32(x), ld, tau, work, work_size);
        if (info == 0)
            info = LAPACKE_sorgqr_work(LAPACK_COL_MAJOR, rows, cols, cols, view_f32(x), ld, tau, work,
                                       work_size);
    }
    return info == 0 ? BALORA_OK : lapack_failed(slot, "geqrf", info);
}

/* The factors of a thin SVD, as pointers. */
typedef struct thin_svd {
    float *u, *s, *vt; /* [m, p], [p], [p, n] */
    int64_t u_ld, vt_ld;
} thin_svd;

/* What sgesdd wants for an [m, n] matrix: floats, and after them 8 p integers. */
static balora_status svd_work_size(const char *slot, int64_t m, int64_t n, int64_t *floats) {
    float best = 0, unused = 0;
    lapack_int rows = (lapack_int)n, cols = (lapack_int)m, p = (lapack_int)arith_min(m, n), integer = 0;
    lapack_int info = LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, 'S', rows, cols, &unused, rows, &unused, &unused,
                                          rows, &unused, p, &best, -1, &integer);
    *floats = (int64_t)nextafterf(best, INFINITY) + 1; /* the size comes back as a rounded float */
    return info == 0 ? BALORA_OK : lapack_failed(slot, "sgesdd", info);
}

/* The transpose of a is vt^T diag(s) u^T: LAPACK's left vectors are our vt, its right ones our u. */
static balora_status run_svd(const char *slot, matrix_view a, const thin_svd *out, float *work,
                             int64_t floats) {
    lapack_int info =
        LAPACKE_sgesdd_work(LAPACK_COL_MAJOR, 'S', (lapack_int)a.cols, (lapack_int)a.rows, view_f32(a),
                            (lapack_int)a.ld, out->s, out->vt, (lapack_int)out->vt_ld, out->u,
                            (lapack_int)out->u_ld, work, (lapack_int)floats, (lapack_int *)(work + floats));
    return info == 0 ? BALORA_OK : lapack_failed(slot, "sgesdd", info);
}

static int64_t svd_work_bytes(int64_t floats, int64_t p) {
    return floats * (int64_t)sizeof(float) + 8 * p * (int64_t)sizeof(lapack_int);
}

balora_status cpu_svd(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s, matrix_view vt) {
    int64_t m = a.rows, n = a.cols, p = arith_min(m, n);
    STATUS_TRY(operand_check("svd", "a", a, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("svd", "u", u, m, p, IN_F32));
    STATUS_TRY(operand_check("svd", "s", s, 1, p, IN_F32));
    STATUS_TRY(operand_check("svd", "vt", vt, p, n, IN_F32));
    STATUS_TRY(check_index_range("svd", a));
    STATUS_TRY(check_index_range("svd", u));
    STATUS_TRY(check_index_range("svd", vt));
    if (p == 0)
        return BALORA_OK;
    STATUS_TRY(check_finite("svd", a));
    int64_t floats;
    float *work;
    STATUS_TRY(svd_work_size("svd", m, n, &floats));
    STATUS_TRY(scratch_reserve(queue, svd_work_bytes(floats, p), &work));
    thin_svd out = {view_f32(u), view_f32(s), view_f32(vt), u.ld, vt.ld};
    return run_svd("svd", a, &out, work, floats);
}

static void copy_rows(matrix_view to, const float *from, int64_t ld) {
    for (int64_t i = 0; i < to.rows; i++)
        memcpy(view_row(to, i), from + i * ld, (size_t)to.cols * sizeof *from);
}

/* By way of the whole thin decomposition, in scratch. */
balora_status cpu_svd_top(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s, matrix_view vt) {
    int64_t m = a.rows, n = a.cols, p = arith_min(m, n), k = s.cols;
    STATUS_TRY(operand_check("svd_top", "a", a, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("svd_top", "u", u, m, k, IN_F32));
    STATUS_TRY(operand_check("svd_top", "s", s, 1, k, IN_F32));
    STATUS_TRY(operand_check("svd_top", "vt", vt, k, n, IN_F32));
    STATUS_TRY(check_index_range("svd_top", a));
    if (k > p)
        return status_fail(BALORA_ERROR_INTERNAL,
                           "cpu svd_top: %lld singular values of a matrix [%lld, %lld]", (long long)k,
                           (long long)m, (long long)n);
    if (k == 0)
        return BALORA_OK;
    STATUS_TRY(check_finite("svd_top", a));
    int64_t floats, factors = p * (m + n + 1);
    thin_svd out = {.u_ld = p, .vt_ld = n};
    STATUS_TRY(svd_work_size("svd_top", m, n, &floats));
    STATUS_TRY(scratch_reserve(queue, factors * (int64_t)sizeof(float) + svd_work_bytes(floats, p), &out.u));
    out.vt = out.u + m * p;
    out.s = out.vt + p * n;
    STATUS_TRY(run_svd("svd_top", a, &out, out.s + p, floats));
    copy_rows(u, out.u, p);
    copy_rows(s, out.s, p);
    copy_rows(vt, out.vt, n);
    return BALORA_OK;
}
