/*
 * Sums over rows, products, squares and diagonals, accumulated in F64. How a sum is split depends on shapes and the
 * device only, and the parts are added in a fixed order.
 */
#include "internal.h"
#include "reduce.cuh"
#include "slots.h"
#include "spans.cuh"

enum {
    BLOCKS_EACH = 4,       /* blocks of a sum for each multiprocessor */
    MOST_SLICES = 64,      /* parts of a column's sum */
    LEAST_STEPS = 4,       /* rows that a thread adds before another slice is worth it */
    BLOCK_COLUMNS = 32 * 8 /* columns of a block, at most */
};

static int64_t wanted_blocks(const backend_queue *queue) {
    return (int64_t)BLOCKS_EACH * queue->device->multiprocessors;
}

/* Parts of column sums, or of a sum of squares: both are bounded by the number of blocks. */
int64_t rows_scratch_bytes(const backend_queue *queue, const backend_limits *limits) {
    (void)limits;
    return wanted_blocks(queue) * BLOCK_COLUMNS * (int64_t)sizeof(double);
}

/* --- sums of rows --- */

/* What becomes of a column's total: out = total / divisor + beta out; with a divisor for each column, 0 leaves it. */
struct sum_finish {
    double divisor, beta;
    const float *divisors; /* [cols], or NULL */
};

template <typename Out>
static __device__ __forceinline__ void finish_sum(sum_finish finish, double total, int64_t column, Out *out) {
    double divisor = finish.divisors != nullptr ? (double)finish.divisors[column] : finish.divisor;
    if (divisor == 0)
        return;
    total /= divisor;
    out[column] = (Out)(finish.beta == 0 ? total : total + finish.beta * (double)out[column]);
}

/* Where the numbers lie changes how they are read, not which thread adds them: the same bits either way. */
template <bool ALIGNED, int COUNT, typename A, typename T>
static __device__ __forceinline__ void load_numbers(A (&out)[COUNT], const T *from, int64_t left) {
    if constexpr (ALIGNED)
        load_span(out, from, left);
    else
        load_loose(out, from, left);
}

/* The matrix whose columns are summed, or, where FACTORS, are multiplied with another one's before. */
template <typename X, typename Y, bool FACTORS> struct sum_terms {
    const X *x;
    int64_t x_ld;
    const Y *y;
    int64_t y_ld;
};

/*
 * Block (columns, slice): sums of the slice's `rows_each` rows, to parts [slices, cols], or finished where
 * there is one slice only. Threads stand in lines of 2^shift along the columns; a line takes every lines-th
 * row.
 */
template <typename X, typename Y, bool FACTORS, typename Out, bool ALIGNED>
static __global__ void sum_columns(int64_t rows, int64_t cols, sum_terms<X, Y, FACTORS> terms, int32_t shift,
                                   int64_t rows_each, double *parts, sum_finish finish, Out *out) {
    constexpr int COUNT = SPAN_COUNT<X, Y>;
    __shared__ double pieces[COUNT][SPAN_THREADS];
    int place = (int)threadIdx.x, line = place >> shift, lines = SPAN_THREADS >> shift;
    int64_t column = ((int64_t)blockIdx.x << shift | (place & ((1 << shift) - 1))) * COUNT,
            left = cols - column;
    int64_t begin = blockIdx.y * rows_each, end = begin + rows_each < rows ? begin + rows_each : rows;
    double sums[COUNT] = {};
    if (left > 0) {
#pragma unroll 4
        for (int64_t row = begin + line; row < end; row += lines) {
            typename arithmetic_of<X>::type values[COUNT];
            load_numbers<ALIGNED>(values, terms.x + row * terms.x_ld + column, left);
            if constexpr (FACTORS) {
                typename arithmetic_of<Y>::type factors[COUNT];
                load_numbers<ALIGNED>(factors, terms.y + row * terms.y_ld + column, left);
#pragma unroll
                for (int i = 0; i < COUNT; i++)
                    sums[i] += (double)values[i] * (double)factors[i];
            } else {
#pragma unroll
                for (int i = 0; i < COUNT; i++)
                    sums[i] += (double)values[i];
            }
        }
    }
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        pieces[i][place] = sums[i];
    for (int half = lines / 2; half > 0; half /= 2) {
        __syncthreads();
        if (line < half)
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                pieces[i][place] += pieces[i][place + (half << shift)];
    }
    if (line > 0)
        return;
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        if (i >= left)
            break;
        if (gridDim.y == 1)
            finish_sum(finish, pieces[i][place], column + i, out);
        else
            parts[blockIdx.y * cols + column + i] = pieces[i][place];
    }
}

template <typename Out>
static __global__ void join_columns(int64_t cols, int64_t slices, const double *parts, sum_finish finish,
                                    Out *out) {
    int64_t column = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (column >= cols)
        return;
    double total = 0;
#pragma unroll 8
    for (int64_t slice = 0; slice < slices; slice++)
        total += parts[slice * cols + column];
    finish_sum(finish, total, column, out);
}

/* Of x, or where FACTORS of the products with y. */
template <typename X, typename Y, bool FACTORS, typename Out>
static balora_status sum_terms_to(backend_queue *queue, const char *name, matrix_view x, matrix_view y,
                                  sum_finish finish, Out *out) {
    constexpr int COUNT = SPAN_COUNT<X, Y>;
    sum_terms<X, Y, FACTORS> terms = {view_data<X>(x), x.ld, view_data<Y>(y), y.ld};
    int32_t shift = 0;
    while (shift < 5 && ((int64_t)COUNT << shift) < x.cols)
        shift++;
    int64_t column_blocks = arith_divide_up(x.cols, (int64_t)COUNT << shift);
    int64_t slices = arith_min(arith_min(MOST_SLICES, wanted_blocks(queue) / column_blocks),
                               x.rows / (LEAST_STEPS * (SPAN_THREADS >> shift)));
    slices = arith_max(slices, 1);
    void *parts = nullptr;
    if (slices > 1)
        CUDA_TRY(scratch_reserve(queue, slices * x.cols * (int64_t)sizeof(double), &parts));
    auto kernel = are_aligned(COUNT, x, y) ? sum_columns<X, Y, FACTORS, Out, true>
                                           : sum_columns<X, Y, FACTORS, Out, false>;
    CUDA_TRY(launch(queue, name, kernel, dim3((unsigned)column_blocks, (unsigned)slices), SPAN_THREADS, 0,
                    x.rows, x.cols, terms, shift, arith_divide_up(x.rows, slices),
                    static_cast<double *>(parts), finish, out));
    if (slices == 1)
        return BALORA_OK;
    return launch(queue, name, join_columns<Out>, blocks_for(x.cols, 128), 128, 0, x.cols, slices,
                  static_cast<double *>(parts), finish, out);
}

template <typename X, typename Out>
static balora_status sum_to(backend_queue *queue, const char *name, matrix_view x, sum_finish finish,
                            Out *out) {
    return sum_terms_to<X, X, false>(queue, name, x, x, finish, out);
}

balora_status cuda_sum_rows(backend_queue *queue, matrix_view x, double beta, matrix_view out) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("sum_rows", "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION | IN_F64));
    CUDA_TRY(operand_check("sum_rows", "out", out, 1, x.cols, x.dtype == BALORA_F64 ? IN_F64 : IN_F32));
    if (x.cols == 0)
        return BALORA_OK;
    sum_finish finish = {1, beta, nullptr};
    if (x.dtype == BALORA_F64)
        return sum_to<double>(queue, "sum_rows", x, finish, view_data<double>(out));
    DISPATCH_ACTIVATION(x.dtype, X,
                        { return sum_to<X>(queue, "sum_rows", x, finish, view_data<float>(out)); });
}

balora_status cuda_dot_columns(backend_queue *queue, matrix_view x, matrix_view y, matrix_view divisor,
                               matrix_view out) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("dot_columns", "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("dot_columns", "y", y, x.rows, x.cols, IN_ACTIVATION));
    CUDA_TRY(operand_check("dot_columns", "divisor", divisor, 1, x.cols, IN_F32));
    CUDA_TRY(operand_check("dot_columns", "out", out, 1, x.cols, IN_F32));
    if (is_empty(x))
        return BALORA_OK;
    sum_finish finish = {1, 1, view_data<float>(divisor)};
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(y.dtype, Y, {
            return sum_terms_to<X, Y, true>(queue, "dot_columns", x, y, finish, view_data<float>(out));
        });
    });
}

/* --- norms of rows --- */

/* A block has a row. */
template <typename T> static __global__ void row_norms(int64_t cols, const T *x, int64_t ld, T *out) {
    __shared__ double pieces[SPAN_THREADS / 32];
    const T *row = x + (int64_t)blockIdx.x * ld;
    double total = 0;
    for (int64_t column = threadIdx.x; column < cols; column += SPAN_THREADS)
        total += (double)row[column] * (double)row[column];
    total = block_reduce<sum_of>(total, pieces);
    if (threadIdx.x == 0)
        out[blockIdx.x] = (T)sqrt(total);
}

balora_status cuda_row_norms(backend_queue *queue, matrix_view x, matrix_view out) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("row_norms", "x", x, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    CUDA_TRY(operand_check("row_norms", "out", out, 1, x.rows, x.dtype == BALORA_F32 ? IN_F32 : IN_F64));
    if (x.dtype == BALORA_F32)
        return launch(queue, "row_norms", row_norms<float>, blocks_for(x.rows, 1), SPAN_THREADS, 0, x.cols,
                      view_data<float>(x), x.ld, view_data<float>(out));
    return launch(queue, "row_norms", row_norms<double>, blocks_for(x.rows, 1), SPAN_THREADS, 0, x.cols,
                  view_data<double>(x), x.ld, view_data<double>(out));
}

/* --- sums to one number --- */

template <bool ALIGNED>
static __global__ void sum_squares(span_grid grid, const float *x, int64_t ld, double *parts) {
    constexpr int COUNT = SPAN_COUNT<float>;
    __shared__ double pieces[SPAN_THREADS / 32];
    int64_t step = ((int64_t)gridDim.x << grid.shift) * COUNT;
    double sums[COUNT] = {};
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
#pragma unroll 4
        for (int64_t column = span_column(grid, COUNT); column < grid.cols; column += step) {
            float values[COUNT];
            load_numbers<ALIGNED>(values, x + row * ld + column, grid.cols - column);
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                sums[i] += (double)values[i] * (double)values[i];
        }
    }
    double total = 0;
#pragma unroll
    for (int i = 0; i < COUNT; i++)
        total += sums[i];
    total = block_reduce<sum_of>(total, pieces);
    if (threadIdx.x == 0)
        parts[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = total;
}

/* One block: out = beta out + the sum of `count` numbers `step` apart. */
static __global__ void sum_numbers(int64_t count, const double *x, int64_t step, double beta, double *out) {
    __shared__ double pieces[SPAN_THREADS / 32];
    double total = 0;
    for (int64_t i = threadIdx.x; i < count; i += SPAN_THREADS)
        total += x[i * step];
    total = block_reduce<sum_of>(total, pieces);
    if (threadIdx.x == 0)
        *out = beta == 0 ? total : total + beta * *out;
}

balora_status cuda_sum_squares(backend_queue *queue, matrix_view x, double beta, matrix_view out) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("sum_squares", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    CUDA_TRY(operand_check("sum_squares", "out", out, 1, 1, IN_F64));
    flatten(x);
    int64_t count = 0;
    void *parts = nullptr;
    if (!is_empty(x)) {
        span_grid grid = span_grid_of(x.rows, x.cols, SPAN_COUNT<float>);
        dim3 blocks = span_blocks(grid, SPAN_COUNT<float>);
        blocks.x = (unsigned)arith_min(blocks.x, wanted_blocks(queue));
        blocks.y = (unsigned)arith_min(blocks.y, arith_max(1, wanted_blocks(queue) / blocks.x));
        count = (int64_t)blocks.x * blocks.y;
        CUDA_TRY(scratch_reserve(queue, count * (int64_t)sizeof(double), &parts));
        auto kernel = is_aligned(x, SPAN_COUNT<float>) ? sum_squares<true> : sum_squares<false>;
        CUDA_TRY(launch(queue, "sum_squares", kernel, blocks, SPAN_THREADS, 0, grid, view_data<float>(x),
                        x.ld, static_cast<double *>(parts)));
    }
    return launch(queue, "sum_squares", sum_numbers, 1, SPAN_THREADS, 0, count, static_cast<double *>(parts),
                  1, beta, view_data<double>(out));
}

balora_status cuda_trace(backend_queue *queue, matrix_view a, matrix_view out) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("trace", "a", a, ANY_SIZE, a.rows, IN_F64));
    CUDA_TRY(operand_check("trace", "out", out, 1, 1, IN_F64));
    return launch(queue, "trace", sum_numbers, 1, SPAN_THREADS, 0, a.rows, view_data<double>(a), a.ld + 1,
                  0.0, view_data<double>(out));
}

/* --- covariance --- */

enum { TILE = 32, TILE_ROWS = 16 }; /* of c a block; of z at a time */

/* TILE_ROWS rows of z - mean from `row` on, TILE columns from `column` on; 0 outside. */
static __device__ __forceinline__ void load_centred(double (&tile)[TILE_ROWS][TILE], int64_t rows,
                                                    int64_t cols, const float *z, int64_t ld,
                                                    const double *mean, int64_t row, int64_t column) {
    for (int place = (int)threadIdx.x; place < TILE_ROWS * TILE; place += SPAN_THREADS) {
        int64_t i = row + place / TILE, j = column + place % TILE;
        tile[place / TILE][place % TILE] = i < rows && j < cols ? (double)z[i * ld + j] - mean[j] : 0;
    }
}

/* Block (x, y) with x >= y: a tile of c and its mirror image. A thread has 2 by 2 of its elements, 16 apart.
 */
static __global__ void covariance_tile(int64_t rows, int64_t cols, const float *z, int64_t z_ld,
                                       const double *mean, double *c, int64_t c_ld) {
    __shared__ double left[TILE_ROWS][TILE], right[TILE_ROWS][TILE];
    if (blockIdx.x < blockIdx.y)
        return;
    int64_t top = (int64_t)blockIdx.y * TILE, first = (int64_t)blockIdx.x * TILE;
    int down = (int)threadIdx.x / 16, across = (int)threadIdx.x % 16;
    double sums[2][2] = {};
    for (int64_t row = 0; row < rows; row += TILE_ROWS) {
        load_centred(left, rows, cols, z, z_ld, mean, row, top);
        load_centred(right, rows, cols, z, z_ld, mean, row, first);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < TILE_ROWS; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                sums[i / 2][i % 2] += left[k][down + i / 2 * 16] * right[k][across + i % 2 * 16];
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int64_t row = top + down + i / 2 * 16, column = first + across + i % 2 * 16;
        if (row >= cols || column >= cols || row > column)
            continue;
        c[row * c_ld + column] = c[column * c_ld + row] = sums[i / 2][i % 2] / (double)(rows - 1);
    }
}

balora_status cuda_covariance(backend_queue *queue, matrix_view z, matrix_view mean, matrix_view c) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("covariance", "z", z, ANY_SIZE, ANY_SIZE, IN_F32));
    CUDA_TRY(operand_check("covariance", "mean", mean, 1, z.cols, IN_F64));
    CUDA_TRY(operand_check("covariance", "c", c, z.cols, z.cols, IN_F64));
    if (z.rows < 2)
        return CUDA_INTERNAL("cuda covariance: %lld rows; 2 are needed", (long long)z.rows);
    if (z.cols == 0)
        return BALORA_OK;
    sum_finish finish = {(double)z.rows, 0, nullptr};
    CUDA_TRY(sum_to<float>(queue, "covariance", z, finish, view_data<double>(mean)));
    unsigned tiles = blocks_for(z.cols, TILE);
    return launch(queue, "covariance", covariance_tile, dim3(tiles, tiles), SPAN_THREADS, 0, z.rows, z.cols,
                  view_data<float>(z), z.ld, view_data<double>(mean), view_data<double>(c), c.ld);
}
