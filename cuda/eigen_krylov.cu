/*
 * The largest eigenvalues of a large symmetric matrix by block Lanczos with full orthogonalization and thick restarts
 * (Wu and Simon, SIAM J. Matrix Anal. Appl. 22, 2000; Golub and Underwood 1977), with a fixed number of cycles: the host
 * waits for nothing, and what converges early stands still.
 *
 * Vectors are rows. A cycle ends with Q [size + block, n] of orthonormal rows and Q A = T Q + (the last rows) in the
 * span of Q, T [size, size]; its Ritz vectors X, the first `kept`, and the last block of Q begin the next one, since
 * X A = diag X + (something) of that block.
 */
#include "eigen.h"
#include "libraries.h"
#include "reduce.cuh"

static const int64_t COUNT_LIMIT = 32; /* eigenvalues: above, the basis leaves no room for a restart */
static const int64_t SIZE_SHARE =
    8; /* of n rows to one eigenvalue: below, a full solution costs little more */
static const int64_t BLOCK_FLOOR = 16; /* a block as wide as the eigenvalues are many finds equal ones */
static const int64_t PRODUCTS = 48;    /* of A with a block, in all cycles together */
static const double TOLERANCE = 1e-13; /* of a residual to the largest eigenvalue */

/* Squares of lengths below this share are noise to one pass of orthogonalization; the next one resolves them. */
static const double NOISE = 2e-13;

enum { PASSES = 3, CHUNK = 32, COMBINE_THREADS = 256, FACTOR_THREADS = 256 };

struct krylov_plan {
    int64_t n, k, block, size, kept;
    double *q;            /* [size + block, n] */
    double *projected;    /* T: [size, size + block]; right of the diagonal products that nobody reads */
    double *inner;        /* [block, size + block] */
    double *coefficients; /* [block, size + block] or [kept, size] */
    double *values;       /* [kept] */
    int32_t *fresh;       /* [block] */
    int32_t *done;
};

/* --- kernels --- */

/* A number in [-1, 1) of row and column: splitmix64's last step. */
static __device__ double noise_at(int64_t row, int64_t column) {
    uint64_t x = ((uint64_t)row << 40) + (uint64_t)column + 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (double)(x >> 11) * 0x1p-52 - 1;
}

static __global__ void fill_noise(double *q, int64_t n, int64_t rows) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < rows * n)
        q[i] = noise_at(i / n, i % n);
}

/*
 * One pass of orthogonalization of W [block, n] against `before` orthonormal rows Q and within itself, from
 * inner = [W Q^T, W W^T]: coefficients [-M C, M] with which W := M (W - C Q) has nearly orthonormal rows. C is
 * W Q^T, and M the inverse of the Cholesky factor of W W^T - C C^T, rows scaled to length one before and noise
 * added to the diagonal, so that a dependent row becomes what rounding left of it, which the next pass treats as a row
 * like others. A row of zeros is `fresh`: it gets random numbers.
 */
static __global__ void factor_inner(const double *inner, int64_t ld, int block, int before, double noise,
                                    double *coefficients, int32_t *fresh) {
    DYNAMIC_SHARED(shared);
    int row_c = before + 1, row_s = block + 1;
    double *c = reinterpret_cast<double *>(shared); /* [block, before] */
    double *s = c + block * row_c, *m = s + block * row_s, *scale = m + block * row_s;
    int first = (int)threadIdx.x, step = (int)blockDim.x;
    for (int i = first; i < block * before; i += step)
        c[i / before * row_c + i % before] = inner[i / before * ld + i % before];
    for (int i = first; i < block; i += step) {
        double square = inner[i * ld + before + i];
        bool empty = square < 1e-290; /* not for NaN */
        scale[i] = empty ? 0 : 1 / sqrt(square);
        fresh[i] = empty;
    }
    __syncthreads();
    for (int i = first; i < block * block; i += step) {
        int row = i / block, column = i % block;
        double sum = row >= column ? inner[row * ld + before + column] : inner[column * ld + before + row];
        for (int j = 0; j < before; j++)
            sum -= c[row * row_c + j] * c[column * row_c + j];
        sum *= scale[row] * scale[column];
        s[row * row_s + column] = row == column ? sum + noise : sum;
        m[row * row_s + column] = row == column;
    }
    __syncthreads();
    /* Elimination below pivot j, of s to its right and of m to its left. */
    for (int j = 0; j < block; j++) {
        double pivot = s[j * row_s + j];
        pivot = pivot < NOISE / 2 ? NOISE / 2 : pivot;
        for (int i = first; i < (block - 1 - j) * block; i += step) {
            int row = j + 1 + i / block, column = i % block;
            double share = s[row * row_s + j] / pivot;
            if (column <= j)
                m[row * row_s + column] -= share * m[j * row_s + column];
            else
                s[row * row_s + column] -= share * s[j * row_s + column];
        }
        __syncthreads();
    }
    for (int i = first; i < block * block; i += step) {
        int row = i / block, column = i % block;
        double pivot = s[row * row_s + row];
        pivot = pivot < NOISE / 2 ? NOISE / 2 : pivot;
        double value = column > row ? 0 : m[row * row_s + column] * scale[column] / sqrt(pivot);
        coefficients[row * (before + block) + before + column] = value;
    }
    __syncthreads();
    for (int i = first; i < block * before; i += step) {
        int row = i / before, column = i % before;
        double sum = 0;
        for (int j = 0; j <= row; j++)
            sum -= coefficients[row * (before + block) + before + j] * c[j * row_c + column];
        coefficients[row * (before + block) + column] = sum;
    }
}

/*
 * Rows [to, to + rows) of q := coefficients [rows, inner] times its first `inner` rows, then rows
 * [rows, rows + carried) := rows [inner, inner + carried). Fresh rows get random numbers instead. A block does CHUNK
 * columns, and has read them all before it writes.
 */
static __global__ void combine(double *q, int64_t n, const double *coefficients, int rows, int inner, int to,
                               int carried, const int32_t *fresh) {
    DYNAMIC_SHARED(shared);
    double *chunk = reinterpret_cast<double *>(shared); /* [inner + carried, CHUNK] */
    int lane = (int)threadIdx.x % CHUNK, warp = (int)threadIdx.x / CHUNK, warps = (int)blockDim.x / CHUNK;
    int64_t column = (int64_t)blockIdx.x * CHUNK + lane;
    for (int i = warp; i < inner + carried; i += warps)
        chunk[i * CHUNK + lane] = column < n ? q[i * n + column] : 0;
    __syncthreads();
    if (column >= n)
        return;
    for (int i = warp; i < rows; i += warps) {
        const double *factors = coefficients + (int64_t)i * inner;
        double sum = 0;
#pragma unroll 4
        for (int j = 0; j < inner; j++)
            sum += factors[j] * chunk[j * CHUNK + lane];
        if (fresh != nullptr && fresh[i])
            sum = noise_at(to + i, column);
        q[(to + i) * n + column] = sum;
    }
    for (int i = warp; i < carried; i += warps)
        q[(rows + i) * n + column] = chunk[(inner + i) * CHUNK + lane];
}

/* --- steps --- */

/* c = a b^T or a b, of contiguous rows `ld` apart. */
static balora_status multiply(backend_queue *queue, int transpose_b, library_matrix a, library_matrix b,
                              double *c, int64_t ld) {
    library_gemm call = {};
    call.transpose_b = transpose_b;
    call.alpha = 1;
    call.a = a;
    call.b = b;
    call.c = {c, a.rows, transpose_b ? b.rows : b.cols, ld, BALORA_F64};
    call.count = 1;
    return library_multiply(queue, &call);
}

static library_matrix rows_of(const krylov_plan *plan, int64_t first, int64_t count) {
    return {plan->q + first * plan->n, count, plan->n, plan->n, BALORA_F64};
}

/* Rows [before, before + block) of q become orthonormal, also to those before them; the inner products of the first pass
 * go to `first_inner`, rows size + block apart. */
static balora_status orthonormalize(backend_queue *queue, const krylov_plan *plan, int64_t before,
                                    double *first_inner) {
    int64_t b = plan->block, ld = plan->size + b;
    size_t factor_shared = (size_t)(b * (before + 1) + 2 * b * (b + 1) + b) * sizeof(double);
    for (int pass = 0; pass < PASSES; pass++) {
        double *inner = pass == 0 ? first_inner : plan->inner;
        CUDA_TRY(multiply(queue, 1, rows_of(plan, before, b), rows_of(plan, 0, before + b), inner, ld));
        CUDA_TRY(launch(queue, "orthonormal rows", factor_inner, 1, FACTOR_THREADS, factor_shared, inner, ld,
                        b, before, pass == PASSES - 1 ? 0.0 : NOISE, plan->coefficients, plan->fresh));
        CUDA_TRY(launch(queue, "orthonormal rows", combine, blocks_for(plan->n, CHUNK), COMBINE_THREADS,
                        (size_t)((before + b) * CHUNK) * sizeof(double), plan->q, plan->n, plan->coefficients,
                        b, before + b, before, 0, plan->fresh));
    }
    return BALORA_OK;
}

/* Extend the basis from `from` rows to all. */
static balora_status expand(backend_queue *queue, const krylov_plan *plan, library_matrix a, int64_t from) {
    int64_t b = plan->block;
    for (int64_t row = from; row < plan->size; row += b) {
        CUDA_TRY(multiply(queue, 0, rows_of(plan, row, b), a, plan->q + (row + b) * plan->n, plan->n));
        CUDA_TRY(orthonormalize(queue, plan, row + b, plan->projected + row * (plan->size + b)));
    }
    return BALORA_OK;
}

static balora_status restart(backend_queue *queue, const krylov_plan *plan, int64_t kept) {
    ritz_step step = {};
    step.problem = {plan->projected, plan->size + plan->block, plan->size, plan->kept,
                    plan->values,    plan->coefficients,       plan->size};
    step.kept = kept;
    step.block = plan->block;
    step.wanted = plan->k;
    step.tolerance = TOLERANCE;
    step.done = plan->done;
    CUDA_TRY(jacobi_ritz(queue, &step));
    return launch(queue, "Ritz vectors", combine, blocks_for(plan->n, CHUNK), COMBINE_THREADS,
                  (size_t)((plan->size + plan->block) * CHUNK) * sizeof(double), plan->q, plan->n,
                  plan->coefficients, plan->kept, plan->size, 0, plan->block,
                  static_cast<const int32_t *>(nullptr));
}

/* --- plan --- */

/* Sizes alone; false where the basis leaves no room for a restart. */
static bool choose_sizes(const backend_queue *queue, int64_t n, int64_t k, krylov_plan *out) {
    *out = {};
    out->n = n;
    out->k = k;
    out->block = arith_max(BLOCK_FLOOR, arith_divide_up(k, 8) * 8);
    out->size = arith_min(jacobi_limit(queue), n - out->block) / out->block * out->block;
    out->kept = (k / out->block + 1) * out->block;
    if (out->size >= 6 * out->block && out->kept == out->block)
        out->kept = 2 * out->block;
    return out->kept < out->size;
}

static int64_t aligned(int64_t bytes) {
    return arith_divide_up(bytes, 256) * 256;
}

/* Places in a scratch block, which may be NULL; returns the bytes. */
static int64_t place(krylov_plan *plan, unsigned char *scratch) {
    const int64_t word = (int64_t)sizeof(double), all = plan->size + plan->block;
    int64_t sizes[] = {aligned(all * plan->n * word),
                       aligned(plan->size * all * word),
                       aligned(plan->block * all * word),
                       aligned(arith_max(plan->block * all, plan->kept * plan->size) * word),
                       aligned(plan->kept * word),
                       aligned(plan->block * (int64_t)sizeof(int32_t)),
                       aligned((int64_t)sizeof(int32_t))};
    int64_t offsets[8] = {0};
    for (int i = 0; i < 7; i++)
        offsets[i + 1] = offsets[i] + sizes[i];
    if (scratch != nullptr) {
        plan->q = reinterpret_cast<double *>(scratch);
        plan->projected = reinterpret_cast<double *>(scratch + offsets[1]);
        plan->inner = reinterpret_cast<double *>(scratch + offsets[2]);
        plan->coefficients = reinterpret_cast<double *>(scratch + offsets[3]);
        plan->values = reinterpret_cast<double *>(scratch + offsets[4]);
        plan->fresh = reinterpret_cast<int32_t *>(scratch + offsets[5]);
        plan->done = reinterpret_cast<int32_t *>(scratch + offsets[6]);
    }
    return offsets[7];
}

bool krylov_fits(const backend_queue *queue, int64_t n, int64_t k) {
    krylov_plan plan;
    return k <= COUNT_LIMIT && k * SIZE_SHARE <= n && choose_sizes(queue, n, k, &plan);
}

int64_t krylov_scratch_bytes(const backend_queue *queue, int64_t n, int64_t k) {
    krylov_plan plan;
    return choose_sizes(queue, n, k, &plan) ? place(&plan, nullptr) : 0;
}

balora_status krylov_top(backend_queue *queue, const double *a, int64_t ld, int64_t n, int64_t k,
                         void *scratch, const double **values, const double **vectors) {
    krylov_plan plan;
    choose_sizes(queue, n, k, &plan);
    place(&plan, static_cast<unsigned char *>(scratch));
    library_matrix matrix = {const_cast<double *>(a), n, n, ld, BALORA_F64};
    CUDA_TRY(launch(queue, "a random basis", fill_noise, blocks_for(plan.block * n, 256), 256, 0, plan.q, n,
                    plan.block));
    CUDA_TRY(orthonormalize(queue, &plan, 0, plan.inner));
    CUDA_TRY(expand(queue, &plan, matrix, 0));
    CUDA_TRY(restart(queue, &plan, 0));
    int64_t products = plan.size / plan.block, of_cycle = (plan.size - plan.kept) / plan.block;
    for (; products < PRODUCTS; products += of_cycle) {
        CUDA_TRY(expand(queue, &plan, matrix, plan.kept));
        CUDA_TRY(restart(queue, &plan, plan.kept));
    }
    *values = plan.values;
    *vectors = plan.q;
    return BALORA_OK;
}
