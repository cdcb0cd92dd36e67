/*
 * Matrix products. Results are cut into one block a thread; a block is computed by OpenBLAS, which runs
 * on one thread inside a parallel region, or by our own kernel where the product is skinny. Operands of 16
 * bits are widened panel by panel, just before they are read.
 */
#include <cblas.h>
#include <string.h>

#include "cpu/internal.h"

/* A widened panel has at most this inner and outer size: 3 MiB, of which every number is used for all rows of
 * the other operand. The inner size is a multiple of OpenBLAS's own depth block, so that nothing is packed
 * more often. */
#define PANEL_DEPTH INT64_C(768)
#define PANEL_OUTER INT64_C(1024)

#define THREAD_WORK (INT64_C(1) << 17) /* multiplications that are worth another thread */

/*
 * Our kernel leads OpenBLAS by 1.1 to 1.8 when its result is narrow or its inner size small, as the low-rank
 * path makes them, and there are rows enough to pay for packing (docs/benchmarks/operations.md).
 */
#define SKINNY_COLUMNS INT64_C(96)
#define SKINNY_DEPTH   INT64_C(64)
#define SKINNY_ROWS    INT64_C(96)

typedef struct product {
    const cpu_kernels *kernels;
    int transpose_a, transpose_b;
    double alpha, beta;
    matrix_view a, b, c;
    int64_t inner;
    int64_t row_parts, column_parts; /* blocks of the result */
    float *scratch;
    int64_t scratch_stride;
} product;

static CBLAS_TRANSPOSE flag(int transpose) {
    return transpose ? CblasTrans : CblasNoTrans;
}

static blasint leading(matrix_view view) {
    return (blasint)arith_max(1, view.ld);
}

static int is_half(matrix_view view) {
    return view.dtype == BALORA_BF16 || view.dtype == BALORA_F16;
}

static balora_status check_index_range(const char *slot, matrix_view view) {
    if (view.rows > INT32_MAX || view.ld > INT32_MAX)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "cpu %s: a matrix [%lld, %lld] is too large for BLAS",
                           slot, (long long)view.rows, (long long)view.cols);
    return BALORA_OK;
}

static matrix_view block_of(matrix_view view, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    view.offset += (row * view.ld + column) * element_size(view.dtype);
    view.rows = rows;
    view.cols = columns;
    return view;
}

/* Block [outer, inner] of an operand whose rows are the outer dimension unless `inner_first`. */
static matrix_view operand_block(matrix_view view, int inner_first, int64_t outer, int64_t outers,
                                 int64_t inner, int64_t inners) {
    return inner_first ? block_of(view, inner, inners, outer, outers)
                       : block_of(view, outer, outers, inner, inners);
}

/* Rows of the view in `scratch` as contiguous F32, unless they are F32 already. */
static matrix_view widened(const cpu_kernels *kernels, matrix_view view, backend_buffer *scratch) {
    if (!is_half(view))
        return view;
    matrix_view out = {scratch, 0, view.rows, view.cols, view.cols, BALORA_F32, 0};
    for (int64_t i = 0; i < view.rows; i++)
        kernels->widen(view_row(out, i), view_row(view, i), view.dtype, view.cols);
    return out;
}

static void multiply_skinny(const product *p, matrix_view a, matrix_view b, matrix_view c, int64_t inner,
                            double beta, float *scratch) {
    multiply_call call = {.left = view_f32(a),
                          .left_row_stride = p->transpose_a ? 1 : a.ld,
                          .left_depth_stride = p->transpose_a ? a.ld : 1,
                          .right = view_f32(b),
                          .right_stride = b.ld,
                          .c = view_f32(c),
                          .c_stride = c.ld,
                          .rows = c.rows,
                          .columns = c.cols,
                          .depth = inner,
                          .right_transposed = p->transpose_b,
                          .alpha = (float)p->alpha,
                          .beta = (float)beta,
                          .scratch = scratch};
    p->kernels->multiply(&call);
}

/* One block of operands of c's dtype on this thread. */
static void multiply_block(const product *p, matrix_view a, matrix_view b, matrix_view c, int64_t inner,
                           double beta, float *scratch) {
    blasint rows = (blasint)c.rows, columns = (blasint)c.cols, depth = (blasint)inner;
    if (c.dtype == BALORA_F64)
        cblas_dgemm(CblasRowMajor, flag(p->transpose_a), flag(p->transpose_b), rows, columns, depth, p->alpha,
                    view_f64(a), leading(a), view_f64(b), leading(b), beta, view_f64(c), leading(c));
    else if (c.rows >= SKINNY_ROWS && (c.cols <= SKINNY_COLUMNS || inner <= SKINNY_DEPTH))
        multiply_skinny(p, a, b, c, inner, beta, scratch);
    else
        cblas_sgemm(CblasRowMajor, flag(p->transpose_a), flag(p->transpose_b), rows, columns, depth,
                    (float)p->alpha, view_f32(a), leading(a), view_f32(b), leading(b), (float)beta,
                    view_f32(c), leading(c));
}

/* Floats of a widened panel of an operand with the given outer size; none unless it has 16 bits. */
static int64_t panel_floats(matrix_view view, int64_t outer, int64_t inner) {
    return is_half(view) ? arith_min(outer, PANEL_OUTER) * arith_min(inner, PANEL_DEPTH) : 0;
}

/* The block of the result that is `c`, from the rows of op(a) and columns of op(b) that make it. */
static void multiply_part(const product *p, int64_t row, int64_t rows, int64_t column, int64_t columns,
                          float *scratch) {
    int64_t row_step = is_half(p->a) ? PANEL_OUTER : arith_max(1, rows);
    int64_t column_step = is_half(p->b) ? PANEL_OUTER : arith_max(1, columns);
    int64_t inner_step = is_half(p->a) || is_half(p->b) ? PANEL_DEPTH : arith_max(1, p->inner);
    float *left_panel = scratch + p->kernels->multiply_scratch();
    float *right_panel = left_panel + panel_floats(p->a, rows, p->inner);
    backend_buffer left = {(unsigned char *)left_panel, 0, true},
                   right = {(unsigned char *)right_panel, 0, true};
    for (int64_t i = 0; i < rows; i += row_step) {
        int64_t height = arith_min(row_step, rows - i);
        for (int64_t j = 0; j < columns; j += column_step) {
            int64_t width = arith_min(column_step, columns - j);
            matrix_view c = block_of(p->c, row + i, height, column + j, width);
            for (int64_t k = 0; k == 0 || k < p->inner; k += inner_step) {
                int64_t depth = arith_min(inner_step, p->inner - k);
                matrix_view a = operand_block(p->a, p->transpose_a, row + i, height, k, depth);
                matrix_view b = operand_block(p->b, !p->transpose_b, column + j, width, k, depth);
                multiply_block(p, widened(p->kernels, a, &left), widened(p->kernels, b, &right), c, depth,
                               k == 0 ? p->beta : 1, scratch);
            }
        }
    }
}

/* Where part `part` of `parts` begins: parts are multiples of 16 wide, so that each fills its register tiles.
 */
static int64_t part_start(int64_t count, int64_t part, int64_t parts) {
    return part == parts ? count : count * part / parts / 16 * 16;
}

static void multiply_parts(int64_t begin, int64_t end, int thread, void *user) {
    const product *p = user;
    for (int64_t part = begin; part < end; part++) {
        int64_t i = part / p->column_parts, j = part % p->column_parts;
        int64_t row = part_start(p->c.rows, i, p->row_parts),
                column = part_start(p->c.cols, j, p->column_parts);
        multiply_part(p, row, part_start(p->c.rows, i + 1, p->row_parts) - row, column,
                      part_start(p->c.cols, j + 1, p->column_parts) - column,
                      p->scratch + thread * p->scratch_stride);
    }
}

/* Split the result so that the threads together read as little of the operands as they can: each reads its
 * rows of one and its columns of the other. Numbers of 16 bits count twice, as they are widened first. */
static void choose_parts(product *p) {
    int64_t work = p->c.rows * p->c.cols / 64 * arith_max(1, p->inner) / (THREAD_WORK / 64);
    int64_t threads = arith_min(parallel_threads(), arith_max(1, work));
    double least = 0;
    for (int64_t rows = 1; rows <= threads; rows++) {
        if (threads % rows != 0)
            continue;
        int64_t columns = threads / rows;
        double cost = (double)p->c.rows / (double)rows * (is_half(p->a) ? 2 : 1) +
                      (double)p->c.cols / (double)columns * (is_half(p->b) ? 2 : 1);
        if (rows == 1 || cost < least) {
            least = cost;
            p->row_parts = rows;
            p->column_parts = columns;
        }
    }
}

int64_t gemm_scratch(const cpu_kernels *kernels, int64_t columns) {
    return kernels->multiply_scratch() + arith_min(columns, PANEL_OUTER) * arith_min(columns, PANEL_DEPTH);
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
    product p = {.kernels = queue->kernels,
                 .transpose_a = transpose_a != 0,
                 .transpose_b = transpose_b != 0,
                 .alpha = alpha,
                 .beta = beta,
                 .a = a,
                 .b = b,
                 .c = c,
                 .inner = inner};
    choose_parts(&p);
    int64_t floats =
        queue->kernels->multiply_scratch() + panel_floats(a, c.rows, inner) + panel_floats(b, c.cols, inner);
    STATUS_TRY(scratch_threads(queue, floats, &p.scratch, &p.scratch_stride));
    parallel_for(p.row_parts * p.column_parts, 1, multiply_parts, &p);
    return BALORA_OK;
}

static matrix_view batch_view(matrix_view view, int64_t stride, int64_t i) {
    view.offset += i * stride * element_size(view.dtype);
    return view;
}

balora_status cpu_gemm_batched(backend_queue *queue, const gemm_batch *args) {
    if (args->count < 0 || args->stride_a < 0 || args->stride_b < 0 || args->stride_c < 0 ||
        (args->count > 1 && args->stride_c == 0))
        return status_fail(BALORA_ERROR_INTERNAL,
                           "cpu gemm_batched: %lld products, strides %lld, %lld and %lld do not fit",
                           (long long)args->count, (long long)args->stride_a, (long long)args->stride_b,
                           (long long)args->stride_c);
    /* From the last one on, which lies farthest out: a batch that does not fit is refused before any work. */
    for (int64_t i = args->count; i-- > 0;)
        STATUS_TRY(cpu_gemm(queue, args->transpose_a, args->transpose_b, args->alpha,
                            batch_view(args->a, args->stride_a, i), batch_view(args->b, args->stride_b, i),
                            args->beta, batch_view(args->c, args->stride_c, i)));
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

/* Sums of outer products over panels of the inner dimension; OpenBLAS uses its own threads. */
static balora_status gram_floats(backend_queue *queue, int transpose, matrix_view a, matrix_view c,
                                 int64_t inner) {
    int64_t n = c.rows, panel = is_half(a) ? PANEL_DEPTH : arith_max(1, inner);
    backend_buffer scratch = {NULL, 0, true};
    STATUS_TRY(
        scratch_reserve(queue, is_half(a) ? PANEL_DEPTH * n * (int64_t)sizeof(float) : 0, &scratch.data));
    for (int64_t first = 0; first == 0 || first < inner; first += panel) {
        int64_t depth = arith_min(panel, inner - first);
        matrix_view x = widened(queue->kernels, operand_block(a, transpose, 0, n, first, depth), &scratch);
        cblas_ssyrk(CblasRowMajor, CblasUpper, flag(transpose), (blasint)n, (blasint)depth, 1, view_f32(x),
                    leading(x), first == 0 ? 0 : 1, view_f32(c), leading(c));
    }
    return BALORA_OK;
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
    if (doubles)
        cblas_dsyrk(CblasRowMajor, CblasUpper, flag(transpose), (blasint)n, (blasint)inner, 1, view_f64(a),
                    leading(a), 0, view_f64(c), leading(c));
    else
        STATUS_TRY(gram_floats(queue, transpose != 0, a, c, inner));
    parallel_for(n, arith_max(1, 8192 / n), mirror_rows, &c);
    return BALORA_OK;
}
