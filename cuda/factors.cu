/* Factorizations: eigenvalues by our own kernels where a training step asks for them, else by the library. */
#include "eigen.h"
#include "libraries.h"
#include "reduce.cuh"
#include "slots.h"

enum { CHECK_BLOCKS = 256, CHECK_THREADS = 256, TILE = 32 };

/* --- values that are not finite: libraries may not return from them --- */

/* bad[block] = whether a value of the block's share of x is not finite. */
template <typename T>
static __global__ void find_bad(const T *x, int64_t ld, int64_t rows, int64_t cols, int32_t *bad) {
    bool found = false;
    for (int64_t i = blockIdx.x; i < rows; i += gridDim.x)
        for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
            found = found || !isfinite(x[i * ld + j]);
    found = __syncthreads_or(found) != 0;
    if (threadIdx.x == 0)
        bad[blockIdx.x] = found;
}

static __device__ bool any_bad(const int32_t *bad) {
    bool found = false;
    for (int i = (int)threadIdx.x; i < CHECK_BLOCKS; i += (int)blockDim.x)
        found = found || bad[i] != 0;
    return __syncthreads_or(found) != 0;
}

/* Zeros in the place of a matrix with bad values, so that the library ends. */
static __global__ void clear_bad(double *x, int64_t ld, int64_t rows, int64_t cols, const int32_t *bad) {
    if (!any_bad(bad))
        return;
    for (int64_t i = blockIdx.x; i < rows; i += gridDim.x)
        for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
            x[i * ld + j] = 0;
}

template <typename T> static balora_status check_values(backend_queue *queue, matrix_view x, int32_t *bad) {
    return launch(queue, "a check of a matrix", find_bad<T>, CHECK_BLOCKS, CHECK_THREADS, 0, view_data<T>(x),
                  x.ld, x.rows, x.cols, bad);
}

/* A few integers of the device; waits for them. */
static balora_status read_back(backend_queue *queue, const char *what, int32_t *host, const int32_t *from,
                               int64_t count) {
    CUDA_TRY(cuda_check(
        queue->device, what,
        cudaMemcpyAsync(host, from, (size_t)count * sizeof *host, cudaMemcpyDeviceToHost, queue->stream)));
    return cuda_check(queue->device, what, cudaStreamSynchronize(queue->stream));
}

static balora_status fail_bad(const char *slot) {
    return cuda_fail(BALORA_ERROR_NUMERIC, BALORA_ORIGIN_BALORA, 0,
                     "cuda %s: the matrix holds a value that is not finite", slot);
}

static balora_status refuse_bad(backend_queue *queue, const char *slot, const int32_t *bad) {
    int32_t host[CHECK_BLOCKS], found = 0;
    CUDA_TRY(read_back(queue, slot, host, bad, CHECK_BLOCKS));
    for (int32_t one : host)
        found |= one;
    return found == 0 ? BALORA_OK : fail_bad(slot);
}

static balora_status refuse_info(backend_queue *queue, const char *slot, const int32_t *info) {
    int32_t host = 0;
    CUDA_TRY(read_back(queue, slot, &host, info, 1));
    return host == 0 ? BALORA_OK
                     : cuda_fail(BALORA_ERROR_NUMERIC, BALORA_ORIGIN_CUSOLVER, host,
                                 "cuda %s: the factorization did not converge (info %d)", slot, host);
}

/* Consecutive pieces of the queue's scratch. */
struct scratch_cursor {
    unsigned char *at;
};

static int64_t piece_bytes(int64_t bytes) {
    return arith_divide_up(bytes, 256) * 256;
}

template <typename T> static T *take_piece(scratch_cursor *cursor, int64_t count) {
    T *piece = reinterpret_cast<T *>(cursor->at);
    cursor->at += piece_bytes(count * (int64_t)sizeof(T));
    return piece;
}

static balora_status open_scratch(backend_queue *queue, int64_t bytes, scratch_cursor *out) {
    void *memory;
    CUDA_TRY(scratch_reserve(queue, bytes, &memory));
    out->at = static_cast<unsigned char *>(memory);
    return BALORA_OK;
}

/* --- eigh_top --- */

/* Row i of the results is `first` + i `step` of what was found; NaN where that is worth nothing. bad and info may be
 * NULL. */
static __global__ void take_pairs(const double *found, const double *rows, int64_t rows_ld, int64_t n,
                                  int64_t first, int64_t step, const int32_t *bad, const int32_t *info,
                                  double *values, double *vectors, int64_t vectors_ld) {
    bool lost = bad != nullptr && any_bad(bad);
    lost = lost || (info != nullptr && *info != 0);
    double nan = __longlong_as_double(0x7FF8000000000000LL);
    int64_t i = blockIdx.x, from = first + i * step;
    if (threadIdx.x == 0)
        values[i] = lost ? nan : found[from];
    for (int64_t j = threadIdx.x; j < n; j += blockDim.x)
        vectors[i * vectors_ld + j] = lost ? nan : rows[from * rows_ld + j];
}

static int64_t full_bytes(int64_t n) {
    return piece_bytes(n * (int64_t)sizeof(double)) +
           piece_bytes((CHECK_BLOCKS + 1) * (int64_t)sizeof(int32_t));
}

int64_t eigh_library_size(const backend_queue *queue, int64_t size, int64_t count) {
    int64_t n = size;
    /* From the size where as many as `count` go another way, that way is open to fewer as well. */
    while (n > jacobi_limit(queue) && krylov_fits(queue, n, arith_min(count, n)))
        n = arith_min(n - 1, 8 * arith_min(count, n));
    return n > jacobi_limit(queue) ? n : 0;
}

int64_t factor_scratch_bytes(const backend_queue *queue, const backend_limits *limits) {
    int64_t n = limits->eigh_size, k = limits->eigh_count > 0 ? arith_min(limits->eigh_count, n) : n;
    int64_t bytes = full_bytes(n);
    for (int64_t count = 1; count <= k && krylov_fits(queue, n, count); count++)
        bytes = arith_max(bytes, krylov_scratch_bytes(queue, n, count));
    return bytes;
}

static balora_status full_top(backend_queue *queue, matrix_view a, matrix_view values, matrix_view vectors) {
    int64_t n = a.rows, k = values.cols;
    scratch_cursor cursor;
    CUDA_TRY(open_scratch(queue, full_bytes(n), &cursor));
    double *found = take_piece<double>(&cursor, n);
    int32_t *bad = take_piece<int32_t>(&cursor, CHECK_BLOCKS + 1), *info = bad + CHECK_BLOCKS;
    CUDA_TRY(check_values<double>(queue, a, bad));
    CUDA_TRY(launch(queue, "a check of a matrix", clear_bad, CHECK_BLOCKS, CHECK_THREADS, 0,
                    view_data<double>(a), a.ld, n, n, bad));
    CUDA_TRY(library_eigh(queue, library_view(a), found, info));
    return launch(queue, "largest eigenvalues", take_pairs, dim3((unsigned)k), 256, 0, found,
                  view_data<double>(a), a.ld, n, n - 1, -1, bad, info, view_data<double>(values),
                  view_data<double>(vectors), vectors.ld);
}

static balora_status few_top(backend_queue *queue, matrix_view a, matrix_view values, matrix_view vectors) {
    int64_t n = a.rows, k = values.cols;
    void *scratch;
    const double *found, *rows;
    CUDA_TRY(scratch_reserve(queue, krylov_scratch_bytes(queue, n, k), &scratch));
    CUDA_TRY(krylov_top(queue, view_data<double>(a), a.ld, n, k, scratch, &found, &rows));
    return launch(queue, "largest eigenvalues", take_pairs, dim3((unsigned)k), 256, 0, found, rows, n, n, 0,
                  1, static_cast<const int32_t *>(nullptr), static_cast<const int32_t *>(nullptr),
                  view_data<double>(values), view_data<double>(vectors), vectors.ld);
}

balora_status cuda_eigh_top(backend_queue *queue, matrix_view a, matrix_view values, matrix_view vectors) {
    const char *slot = "eigh_top";
    int64_t n = a.rows, k = values.cols;
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check(slot, "a", a, ANY_SIZE, n, IN_F64));
    CUDA_TRY(operand_check(slot, "values", values, 1, ANY_SIZE, IN_F64));
    CUDA_TRY(operand_check(slot, "vectors", vectors, k, n, IN_F64));
    if (k > n)
        return CUDA_INTERNAL("cuda %s: %lld eigenvalues of a matrix of %lld rows", slot, (long long)k,
                             (long long)n);
    if (k == 0)
        return BALORA_OK;
    if (n <= jacobi_limit(queue)) {
        eigen_problem problem = {view_data<double>(a),       a.ld,      n, k, view_data<double>(values),
                                 view_data<double>(vectors), vectors.ld};
        return jacobi_top(queue, &problem);
    }
    return krylov_fits(queue, n, k) ? few_top(queue, a, values, vectors)
                                    : full_top(queue, a, values, vectors);
}

/* --- orthonormalize_rows --- */

/* 1 where a pivot of Cholesky is below `share` of its diagonal, or there is none; else 0. */
static __global__ void judge_factor(const double *l, int64_t n, const int32_t *info, double share,
                                    int32_t *verdict) {
    bool weak = false;
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        double sum = 0, last = l[i * n + i];
        for (int64_t j = 0; j <= i; j++)
            sum += l[i * n + j] * l[i * n + j];
        weak = weak || !(last * last > share * sum);
    }
    weak = __syncthreads_or(weak) != 0;
    if (threadIdx.x == 0)
        *verdict = weak || *info != 0;
}

/* y := L^-1 y for y y^T = L L^T, with a verdict on it. */
static balora_status cholesky_pass(backend_queue *queue, library_matrix y, double *gram, int32_t *info,
                                   int32_t *verdict) {
    /* Squares leave half of F64's digits: rows closer than that are not told apart. */
    const double share = 1e-13;
    library_gemm call = {};
    call.transpose_b = 1;
    call.alpha = 1;
    call.a = call.b = y;
    call.c = {gram, y.rows, y.rows, y.rows, BALORA_F64};
    call.count = 1;
    CUDA_TRY(library_multiply(queue, &call));
    CUDA_TRY(library_cholesky(queue, call.c, info));
    CUDA_TRY(launch(queue, "orthonormal rows", judge_factor, 1, 256, 0, gram, y.rows, info, share, verdict));
    return library_solve_lower(queue, call.c, y);
}

/* By Cholesky twice in F64 (Yamamoto et al., ETNA 44, 2015), or by Householder where rows are nearly dependent. */
balora_status cuda_orthonormalize_rows(backend_queue *queue, matrix_view x) {
    const char *slot = "orthonormalize_rows";
    int64_t l = x.rows, n = x.cols, word = (int64_t)sizeof(double);
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check(slot, "x", x, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    if (l > n)
        return CUDA_INTERNAL("cuda %s: %lld rows cannot be orthonormal in %lld dimensions", slot,
                             (long long)l, (long long)n);
    if (l == 0)
        return BALORA_OK;
    enum { VERDICTS = CHECK_BLOCKS + 2 };
    scratch_cursor cursor;
    CUDA_TRY(open_scratch(
        queue, piece_bytes(l * n * word) + piece_bytes(l * l * word) + piece_bytes((VERDICTS + 1) * 4),
        &cursor));
    backend_buffer block = {reinterpret_cast<unsigned char *>(take_piece<double>(&cursor, l * n)),
                            l * n * word};
    matrix_view wide = {&block, 0, l, n, n, BALORA_F64, 0};
    double *gram = take_piece<double>(&cursor, l * l);
    int32_t *bad = take_piece<int32_t>(&cursor, VERDICTS + 1), *info = bad + VERDICTS, host[VERDICTS],
            found = 0;
    CUDA_TRY(x.dtype == BALORA_F64 ? check_values<double>(queue, x, bad)
                                   : check_values<float>(queue, x, bad));
    CUDA_TRY(cuda_copy(queue, wide, x));
    CUDA_TRY(cholesky_pass(queue, library_view(wide), gram, info, bad + CHECK_BLOCKS));
    CUDA_TRY(cholesky_pass(queue, library_view(wide), gram, info, bad + CHECK_BLOCKS + 1));
    CUDA_TRY(read_back(queue, slot, host, bad, VERDICTS));
    for (int i = 0; i < CHECK_BLOCKS; i++)
        found |= host[i];
    if (found)
        return fail_bad(slot);
    if (!host[CHECK_BLOCKS] && !host[CHECK_BLOCKS + 1])
        return cuda_copy(queue, x, wide);
    CUDA_TRY(library_householder_rows(queue, library_view(x), info));
    return refuse_info(queue, slot, info);
}

/* --- svd --- */

/* y [n, m] = x^T. */
static __global__ void transpose(const float *x, int64_t x_ld, int64_t m, int64_t n, float *y, int64_t y_ld) {
    __shared__ float tile[TILE][TILE + 1];
    int64_t row = (int64_t)blockIdx.y * TILE, column = (int64_t)blockIdx.x * TILE;
    int lane = (int)threadIdx.x % TILE, warp = (int)threadIdx.x / TILE, warps = (int)blockDim.x / TILE;
    for (int i = warp; i < TILE; i += warps)
        if (row + i < m && column + lane < n)
            tile[i][lane] = x[(row + i) * x_ld + column + lane];
    __syncthreads();
    for (int i = warp; i < TILE; i += warps)
        if (column + i < n && row + lane < m)
            y[(column + i) * y_ld + row + lane] = tile[lane][i];
}

static balora_status transpose_into(backend_queue *queue, const float *x, int64_t x_ld, int64_t m, int64_t n,
                                    float *y, int64_t y_ld) {
    return launch(queue, "a transpose", transpose, dim3(blocks_for(n, TILE), blocks_for(m, TILE)), 256, 0, x,
                  x_ld, m, n, y, y_ld);
}

/* The first k singular values and vectors of a with no more rows than columns; the others pass through scratch. */
static balora_status svd_of_wide(backend_queue *queue, const char *slot, matrix_view a, matrix_view u,
                                 matrix_view s, matrix_view vt) {
    int64_t m = a.rows, n = a.cols, k = s.cols;
    scratch_cursor cursor;
    const int64_t word = (int64_t)sizeof(float);
    CUDA_TRY(open_scratch(queue, piece_bytes(m * (m + n + 1) * word) + piece_bytes((CHECK_BLOCKS + 1) * 4),
                          &cursor));
    backend_buffer block = {reinterpret_cast<unsigned char *>(take_piece<float>(&cursor, m * (m + n + 1))),
                            m * (m + n + 1) * word};
    int32_t *bad = take_piece<int32_t>(&cursor, CHECK_BLOCKS + 1), *info = bad + CHECK_BLOCKS;
    matrix_view all_vt = {&block, 0, m, n, n, BALORA_F32, 0},
                all_u = {&block, m * n * word, m, m, m, BALORA_F32, 0};
    matrix_view all_s = {&block, m * (m + n) * word, 1, m, m, BALORA_F32, 0};
    CUDA_TRY(check_values<float>(queue, a, bad));
    CUDA_TRY(refuse_bad(queue, slot, bad));
    if (k == m) {
        CUDA_TRY(library_svd(queue, library_view(a), library_view(u), view_data<float>(s), library_view(vt),
                             info));
        return refuse_info(queue, slot, info);
    }
    CUDA_TRY(library_svd(queue, library_view(a), library_view(all_u), view_data<float>(all_s),
                         library_view(all_vt), info));
    CUDA_TRY(refuse_info(queue, slot, info));
    all_u.cols = all_s.cols = all_vt.rows = k;
    CUDA_TRY(cuda_copy(queue, u, all_u));
    CUDA_TRY(cuda_copy(queue, s, all_s));
    return cuda_copy(queue, vt, all_vt);
}

/* a [m, n], m > n, through its transpose b = a^T = v' s u' : u = u'^T, vt = v'^T. */
static balora_status svd_of_tall(backend_queue *queue, const char *slot, matrix_view a, matrix_view u,
                                 matrix_view s, matrix_view vt) {
    int64_t m = a.rows, n = a.cols, k = s.cols;
    scratch_cursor cursor;
    int64_t bytes = 2 * piece_bytes(m * n * 4) + piece_bytes(n * n * 4) + piece_bytes(n * 4);
    CUDA_TRY(open_scratch(queue, bytes + piece_bytes((CHECK_BLOCKS + 1) * 4), &cursor));
    library_matrix b = {take_piece<float>(&cursor, n * m), n, m, m, BALORA_F32};
    library_matrix right = {take_piece<float>(&cursor, n * m), n, m, m, BALORA_F32};
    library_matrix left = {take_piece<float>(&cursor, n * n), n, n, n, BALORA_F32};
    backend_buffer block = {reinterpret_cast<unsigned char *>(take_piece<float>(&cursor, n)), n * 4};
    matrix_view values = {&block, 0, 1, k, n, BALORA_F32, 0};
    int32_t *bad = take_piece<int32_t>(&cursor, CHECK_BLOCKS + 1), *info = bad + CHECK_BLOCKS;
    CUDA_TRY(check_values<float>(queue, a, bad));
    CUDA_TRY(refuse_bad(queue, slot, bad));
    CUDA_TRY(transpose_into(queue, view_data<float>(a), a.ld, m, n, static_cast<float *>(b.data), m));
    CUDA_TRY(library_svd(queue, b, left, view_data<float>(values), right, info));
    CUDA_TRY(refuse_info(queue, slot, info));
    CUDA_TRY(transpose_into(queue, static_cast<float *>(right.data), m, k, m, view_data<float>(u), u.ld));
    CUDA_TRY(transpose_into(queue, static_cast<float *>(left.data), n, n, k, view_data<float>(vt), vt.ld));
    return cuda_copy(queue, s, values);
}

static balora_status svd_first(backend_queue *queue, const char *slot, matrix_view a, matrix_view u,
                               matrix_view s, matrix_view vt, int64_t k) {
    int64_t m = a.rows, n = a.cols;
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check(slot, "a", a, ANY_SIZE, ANY_SIZE, IN_F32));
    CUDA_TRY(operand_check(slot, "u", u, m, k, IN_F32));
    CUDA_TRY(operand_check(slot, "s", s, 1, k, IN_F32));
    CUDA_TRY(operand_check(slot, "vt", vt, k, n, IN_F32));
    if (k > arith_min(m, n))
        return CUDA_INTERNAL("cuda %s: %lld singular values of a matrix [%lld, %lld]", slot, (long long)k,
                             (long long)m, (long long)n);
    if (k == 0)
        return BALORA_OK;
    return m <= n ? svd_of_wide(queue, slot, a, u, s, vt) : svd_of_tall(queue, slot, a, u, s, vt);
}

balora_status cuda_svd(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s, matrix_view vt) {
    return svd_first(queue, "svd", a, u, s, vt, arith_min(a.rows, a.cols));
}

/* By way of the whole thin decomposition. */
balora_status cuda_svd_top(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s,
                           matrix_view vt) {
    return svd_first(queue, "svd_top", a, u, s, vt, s.cols);
}
