#include "train/pass.h"

#include <stdio.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"

/* Trained weights are F32, and so is everything that is multiplied by them. */
static int32_t activation_dtype(const pass_options *options) {
    bool wide = options->adapter != NULL && adapter_trains_matrices(options->adapter);
    return wide ? BALORA_F32 : options->model->activation_dtype;
}

static activation_sizes measure(const pass_options *options) {
    activation_sizes sizes = {.tokens = options->capacity.tokens,
                              .rows = options->capacity.rows,
                              .sequences = options->capacity.sequences,
                              .copies = options->copies,
                              .dtype = activation_dtype(options),
                              .backward = options->backward,
                              .dropout = options->dropout > 0};
    const balora_adapter *adapter = options->adapter;
    sizes.low_rank_dtype = sizes.dtype;
    if (adapter == NULL || adapter->groups == NULL)
        return sizes;
    sizes.low_rank_dtype = adapter->packed_dtype;
    for (int64_t i = 0; i < options->model->config.layers * GROUP_COUNT; i++) {
        int64_t *most = &sizes.low_rank_rows[i % GROUP_COUNT];
        *most = arith_max(*most, adapter->groups[i].rows);
        sizes.magnitudes[i % GROUP_COUNT] |= !view_is_none(adapter->groups[i].scale);
        sizes.low_rank_scratch =
            arith_max(sizes.low_rank_scratch, linear_scratch_columns(&adapter->groups[i]));
    }
    return sizes;
}

static void place(pass *self) {
    const pass_options *options = &self->options;
    activation_sizes sizes = measure(options);
    head_sizes head = {.rows = options->capacity.rows,
                       .copies = options->copies,
                       .backward = options->backward,
                       .kept = options->keep_logits};
    activations_place(&self->activations, &self->arena, &options->model->config, &sizes);
    head.chunk =
        head_chunk_rows(options->model->logit_bytes, options->model->config.vocabulary, options->logit_chunk,
                        options->capacity.rows, head_planes(&self->decoder, &head));
    int64_t before = self->arena.bytes;
    head_place(&self->head, &self->arena, &self->decoder, &head);
    self->head_bytes = self->arena.bytes - before;
}

static void connect(pass *self) {
    balora_model *model = self->options.model;
    balora_adapter *adapter = self->options.adapter;
    bool trained = adapter != NULL && adapter->trained_count > 0;
    self->decoder =
        (decoder){.config = &model->config,
                  .ops = model->device.ops,
                  .queue = self->queue,
                  .student = adapter != NULL ? adapter_student(adapter) : &model->weights,
                  .teacher = &model->weights,
                  .gradients = trained && self->options.backward ? &adapter->gradient_views : NULL,
                  .trained = trained && self->options.backward ? adapter->trained_groups : NULL,
                  .lowest_layer = adapter != NULL ? adapter_lowest_layer(adapter) : 0,
                  .low_rank = adapter != NULL ? adapter->groups : NULL,
                  .rope = &self->rope,
                  .embedding_scale = model_config_embedding_scale(&model->config, model->weights.dtype),
                  .memory = &self->activations,
                  .dropout = self->options.dropout};
}

static balora_status make_rope(pass *self) {
    const dataset *data = self->options.data;
    int64_t *lengths;
    STATUS_TRY(
        memory_new(self->memory, &lengths, (size_t)data->sequences, sizeof *lengths, "sequence lengths"));
    for (int64_t i = 0; i < data->sequences; i++)
        lengths[i] = dataset_length(data, i);
    balora_status status =
        rope_table_create(&self->rope, self->memory, &self->options.model->device, self->queue,
                          &self->options.model->config, lengths, data->sequences);
    memory_free(self->memory, lengths);
    return status;
}

static balora_status prepare_scratch(pass *self) {
    const model_config *config = &self->options.model->config;
    /* weights that share an input lie joined: q, k, v, and gate with up */
    int64_t attention = (config->heads + 2 * config->key_heads) * config->head_dim;
    int64_t widest = arith_max(arith_max(config->hidden, attention),
                               arith_max(2 * config->intermediate, config->vocabulary));
    backend_limits limits = {.gemm_columns = widest,
                             .eigh_size = self->options.eigh_size,
                             .sequence_length = self->options.capacity.longest_sequence,
                             .head_dim = config->head_dim,
                             .vocabulary = config->vocabulary,
                             .eigh_count = self->options.eigh_count,
                             .tokens = self->options.copies * self->options.capacity.tokens,
                             .heads = config->heads};
    return self->decoder.ops->prepare(self->queue, &limits);
}

static balora_status build(pass *self) {
    balora_model *model = self->options.model;
    const batch_counts *capacity = &self->options.capacity;
    int64_t copies = self->options.copies;
    int64_t staged = copies * (2 * capacity->tokens + capacity->sequences + capacity->rows) + 1;
    staged += self->options.dropout > 0 ? 2 * (capacity->tokens + capacity->rows) : 0;
    STATUS_TRY(model_queue(model, &self->queue));
    connect(self);
    place(self);
    int64_t planned = self->arena.bytes;
    balora_status status = arena_allocate(&self->arena, &model->device);
    if (status != BALORA_OK)
        return status_prefix(
            status,
            "activations of %lld tokens a micro-batch, planned %lld MiB (a smaller batch_size or "
            "max_length needs less)",
            (long long)capacity->tokens, (long long)(planned >> 20));
    place(self);
    STATUS_TRY(prepare_scratch(self));
    STATUS_TRY(make_rope(self));
    STATUS_TRY(batch_allocate(&self->batch, self->memory, capacity));
    return memory_new(self->memory, &self->staging, (size_t)staged, sizeof *self->staging, "a micro-batch");
}

balora_status pass_create(pass *out, const pass_options *options) {
    memset(out, 0, sizeof *out);
    out->options = *options;
    out->memory = &options->model->context->memory;
    balora_status status = build(out);
    if (status != BALORA_OK)
        pass_free(out);
    return status;
}

void pass_free(pass *self) {
    if (self->memory == NULL)
        return;
    arena_free(&self->arena);
    rope_table_free(&self->rope);
    batch_free(&self->batch);
    memory_free(self->memory, self->staging);
    if (self->queue != NULL)
        self->options.model->device.ops->queue_close(self->queue);
    memset(self, 0, sizeof *self);
}

/* Rotary rows of every token: its position behind the first row of its sequence's section. */
static void write_positions(const pass *self, int32_t *out) {
    const token_batch *batch = &self->batch;
    for (int64_t s = 0; s < batch->counts.sequences; s++) {
        int32_t begin = batch->offsets[s], end = batch->offsets[s + 1];
        int32_t first = (int32_t)rope_table_first_row(&self->rope, end - begin);
        for (int32_t i = begin; i < end; i++)
            out[i] = first + batch->positions[i];
    }
}

static void stage(pass *self, int32_t *tokens, int32_t *positions, int32_t *offsets, int32_t *needed) {
    const token_batch *batch = &self->batch;
    int64_t n = batch->counts.tokens, m = batch->counts.rows, b = batch->counts.sequences;
    for (int64_t copy = 0; copy < self->options.copies; copy++) {
        memcpy(tokens + copy * n, batch->tokens, (size_t)n * sizeof *tokens);
        write_positions(self, positions + copy * n);
        for (int64_t s = 0; s <= b; s++)
            offsets[copy * b + s] = (int32_t)(copy * n) + batch->offsets[s];
        for (int64_t r = 0; r < m; r++)
            needed[copy * m + r] = (int32_t)(copy * n) + batch->row_indices[r];
    }
}

static balora_status send(const pass *self, matrix_view target, const int32_t *host, int64_t count) {
    return self->decoder.ops->upload(self->queue, target.buffer, target.offset, host,
                                     count * (int64_t)sizeof *host);
}

/* A token's sequence, as a place in its step, and its position in it: packing and micro-batches do not change them. */
static balora_status send_dropout_keys(const pass *self, int32_t *keys) {
    const token_batch *batch = &self->batch;
    const activations *memory = &self->activations;
    int64_t tokens = batch->counts.tokens, rows = batch->counts.rows;
    int32_t *slots = keys, *needed_slots = keys + tokens, *needed_positions = needed_slots + rows;
    if (self->options.dropout == 0)
        return BALORA_OK;
    for (int64_t s = 0; s < batch->counts.sequences; s++)
        for (int32_t i = batch->offsets[s]; i < batch->offsets[s + 1]; i++)
            slots[i] = (int32_t)(self->first_slot + s);
    for (int64_t r = 0; r < rows; r++) {
        needed_slots[r] = slots[batch->row_indices[r]];
        needed_positions[r] = batch->positions[batch->row_indices[r]];
    }
    STATUS_TRY(send(self, view_rows(memory->dropout_keys, 0, 1), slots, tokens));
    STATUS_TRY(send(self, view_rows(memory->dropout_keys, 1, 1), batch->positions, tokens));
    STATUS_TRY(send(self, view_rows(memory->needed_dropout_keys, 0, 1), needed_slots, rows));
    return send(self, view_rows(memory->needed_dropout_keys, 1, 1), needed_positions, rows);
}

balora_status pass_load(pass *self) {
    const batch_counts *counts = &self->batch.counts;
    int64_t copies = self->options.copies, tokens = copies * counts->tokens, rows = copies * counts->rows;
    int64_t offsets = copies * counts->sequences + 1;
    int32_t *host_tokens = self->staging, *host_positions = host_tokens + tokens;
    int32_t *host_offsets = host_positions + tokens, *host_needed = host_offsets + offsets;
    self->shape = (decoder_batch){.tokens = counts->tokens,
                                  .rows = counts->rows,
                                  .sequences = counts->sequences,
                                  .longest_sequence = counts->longest_sequence,
                                  .copies = self->options.copies};
    stage(self, host_tokens, host_positions, host_offsets, host_needed);
    STATUS_TRY(send(self, self->activations.tokens, host_tokens, tokens));
    STATUS_TRY(send(self, self->activations.positions, host_positions, tokens));
    STATUS_TRY(send(self, self->activations.offsets, host_offsets, offsets));
    STATUS_TRY(send(self, self->activations.needed, host_needed, rows));
    STATUS_TRY(send_dropout_keys(self, host_needed + rows));
    return head_load(&self->head, &self->batch);
}

balora_status pass_forward(pass *self) {
    STATUS_TRY(decoder_forward(&self->decoder, &self->shape));
    return head_normalize(&self->head, self->shape.rows);
}
