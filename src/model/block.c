#include "model/block.h"
#include "base/status.h"

static matrix_view projected_rows(const decoder *self, const decoder_batch *batch, int64_t layer, int group,
                                  int64_t rows) {
    if (self->low_rank == NULL || self->low_rank[layer * GROUP_COUNT + group].rows == 0)
        return view_none();
    matrix_view slot =
        activations_slot(self->memory, self->memory->projected[group], layer, batch->tokens, rows);
    slot.cols = self->low_rank[layer * GROUP_COUNT + group].rows;
    return slot;
}

void block_split_heads(const model_config *config, matrix_view qkv, matrix_view *q, matrix_view *k,
                       matrix_view *v) {
    int64_t query = config->heads * config->head_dim, key = config->key_heads * config->head_dim;
    *q = view_columns(qkv, 0, query);
    *k = view_columns(qkv, query, key);
    *v = view_columns(qkv, query + key, key);
}

/* Views of what only some families have. */
static void look_at_traits(layer_views *views, const decoder *self, const decoder_batch *batch,
                           int64_t layer) {
    const activations *memory = self->memory;
    const model_config *config = self->config;
    views->rotary = model_config_is_local(config, layer) ? self->rope->local_table : self->rope->table;
    if (config->query_key_norms) {
        matrix_view rotated =
                        activations_slot(memory, memory->rotated, layer, batch->tokens, views->residual.rows),
                    none;
        block_split_heads(config, rotated, &views->q, &views->k, &none);
    }
    if (config->output_norms) {
        views->attention_output =
            activations_slot(memory, memory->attention_output, layer, batch->tokens, views->rows);
        views->mlp_output = activations_slot(memory, memory->mlp_output, layer, batch->tokens, views->rows);
    }
}

layer_views block_views(const decoder *self, const decoder_batch *batch, int64_t layer) {
    const activations *memory = self->memory;
    const model_config *config = self->config;
    int64_t all = batch->copies * batch->tokens;
    bool last = layer == config->layers - 1;
    int64_t students = last ? batch->rows : batch->tokens, rows = batch->copies * students;
    layer_views views = {
        .layer = layer,
        .last = last,
        .students = students,
        .rows = rows,
        .weights = &self->student->layers[layer],
        .teacher = &self->teacher->layers[layer],
        .gradients = self->gradients != NULL ? &self->gradients->layers[layer] : NULL,
        .residual = activations_slot(memory, memory->residual, layer, batch->tokens, all),
        .normed = view_rows(memory->normed, 0, all),
        .qkv = activations_slot(memory, memory->qkv, layer, batch->tokens, all),
        .attention = activations_slot(memory, memory->attention, layer, batch->tokens, all),
        .logsumexp = memory->sizes.backward
                         ? activations_slot(memory, memory->logsumexp, layer, batch->tokens, all)
                         : view_none(),
        .middle = activations_slot(memory, memory->middle, layer, batch->tokens, rows),
        .gate_up = activations_slot(memory, memory->gate_up, layer, batch->tokens, rows),
        .activated = view_rows(memory->activated, 0, rows),
    };
    block_split_heads(config, views.qkv, &views.plain_q, &views.plain_k, &views.v);
    views.q = views.plain_q;
    views.k = views.plain_k;
    look_at_traits(&views, self, batch, layer);
    views.gate = view_columns(views.gate_up, 0, config->intermediate);
    views.up = view_columns(views.gate_up, config->intermediate, config->intermediate);
    for (int group = 0; group < GROUP_COUNT; group++)
        views.projected[group] =
            projected_rows(self, batch, layer, group, group == GROUP_QKV ? batch->tokens : students);
    return views;
}

balora_status block_normalize(const decoder *self, int64_t students, matrix_view student_weight,
                              matrix_view teacher_weight, matrix_view x, matrix_view y) {
    const model_config *config = self->config;
    if (view_same(student_weight, teacher_weight) || students == x.rows)
        return self->ops->rms_norm(self->queue, x, student_weight, config->norm_weight_offset,
                                   config->norm_epsilon, y);
    int64_t teachers = x.rows - students;
    STATUS_TRY(self->ops->rms_norm(self->queue, view_rows(x, 0, students), student_weight,
                                   config->norm_weight_offset, config->norm_epsilon,
                                   view_rows(y, 0, students)));
    return self->ops->rms_norm(self->queue, view_rows(x, students, teachers), teacher_weight,
                               config->norm_weight_offset, config->norm_epsilon,
                               view_rows(y, students, teachers));
}

static balora_status forward_attention(const decoder *self, const decoder_batch *batch,
                                       const layer_views *views) {
    const backend_ops *ops = self->ops;
    const activations *memory = self->memory;
    int64_t all = views->residual.rows;
    matrix_view positions = view_columns(memory->positions, 0, all);
    linear_group qkv = decoder_group(self, views->layer, GROUP_QKV);
    STATUS_TRY(block_normalize(self, batch->tokens, views->weights->attention_norm,
                               views->teacher->attention_norm, views->residual, views->normed));
    STATUS_TRY(linear_forward(&qkv, self->queue, views->normed, batch->tokens, 0, views->qkv,
                              views->projected[GROUP_QKV]));
    if (self->config->query_key_norms) {
        STATUS_TRY(block_normalize(self, batch->tokens, views->weights->query_norm,
                                   views->teacher->query_norm, views->plain_q, views->q));
        STATUS_TRY(block_normalize(self, batch->tokens, views->weights->key_norm, views->teacher->key_norm,
                                   views->plain_k, views->k));
    }
    STATUS_TRY(ops->rope(self->queue, views->q, self->config->head_dim, positions, views->rotary, 0));
    STATUS_TRY(ops->rope(self->queue, views->k, self->config->head_dim, positions, views->rotary, 0));
    attention_forward args = {
        .shape = decoder_attention_shape(self, batch, views->layer, batch->copies),
        .offsets = view_columns(memory->offsets, 0, batch->copies * batch->sequences + 1),
        .q = views->q,
        .k = views->k,
        .v = views->v,
        .out = views->attention,
        .logsumexp = views->logsumexp,
    };
    return ops->attention(self->queue, &args);
}

/*
 * The residual stream goes on: stream = base + W x; with norms of outputs base + norm(W x), W x being kept in `output`.
 * `base` may be `stream` itself where there is no norm.
 */
static balora_status join(const decoder *self, const linear_group *group, matrix_view x, int64_t students,
                          matrix_view projected, matrix_view base, matrix_view student_norm,
                          matrix_view teacher_norm, matrix_view output, matrix_view stream) {
    if (view_is_none(output)) {
        if (base.offset != stream.offset)
            STATUS_TRY(self->ops->copy(self->queue, stream, base));
        return linear_forward(group, self->queue, x, students, 1, stream, projected);
    }
    STATUS_TRY(linear_forward(group, self->queue, x, students, 0, output, projected));
    STATUS_TRY(block_normalize(self, students, student_norm, teacher_norm, output, stream));
    return self->ops->scale_add(self->queue, 1, base, 1, stream);
}

/* middle = residual + W_o attention, at all rows or in the last layer at the needed ones. */
static balora_status forward_output(const decoder *self, const layer_views *views) {
    const backend_ops *ops = self->ops;
    const activations *memory = self->memory;
    linear_group output = decoder_group(self, views->layer, GROUP_OUTPUT);
    matrix_view attention = views->attention, residual = views->residual;
    if (views->last) {
        matrix_view needed = view_columns(memory->needed, 0, views->rows);
        attention = view_rows(memory->selected_attention, 0, views->rows);
        /* the output is free until the layer's end */
        residual = self->config->output_norms ? view_rows(memory->output, 0, views->rows) : views->middle;
        STATUS_TRY(ops->gather_rows(self->queue, attention, views->attention, needed));
        STATUS_TRY(ops->gather_rows(self->queue, residual, views->residual, needed));
    }
    return join(self, &output, attention, views->students, views->projected[GROUP_OUTPUT], residual,
                views->weights->attention_output_norm, views->teacher->attention_output_norm,
                views->attention_output, views->middle);
}

static balora_status forward_mlp(const decoder *self, const decoder_batch *batch, const layer_views *views) {
    const backend_ops *ops = self->ops;
    const activations *memory = self->memory;
    matrix_view normed = view_rows(memory->normed, 0, views->rows);
    matrix_view next = views->last ? view_rows(memory->output, 0, views->rows)
                                   : activations_slot(memory, memory->residual, views->layer + 1,
                                                      batch->tokens, views->rows);
    linear_group gate_up = decoder_group(self, views->layer, GROUP_GATE_UP);
    linear_group down = decoder_group(self, views->layer, GROUP_DOWN);
    STATUS_TRY(block_normalize(self, views->students, views->weights->mlp_norm, views->teacher->mlp_norm,
                               views->middle, normed));
    STATUS_TRY(linear_forward(&gate_up, self->queue, normed, views->students, 0, views->gate_up,
                              views->projected[GROUP_GATE_UP]));
    STATUS_TRY(ops->gated_activation(self->queue, self->config->activation, views->gate, views->up,
                                     views->activated));
    return join(self, &down, views->activated, views->students, views->projected[GROUP_DOWN], views->middle,
                views->weights->mlp_output_norm, views->teacher->mlp_output_norm, views->mlp_output, next);
}

balora_status block_forward(const decoder *self, const decoder_batch *batch, int64_t layer) {
    layer_views views = block_views(self, batch, layer);
    STATUS_TRY(forward_attention(self, batch, &views));
    STATUS_TRY(forward_output(self, &views));
    return forward_mlp(self, batch, &views);
}
