#include "regularizer/evaluator.h"

#include <stdio.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"

#define BUFFERS 4 /* among which a chunk's budget is shared */

/* --- life --- */

balora_status evaluator_create(evaluator **out, balora_context *context, int32_t place, int32_t place_index) {
    evaluator *self;
    char name[32];
    balora_status status;
    STATUS_TRY(memory_zeroed(&context->memory, &self, 1, sizeof *self, "an evaluator of regularizers"));
    self->context = context;
    self->place = place;
    self->place_index = place_index;
    snprintf(name, sizeof name, place == BALORA_DEVICE_CUDA ? "cuda:%d" : "cpu:%d", place_index);
    STATUS_GOTO(backend_open(&self->device, &context->memory, name, context->plugin_path, context->threads));
    STATUS_GOTO(self->device.ops->queue_open(&self->queue, self->device.device));
    *out = self;
    return BALORA_OK;
fail:
    evaluator_free(self);
    return status;
}

static void free_room(evaluator *self) {
    allocator *memory = &self->context->memory;
    spectral_logits_free(&self->spectral);
    covariance_free(&self->covariance);
    arena_free(&self->arena);
    memory_free(memory, self->host_terms);
    memory_free(memory, self->host_rows);
    memory_free(memory, self->stage);
    self->host_terms = NULL;
    self->host_rows = NULL;
    self->stage = NULL;
    self->sizes = (evaluator_sizes){0};
}

void evaluator_free(evaluator *self) {
    if (self == NULL)
        return;
    allocator *memory = &self->context->memory;
    free_room(self);
    if (self->queue != NULL)
        self->device.ops->queue_close(self->queue);
    backend_close(&self->device);
    memory_free(memory, self);
}

/* --- room --- */

balora_status evaluator_chunk(const evaluator *self, int64_t rows, int64_t columns, int64_t *out) {
    backend_properties properties;
    STATUS_TRY(self->device.ops->device_properties(self->device.device, &properties));
    int64_t fitting = properties.logit_bytes / BUFFERS / ((int64_t)sizeof(float) * columns);
    *out = arith_max(1, arith_min(fitting, rows));
    return BALORA_OK;
}

static bool suffices(const evaluator_sizes *have, const evaluator_sizes *want) {
    bool spectral = !want->spectral || (have->spectral && have->top == want->top && have->norm == want->norm);
    return have->columns == want->columns && have->chunk >= want->chunk && have->active >= want->active &&
           spectral && have->covariance >= want->covariance && have->normalized >= want->normalized &&
           have->staged >= want->staged;
}

static void place(evaluator *self) {
    arena *plan = &self->arena;
    int64_t chunk = self->sizes.chunk, columns = self->sizes.columns;
    self->student = arena_place(plan, BALORA_F32, chunk, columns);
    self->teacher = arena_place(plan, BALORA_F32, chunk, columns);
    self->gradient = arena_place(plan, BALORA_F32, chunk, columns);
    self->terms = arena_place(plan, BALORA_F64, chunk, LOSS_COLUMNS);
    self->entropy = arena_place(plan, BALORA_F64, chunk, 1);
    self->targets = arena_place(plan, BALORA_I32, 1, chunk);
    self->flags = arena_place(plan, BALORA_I32, 1, chunk);
    self->chunk_rows = arena_place(plan, BALORA_I32, 1, chunk);
    self->rows = arena_place(plan, BALORA_I32, 1, self->sizes.active);
    self->values = arena_place(plan, BALORA_F64, 1, 3);
    if (self->sizes.normalized)
        normalized_place(&self->normalized, plan, chunk, columns);
}

/* No row predicts a token: the task is the host's. */
static balora_status clear_targets(evaluator *self) {
    for (int64_t i = 0; i < self->sizes.chunk; i++)
        self->host_rows[i] = -1;
    return self->device.ops->upload(self->queue, self->targets.buffer, self->targets.offset, self->host_rows,
                                    view_bytes(self->targets));
}

static balora_status make_host_room(evaluator *self) {
    allocator *memory = &self->context->memory;
    size_t chunk = (size_t)self->sizes.chunk;
    STATUS_TRY(
        memory_new(memory, &self->host_terms, chunk * LOSS_COLUMNS, sizeof *self->host_terms, "terms"));
    STATUS_TRY(memory_new(memory, &self->host_rows, chunk, sizeof *self->host_rows, "rows of a chunk"));
    if (self->sizes.staged)
        STATUS_TRY(memory_new(memory, &self->stage, chunk, (size_t)self->sizes.columns * sizeof(float),
                              "a packed piece of logits"));
    return BALORA_OK;
}

static balora_status make_room(evaluator *self) {
    const evaluator_sizes *sizes = &self->sizes;
    allocator *memory = &self->context->memory;
    spectral_logits_options spectral = {
        .rows = sizes->active, .columns = sizes->columns, .top = sizes->top, .norm = sizes->norm};
    backend_limits limits = {.vocabulary = sizes->columns,
                             .eigh_size = sizes->spectral ? spectral_logits_problem_size(&spectral) : 0,
                             .eigh_count = sizes->spectral ? spectral_logits_pair_count(&spectral) : 0};
    STATUS_TRY(self->device.ops->prepare(self->queue, &limits));
    place(self);
    STATUS_TRY(arena_allocate(&self->arena, &self->device));
    place(self);
    STATUS_TRY(make_host_room(self));
    STATUS_TRY(clear_targets(self));
    if (sizes->normalized)
        STATUS_TRY(normalized_prepare(&self->normalized, memory, &self->device, self->queue));
    if (sizes->spectral)
        STATUS_TRY(spectral_logits_create(&self->spectral, &self->device, self->queue, &spectral));
    if (sizes->covariance)
        STATUS_TRY(covariance_create(&self->covariance, memory, &self->device, self->queue, sizes->active,
                                     sizes->columns));
    return BALORA_OK;
}

balora_status evaluator_prepare(evaluator *self, const evaluator_sizes *sizes) {
    if (suffices(&self->sizes, sizes))
        return BALORA_OK;
    evaluator_sizes wanted = *sizes;
    if (self->sizes.columns == sizes->columns) { /* micro-batches change in size: keep the largest */
        wanted.chunk = arith_max(wanted.chunk, self->sizes.chunk);
        wanted.active = arith_max(wanted.active, self->sizes.active);
        wanted.staged = wanted.staged || self->sizes.staged;
    }
    free_room(self);
    self->sizes = wanted;
    balora_status status = make_room(self);
    if (status != BALORA_OK)
        free_room(self);
    return status;
}

int64_t evaluator_bytes(const evaluator *self) {
    int64_t staged = self->stage != NULL ? view_bytes(self->student) : 0;
    return self->arena.bytes + self->spectral.arena.bytes + self->covariance.arena.bytes + staged;
}
