/* Attention of packed sequences: checks, and the work handed out by sequence and key head. */
#include "cpu/internal.h"

#define QUERY_PIECE INT64_C(480) /* query rows of one piece of forward work; keys are packed once a piece */

typedef struct attention_call {
    const cpu_kernels *kernels;
    const attention_shape *shape;
    const int32_t *offsets;
    matrix_view q, k, v, out, logsumexp, dout, dq, dk, dv;
    int64_t pieces; /* forward: pieces of the longest sequence */
    float *scratch;
    int64_t scratch_stride;
} attention_call;

/* The operands that both directions read, and the sequences' places. */
static balora_status check_shape(const char *slot, const attention_shape *shape, matrix_view offsets,
                                 matrix_view q, matrix_view k, matrix_view v) {
    if (shape->heads < 1 || shape->key_heads < 1 || shape->heads % shape->key_heads != 0 ||
        shape->head_dim < 1 || shape->window < 0 || shape->sequences < 0 || !(shape->soft_cap >= 0))
        return status_fail(
            BALORA_ERROR_INTERNAL,
            "cpu %s: %lld heads, %lld key heads of %lld, window %lld, %lld sequences, soft cap %g do not fit",
            slot, (long long)shape->heads, (long long)shape->key_heads, (long long)shape->head_dim,
            (long long)shape->window, (long long)shape->sequences, (double)shape->soft_cap);
    STATUS_TRY(operand_check(slot, "offsets", offsets, 1, shape->sequences + 1, IN_I32));
    STATUS_TRY(operand_check(slot, "q", q, ANY_SIZE, shape->heads * shape->head_dim, IN_F32));
    STATUS_TRY(operand_check(slot, "k", k, q.rows, shape->key_heads * shape->head_dim, IN_F32));
    STATUS_TRY(operand_check(slot, "v", v, q.rows, shape->key_heads * shape->head_dim, IN_F32));
    const int32_t *starts = view_i32(offsets);
    for (int64_t i = 0; i < shape->sequences; i++)
        if (starts[i] < 0 || starts[i + 1] < starts[i] || starts[i + 1] - starts[i] > shape->longest_sequence)
            return status_fail(BALORA_ERROR_INTERNAL,
                               "cpu %s: sequence %lld has rows %d to %d; the longest is said to have %lld",
                               slot, (long long)i, starts[i], starts[i + 1],
                               (long long)shape->longest_sequence);
    if (starts[0] != 0 || starts[shape->sequences] != q.rows)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: sequences cover rows %d to %d of %lld", slot,
                           starts[0], starts[shape->sequences], (long long)q.rows);
    return BALORA_OK;
}

/* Pointers of one sequence and key head; `thread` owns the scratch. */
static attention_item make_item(const attention_call *call, int64_t sequence, int64_t key_head, int thread) {
    const attention_shape *shape = call->shape;
    int64_t first = call->offsets[sequence], group = shape->heads / shape->key_heads;
    int64_t key_column = key_head * shape->head_dim, query_column = key_column * group;
    attention_item item = {
        .sizes = {.length = call->offsets[sequence + 1] - first,
                  .head_dim = shape->head_dim,
                  .group = group,
                  .window = shape->window,
                  .scale = shape->scale,
                  .soft_cap = shape->soft_cap},
        .q = (const float *)view_row(call->q, first) + query_column,
        .k = (const float *)view_row(call->k, first) + key_column,
        .v = (const float *)view_row(call->v, first) + key_column,
        .out = (float *)view_row(call->out, first) + query_column,
        .q_stride = call->q.ld,
        .k_stride = call->k.ld,
        .v_stride = call->v.ld,
        .out_stride = call->out.ld,
        .logsumexp_stride = call->logsumexp.ld,
        .scratch = call->scratch + thread * call->scratch_stride,
    };
    if (!is_none(call->logsumexp))
        item.logsumexp = (float *)view_row(call->logsumexp, first) + key_head * group;
    return item;
}

static void forward_pieces(int64_t begin, int64_t end, int thread, void *user) {
    const attention_call *call = user;
    for (int64_t i = begin; i < end; i++) {
        int64_t piece = i % call->pieces, rest = i / call->pieces;
        attention_item item =
            make_item(call, rest / call->shape->key_heads, rest % call->shape->key_heads, thread);
        int64_t first = piece * QUERY_PIECE, last = arith_min(first + QUERY_PIECE, item.sizes.length);
        if (first < last)
            call->kernels->attention(&item, first, last);
    }
}

balora_status cpu_attention(backend_queue *queue, const attention_forward *args) {
    const attention_shape *shape = &args->shape;
    STATUS_TRY(check_shape("attention", shape, args->offsets, args->q, args->k, args->v));
    STATUS_TRY(operand_check("attention", "out", args->out, args->q.rows, args->q.cols, IN_F32));
    if (!is_none(args->logsumexp))
        STATUS_TRY(
            operand_check("attention", "logsumexp", args->logsumexp, args->q.rows, shape->heads, IN_F32));
    attention_call call = {.kernels = queue->kernels,
                           .shape = shape,
                           .offsets = view_i32(args->offsets),
                           .q = args->q,
                           .k = args->k,
                           .v = args->v,
                           .out = args->out,
                           .logsumexp = args->logsumexp,
                           .pieces = arith_divide_up(shape->longest_sequence, QUERY_PIECE)};
    int64_t floats = queue->kernels->attention_scratch(shape->longest_sequence, shape->head_dim);
    STATUS_TRY(scratch_threads(queue, floats, &call.scratch, &call.scratch_stride));
    parallel_for_dynamic(shape->sequences * shape->key_heads * call.pieces, 1, forward_pieces, &call);
    return BALORA_OK;
}

static void backward_items(int64_t begin, int64_t end, int thread, void *user) {
    const attention_call *call = user;
    int64_t key_heads = call->shape->key_heads, dim = call->shape->head_dim;
    for (int64_t i = begin; i < end; i++) {
        int64_t sequence = i / key_heads, key_head = i % key_heads, first = call->offsets[sequence];
        attention_item item = make_item(call, sequence, key_head, thread);
        if (item.sizes.length == 0)
            continue;
        int64_t query_column = key_head * item.sizes.group * dim;
        item.saved_out = item.out;
        item.saved_logsumexp = item.logsumexp;
        item.dout = (const float *)view_row(call->dout, first) + query_column;
        item.dq = (float *)view_row(call->dq, first) + query_column;
        item.dk = (float *)view_row(call->dk, first) + key_head * dim;
        item.dv = (float *)view_row(call->dv, first) + key_head * dim;
        item.dout_stride = call->dout.ld;
        item.dq_stride = call->dq.ld;
        item.dk_stride = call->dk.ld;
        item.dv_stride = call->dv.ld;
        call->kernels->attention_backward(&item);
    }
}

balora_status cpu_attention_backward(backend_queue *queue, const attention_backward *args) {
    const char *slot = "attention_backward";
    const attention_shape *shape = &args->shape;
    STATUS_TRY(check_shape(slot, shape, args->offsets, args->q, args->k, args->v));
    STATUS_TRY(operand_check(slot, "out", args->out, args->q.rows, args->q.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "logsumexp", args->logsumexp, args->q.rows, shape->heads, IN_F32));
    STATUS_TRY(operand_check(slot, "dout", args->dout, args->q.rows, args->q.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "dq", args->dq, args->q.rows, args->q.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "dk", args->dk, args->k.rows, args->k.cols, IN_F32));
    STATUS_TRY(operand_check(slot, "dv", args->dv, args->v.rows, args->v.cols, IN_F32));
    attention_call call = {.kernels = queue->kernels,
                           .shape = shape,
                           .offsets = view_i32(args->offsets),
                           .q = args->q,
                           .k = args->k,
                           .v = args->v,
                           .out = args->out,
                           .logsumexp = args->logsumexp,
                           .dout = args->dout,
                           .dq = args->dq,
                           .dk = args->dk,
                           .dv = args->dv};
    int64_t floats = queue->kernels->attention_backward_scratch(shape->longest_sequence, shape->head_dim);
    STATUS_TRY(scratch_threads(queue, floats, &call.scratch, &call.scratch_stride));
    parallel_for_dynamic(shape->sequences * shape->key_heads, 1, backward_items, &call);
    return BALORA_OK;
}
