#include "adapter/pissa_host.h"

#include <stdio.h>
#include <string.h>

#include "adapter/pissa.h"
#include "base/arith.h"
#include "base/status.h"
#include "tensor/host_tensor.h"

#define PIECE_NUMBERS (INT64_C(1) << 20) /* of the residual that are computed at a time */

/* The host's tensors as matrices, and what the factors are computed in. */
typedef struct pissa_desk {
    backend device;
    backend_queue *queue;
    matrix_view weight, a, b, residual;
    arena arena;
    matrix_view own_a, own_b; /* F32: the host's are written when all is well */
    matrix_view piece;        /* F32 [rows, in] of the residual */
} pissa_desk;

/* --- checks --- */

static bool is_float(int32_t dtype) {
    return dtype == BALORA_F32 || dtype == BALORA_BF16 || dtype == BALORA_F16;
}

/* `shape` [2] is what the tensor must have, -1 for any length. */
static balora_status see(const balora_tensor *tensor, const char *name, int64_t rows, int64_t cols,
                         const balora_tensor *weight, matrix_view *out) {
    if (tensor->rank != 2 || (rows >= 0 && tensor->shape[0] != rows) ||
        (cols >= 0 && tensor->shape[1] != cols))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s has %d dimensions, [%lld, %lld]; expected [%lld, %lld]",
                           name, tensor->rank, (long long)tensor->shape[0], (long long)tensor->shape[1],
                           (long long)rows, (long long)cols);
    if (tensor->device != weight->device || tensor->device_index != weight->device_index)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s is on another device than the weight", name);
    /* A matrix of one row or column may be seen the other way round: its shape is what it says. */
    if (!host_tensor_rows(tensor, out) || (tensor->shape[1] > 1 && tensor->strides[1] != 1))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s is not in row-major order; make it contiguous", name);
    out->rows = tensor->shape[0];
    out->cols = tensor->shape[1];
    out->ld = out->rows > 1 ? tensor->strides[0] : out->cols;
    return BALORA_OK;
}

static balora_status see_written(const balora_tensor *tensor, const char *name, int64_t rows, int64_t cols,
                                 const balora_tensor *weight, matrix_view *out) {
    STATUS_TRY(see(tensor, name, rows, cols, weight, out));
    if (tensor->read_only)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s is read-only", name);
    return BALORA_OK;
}

static bool is_same(const balora_tensor *x, const balora_tensor *y) {
    return x->data == y->data && x->dtype == y->dtype && x->strides[0] == y->strides[0];
}

/* The residual may take the weight's place, exactly. */
static balora_status check_overlaps(const pissa_host_request *request) {
    const balora_tensor *weight = request->weight, *residual = request->residual, *a = request->a,
                        *b = request->b;
    bool overlap =
        host_tensor_overlaps(a, b) || host_tensor_overlaps(a, weight) || host_tensor_overlaps(b, weight);
    if (residual != NULL)
        overlap = overlap || host_tensor_overlaps(a, residual) || host_tensor_overlaps(b, residual) ||
                  (host_tensor_overlaps(weight, residual) && !is_same(weight, residual));
    if (overlap)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "weight, a, b and residual overlap; only residual may be the weight itself");
    return BALORA_OK;
}

static balora_status check(pissa_desk *desk, const pissa_host_request *request) {
    const balora_tensor *weight = request->weight;
    int64_t rank = request->options->rank;
    STATUS_TRY(see(weight, "weight", -1, -1, weight, &desk->weight));
    int64_t out = weight->shape[0], in = weight->shape[1], limit = arith_min(out, in);
    if (rank > limit)
        return status_fail(BALORA_ERROR_ARGUMENT, "rank is %lld; a weight [%lld, %lld] allows 1 to %lld",
                           (long long)rank, (long long)out, (long long)in, (long long)limit);
    STATUS_TRY(see_written(request->a, "a", rank, in, weight, &desk->a));
    STATUS_TRY(see_written(request->b, "b", out, rank, weight, &desk->b));
    if (request->residual != NULL)
        STATUS_TRY(see_written(request->residual, "residual", out, in, weight, &desk->residual));
    if (!is_float(weight->dtype) || (request->residual != NULL && !is_float(request->residual->dtype)))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "weight or residual is of another type than float32, bfloat16 and "
                           "float16");
    if (request->a->dtype != BALORA_F32 || request->b->dtype != BALORA_F32)
        return status_fail(BALORA_ERROR_ARGUMENT, "a or b is of another type than float32");
    return check_overlaps(request);
}

/* --- the device --- */

static balora_status wrap(pissa_desk *desk, const balora_tensor *tensor, matrix_view *view) {
    return desk->device.ops->buffer_wrap(&view->buffer, desk->device.device, tensor->data, view_bytes(*view));
}

static void place(pissa_desk *desk, bool residual) {
    desk->own_a = arena_place(&desk->arena, BALORA_F32, desk->a.rows, desk->a.cols);
    desk->own_b = arena_place(&desk->arena, BALORA_F32, desk->b.rows, desk->b.cols);
    if (residual) {
        int64_t rows = arith_min(desk->weight.rows, arith_max(1, PIECE_NUMBERS / desk->weight.cols));
        desk->piece = arena_place(&desk->arena, BALORA_F32, rows, desk->weight.cols);
    }
}

static balora_status open_desk(pissa_desk *desk, balora_context *context, const pissa_host_request *request) {
    char name[32] = "cpu";
    if (request->weight->device == BALORA_DEVICE_CUDA)
        snprintf(name, sizeof name, "cuda:%d", request->weight->device_index);
    STATUS_TRY(backend_open(&desk->device, &context->memory, name, context->plugin_path, context->threads));
    STATUS_TRY(desk->device.ops->queue_open(&desk->queue, desk->device.device));
    STATUS_TRY(wrap(desk, request->weight, &desk->weight));
    STATUS_TRY(wrap(desk, request->a, &desk->a));
    STATUS_TRY(wrap(desk, request->b, &desk->b));
    if (request->residual != NULL)
        STATUS_TRY(wrap(desk, request->residual, &desk->residual));
    place(desk, request->residual != NULL);
    STATUS_TRY(arena_allocate(&desk->arena, &desk->device));
    place(desk, request->residual != NULL);
    return BALORA_OK;
}

static void close_desk(pissa_desk *desk) {
    const backend_ops *ops = desk->device.ops;
    matrix_view *wrapped[] = {&desk->weight, &desk->a, &desk->b, &desk->residual};
    arena_free(&desk->arena);
    for (int i = 0; i < 4; i++)
        if (wrapped[i]->buffer != NULL)
            ops->buffer_free(desk->device.device, wrapped[i]->buffer);
    if (desk->queue != NULL)
        ops->queue_close(desk->queue);
    backend_close(&desk->device);
}

/* --- results --- */

/* W - s B0 A0, from F32 factors and rounded once. */
static balora_status write_residual(pissa_desk *desk, double scale) {
    const backend_ops *ops = desk->device.ops;
    for (int64_t row = 0; row < desk->weight.rows; row += desk->piece.rows) {
        int64_t count = arith_min(desk->piece.rows, desk->weight.rows - row);
        matrix_view piece = view_rows(desk->piece, 0, count);
        STATUS_TRY(ops->copy(desk->queue, piece, view_rows(desk->weight, row, count)));
        STATUS_TRY(
            ops->gemm(desk->queue, 0, 0, -scale, view_rows(desk->own_b, row, count), desk->own_a, 1, piece));
        STATUS_TRY(ops->copy(desk->queue, view_rows(desk->residual, row, count), piece));
    }
    return BALORA_OK;
}

static balora_status compute(pissa_desk *desk, balora_context *context, const balora_pissa_options *options,
                             bool residual) {
    const backend_ops *ops = desk->device.ops;
    pissa_request request = {.device = &desk->device,
                             .queue = desk->queue,
                             .memory = &context->memory,
                             .name = "balora_pissa",
                             .weight = desk->weight,
                             .rank = options->rank,
                             .scale = options->scale,
                             .seed = options->seed,
                             .full_svd = options->full_svd,
                             .a = desk->own_a,
                             .b = desk->own_b};
    STATUS_TRY(pissa_factors(&request));
    if (residual)
        STATUS_TRY(write_residual(desk, options->scale));
    STATUS_TRY(ops->copy(desk->queue, desk->a, desk->own_a));
    STATUS_TRY(ops->copy(desk->queue, desk->b, desk->own_b));
    return ops->synchronize(desk->queue);
}

balora_status pissa_host(balora_context *context, const pissa_host_request *request) {
    pissa_desk desk = {0};
    STATUS_TRY(check(&desk, request));
    balora_status status = open_desk(&desk, context, request);
    if (status == BALORA_OK)
        status = compute(&desk, context, request->options, request->residual != NULL);
    close_desk(&desk);
    return status;
}
