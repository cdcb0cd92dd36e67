/*
 * Matrix products. Operands of one dtype go to the library as they are; of mixed ones, those of 16 bits are widened to
 * F32 panel by panel: some of their rows at a time. A BF16 result of wider operands is made in F32, some rows at a
 * time, and rounded once.
 */
#include "libraries.h"
#include "numbers.cuh"
#include "slots.h"

static const int64_t PANEL_FLOATS = INT64_C(1) << 24; /* of both operands together: 64 MiB */

enum { TILE = 32, TILE_THREADS = 256 };

struct product {
    int transpose_a, transpose_b;
    double alpha, beta;
    matrix_view a, b, c;
    int64_t inner;
};

/* --- operands --- */

static bool is_half(matrix_view view) {
    return view.dtype == BALORA_BF16 || view.dtype == BALORA_F16;
}

static balora_status check_product(const char *slot, const product *p) {
    matrix_view a = p->a, b = p->b, c = p->c;
    int allowed = c.dtype == BALORA_F64 ? IN_F64 : IN_FLOAT;
    CUDA_TRY(operand_check(slot, "c", c, ANY_SIZE, ANY_SIZE, IN_ACTIVATION | IN_F64));
    CUDA_TRY(operand_check(slot, "a", a, p->transpose_a ? p->inner : c.rows,
                           p->transpose_a ? c.rows : p->inner, allowed));
    return operand_check(slot, "b", b, p->transpose_b ? c.cols : p->inner, p->transpose_b ? p->inner : c.cols,
                         allowed);
}

static product product_of(int transpose_a, int transpose_b, double alpha, matrix_view a, matrix_view b,
                          double beta, matrix_view c) {
    return {transpose_a != 0, transpose_b != 0, alpha, beta, a, b, c, transpose_a ? a.rows : a.cols};
}

static library_gemm call_of(const backend_queue *queue, const product *p) {
    library_gemm call = {};
    call.transpose_a = p->transpose_a;
    call.transpose_b = p->transpose_b;
    call.alpha = p->alpha;
    call.beta = p->beta;
    call.a = library_view(p->a);
    call.b = library_view(p->b);
    call.c = library_view(p->c);
    call.count = 1;
    call.tf32 = queue->allow_tf32 && p->a.dtype == BALORA_F32 && p->b.dtype == BALORA_F32;
    return call;
}

/* --- nothing to sum --- */

template <typename T> static __device__ __forceinline__ T times(double factor, T x) {
    return (T)(factor * (double)x);
}
static __device__ __forceinline__ bf16 times(double factor, bf16 x) {
    return to_bf16((float)factor * to_float(x));
}

/* c = beta c; c is not read when beta is 0. */
template <typename T>
static __global__ void scale_matrix(T *c, int64_t ld, int64_t cols, int64_t count, double beta) {
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * blockDim.x) {
        T *at = c + i / cols * ld + i % cols;
        *at = beta == 0 ? T{} : times(beta, *at);
    }
}

static balora_status scale_result(backend_queue *queue, double beta, matrix_view c) {
    int64_t count = c.rows * c.cols;
    unsigned blocks = (unsigned)arith_min(arith_divide_up(count, 256), 4096);
    if (c.dtype == BALORA_F64)
        return launch(queue, "scaling a matrix", scale_matrix<double>, blocks, 256, 0, view_data<double>(c),
                      c.ld, c.cols, count, beta);
    DISPATCH_ACTIVATION(c.dtype, T, {
        return launch(queue, "scaling a matrix", scale_matrix<T>, blocks, 256, 0, view_data<T>(c), c.ld,
                      c.cols, count, beta);
    });
}

/* --- panels --- */

/* What is multiplied at a time: rows and columns of the result, and terms of its sums. */
struct panel_steps {
    int64_t rows, columns, inner;
};

/* As many rows of `cols` floats as the share of the panels allows; whole groups of them keep blocks of c aligned. */
static int64_t rows_of_panel(int64_t cols, int64_t floats) {
    int64_t rows = arith_max(1, floats / arith_max(1, cols));
    return rows < 64 ? rows : rows / 64 * 64;
}

static panel_steps choose_steps(const product *p) {
    panel_steps steps = {p->c.rows, p->c.cols, p->inner};
    int64_t share = is_half(p->a) && is_half(p->b) ? PANEL_FLOATS / 2 : PANEL_FLOATS;
    if (is_half(p->a)) {
        int64_t *step = p->transpose_a ? &steps.inner : &steps.rows;
        *step = arith_min(*step, rows_of_panel(p->a.cols, share));
    }
    if (is_half(p->b)) {
        int64_t *step = p->transpose_b ? &steps.columns : &steps.inner;
        *step = arith_min(*step, rows_of_panel(p->b.cols, share));
    }
    return steps;
}

static matrix_view block_of(matrix_view view, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    view.offset += (row * view.ld + column) * element_size(view.dtype);
    view.rows = rows;
    view.cols = columns;
    return view;
}

/* The block in scratch as contiguous F32, unless it is F32 already. */
static balora_status widen(backend_queue *queue, matrix_view block, backend_buffer *scratch,
                           matrix_view *out) {
    *out = block;
    if (!is_half(block))
        return BALORA_OK;
    *out = {scratch, 0, block.rows, block.cols, block.cols, BALORA_F32, 0};
    return cuda_copy(queue, *out, block);
}

static int64_t panel_bytes(matrix_view view, int64_t outer, int64_t inner) {
    int64_t bytes = is_half(view) ? outer * inner * (int64_t)sizeof(float) : 0;
    return arith_divide_up(bytes, 256) * 256;
}

/* `kept`: bytes at the front of scratch that the caller uses. */
static balora_status multiply_panels(backend_queue *queue, const product *p, int64_t kept) {
    panel_steps steps = choose_steps(p);
    int64_t bytes_a = panel_bytes(p->a, steps.rows, steps.inner),
            bytes_b = panel_bytes(p->b, steps.columns, steps.inner);
    void *scratch;
    CUDA_TRY(scratch_reserve(queue, kept + bytes_a + bytes_b, &scratch));
    backend_buffer space_a = {static_cast<unsigned char *>(scratch) + kept, bytes_a};
    backend_buffer space_b = {space_a.data + bytes_a, bytes_b};
    for (int64_t j = 0; j < p->c.cols; j += steps.columns)
        for (int64_t k = 0; k < p->inner; k += steps.inner) {
            int64_t width = arith_min(steps.columns, p->c.cols - j),
                    depth = arith_min(steps.inner, p->inner - k);
            matrix_view b;
            CUDA_TRY(widen(queue,
                           p->transpose_b ? block_of(p->b, j, width, k, depth)
                                          : block_of(p->b, k, depth, j, width),
                           &space_b, &b));
            for (int64_t i = 0; i < p->c.rows; i += steps.rows) {
                int64_t height = arith_min(steps.rows, p->c.rows - i);
                matrix_view a, block = p->transpose_a ? block_of(p->a, k, depth, i, height)
                                                      : block_of(p->a, i, height, k, depth);
                CUDA_TRY(widen(queue, block, &space_a, &a));
                product part = {p->transpose_a,
                                p->transpose_b,
                                p->alpha,
                                k == 0 ? p->beta : 1,
                                a,
                                b,
                                block_of(p->c, i, height, j, width),
                                depth};
                library_gemm call = call_of(queue, &part);
                call.tf32 = 0;
                CUDA_TRY(library_multiply(queue, &call));
            }
        }
    return BALORA_OK;
}

/* Whatever the sizes, panels of operands and of a result are not larger, but for one row of a very wide matrix. */
int64_t gemm_scratch_bytes(const backend_queue *queue, const backend_limits *limits) {
    (void)queue;
    int64_t size = limits->gemm_columns;
    return size > 0 ? 2 * arith_max(PANEL_FLOATS, 2 * size) * (int64_t)sizeof(float) + 1024 : 0;
}

/* --- gemm --- */

/* Into a result that the library or the panels can write: as wide as the operands. */
static balora_status multiply_wide(backend_queue *queue, const product *p, int64_t kept) {
    if (p->inner == 0)
        return scale_result(queue, p->beta, p->c);
    if (p->a.dtype != p->b.dtype)
        return multiply_panels(queue, p, kept);
    library_gemm call = call_of(queue, p);
    return library_multiply(queue, &call);
}

static balora_status multiply_bias(backend_queue *queue, const product *p, matrix_view bias, int64_t kept) {
    if (p->inner > 0 && p->a.dtype == p->b.dtype) {
        library_gemm call = call_of(queue, p);
        call.bias = view_data<float>(bias);
        balora_status status = library_multiply(queue, &call);
        if (status != BALORA_ERROR_UNSUPPORTED)
            return status;
    }
    CUDA_TRY(multiply_wide(queue, p, kept));
    return cuda_add_row(queue, p->c, bias);
}

/* A BF16 result by way of panels in F32, so that it is rounded once; `bias` may be none. */
static balora_status multiply_narrow(backend_queue *queue, const product *p, matrix_view bias) {
    int64_t step = arith_min(p->c.rows, rows_of_panel(p->c.cols, PANEL_FLOATS));
    int64_t bytes = arith_divide_up(step * p->c.cols * (int64_t)sizeof(float), 256) * 256;
    for (int64_t i = 0; i < p->c.rows; i += step) {
        int64_t height = arith_min(step, p->c.rows - i);
        int64_t more = is_half(p->a) || is_half(p->b) ? PANEL_FLOATS * (int64_t)sizeof(float) + 512 : 0;
        /* With the operands' panels behind it, so that it does not move while they are asked for. */
        void *scratch;
        CUDA_TRY(scratch_reserve(queue, bytes + more, &scratch));
        backend_buffer space = {static_cast<unsigned char *>(scratch), bytes};
        product part = *p;
        part.a =
            p->transpose_a ? block_of(p->a, 0, p->inner, i, height) : block_of(p->a, i, height, 0, p->inner);
        part.beta = 0;
        part.c = {&space, 0, height, p->c.cols, p->c.cols, BALORA_F32, 0};
        matrix_view out = block_of(p->c, i, height, 0, p->c.cols);
        CUDA_TRY(is_none(bias) ? multiply_wide(queue, &part, bytes)
                               : multiply_bias(queue, &part, bias, bytes));
        CUDA_TRY(p->beta == 0 ? cuda_copy(queue, out, part.c)
                              : cuda_scale_add(queue, 1, part.c, p->beta, out));
    }
    return BALORA_OK;
}

static balora_status multiply(backend_queue *queue, const product *p) {
    if (p->c.rows == 0 || p->c.cols == 0)
        return BALORA_OK;
    bool native = p->a.dtype == BALORA_BF16 && p->b.dtype == BALORA_BF16;
    if (p->c.dtype == BALORA_BF16 && !native && p->inner > 0)
        return multiply_narrow(queue, p, {});
    return multiply_wide(queue, p, 0);
}

balora_status cuda_gemm(backend_queue *queue, int transpose_a, int transpose_b, double alpha, matrix_view a,
                        matrix_view b, double beta, matrix_view c) {
    product p = product_of(transpose_a, transpose_b, alpha, a, b, beta, c);
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_product("gemm", &p));
    return multiply(queue, &p);
}

/* --- gemm_bias --- */

balora_status cuda_gemm_bias(backend_queue *queue, int transpose_a, int transpose_b, double alpha,
                             matrix_view a, matrix_view b, double beta, matrix_view c, matrix_view bias) {
    product p = product_of(transpose_a, transpose_b, alpha, a, b, beta, c);
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_product("gemm_bias", &p));
    CUDA_TRY(operand_check("gemm_bias", "bias", bias, 1, c.cols, IN_F32));
    if (c.rows == 0 || c.cols == 0)
        return BALORA_OK;
    return c.dtype == BALORA_BF16 ? multiply_narrow(queue, &p, bias) : multiply_bias(queue, &p, bias, 0);
}

/* --- gemm_batched --- */

static matrix_view batch_view(matrix_view view, int64_t stride, int64_t i) {
    view.offset += i * stride * element_size(view.dtype);
    return view;
}

static product batch_product(const gemm_batch *args, int64_t i) {
    return product_of(args->transpose_a, args->transpose_b, args->alpha,
                      batch_view(args->a, args->stride_a, i), batch_view(args->b, args->stride_b, i),
                      args->beta, batch_view(args->c, args->stride_c, i));
}

/* The first and last products fit, so all between do. */
static balora_status check_batch(const gemm_batch *args) {
    if (args->count < 0 || args->stride_a < 0 || args->stride_b < 0 || args->stride_c < 0 ||
        (args->count > 1 && args->stride_c == 0))
        return CUDA_INTERNAL("cuda gemm_batched: %lld products, strides %lld, %lld and %lld do not fit",
                             (long long)args->count, (long long)args->stride_a, (long long)args->stride_b,
                             (long long)args->stride_c);
    for (int64_t i = args->count - 1; i >= 0; i = i > 0 ? 0 : -1) {
        product p = batch_product(args, i);
        CUDA_TRY(check_product("gemm_batched", &p));
    }
    return BALORA_OK;
}

balora_status cuda_gemm_batched(backend_queue *queue, const gemm_batch *args) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_batch(args));
    product p = batch_product(args, 0);
    if (args->count == 0 || p.c.rows == 0 || p.c.cols == 0)
        return BALORA_OK;
    bool narrow = p.c.dtype == BALORA_BF16 && p.a.dtype != BALORA_BF16;
    if (p.inner > 0 && p.a.dtype == p.b.dtype && !narrow) {
        library_gemm call = call_of(queue, &p);
        call.count = args->count;
        call.stride_a = args->stride_a;
        call.stride_b = args->stride_b;
        call.stride_c = args->stride_c;
        return library_multiply(queue, &call);
    }
    for (int64_t i = 0; i < args->count; i++) {
        p = batch_product(args, i);
        CUDA_TRY(multiply(queue, &p));
    }
    return BALORA_OK;
}

/* --- gram --- */

/* Copy the upper triangle into the lower one, by tiles. */
template <typename T> static __global__ void mirror(T *c, int64_t ld, int64_t n) {
    __shared__ T tile[TILE][TILE + 1];
    if (blockIdx.x > blockIdx.y)
        return;
    int64_t row = (int64_t)blockIdx.x * TILE, column = (int64_t)blockIdx.y * TILE; /* of the tile above */
    int lane = (int)threadIdx.x % TILE, warp = (int)threadIdx.x / TILE, warps = (int)blockDim.x / TILE;
    for (int i = warp; i < TILE; i += warps)
        if (row + i < n && column + lane < n)
            tile[i][lane] = c[(row + i) * ld + column + lane];
    __syncthreads();
    for (int i = warp; i < TILE; i += warps)
        if (column + i < n && row + lane < column + i)
            c[(column + i) * ld + row + lane] = tile[lane][i];
}

template <typename T> static balora_status mirror_upper(backend_queue *queue, matrix_view c) {
    unsigned tiles = blocks_for(c.rows, TILE);
    return launch(queue, "mirroring a matrix", mirror<T>, dim3(tiles, tiles), TILE_THREADS, 0,
                  view_data<T>(c), c.ld, c.rows);
}

balora_status cuda_gram(backend_queue *queue, int transpose, matrix_view a, matrix_view c) {
    int64_t n = transpose ? a.cols : a.rows, inner = transpose ? a.rows : a.cols;
    bool doubles = c.dtype == BALORA_F64;
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("gram", "c", c, n, n, IN_F32 | IN_F64));
    CUDA_TRY(operand_check("gram", "a", a, ANY_SIZE, ANY_SIZE, doubles ? IN_F64 : IN_FLOAT));
    if (n == 0)
        return BALORA_OK;
    if (inner == 0)
        return scale_result(queue, 0, c);
    if (is_half(a)) {
        product p = product_of(transpose != 0, transpose == 0, 1, a, a, 0, c);
        CUDA_TRY(multiply(queue, &p));
    } else {
        CUDA_TRY(library_syrk(queue, transpose != 0, library_view(a), library_view(c)));
    }
    return doubles ? mirror_upper<double>(queue, c) : mirror_upper<float>(queue, c);
}
