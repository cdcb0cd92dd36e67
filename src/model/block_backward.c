#include "base/status.h"
#include "model/block.h"

static balora_status norm_gradient(const decoder *self, matrix_view x, matrix_view weight, matrix_view dy,
                                   matrix_view dx, matrix_view dweight) {
    const model_config *config = self->config;
    return self->ops->rms_norm_backward(self->queue, x, weight, config->norm_weight_offset,
                                        config->norm_epsilon, dy, dx, dweight);
}

/*
 * From the F32 gradient of the residual stream to that of what a part of the block gave: through the norm of `output`
 * where there is one, in the dtype that products read.
 */
static balora_status output_gradient(const decoder *self, matrix_view gradient, matrix_view output,
                                     matrix_view norm, matrix_view dnorm, matrix_view *out) {
    *out = gradient;
    if (view_is_none(output) && self->memory->sizes.dtype == gradient.dtype)
        return BALORA_OK;
    *out = view_rows(self->memory->doutput, 0, gradient.rows);
    if (view_is_none(output))
        return self->ops->copy(self->queue, *out, gradient);
    STATUS_TRY(self->ops->fill_zero(self->queue, *out));
    return norm_gradient(self, view_rows(output, 0, gradient.rows), norm, gradient, *out, dnorm);
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
    STATUS_TRY(output_gradient(self, dmiddle, views->mlp_output, views->weights->mlp_output_norm,
                               views->gradients != NULL ? views->gradients->mlp_output_norm : view_none(),
                               &doutput));
    STATUS_TRY(linear_backward(&down, self->queue, activated, doutput, views->projected[GROUP_DOWN],
                               dactivated, linear_scratch(&down, scratch)));
    STATUS_TRY(ops->gated_activation_backward(self->queue, self->config->activation, gate, up, dactivated,
                                              gate, up));
    STATUS_TRY(block_normalize(self, n, views->weights->mlp_norm, view_none(), middle, normed));
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
    STATUS_TRY(output_gradient(
        self, dmiddle, views->attention_output, views->weights->attention_output_norm,
        views->gradients != NULL ? views->gradients->attention_output_norm : view_none(), &doutput));
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

/* From the gradients of q and k as attention read them to those that the projections gave, when they were normed. */
static balora_status backward_head_norms(const decoder *self, const layer_views *views, int64_t n,
                                         matrix_view drotated_q, matrix_view drotated_k, matrix_view dq,
                                         matrix_view dk) {
    const layer_weights *gradients = views->gradients;
    STATUS_TRY(self->ops->fill_zero(self->queue, dq));
    STATUS_TRY(self->ops->fill_zero(self->queue, dk));
    STATUS_TRY(norm_gradient(self, view_rows(views->plain_q, 0, n), views->weights->query_norm, drotated_q,
                             dq, gradients != NULL ? gradients->query_norm : view_none()));
    return norm_gradient(self, view_rows(views->plain_k, 0, n), views->weights->key_norm, drotated_k, dk,
                         gradients != NULL ? gradients->key_norm : view_none());
}

/* From dattention to dqkv. */
static balora_status backward_heads(const decoder *self, const decoder_batch *batch, const layer_views *views,
                                    matrix_view dqkv) {
    const backend_ops *ops = self->ops;
    const activations *memory = self->memory;
    const model_config *config = self->config;
    int64_t n = batch->tokens;
    matrix_view positions = view_columns(memory->positions, 0, n), dq, dk, dv, drotated_q, drotated_k, none;
    block_split_heads(config, dqkv, &dq, &dk, &dv);
    drotated_q = dq;
    drotated_k = dk;
    if (config->query_key_norms)
        block_split_heads(config, view_rows(memory->drotated, 0, n), &drotated_q, &drotated_k, &none);
    attention_backward args = {
        .shape = decoder_attention_shape(self, batch, views->layer, 1),
        .offsets = view_columns(memory->offsets, 0, batch->sequences + 1),
        .q = view_rows(views->q, 0, n),
        .k = view_rows(views->k, 0, n),
        .v = view_rows(views->v, 0, n),
        .out = view_rows(views->attention, 0, n),
        .logsumexp = view_rows(views->logsumexp, 0, n),
        .dout = view_rows(memory->dattention, 0, n),
        .dq = drotated_q,
        .dk = drotated_k,
        .dv = dv,
    };
    STATUS_TRY(ops->attention_backward(self->queue, &args));
    STATUS_TRY(ops->rope(self->queue, drotated_q, config->head_dim, positions, views->rotary, 1));
    STATUS_TRY(ops->rope(self->queue, drotated_k, config->head_dim, positions, views->rotary, 1));
    return config->query_key_norms ? backward_head_norms(self, views, n, drotated_q, drotated_k, dq, dk)
                                   : BALORA_OK;
}

/* From dattention to the gradient of the layer's input, added to dresidual. */
static balora_status backward_attention(const decoder *self, const decoder_batch *batch,
                                        const layer_views *views) {
    const activations *memory = self->memory;
    int64_t n = batch->tokens;
    matrix_view residual = view_rows(views->residual, 0, n), normed = view_rows(memory->normed, 0, n);
    matrix_view dqkv = view_rows(memory->dqkv, 0, n);
    /* Nothing below the lowest layer is trained unless embeddings are: its input's gradient is not needed then. */
    matrix_view dweight = views->gradients != NULL ? views->gradients->attention_norm : view_none();
    bool input_wanted = views->layer > self->lowest_layer || !view_is_none(dweight) ||
                        !view_is_none(DECODER_GRADIENT(self, embedding));
    matrix_view dnormed = input_wanted ? view_rows(memory->dnormed, 0, n) : view_none();
    linear_group qkv = decoder_group(self, views->layer, GROUP_QKV);
    STATUS_TRY(backward_heads(self, batch, views, dqkv));
    STATUS_TRY(block_normalize(self, n, views->weights->attention_norm, view_none(), residual, normed));
    STATUS_TRY(linear_backward(&qkv, self->queue, normed, dqkv, views->projected[GROUP_QKV], dnormed,
                               linear_scratch(&qkv, view_rows(memory->scratch, 0, n))));
    if (!input_wanted)
        return BALORA_OK;
    return norm_gradient(self, residual, views->weights->attention_norm, dnormed,
                         view_rows(memory->dresidual, 0, n), dweight);
}

balora_status block_backward(const decoder *self, const decoder_batch *batch, int64_t layer) {
    layer_views views = block_views(self, batch, layer);
    matrix_view dmiddle =
        view_rows(views.last ? self->memory->dselected : self->memory->dresidual, 0, views.students);
    STATUS_TRY(backward_mlp(self, &views, dmiddle));
    STATUS_TRY(backward_output(self, batch, &views, dmiddle));
    return backward_attention(self, batch, &views);
}
