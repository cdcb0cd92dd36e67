/* The attention slots: checks, the choice of an engine, and the host's part of the own kernels. */
#include <stdio.h>

#include "attention.h"
#include "attention_tile.cuh"
#include "slots.h"

/* --- engines --- */

struct engine_text {
    char text[64];
};

static engine_text engine_name() {
    engine_text name;
    if (cudnn_version() != nullptr)
        snprintf(name.text, sizeof name.text, "cudnn-%s+own", cudnn_version());
    else
        snprintf(name.text, sizeof name.text, "own");
    return name;
}

const char *attention_engine(void) {
    static const engine_text name = engine_name();
    return name.text;
}

int64_t attention_scratch_bytes(const backend_queue *queue, const backend_limits *limits) {
    return arith_max(limits->tokens * limits->heads * (int64_t)sizeof(float),
                     cudnn_scratch_bytes(queue, limits));
}

/* --- checks --- */

/* The operands that both directions read. What stands in `offsets` is known to the device only: kernels look
 * there. */
static balora_status check_shape(const char *slot, const attention_shape *shape, matrix_view offsets,
                                 matrix_view q, matrix_view k, matrix_view v) {
    if (shape->heads < 1 || shape->key_heads < 1 || shape->heads % shape->key_heads != 0 ||
        shape->head_dim < 1 || shape->window < 0 || shape->sequences < 0 || shape->sequences >= INT32_MAX ||
        q.rows > INT32_MAX || !(shape->soft_cap >= 0))
        return CUDA_INTERNAL(
            "cuda %s: %lld heads, %lld key heads of %lld, window %lld, cap %g, %lld sequences of %lld "
            "rows do not fit",
            slot, (long long)shape->heads, (long long)shape->key_heads, (long long)shape->head_dim,
            (long long)shape->window, (double)shape->soft_cap, (long long)shape->sequences,
            (long long)q.rows);
    int dtype = dtype_bit(q.dtype);
    CUDA_TRY(operand_check(slot, "offsets", offsets, 1, shape->sequences + 1, IN_I32));
    CUDA_TRY(operand_check(slot, "q", q, ANY_SIZE, shape->heads * shape->head_dim, IN_ACTIVATION));
    CUDA_TRY(operand_check(slot, "k", k, q.rows, shape->key_heads * shape->head_dim, dtype));
    CUDA_TRY(operand_check(slot, "v", v, q.rows, shape->key_heads * shape->head_dim, dtype));
    int64_t longest;
    if (shape->longest_sequence < 0 ||
        (arith_multiply_i64(shape->sequences, shape->longest_sequence, &longest) && longest < q.rows))
        return CUDA_INTERNAL("cuda %s: %lld sequences of at most %lld rows cannot cover %lld", slot,
                             (long long)shape->sequences, (long long)shape->longest_sequence,
                             (long long)q.rows);
    if (shape->head_dim > FMA_DIM || shape->heads > 65535)
        return cuda_fail(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_CUDA, 0,
                         "cuda %s: %lld heads of %lld; up to 65535 of %d can be computed", slot,
                         (long long)shape->heads, (long long)shape->head_dim, FMA_DIM);
    return BALORA_OK;
}

/* Rows of all these views may be accessed in pieces of 16 bytes, every head's from its first element. */
template <int COUNT>
static bool all_aligned(const attention_shape &shape, const matrix_view (&views)[COUNT]) {
    for (const matrix_view &view : views) {
        int64_t piece = 16 / element_size(view.dtype);
        if (shape.head_dim % piece != 0 || !is_aligned(view, piece))
            return false;
    }
    return true;
}

static attention_sizes make_sizes(const attention_shape &shape, matrix_view offsets, int64_t tokens,
                                  bool aligned) {
    attention_sizes sizes = {};
    sizes.offsets = view_data<const int32_t>(offsets);
    sizes.sequences = (int32_t)shape.sequences;
    sizes.tokens = (int32_t)tokens;
    sizes.longest = (int32_t)arith_min(shape.longest_sequence, tokens);
    sizes.heads = (int32_t)shape.heads;
    sizes.group = (int32_t)(shape.heads / shape.key_heads);
    sizes.head_dim = (int32_t)shape.head_dim;
    sizes.window = shape.window < tokens ? (int32_t)shape.window : 0;
    sizes.aligned = aligned;
    sizes.scale = shape.scale;
    sizes.soft_cap = shape.soft_cap;
    return sizes;
}

template <typename T> static token_rows<T> rows_of(matrix_view view) {
    return {view_data<T>(view), view.ld};
}

/* --- forward --- */

template <typename T> static forward_operands<T> forward_of(const attention_forward &args) {
    return {rows_of<const T>(args.q), rows_of<const T>(args.k), rows_of<const T>(args.v),
            rows_of<T>(args.out),
            is_none(args.logsumexp) ? token_rows<float>{nullptr, 0} : rows_of<float>(args.logsumexp)};
}

balora_status cuda_attention(backend_queue *queue, const attention_forward *args) {
    const char *slot = "attention";
    const attention_shape *shape = &args->shape;
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_shape(slot, shape, args->offsets, args->q, args->k, args->v));
    CUDA_TRY(operand_check(slot, "out", args->out, args->q.rows, args->q.cols, dtype_bit(args->q.dtype)));
    if (!is_none(args->logsumexp))
        CUDA_TRY(operand_check(slot, "logsumexp", args->logsumexp, args->q.rows, shape->heads, IN_F32));
    if (args->q.rows == 0)
        return BALORA_OK;
    if (args->q.dtype == BALORA_BF16) {
        balora_status status = cudnn_attention(queue, args);
        if (status != BALORA_ERROR_UNSUPPORTED)
            return status;
    }
    bool aligned = all_aligned(*shape, {args->q, args->k, args->v, args->out});
    attention_sizes sizes = make_sizes(*shape, args->offsets, args->q.rows, aligned);
    if (args->q.dtype == BALORA_F32)
        return fma_attention(queue, sizes, forward_of<float>(*args));
    return shape->head_dim <= TENSOR_DIM ? tensor_attention(queue, sizes, forward_of<bf16>(*args))
                                         : fma_attention(queue, sizes, forward_of<bf16>(*args));
}

/* --- backward --- */

const int DOT_LANES = 8; /* lanes that share a row of a head */

/* dots[head][row] = out_i . dout_i, which every slope of a softmax row needs. */
template <typename T>
static __global__ void dot_outputs(token_rows<const T> out, token_rows<const T> dout, int64_t tokens,
                                   int heads, int head_dim, int aligned, float *dots) {
    const int PIECE = PACK_16<T>;
    int64_t item = (int64_t)blockIdx.x * (ATTENTION_THREADS / DOT_LANES) + threadIdx.x / DOT_LANES;
    int lane = (int)threadIdx.x % DOT_LANES;
    bool exists = item < tokens * heads;
    int64_t row = exists ? item / heads : 0, head = exists ? item % heads : 0;
    const T *a = token_at(out, row, head, head_dim), *b = token_at(dout, row, head, head_dim);
    float dot = 0;
    if (aligned)
        for (int column = lane * PIECE; column < head_dim; column += DOT_LANES * PIECE) {
            float left[PIECE], right[PIECE];
            load_floats(left, a + column);
            load_floats(right, b + column);
#pragma unroll
            for (int i = 0; i < PIECE; i++)
                dot = fmaf(left[i], right[i], dot);
        }
    else
        for (int column = lane; column < head_dim; column += DOT_LANES)
            dot = fmaf(to_float(a[column]), to_float(b[column]), dot);
#pragma unroll
    for (int distance = DOT_LANES / 2; distance > 0; distance /= 2)
        dot += __shfl_xor_sync(ALL_LANES, dot, distance);
    if (exists && lane == 0)
        dots[head * tokens + row] = dot;
}

template <typename T>
static balora_status backward_of(backend_queue *queue, const attention_backward &args,
                                 const attention_sizes &sizes, backward_operands<T> *out) {
    void *dots;
    int64_t items = args.q.rows * sizes.heads;
    CUDA_TRY(scratch_reserve(queue, items * (int64_t)sizeof(float), &dots));
    CUDA_TRY(launch(queue, "attention_backward", dot_outputs<T>,
                    blocks_for(items, ATTENTION_THREADS / DOT_LANES), ATTENTION_THREADS, 0,
                    rows_of<const T>(args.out), rows_of<const T>(args.dout), args.q.rows, sizes.heads,
                    sizes.head_dim, sizes.aligned, static_cast<float *>(dots)));
    *out = {rows_of<const T>(args.q),
            rows_of<const T>(args.k),
            rows_of<const T>(args.v),
            rows_of<const T>(args.dout),
            rows_of<const float>(args.logsumexp),
            static_cast<const float *>(dots),
            rows_of<T>(args.dq),
            rows_of<T>(args.dk),
            rows_of<T>(args.dv)};
    return BALORA_OK;
}

static balora_status check_backward(const char *slot, const attention_backward *args) {
    const attention_shape *shape = &args->shape;
    int dtype = dtype_bit(args->q.dtype);
    CUDA_TRY(check_shape(slot, shape, args->offsets, args->q, args->k, args->v));
    CUDA_TRY(operand_check(slot, "out", args->out, args->q.rows, args->q.cols, dtype));
    CUDA_TRY(operand_check(slot, "logsumexp", args->logsumexp, args->q.rows, shape->heads, IN_F32));
    CUDA_TRY(operand_check(slot, "dout", args->dout, args->q.rows, args->q.cols, dtype));
    CUDA_TRY(operand_check(slot, "dq", args->dq, args->q.rows, args->q.cols, dtype));
    CUDA_TRY(operand_check(slot, "dk", args->dk, args->k.rows, args->k.cols, dtype));
    return operand_check(slot, "dv", args->dv, args->v.rows, args->v.cols, dtype);
}

balora_status cuda_attention_backward(backend_queue *queue, const attention_backward *args) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_backward("attention_backward", args));
    if (args->q.rows == 0)
        return BALORA_OK;
    if (args->q.dtype == BALORA_BF16) {
        balora_status status = cudnn_attention_backward(queue, args);
        if (status != BALORA_ERROR_UNSUPPORTED)
            return status;
    }
    bool aligned = all_aligned(
        args->shape, {args->q, args->k, args->v, args->out, args->dout, args->dq, args->dk, args->dv});
    attention_sizes sizes = make_sizes(args->shape, args->offsets, args->q.rows, aligned);
    if (args->q.dtype == BALORA_F32) {
        backward_operands<float> operands;
        CUDA_TRY(backward_of(queue, *args, sizes, &operands));
        return fma_attention_backward(queue, sizes, operands);
    }
    backward_operands<bf16> operands;
    CUDA_TRY(backward_of(queue, *args, sizes, &operands));
    return sizes.head_dim <= TENSOR_DIM ? tensor_attention_backward(queue, sizes, operands)
                                        : fma_attention_backward(queue, sizes, operands);
}
