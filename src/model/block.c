#include "base/status.h"
#include "model/decoder.h"

/* Views of one layer for this micro-batch. `rows` counts student and teacher. */
typedef struct layer_views {
    int64_t layer;
    bool last;
    int64_t students; /* rows of the student from the residual stream after attention on: M in the last layer,
                         else N */
    int64_t rows;     /* copies * students */
    const layer_weights *weights, *teacher, *gradients;
    matrix_view residual, normed, qkv, q, k, v, attention, logsumexp; /* [copies N, ...] */
    matrix_view middle, gate_up, gate, up, activated;                 /* [rows, ...] */
    matrix_view projected[GROUP_COUNT];
} layer_views;

static matrix_view projected_rows(const decoder *self, const decoder_batch *batch, int64_t layer, int group,
                                  int64_t rows) {
    if (self->low_rank == NULL || self->low_rank[layer * GROUP_COUNT + group].rows == 0)
        return view_none();
    matrix_view slot =
        activations_slot(self->memory, self->memory->projected[group], layer, batch->tokens, rows);
    slot.cols = self->low_rank[layer * GROUP_COUNT + group].rows;
    return slot;
}

static void split_heads(const model_config *config, matrix_view qkv, matrix_view *q, matrix_view *k,
                        matrix_view *v) {
    int64_t query = config->heads * config->head_dim, key = config->key_heads * config->head_dim;
    *q = view_columns(qkv, 0, query);
    *k = view_columns(qkv, query, key);
    *v = view_columns(qkv, query + key, key);
}

static layer_views look_at(const decoder *self, const decoder_batch *batch, int64_t layer) {
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
    split_heads(config, views.qkv, &views.q, &views.k, &views.v);
    views.gate = view_columns(views.gate_up, 0, config->intermediate);
    views.up = view_columns(views.gate_up, config->intermediate, config->intermediate);
    for (int group = 0; group < GROUP_COUNT; group++)
        views.projected[group] =
            projected_rows(self, batch, layer, group, group == GROUP_QKV ? batch->tokens : students);
    return views;
}

/* y = norm(x); the teacher's rows use its own weights where the student's are trained. */
static balora_status normalize(const decoder *self, int64_t students, matrix_view student_weight,
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
    STATUS_TRY(normalize(self, batch->tokens, views->weights->attention_norm, views->teacher->attention_norm,
                         views->residual, views->normed));
    STATUS_TRY(linear_forward(&qkv, self->queue, views->normed, batch->tokens, 0, views->qkv,
                              views->projected[GROUP_QKV]));
    STATUS_TRY(ops->rope(self->queue, views->q, self->config->head_dim, positions, self->rope->table, 0));
    STATUS_TRY(ops->rope(self->queue, views->k, self->config->head_dim, positions, self->rope->table, 0));
    attention_forward args = {
        .shape = decoder_attention_shape(self, batch, batch->copies),
        .offsets = view_columns(memory->offsets, 0, batch->copies * batch->sequences + 1),
        .q = views->q,
        .k = views->k,
        .v = views->v,
        .out = views->attention,
        .logsumexp = views->logsumexp,
    };
    return ops->attention(self->queue, &args);
}

/* middle = residual + W_o attention, at all rows or in the last layer at the needed ones. */
static balora_status forward_output(const decoder *self, const layer_views *views) {
    const backend_ops *ops = self->ops;
    const activations *memory = self->memory;
    linear_group output = decoder_group(self, views->layer, GROUP_OUTPUT);
    matrix_view attention = views->attention;
    if (views->last) {
        matrix_view needed = view_columns(memory->needed, 0, views->rows);
        attention = view_rows(memory->selected_attention, 0, views->rows);
        STATUS_TRY(ops->gather_rows(self->queue, attention, views->attention, needed));
        STATUS_TRY(ops->gather_rows(self->queue, views->middle, views->residual, needed));
    } else {
        STATUS_TRY(ops->copy(self->queue, views->middle, views->residual));
    }
    return linear_forward(&output, self->queue, attention, views->students, 1, views->middle,
                          views->projected[GROUP_OUTPUT]);
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
    STATUS_TRY(normalize(self, views->students, views->weights->mlp_norm, views->teacher->mlp_norm,
                         views->middle, normed));
    STATUS_TRY(linear_forward(&gate_up, self->queue, normed, views->students, 0, views->gate_up,
                              views->projected[GROUP_GATE_UP]));
    STATUS_TRY(ops->gated_activation(self->queue, self->config->activation, views->gate, views->up,
                                     views->activated));
    STATUS_TRY(ops->copy(self->queue, next, views->middle));
    return linear_forward(&down, self->queue, views->activated, views->students, 1, next,
                          views->projected[GROUP_DOWN]);
}

balora_status block_forward(const decoder *self, const decoder_batch *batch, int64_t layer) {
    layer_views views = look_at(self, batch, layer);
    STATUS_TRY(forward_attention(self, batch, &views));
    STATUS_TRY(forward_output(self, &views));
    return forward_mlp(self, batch, &views);
}

static balora_status norm_gradient(const decoder *self, matrix_view x, matrix_view weight, matrix_view dy,
                                   matrix_view dx, matrix_view dweight) {
    const model_config *config = self->config;
    return self->ops->rms_norm_backward(self->queue, x, weight, config->norm_weight_offset,
                                        config->norm_epsilon, dy, dx, dweight);
}

/* Rows of the F32 gradient of the residual stream in the dtype that products read. */
static balora_status narrowed(const decoder *self, matrix_view gradient, matrix_view *out) {
    *out = gradient;
    if (self->memory->sizes.dtype == gradient.dtype)
        return BALORA_OK;
    *out = view_rows(self->memory->narrow, 0, gradient.rows);
    return self->ops->copy(self->queue, *out, gradient);
}

/* dmiddle (in: gradient of the layer's output; out: of the stream after attention) [students, hidden]. */
static balora_status backward_mlp(const decoder *self, const layer_views *views, matrix_view dmiddle) {
    const backend_ops *ops = self->ops;
    const activations *memory = self->memory;
    int64_t n = views->students;
    matrix_view middle = view_rows(views->middle, 0, n), normed = view_rows(memory->normed, 0, n);
    matrix_view gate = view_rows(views->gate, 0, n), up = view_rows(views->up, 0, n);
    matrix_view activated = view_rows(memory->activated, 0, n),
                dactivated = view_rows(memory->dactivated, 0, n);
    matrix_view dnormed = view_rows(memory->dnormed, 0, n);
    linear_group gate_up = decoder_group(self, views->layer, GROUP_GATE_UP);
    linear_group down = decoder_group(self, views->layer, GROUP_DOWN);
    matrix_view scratch = view_rows(memory->scratch, 0, n);
    STATUS_TRY(ops->gated_activation(self->queue, self->config->activation, gate, up, activated));
    matrix_view doutput;
    STATUS_TRY(narrowed(self, dmiddle, &doutput));
    STATUS_TRY(linear_backward(&down, self->queue, activated, doutput, views->projected[GROUP_DOWN],
                               dactivated, linear_scratch(&down, scratch)));
    STATUS_TRY(ops->gated_activation_backward(self->queue, self->config->activation, gate, up, dactivated,
                                              gate, up));
    STATUS_TRY(normalize(self, n, views->weights->mlp_norm, view_none(), middle, normed));
    STATUS_TRY(linear_backward(&gate_up, self->queue, normed, view_rows(views->gate_up, 0, n),
                               views->projected[GROUP_GATE_UP], dnormed, linear_scratch(&gate_up, scratch)));
    return norm_gradient(self, middle, views->weights->mlp_norm, dnormed, dmiddle,
                         views->gradients != NULL ? views->gradients->mlp_norm : view_none());
}

/* From dmiddle to dattention [tokens, ...], and dmiddle itself on to the residual stream of all rows. */
static balora_status backward_output(const decoder *self, const decoder_batch *batch,
                                     const layer_views *views, matrix_view dmiddle) {
    const backend_ops *ops = self->ops;
    const activations *memory = self->memory;
    linear_group output = decoder_group(self, views->layer, GROUP_OUTPUT);
    matrix_view dattention = view_rows(memory->dattention, 0, batch->tokens);
    matrix_view scratch = linear_scratch(&output, view_rows(memory->scratch, 0, views->students));
    matrix_view doutput;
    STATUS_TRY(narrowed(self, dmiddle, &doutput));
    if (!views->last)
        return linear_backward(&output, self->queue, view_rows(views->attention, 0, batch->tokens), doutput,
                               views->projected[GROUP_OUTPUT], dattention, scratch);
    matrix_view needed = view_columns(memory->needed, 0, batch->rows);
    matrix_view selected = view_rows(memory->selected_attention, 0, batch->rows);
    matrix_view dselected = view_rows(memory->dselected_attention, 0, batch->rows);
    matrix_view dresidual = view_rows(memory->dresidual, 0, batch->tokens);
    STATUS_TRY(linear_backward(&output, self->queue, selected, doutput, views->projected[GROUP_OUTPUT],
                               dselected, scratch));
    STATUS_TRY(ops->fill_zero(self->queue, dattention));
    STATUS_TRY(ops->scatter_add_rows(self->queue, dattention, dselected, needed));
    STATUS_TRY(ops->fill_zero(self->queue, dresidual));
    return ops->scatter_add_rows(self->queue, dresidual, dmiddle, needed);
}

/* From dattention to the gradient of the layer's input, added to dresidual. */
static balora_status backward_attention(const decoder *self, const decoder_batch *batch,
                                        const layer_views *views) {
    const backend_ops *ops = self->ops;
    const activations *memory = self->memory;
    int64_t n = batch->tokens;
    matrix_view residual = view_rows(views->residual, 0, n), normed = view_rows(memory->normed, 0, n);
    matrix_view dqkv = view_rows(memory->dqkv, 0, n), dq, dk, dv;
    matrix_view positions = view_columns(memory->positions, 0, n);
    /* Nothing below the lowest layer is trained unless embeddings are: its input's gradient is not needed then. */
    matrix_view dweight = views->gradients != NULL ? views->gradients->attention_norm : view_none();
    bool input_wanted = views->layer > self->lowest_layer || !view_is_none(dweight) ||
                        !view_is_none(DECODER_GRADIENT(self, embedding));
    matrix_view dnormed = input_wanted ? view_rows(memory->dnormed, 0, n) : view_none();
    linear_group qkv = decoder_group(self, views->layer, GROUP_QKV);
    split_heads(self->config, dqkv, &dq, &dk, &dv);
    attention_backward args = {
        .shape = decoder_attention_shape(self, batch, 1),
        .offsets = view_columns(memory->offsets, 0, batch->sequences + 1),
        .q = view_rows(views->q, 0, n),
        .k = view_rows(views->k, 0, n),
        .v = view_rows(views->v, 0, n),
        .out = view_rows(views->attention, 0, n),
        .logsumexp = view_rows(views->logsumexp, 0, n),
        .dout = view_rows(memory->dattention, 0, n),
        .dq = dq,
        .dk = dk,
        .dv = dv,
    };
    STATUS_TRY(ops->attention_backward(self->queue, &args));
    STATUS_TRY(ops->rope(self->queue, dq, self->config->head_dim, positions, self->rope->table, 1));
    STATUS_TRY(ops->rope(self->queue, dk, self->config->head_dim, positions, self->rope->table, 1));
    STATUS_TRY(normalize(self, n, views->weights->attention_norm, view_none(), residual, normed));
    STATUS_TRY(linear_backward(&qkv, self->queue, normed, dqkv, views->projected[GROUP_QKV], dnormed,
                               linear_scratch(&qkv, view_rows(memory->scratch, 0, n))));
    if (!input_wanted)
        return BALORA_OK;
    return norm_gradient(self, residual, views->weights->attention_norm, dnormed,
                         view_rows(memory->dresidual, 0, n), dweight);
}

balora_status block_backward(const decoder *self, const decoder_batch *batch, int64_t layer) {
    layer_views views = look_at(self, batch, layer);
    matrix_view dmiddle =
        view_rows(views.last ? self->memory->dselected : self->memory->dresidual, 0, views.students);
    STATUS_TRY(backward_mlp(self, &views, dmiddle));
    STATUS_TRY(backward_output(self, batch, &views, dmiddle));
    return backward_attention(self, batch, &views);
}
