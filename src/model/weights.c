#include "model/weights.h"

#include <stdio.h>
#include <string.h>

#include "base/arith.h"
#include "base/status.h"

#define NORM_COUNT    6
#define BLOCK_TENSORS (NORM_COUNT + 2 * PROJECTION_COUNT)

void weights_projections(const model_config *config, projection out[PROJECTION_COUNT]) {
    int64_t q = config->heads * config->head_dim, kv = config->key_heads * config->head_dim;
    int64_t d = config->hidden, f = config->intermediate;
    const projection table[PROJECTION_COUNT] = {
        {"q_proj", "self_attn.q_proj", GROUP_QKV, 0, 0, q, d, config->qkv_bias},
        {"k_proj", "self_attn.k_proj", GROUP_QKV, 1, q, kv, d, config->qkv_bias},
        {"v_proj", "self_attn.v_proj", GROUP_QKV, 2, q + kv, kv, d, config->qkv_bias},
        {"o_proj", "self_attn.o_proj", GROUP_OUTPUT, 0, 0, d, q, config->output_bias},
        {"gate_proj", "mlp.gate_proj", GROUP_GATE_UP, 0, 0, f, d, config->mlp_bias},
        {"up_proj", "mlp.up_proj", GROUP_GATE_UP, 1, f, f, d, config->mlp_bias},
        {"down_proj", "mlp.down_proj", GROUP_DOWN, 0, 0, d, f, config->mlp_bias},
    };
    memcpy(out, table, sizeof table);
}

/* A tensor that is all of `field`. */
static void name_tensor(weights *self, const char *name, int32_t rank, bool wide, matrix_view *field) {
    named_tensor *tensor = &self->tensors[self->tensor_count++];
    *tensor = (named_tensor){.rank = rank, .wide = wide, .view = *field, .field = field};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    self->parameters += field->rows * field->cols;
}

/* A tensor that is a projection's part of its group's `field`. */
static void name_part(weights *self, const char *name, int32_t rank, bool wide, matrix_view *field,
                      const projection *part) {
    named_tensor *tensor = &self->tensors[self->tensor_count++];
    *tensor = (named_tensor){.rank = rank, .wide = wide, .field = field, .first = part->first};
    tensor->view =
        rank == 1 ? view_columns(*field, part->first, part->out) : view_rows(*field, part->first, part->out);
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    self->parameters += tensor->view.rows * tensor->view.cols;
}

static void place_groups(weights *self, const projection *projections, layer_weights *layer) {
    for (int group = 0; group < GROUP_COUNT; group++) {
        int64_t out = 0, in = 0;
        bool bias = false;
        for (int p = 0; p < PROJECTION_COUNT; p++)
            if (projections[p].group == group) {
                out += projections[p].out;
                in = projections[p].in;
                bias = projections[p].bias;
            }
        layer->groups[group].weight = arena_place(&self->arena, self->dtype, out, in);
        layer->groups[group].bias = bias ? arena_place(&self->arena, BALORA_F32, 1, out) : view_none();
    }
}

/* With norms after attention and MLP as well, "post_attention" is what it says. */
static void place_norms(weights *self, const model_config *config, layer_weights *layer, int64_t index) {
    const bool outputs = config->output_norms, heads = config->query_key_norms;
    const struct {
        const char *name;
        matrix_view *place;
        int64_t size;
        bool there;
    } norms[NORM_COUNT] = {
        {"input_layernorm", &layer->attention_norm, config->hidden, true},
        {"post_attention_layernorm", outputs ? &layer->attention_output_norm : &layer->mlp_norm,
         config->hidden, true},
        {"pre_feedforward_layernorm", &layer->mlp_norm, config->hidden, outputs},
        {"post_feedforward_layernorm", &layer->mlp_output_norm, config->hidden, outputs},
        {"self_attn.q_norm", &layer->query_norm, config->head_dim, heads},
        {"self_attn.k_norm", &layer->key_norm, config->head_dim, heads},
    };
    for (size_t i = 0; i < NORM_COUNT; i++) {
        if (!norms[i].there)
            continue;
        char name[96];
        *norms[i].place = arena_place(&self->arena, BALORA_F32, 1, norms[i].size);
        snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)index, norms[i].name);
        name_tensor(self, name, 1, true, norms[i].place);
    }
}

static void place_layer(weights *self, const model_config *config, const projection *projections,
                        int64_t index) {
    layer_weights *layer = &self->layers[index];
    char name[96];
    place_norms(self, config, layer, index);
    place_groups(self, projections, layer);
    for (int p = 0; p < PROJECTION_COUNT; p++) {
        const projection *part = &projections[p];
        linear_weights *group = &layer->groups[part->group];
        snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)index, part->module);
        name_part(self, name, 2, false, &group->weight, part);
        if (!part->bias)
            continue;
        snprintf(name, sizeof name, "model.layers.%lld.%s.bias", (long long)index, part->module);
        name_part(self, name, 1, true, &group->bias, part);
    }
}

static void place_all(weights *self, const model_config *config) {
    projection projections[PROJECTION_COUNT];
    weights_projections(config, projections);
    self->tensor_count = 0;
    self->parameters = 0;
    self->embedding = arena_place(&self->arena, self->dtype, config->vocabulary, config->hidden);
    name_tensor(self, "model.embed_tokens.weight", 2, false, &self->embedding);
    for (int64_t i = 0; i < config->layers; i++)
        place_layer(self, config, projections, i);
    self->final_norm = arena_place(&self->arena, BALORA_F32, 1, config->hidden);
    name_tensor(self, "model.norm.weight", 1, true, &self->final_norm);
    self->head = self->embedding;
    if (!config->tied_embeddings) {
        self->head = arena_place(&self->arena, self->dtype, config->vocabulary, config->hidden);
        name_tensor(self, "lm_head.weight", 2, false, &self->head);
    }
}

balora_status weights_plan(weights *out, allocator *memory, const backend *device, const model_config *config,
                           int32_t dtype) {
    memset(out, 0, sizeof *out);
    out->memory = memory;
    out->device = device;
    out->dtype = dtype;
    balora_status status;
    STATUS_GOTO(memory_zeroed(memory, &out->layers, (size_t)config->layers, sizeof *out->layers,
                              "a table of layers"));
    STATUS_GOTO(memory_zeroed(memory, &out->tensors, (size_t)(config->layers * BLOCK_TENSORS + 3),
                              sizeof *out->tensors, "a table of tensors"));
    place_all(out, config);
    return BALORA_OK;
fail:
    weights_free(out);
    return status;
}

balora_status weights_create(weights *out, allocator *memory, const backend *device,
                             const model_config *config, int32_t dtype) {
    STATUS_TRY(weights_plan(out, memory, device, config, dtype));
    balora_status status = arena_allocate(&out->arena, device);
    if (status != BALORA_OK) {
        int64_t bytes = out->arena.bytes;
        weights_free(out);
        return status_prefix(status, "the weights of a %s model, %lld bytes", config->family,
                             (long long)bytes);
    }
    place_all(out, config);
    return BALORA_OK;
}

balora_status weights_share(weights *out, allocator *memory, const weights *base,
                            const model_config *config) {
    STATUS_TRY(weights_plan(out, memory, base->device, config, base->dtype));
    memset(&out->arena, 0, sizeof out->arena);
    out->embedding = base->embedding;
    out->head = base->head;
    out->final_norm = base->final_norm;
    memcpy(out->layers, base->layers, (size_t)config->layers * sizeof *out->layers);
    for (int64_t i = 0; i < out->tensor_count; i++)
        out->tensors[i].view = weights_part(&out->tensors[i], *out->tensors[i].field);
    return BALORA_OK;
}

void weights_free(weights *self) {
    if (self->memory == NULL)
        return;
    arena_free(&self->arena);
    memory_free(self->memory, self->layers);
    memory_free(self->memory, self->tensors);
    memset(self, 0, sizeof *self);
}
