#include "model/activations.h"

#include "base/arith.h"

static int64_t group_out(const model_config *config, int group) {
    switch (group) {
    case GROUP_QKV:
        return (config->heads + 2 * config->key_heads) * config->head_dim;
    case GROUP_GATE_UP:
        return 2 * config->intermediate;
    default:
        return config->hidden;
    }
}

/* Products that magnitudes scale, and the gradient of one of them. */
static void place_magnitudes(activations *out, arena *plan, const model_config *config) {
    const activation_sizes *sizes = &out->sizes;
    int64_t rows = (sizes->backward ? config->layers : 1) * sizes->tokens, widest = 0;
    for (int group = 0; group < GROUP_COUNT; group++) {
        if (!sizes->magnitudes[group])
            continue;
        int64_t width = group_out(config, group);
        out->kept[group] = arena_place(plan, sizes->dtype, rows, width);
        widest = arith_max(widest, width);
    }
    if (sizes->backward && widest > 0)
        out->scaled = arena_place(plan, sizes->dtype, sizes->tokens, widest);
}

static void place_dropout(activations *out, arena *plan, const model_config *config) {
    const activation_sizes *sizes = &out->sizes;
    int64_t widest =
        arith_max(arith_max(config->hidden, config->heads * config->head_dim), config->intermediate);
    if (!sizes->dropout)
        return;
    out->dropped = arena_place(plan, sizes->low_rank_dtype, sizes->tokens, widest);
    out->dropout_keys = arena_place(plan, BALORA_I32, 2, sizes->tokens);
    out->needed_dropout_keys = arena_place(plan, BALORA_I32, 2, sizes->rows);
}

static void place_slots(activations *out, arena *plan, const model_config *config) {
    const activation_sizes *sizes = &out->sizes;
    int64_t qk = (config->heads + config->key_heads) * config->head_dim;
    int64_t qkv = qk + config->key_heads * config->head_dim;
    int64_t layers = sizes->backward ? config->layers : 1;
    int64_t rows = (layers - 1 + sizes->copies) * sizes->tokens;
    int64_t student_rows = layers * sizes->tokens;
    out->residual = arena_place(plan, BALORA_F32, rows, config->hidden);
    out->qkv = arena_place(plan, sizes->dtype, rows, qkv);
    out->rotated = config->query_key_norms ? arena_place(plan, sizes->dtype, rows, qk) : view_none();
    out->attention = arena_place(plan, sizes->dtype, rows, config->heads * config->head_dim);
    out->logsumexp = sizes->backward ? arena_place(plan, BALORA_F32, rows, config->heads) : view_none();
    out->middle = arena_place(plan, BALORA_F32, rows, config->hidden);
    out->gate_up = arena_place(plan, sizes->dtype, rows, 2 * config->intermediate);
    bool outputs = config->output_norms;
    out->attention_output = outputs ? arena_place(plan, sizes->dtype, rows, config->hidden) : view_none();
    out->mlp_output = outputs ? arena_place(plan, sizes->dtype, rows, config->hidden) : view_none();
    for (int group = 0; group < GROUP_COUNT; group++)
        out->projected[group] =
            arena_place(plan, sizes->low_rank_dtype, student_rows, sizes->low_rank_rows[group]);
}

static void place_backward(activations *out, arena *plan, const model_config *config) {
    int64_t tokens = out->sizes.tokens, rows = out->sizes.rows;
    int64_t attention = config->heads * config->head_dim, keys = config->key_heads * config->head_dim;
    int32_t dtype = out->sizes.dtype;
    bool apart = config->output_norms || dtype != BALORA_F32;
    out->dresidual = arena_place(plan, BALORA_F32, tokens, config->hidden);
    out->dselected = arena_place(plan, BALORA_F32, rows, config->hidden);
    out->doutput = apart ? arena_place(plan, dtype, tokens, config->hidden) : view_none();
    out->dnormed = arena_place(plan, dtype, tokens, config->hidden);
    out->dactivated = arena_place(plan, dtype, tokens, config->intermediate);
    out->dqkv = arena_place(plan, dtype, tokens, attention + 2 * keys);
    out->drotated =
        config->query_key_norms ? arena_place(plan, dtype, tokens, attention + keys) : view_none();
    out->dattention = arena_place(plan, dtype, tokens, attention);
    out->dselected_attention = arena_place(plan, dtype, rows, attention);
    out->scratch = arena_place(plan, out->sizes.low_rank_dtype, tokens, out->sizes.low_rank_scratch);
}

void activations_place(activations *out, arena *plan, const model_config *config,
                       const activation_sizes *sizes) {
    *out = (activations){.sizes = *sizes};
    int64_t tokens = sizes->copies * sizes->tokens, rows = sizes->copies * sizes->rows;
    int64_t attention = config->heads * config->head_dim;
    place_slots(out, plan, config);
    out->normed = arena_place(plan, sizes->dtype, tokens, config->hidden);
    out->activated = arena_place(plan, sizes->dtype, tokens, config->intermediate);
    out->selected_attention = arena_place(plan, sizes->dtype, rows, attention);
    out->output = arena_place(plan, BALORA_F32, rows, config->hidden);
    if (sizes->backward)
        place_backward(out, plan, config);
    place_magnitudes(out, plan, config);
    place_dropout(out, plan, config);
    out->tokens = arena_place(plan, BALORA_I32, 1, tokens);
    out->positions = arena_place(plan, BALORA_I32, 1, tokens);
    out->offsets = arena_place(plan, BALORA_I32, 1, sizes->copies * sizes->sequences + 1);
    out->needed = arena_place(plan, BALORA_I32, 1, rows);
}
