#include "model/decoder.h"

#include "base/status.h"

/* In the last layer all groups behind attention see the needed rows only. */
static linear_dropout group_dropout(const decoder *self, int64_t layer, int group) {
    const activations *memory = self->memory;
    bool needed = layer == self->config->layers - 1 && group != GROUP_QKV;
    if (self->dropout == 0)
        return (linear_dropout){0};
    return (linear_dropout){.probability = self->dropout,
                            .seed = self->dropout_seed,
                            .keys = needed ? memory->needed_dropout_keys : memory->dropout_keys,
                            .scratch = memory->dropped};
}

/* The rows of `layer` in a group's kept products. */
static matrix_view group_kept(const activations *memory, int64_t layer, int group) {
    matrix_view kept = memory->kept[group];
    return view_is_none(kept)
               ? kept
               : activations_slot(memory, kept, layer, memory->sizes.tokens, memory->sizes.tokens);
}

linear_group decoder_group(const decoder *self, int64_t layer, int group) {
    return (linear_group){
        .ops = self->ops,
        .student = &self->student->layers[layer].groups[group],
        .teacher = &self->teacher->layers[layer].groups[group],
        .trained = self->trained != NULL ? &self->trained[layer * GROUP_COUNT + group] : NULL,
        .low_rank = self->low_rank != NULL ? &self->low_rank[layer * GROUP_COUNT + group] : NULL,
        .dropout = group_dropout(self, layer, group),
        .kept = group_kept(self->memory, layer, group),
        .scaled = self->memory->scaled,
    };
}

attention_shape decoder_attention_shape(const decoder *self, const decoder_batch *batch, int64_t layer,
                                        int32_t copies) {
    const model_config *config = self->config;
    return (attention_shape){.sequences = copies * batch->sequences,
                             .longest_sequence = batch->longest_sequence,
                             .heads = config->heads,
                             .key_heads = config->key_heads,
                             .head_dim = config->head_dim,
                             .window = model_config_is_local(config, layer) ? config->window : 0,
                             .scale = config->attention_scale,
                             .soft_cap = config->attention_soft_cap};
}

/* Memory of as many rows as the residual stream at the first layer, free before that layer and after its backward. */
static matrix_view beside_embeddings(const decoder *self, int64_t rows) {
    return view_rows(self->memory->middle, 0, rows);
}

static balora_status embed(const decoder *self, const decoder_batch *batch) {
    const activations *memory = self->memory;
    int64_t rows = batch->copies * batch->tokens;
    bool scaled = self->embedding_scale != 1;
    matrix_view residual = view_rows(memory->residual, 0, rows);
    matrix_view target = scaled ? beside_embeddings(self, rows) : residual;
    for (int32_t copy = 0; copy < batch->copies; copy++) {
        const weights *source = copy == 0 ? self->student : self->teacher;
        int64_t first = copy * batch->tokens;
        STATUS_TRY(self->ops->gather_rows(self->queue, view_rows(target, first, batch->tokens),
                                          source->embedding,
                                          view_columns(memory->tokens, first, batch->tokens)));
    }
    return scaled ? self->ops->scale_add(self->queue, (double)self->embedding_scale, target, 0, residual)
                  : BALORA_OK;
}

static balora_status embed_backward(const decoder *self, const decoder_batch *batch, matrix_view dembedding) {
    matrix_view gradient = view_rows(self->memory->dresidual, 0, batch->tokens);
    if (self->embedding_scale != 1) {
        matrix_view scaled = beside_embeddings(self, batch->tokens);
        STATUS_TRY(self->ops->scale_add(self->queue, (double)self->embedding_scale, gradient, 0, scaled));
        gradient = scaled;
    }
    return self->ops->scatter_add_rows(self->queue, dembedding, gradient,
                                       view_columns(self->memory->tokens, 0, batch->tokens));
}

balora_status decoder_forward(const decoder *self, const decoder_batch *batch) {
    STATUS_TRY(embed(self, batch));
    for (int64_t layer = 0; layer < self->config->layers; layer++)
        STATUS_TRY(block_forward(self, batch, layer));
    return BALORA_OK;
}

balora_status decoder_backward(const decoder *self, const decoder_batch *batch) {
    matrix_view dembedding = DECODER_GRADIENT(self, embedding);
    int64_t lowest = view_is_none(dembedding) ? self->lowest_layer : 0;
    for (int64_t layer = self->config->layers - 1; layer >= lowest; layer--)
        STATUS_TRY(block_backward(self, batch, layer));
    return view_is_none(dembedding) ? BALORA_OK : embed_backward(self, batch, dembedding);
}
