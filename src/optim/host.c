#include "optim/host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "tensor/host_tensor.h"

#define COUNT_LIMIT (INT64_C(1) << 48) /* numbers: their bytes are countable */

/* Memory that a step reads, or writes. */
typedef struct host_span {
    const char *begin, *end;
    bool written;
} host_span;

/* --- making --- */

/* "cuda:1" is where tensors of CUDA device 1 are. */
static void name_place(host_tensors *host, const char *device) {
    const char *number = strchr(device, ':');
    host->kind = strncmp(device, "cuda", 4) == 0 ? BALORA_DEVICE_CUDA : BALORA_DEVICE_CPU;
    host->index = number != NULL ? (int32_t)strtol(number + 1, NULL, 10) : 0;
}

static balora_status lay_out(balora_optimizer *self, const host_request *request) {
    host_tensors *host = self->host;
    bool scales = optimizer_kind(self) == OPTIMIZER_ADAMW_8BIT;
    for (int64_t i = 0; i < request->tensors; i++) {
        host_parameter *parameter = &host->parameters[i];
        const char *name = request->names != NULL && request->names[i] != NULL ? request->names[i] : "";
        if (request->counts[i] < 0 || request->counts[i] > COUNT_LIMIT - self->count)
            return status_fail(BALORA_ERROR_ARGUMENT,
                               "counts[%lld] is %lld; expected 0 or more, and at most %lld in all",
                               (long long)i, (long long)request->counts[i], (long long)COUNT_LIMIT);
        parameter->count = request->counts[i];
        parameter->first = self->count;
        parameter->blocks = scales ? arith_divide_up(parameter->count, OPTIMIZER_BLOCK) : 0;
        parameter->first_block = self->blocks;
        parameter->group = groups_find(&self->groups, name);
        self->layout = blocks_hash(self->layout, parameter->first, parameter->count);
        self->count += parameter->count;
        self->blocks += parameter->blocks;
    }
    return BALORA_OK;
}

static balora_status take_scalars(host_tensors *host) {
    for (int pass = 0; pass < 2; pass++) {
        host->norm = arena_place(&host->scalars, BALORA_F64, 1, 1);
        host->scale = arena_place(&host->scalars, BALORA_F32, 1, 1);
        if (pass == 0)
            STATUS_TRY(arena_allocate(&host->scalars, &host->device));
    }
    return BALORA_OK;
}

static balora_status build(balora_optimizer *self, const host_request *request) {
    allocator *memory = &self->context->memory;
    STATUS_TRY(memory_zeroed(memory, &self->host, 1, sizeof *self->host, "an optimizer's tensors"));
    host_tensors *host = self->host;
    STATUS_TRY(memory_zeroed(memory, &host->parameters, (size_t)request->tensors, sizeof *host->parameters,
                             "an optimizer's tensors"));
    STATUS_TRY(memory_new(memory, &host->spans, 2 * (size_t)request->tensors, sizeof *host->spans,
                          "an optimizer's tensors"));
    host->count = request->tensors;
    STATUS_TRY(lay_out(self, request));
    STATUS_TRY(backend_open(&host->device, memory, request->device, self->context->plugin_path,
                            self->context->threads));
    name_place(host, request->device);
    self->device = &host->device;
    STATUS_TRY(host->device.ops->queue_open(&self->queue, host->device.device));
    STATUS_TRY(take_scalars(host));
    return optimizer_take_memory(self, NULL);
}

balora_status host_optimizer_create(balora_optimizer **out, balora_context *context,
                                    const balora_optimizer_options *options, const host_request *request) {
    balora_optimizer *optimizer;
    STATUS_TRY(optimizer_new(&optimizer, context, options));
    balora_status status = build(optimizer, request);
    optimizer->options.parameter_groups = NULL; /* the caller's text */
    if (status != BALORA_OK) {
        optimizer_release(optimizer);
        return status;
    }
    *out = optimizer;
    return BALORA_OK;
}

static void free_side(host_tensors *host, host_side *side) {
    if (side->buffer != NULL)
        host->device.ops->buffer_free(host->device.device, side->buffer);
    side->buffer = NULL;
}

void host_tensors_free(balora_optimizer *optimizer) {
    host_tensors *host = optimizer->host;
    allocator *memory = &optimizer->context->memory;
    if (host == NULL)
        return;
    for (int64_t i = 0; i < host->count; i++) {
        free_side(host, &host->parameters[i].value);
        free_side(host, &host->parameters[i].gradient);
    }
    arena_free(&host->scalars);
    arena_free(&host->copies);
    if (optimizer->queue != NULL)
        host->device.ops->queue_close(optimizer->queue);
    backend_close(&host->device);
    memory_free(memory, host->parameters);
    memory_free(memory, host->spans);
    memory_free(memory, host);
}

/* --- the host's memory --- */

static balora_status check_side(const host_tensors *host, host_side *side, int64_t count, const char *list,
                                int64_t index) {
    const balora_tensor *tensor = &side->tensor;
    int32_t dtype = tensor->dtype;
    if (dtype != BALORA_F32 && dtype != BALORA_BF16 && dtype != BALORA_F16)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s[%lld] is of %s; expected float32, bfloat16 or float16",
                           list, (long long)index, dtype_name(dtype));
    if (tensor->device != host->kind || tensor->device_index != host->index)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s[%lld] is not on the optimizer's device", list,
                           (long long)index);
    if (host_tensor_count(tensor) != count)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s[%lld] has %lld numbers; the optimizer was made for %lld there", list,
                           (long long)index, (long long)host_tensor_count(tensor), (long long)count);
    if (!host_tensor_rows(tensor, &side->view))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s[%lld] is not in row-major order; make it contiguous",
                           list, (long long)index);
    return BALORA_OK;
}

static int compare_begin(const void *left, const void *right) {
    const host_span *a = left, *b = right;
    return (a->begin > b->begin) - (a->begin < b->begin);
}

static host_span span_of(const host_side *side, bool written) {
    const char *begin = side->tensor.data;
    return (host_span){begin, view_bytes(side->view) > 0 ? begin + view_bytes(side->view) : begin, written};
}

/* What is written must be nobody else's. */
static balora_status check_overlaps(const host_tensors *host) {
    int64_t count = 0;
    for (int64_t i = 0; i < host->count; i++) {
        host_span value = span_of(&host->parameters[i].value, true),
                  gradient = span_of(&host->parameters[i].gradient, false);
        if (value.begin == value.end)
            continue;
        host->spans[count++] = value;
        host->spans[count++] = gradient;
    }
    if (count == 0)
        return BALORA_OK;
    qsort(host->spans, (size_t)count, sizeof *host->spans, compare_begin);
    const char *written_to = NULL, *read_to = NULL;
    for (int64_t i = 0; i < count; i++) {
        const host_span *span = &host->spans[i];
        if ((written_to != NULL && span->begin < written_to) ||
            (span->written && read_to != NULL && span->begin < read_to))
            return status_fail(BALORA_ERROR_ARGUMENT, "parameters overlap each other or a gradient, at %p",
                               (const void *)span->begin);
        const char **furthest = span->written ? &written_to : &read_to;
        if (*furthest == NULL || span->end > *furthest)
            *furthest = span->end;
    }
    return BALORA_OK;
}

static balora_status wrap(host_tensors *host, host_side *side) {
    int64_t bytes = view_bytes(side->view);
    if (side->buffer == NULL || side->wrapped != side->tensor.data || side->wrapped_bytes != bytes) {
        free_side(host, side);
        STATUS_TRY(
            host->device.ops->buffer_wrap(&side->buffer, host->device.device, side->tensor.data, bytes));
        side->wrapped = side->tensor.data;
        side->wrapped_bytes = bytes;
    }
    side->view.buffer = side->buffer;
    return BALORA_OK;
}

static bool needs_copy(const host_side *side) {
    return side->view.dtype != BALORA_F32 || side->view.rows != 1;
}

static balora_status take_copies(host_tensors *host) {
    int64_t most = host->copied;
    for (int64_t i = 0; i < host->count; i++) {
        const host_parameter *parameter = &host->parameters[i];
        if (needs_copy(&parameter->value) || needs_copy(&parameter->gradient))
            most = arith_max(most, parameter->count);
    }
    if (most == host->copied)
        return BALORA_OK;
    arena_free(&host->copies);
    host->copied = 0;
    for (int pass = 0; pass < 2; pass++) {
        host->value_copy = arena_place(&host->copies, BALORA_F32, 1, most);
        host->gradient_copy = arena_place(&host->copies, BALORA_F32, 1, most);
        if (pass == 0)
            STATUS_TRY(arena_allocate(&host->copies, &host->device));
    }
    host->copied = most;
    return BALORA_OK;
}

/* Everything that can fail for a reason of the host's, before anything is changed. */
static balora_status take_up(host_tensors *host) {
    for (int64_t i = 0; i < host->count; i++) {
        host_parameter *parameter = &host->parameters[i];
        STATUS_TRY(check_side(host, &parameter->value, parameter->count, "parameters", i));
        STATUS_TRY(check_side(host, &parameter->gradient, parameter->count, "gradients", i));
        if (parameter->value.tensor.read_only)
            return status_fail(BALORA_ERROR_ARGUMENT, "parameters[%lld] is read-only", (long long)i);
    }
    STATUS_TRY(check_overlaps(host));
    for (int64_t i = 0; i < host->count; i++) {
        STATUS_TRY(wrap(host, &host->parameters[i].value));
        STATUS_TRY(wrap(host, &host->parameters[i].gradient));
    }
    return take_copies(host);
}

/* --- the step --- */

/* The numbers as one row of F32: the tensor itself, or `copy` after copying. */
static balora_status load(const balora_optimizer *self, const host_side *side, matrix_view copy,
                          matrix_view *out) {
    *out = side->view;
    if (!needs_copy(side))
        return BALORA_OK;
    int64_t rows = side->view.rows, cols = side->view.cols;
    *out = view_columns(copy, 0, rows * cols);
    return self->device->ops->copy(self->queue, view_reshape(*out, rows, cols), side->view);
}

static balora_status add_norm(const balora_optimizer *self, const host_parameter *parameter) {
    matrix_view gradient;
    STATUS_TRY(load(self, &parameter->gradient, self->host->gradient_copy, &gradient));
    return self->device->ops->sum_squares(self->queue, gradient, 1, self->host->norm);
}

/* The squared norm over all tensors on the device, and the root on the host. */
static balora_status find_norm(const balora_optimizer *self, double max_grad_norm, double *norm) {
    const backend_ops *ops = self->device->ops;
    host_tensors *host = self->host;
    double squares;
    STATUS_TRY(ops->fill_zero(self->queue, host->norm));
    for (int64_t i = 0; i < host->count; i++)
        if (host->parameters[i].count > 0)
            STATUS_TRY(add_norm(self, &host->parameters[i]));
    STATUS_TRY(ops->clip_scale(self->queue, host->norm, max_grad_norm, host->scale));
    STATUS_TRY(ops->download(self->queue, &squares, host->norm.buffer, host->norm.offset, sizeof squares));
    STATUS_TRY(ops->synchronize(self->queue));
    *norm = sqrt(squares);
    return BALORA_OK;
}

static balora_status update(const balora_optimizer *self, const host_parameter *parameter,
                            const optimizer_update *next) {
    const backend_ops *ops = self->device->ops;
    const host_tensors *host = self->host;
    const host_side *value = &parameter->value;
    optimizer_update own = *next;
    own.group_count = 1;
    own.groups[0] = next->groups[parameter->group];
    own.scale = host->scale;
    own.first_moment = view_columns(self->first, parameter->first, parameter->count);
    if (!view_is_none(self->second))
        own.second_moment = view_columns(self->second, parameter->first, parameter->count);
    if (parameter->blocks > 0) {
        own.first_scales = view_columns(self->first_scales, parameter->first_block, parameter->blocks);
        own.second_scales = view_columns(self->second_scales, parameter->first_block, parameter->blocks);
    }
    STATUS_TRY(load(self, value, host->value_copy, &own.parameter));
    STATUS_TRY(load(self, &parameter->gradient, host->gradient_copy, &own.gradient));
    STATUS_TRY(ops->optimizer_step(self->queue, &own));
    if (!needs_copy(value))
        return BALORA_OK;
    return ops->copy(self->queue, value->view,
                     view_reshape(own.parameter, value->view.rows, value->view.cols));
}

balora_status host_optimizer_step(balora_optimizer *optimizer, double learning_rate, double max_grad_norm,
                                  double *norm) {
    host_tensors *host = optimizer->host;
    STATUS_TRY(take_up(host));
    STATUS_TRY(find_norm(optimizer, max_grad_norm, norm));
    if (!isfinite(*norm))
        return BALORA_OK;
    optimizer_update next = optimizer_next(optimizer, learning_rate);
    for (int64_t i = 0; i < host->count; i++)
        if (host->parameters[i].count > 0)
            STATUS_TRY(update(optimizer, &host->parameters[i], &next));
    STATUS_TRY(optimizer->device->ops->synchronize(optimizer->queue));
    optimizer_count(optimizer);
    return BALORA_OK;
}
