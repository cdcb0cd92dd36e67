/*
 * Cyclic Jacobi for symmetric matrices of up to about a hundred rows, in one block: rounds of disjoint pairs, each of
 * which a rotation makes zero (Golub and Van Loan, Matrix Computations, 8.5; the order of a round-robin tournament).
 */
#include "eigen.h"
#include "reduce.cuh"

static const int SWEEP_LIMIT = 24; /* seven to ten are enough */

/* Shared memory. The upper triangle of `a` is used; rows are an odd number of words apart, so that columns do not
 * collide in a bank. */
struct jacobi_memory {
    double *a, *v;         /* [size, size] each; rows of v become eigenvectors */
    double *cosine, *sine; /* [size / 2] */
    double *values;        /* [size] */
    double *pieces;        /* [32] */
    int *rank;             /* [size]: place of a value in descending order */
    int size, ld;          /* even; a row and column that do not exist are zeros */
};

static constexpr int64_t memory_bytes(int64_t size) {
    return (2 * size * (size + 1) + 2 * size + 32) * (int64_t)sizeof(double) + size * (int64_t)sizeof(int);
}

static __device__ jacobi_memory lay_out(unsigned char *shared, int n) {
    jacobi_memory m;
    m.size = (n + 1) / 2 * 2;
    m.ld = m.size + 1;
    m.a = reinterpret_cast<double *>(shared);
    m.v = m.a + m.size * m.ld;
    m.cosine = m.v + m.size * m.ld;
    m.sine = m.cosine + m.size / 2;
    m.values = m.sine + m.size / 2;
    m.pieces = m.values + m.size;
    m.rank = reinterpret_cast<int *>(m.pieces + 32);
    return m;
}

static __device__ __forceinline__ double *entry(const jacobi_memory &m, int i, int j) {
    return m.a + (i < j ? i * m.ld + j : j * m.ld + i);
}

/* Pair `t` of a round: the last player stays, the others move on by one each round. */
static __device__ __forceinline__ void find_pair(int round, int t, int size, int *p, int *q) {
    int others = size - 1, first = round + t, second = round - t;
    *p = first >= others ? first - others : first;
    *q = t == 0 ? others : second < 0 ? second + others : second;
}

/* The rotation that makes a_pq zero, if that is above `floor`; the pivot's 2 x 2 block is finished with it. */
static __device__ bool make_rotation(const jacobi_memory &m, int round, int t, double floor) {
    int p, q;
    find_pair(round, t, m.size, &p, &q);
    double pivot = *entry(m, p, q), c = 1, s = 0;
    bool rotates = fabs(pivot) > floor;
    if (rotates) {
        double *first = entry(m, p, p), *second = entry(m, q, q);
        double ratio = (*second - *first) / (2 * pivot);
        double tangent = copysign(1 / (fabs(ratio) + sqrt(1 + ratio * ratio)), ratio);
        c = 1 / sqrt(1 + tangent * tangent);
        s = tangent * c;
        *first -= tangent * pivot;
        *second += tangent * pivot;
        *entry(m, p, q) = 0;
    }
    m.cosine[t] = c;
    m.sine[t] = s;
    return rotates;
}

/* The 2 x 2 block of a where pairs t and u meet, rotated from both sides. */
static __device__ void rotate_block(const jacobi_memory &m, int round, int t, int u) {
    int p, q, x, y;
    find_pair(round, t, m.size, &p, &q);
    find_pair(round, u, m.size, &x, &y);
    double *px = entry(m, p, x), *py = entry(m, p, y), *qx = entry(m, q, x), *qy = entry(m, q, y);
    double c = m.cosine[t], s = m.sine[t], k = m.cosine[u], l = m.sine[u];
    double upper_x = c * *px - s * *qx, upper_y = c * *py - s * *qy;
    double lower_x = s * *px + c * *qx, lower_y = s * *py + c * *qy;
    *px = k * upper_x - l * upper_y;
    *py = l * upper_x + k * upper_y;
    *qx = k * lower_x - l * lower_y;
    *qy = l * lower_x + k * lower_y;
}

static __device__ void rotate_all(const jacobi_memory &m, int round) {
    int pairs = m.size / 2, folds = (pairs + 1) / 2, width = pairs + 1;
    /* The pairs of pairs t < u: rows t and pairs - 1 - t of that triangle laid end to end fill a row of `width`. */
    for (int i = (int)threadIdx.x; i < folds * width; i += (int)blockDim.x) {
        int row = i / width, column = i % width, t = row, u = row + column;
        if (column >= pairs - row) {
            t = pairs - 1 - row;
            u = t + column - (pairs - row);
        }
        bool twice =
            pairs % 2 == 1 && row == folds - 1 && column >= pairs - row; /* the middle row is its own */
        if (t != u && !twice)
            rotate_block(m, round, t, u);
    }
    int lane = (int)threadIdx.x % 32;
    for (int t = (int)threadIdx.x / 32; t < pairs; t += (int)blockDim.x / 32) {
        int p, q;
        find_pair(round, t, m.size, &p, &q);
        double c = m.cosine[t], s = m.sine[t];
        for (int j = lane; j < m.size; j += 32) {
            double first = m.v[p * m.ld + j], second = m.v[q * m.ld + j];
            m.v[p * m.ld + j] = c * first - s * second;
            m.v[q * m.ld + j] = s * first + c * second;
        }
    }
}

/* Diagonalizes a into values and v; false where an entry is not finite. The block has at least size / 2 threads. */
static __device__ bool diagonalize(const jacobi_memory &m) {
    double largest = 0;
    for (int i = (int)threadIdx.x; i < m.size * m.size; i += (int)blockDim.x) {
        int row = i / m.size, column = i % m.size;
        m.v[row * m.ld + column] = row == column;
        if (column >= row)
            largest = max_of<double>::join(largest, fabs(m.a[row * m.ld + column]));
    }
    largest = block_reduce<max_of>(largest, m.pieces);
    if (!isfinite(largest))
        return false;
    double floor = largest * 0x1p-60;
    for (int sweep = 0; sweep < SWEEP_LIMIT; sweep++) {
        bool rotated = false;
        for (int round = 0; round < m.size - 1; round++) {
            if ((int)threadIdx.x < m.size / 2)
                rotated = make_rotation(m, round, (int)threadIdx.x, floor) || rotated;
            __syncthreads();
            rotate_all(m, round);
            __syncthreads();
        }
        if (!__syncthreads_or(rotated))
            break;
    }
    for (int i = (int)threadIdx.x; i < m.size; i += (int)blockDim.x)
        m.values[i] = *entry(m, i, i);
    __syncthreads();
    return true;
}

/* Values and rows of v in descending order; all NaN where there is nothing to tell. */
static __device__ void write_top(const jacobi_memory &m, int n, int count, bool known, double *values,
                                 double *vectors, int64_t vectors_ld) {
    double nan = __longlong_as_double(0x7FF8000000000000LL);
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        int rank = known ? 0 : i;
        for (int j = 0; known && j < n; j++)
            rank += m.values[j] > m.values[i] || (m.values[j] == m.values[i] && j < i);
        m.rank[i] = rank;
        if (rank < count)
            values[rank] = known ? m.values[i] : nan;
    }
    __syncthreads();
    for (int i = (int)threadIdx.x / 32; i < n; i += (int)blockDim.x / 32)
        for (int j = (int)threadIdx.x % 32; j < n && m.rank[i] < count; j += 32)
            vectors[m.rank[i] * vectors_ld + j] = known ? m.v[i * m.ld + j] : nan;
}

/* --- the plain problem --- */

static __global__ void __launch_bounds__(1024) jacobi(const double *a, int64_t ld, int n, int count,
                                                      double *values, double *vectors, int64_t vectors_ld) {
    DYNAMIC_SHARED(shared);
    jacobi_memory m = lay_out(shared, n);
    for (int i = (int)threadIdx.x; i < m.size * m.size; i += (int)blockDim.x) {
        int row = i / m.size, column = i % m.size;
        if (column >= row)
            m.a[row * m.ld + column] = column < n ? a[column * ld + row] : 0;
    }
    __syncthreads();
    bool known = diagonalize(m);
    write_top(m, n, count, known, values, vectors, vectors_ld);
}

/* --- Rayleigh-Ritz --- */

/* Whether the residuals of the wanted Ritz vectors are below the tolerance. All threads take part. */
static __device__ bool is_settled(const double *a, int64_t ld, const double *values, int kept, int block,
                                  int wanted, double tolerance) {
    bool settled = true;
    double largest = fmax(fabs(values[0]), fabs(values[kept - 1]));
    for (int i = (int)threadIdx.x; i < wanted; i += (int)blockDim.x) {
        double sum = 0;
        for (int j = kept; j < kept + block; j++)
            sum += a[j * ld + i] * a[j * ld + i];
        settled = settled && sqrt(sum) <= tolerance * largest;
    }
    return __syncthreads_and(settled) != 0;
}

static __global__ void __launch_bounds__(1024)
    ritz(const double *a, int64_t ld, int n, int count, double *values, double *vectors, int64_t vectors_ld,
         int kept, int block, int wanted, double tolerance, int32_t *done) {
    DYNAMIC_SHARED(shared);
    jacobi_memory m = lay_out(shared, n);
    bool settled = false;
    if (kept > 0) {
        settled = __syncthreads_or(*done) != 0;
        settled = settled || is_settled(a, ld, values, kept, block, wanted, tolerance);
    }
    for (int i = (int)threadIdx.x; i < m.size * m.size && !settled; i += (int)blockDim.x) {
        int row = i / m.size, column = i % m.size;
        if (column >= n && column >= row)
            m.a[row * m.ld + column] = 0;
        else if (column >= row && column < kept)
            m.a[row * m.ld + column] = row == column ? values[row] : 0;
        else if (column >= row)
            m.a[row * m.ld + column] = a[column * ld + row];
    }
    __syncthreads();
    if (threadIdx.x == 0)
        *done = settled;
    if (settled) {
        for (int i = (int)threadIdx.x; i < count * n; i += (int)blockDim.x)
            vectors[i / n * vectors_ld + i % n] = i / n == i % n;
        return;
    }
    bool known = diagonalize(m);
    write_top(m, n, count, known, values, vectors, vectors_ld);
}

/* --- launches --- */

int64_t jacobi_limit(const backend_queue *queue) {
    int64_t size = 128;
    while (memory_bytes(size) > queue->device->shared_bytes)
        size -= 2;
    return size;
}

/* Few threads wait for each other less; many hide the memory's latency. */
static unsigned threads_for(int64_t n) {
    return n <= 16 ? 64 : n <= 32 ? 128 : n <= 64 ? 512 : 1024;
}

static size_t shared_for(int64_t n) {
    return (size_t)memory_bytes((n + 1) / 2 * 2);
}

balora_status jacobi_top(backend_queue *queue, const eigen_problem *p) {
    return launch(queue, "eigenvalues by Jacobi", jacobi, 1, threads_for(p->n), shared_for(p->n), p->a, p->ld,
                  p->n, p->k, p->values, p->vectors, p->vectors_ld);
}

balora_status jacobi_ritz(backend_queue *queue, const ritz_step *step) {
    const eigen_problem *p = &step->problem;
    return launch(queue, "a Rayleigh-Ritz step", ritz, 1, threads_for(p->n), shared_for(p->n), p->a, p->ld,
                  p->n, p->k, p->values, p->vectors, p->vectors_ld, step->kept, step->block, step->wanted,
                  step->tolerance, step->done);
}
