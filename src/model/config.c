#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/ops.h"
#include "base/file.h"
#include "base/status.h"
#include "model/config_rope.h"

#define CONFIG_BYTES_LIMIT ((uint64_t)8 << 20)
#define DIMENSION_LIMIT    ((int64_t)1 << 24)
#define VOCABULARY_LIMIT   ((int64_t)2 << 20)
#define PARAMETER_LIMIT    1e14 /* keeps every size in bytes far from overflow */
#define NORM_EPSILON       1e-6 /* every family's, where config.json is silent */

static bool is_null(const json_t *root, const char *key) {
    const json_t *value = json_object_get(root, key);
    return value != NULL && json_is_null(value);
}

static balora_status read_sizes(model_config *config, const family_description *family, const json_t *root,
                                const char *origin) {
    STATUS_TRY(
        json_member_integer(root, "num_hidden_layers", origin, true, 1, MODEL_LAYERS_LIMIT, &config->layers));
    STATUS_TRY(json_member_integer(root, "hidden_size", origin, true, 1, DIMENSION_LIMIT, &config->hidden));
    STATUS_TRY(json_member_integer(root, "intermediate_size", origin, true, 1, DIMENSION_LIMIT,
                                   &config->intermediate));
    STATUS_TRY(
        json_member_integer(root, "num_attention_heads", origin, true, 1, DIMENSION_LIMIT, &config->heads));
    STATUS_TRY(
        json_member_integer(root, "vocab_size", origin, true, 1, VOCABULARY_LIMIT, &config->vocabulary));
    config->key_heads =
        family->key_heads != 0 && !is_null(root, "num_key_value_heads") ? family->key_heads : config->heads;
    STATUS_TRY(json_member_integer(root, "num_key_value_heads", origin, false, 1, DIMENSION_LIMIT,
                                   &config->key_heads));
    config->positions = family->positions;
    STATUS_TRY(json_member_integer(root, "max_position_embeddings", origin, false, 1, MODEL_POSITIONS_LIMIT,
                                   &config->positions));
    config->head_dim = family->head_dim != 0 ? family->head_dim : config->hidden / config->heads;
    STATUS_TRY(json_member_integer(root, "head_dim", origin, false, 1, DIMENSION_LIMIT, &config->head_dim));
    if (config->heads % config->key_heads != 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: num_attention_heads (%lld) must be a multiple of num_key_value_heads (%lld)",
                           origin, (long long)config->heads, (long long)config->key_heads);
    if (config->head_dim < 1 || config->head_dim % 2 != 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: head_dim is %lld; rotary positions need an even, positive one", origin,
                           (long long)config->head_dim);
    if (config->heads * config->head_dim > DIMENSION_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: num_attention_heads * head_dim is %lld; at most %lld are supported", origin,
                           (long long)(config->heads * config->head_dim), (long long)DIMENSION_LIMIT);
    double width = (double)(2 * config->heads + 2 * config->key_heads) * (double)config->head_dim;
    double block = (double)config->hidden * (width + 3 * (double)config->intermediate);
    if ((double)config->layers * block > PARAMETER_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: the sizes make %.3g parameters; at most %.3g are supported", origin,
                           (double)config->layers * block, PARAMETER_LIMIT);
    return BALORA_OK;
}

/* --- windows --- */

static void make_local(model_config *config, int64_t layer) {
    config->local_layers[layer / 8] |= (uint8_t)(1 << layer % 8);
}

/* layer_types: one word a layer. */
static balora_status read_layer_types(model_config *config, const json_t *types, const char *origin) {
    if (!json_is_array(types) || json_array_size(types) != (size_t)config->layers)
        return status_fail(BALORA_ERROR_FORMAT, "%s: layer_types must be a list of %lld words, one a layer",
                           origin, (long long)config->layers);
    for (int64_t layer = 0; layer < config->layers; layer++) {
        const char *word = json_string_value(json_array_get(types, (size_t)layer));
        if (word != NULL && strcmp(word, "sliding_attention") == 0)
            make_local(config, layer);
        else if (word == NULL || strcmp(word, "full_attention") != 0)
            return status_fail(BALORA_ERROR_UNSUPPORTED,
                               "%s: layer_types[%lld] is %s; supported: full_attention, sliding_attention",
                               origin, (long long)layer, word != NULL ? word : "no string");
    }
    return BALORA_OK;
}

/* What a family does without layer_types. */
static balora_status choose_local_layers(model_config *config, const family_description *family,
                                         const json_t *root, const char *origin) {
    int64_t first = 0, every = 0; /* full: those below the first, and each `every`-th */
    if (family->windows == WINDOW_UPPER_LAYERS) {
        first = family->first_window_layer;
        STATUS_TRY(json_member_integer(root, "max_window_layers", origin, false, 0, INT32_MAX, &first));
    }
    if (family->windows == WINDOW_PATTERN) {
        every = family->window_pattern;
        STATUS_TRY(json_member_integer(root, "sliding_window_pattern", origin, false, 1, INT32_MAX, &every));
    }
    for (int64_t layer = first; layer < config->layers; layer++)
        if (every == 0 || (layer + 1) % every != 0)
            make_local(config, layer);
    return BALORA_OK;
}

static balora_status read_windows(model_config *config, const family_description *family, const json_t *root,
                                  const char *origin) {
    bool used = family->windows != WINDOW_NONE;
    if (family->windows == WINDOW_UPPER_LAYERS) {
        used = false;
        STATUS_TRY(json_member_boolean(root, "use_sliding_window", origin, &used));
    }
    if (!used)
        return BALORA_OK;
    int64_t window = family->window;
    STATUS_TRY(json_member_integer(root, "sliding_window", origin, false, 1, MODEL_POSITIONS_LIMIT, &window));
    bool none = is_null(root, "sliding_window");
    if (none && family->windows != WINDOW_PATTERN)
        return BALORA_OK;
    const json_t *types = family->windows != WINDOW_ALL_LAYERS ? json_object_get(root, "layer_types") : NULL;
    STATUS_TRY(types != NULL && !json_is_null(types) ? read_layer_types(config, types, origin)
                                                     : choose_local_layers(config, family, root, origin));
    for (int64_t layer = 0; layer < config->layers; layer++)
        if (model_config_is_local(config, layer))
            config->window = window;
    if (none && config->window > 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: sliding_window is null, but some layers have sliding_attention", origin);
    return BALORA_OK;
}

/* --- traits --- */

static balora_status read_activation(model_config *config, const family_description *family,
                                     const json_t *root, const char *origin) {
    const char *name = family->activation, *key = family->activation_key;
    STATUS_TRY(json_member_string(root, key, origin, false, &name));
    if (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0)
        config->activation = ACTIVATION_SILU;
    else if (strcmp(name, "gelu_pytorch_tanh") == 0 || strcmp(name, "gelu_new") == 0 ||
             (strcmp(name, "gelu") == 0 && family->plain_gelu_is_tanh))
        config->activation = ACTIVATION_GELU_TANH;
    else
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: %s \"%s\" is not supported; supported: silu, gelu_pytorch_tanh", origin, key,
                           name);
    return BALORA_OK;
}

static balora_status read_biases(model_config *config, const family_description *family, const json_t *root,
                                 const char *origin) {
    bool attention_bias = false;
    if (family->biases == BIAS_ATTENTION_KEY || family->biases == BIAS_ATTENTION_AND_MLP_KEYS)
        STATUS_TRY(json_member_boolean(root, "attention_bias", origin, &attention_bias));
    if (family->biases == BIAS_ATTENTION_AND_MLP_KEYS)
        STATUS_TRY(json_member_boolean(root, "mlp_bias", origin, &config->mlp_bias));
    config->qkv_bias = attention_bias || family->biases == BIAS_QKV;
    config->output_bias = attention_bias;
    return BALORA_OK;
}

/* A soft-cap: null is none. */
static balora_status read_soft_cap(const json_t *root, const char *key, const char *origin, double silent,
                                   float *out) {
    double cap = is_null(root, key) ? 0 : silent;
    const json_t *value = json_object_get(root, key);
    STATUS_TRY(json_member_number(root, key, origin, false, &cap));
    if (value != NULL && !json_is_null(value))
        STATUS_TRY(config_positive(origin, key, cap));
    *out = (float)cap;
    return BALORA_OK;
}

static balora_status read_attention(model_config *config, const family_description *family,
                                    const json_t *root, const char *origin) {
    double scale = (double)config->head_dim;
    bool both_ways = false;
    if (family->reads_query_scale) {
        scale = family->query_scale;
        STATUS_TRY(json_member_number(root, "query_pre_attn_scalar", origin, false, &scale));
        STATUS_TRY(config_positive(origin, "query_pre_attn_scalar", scale));
    }
    config->attention_scale = (float)(1 / sqrt(scale));
    if (family->reads_soft_caps) {
        STATUS_TRY(read_soft_cap(root, "attn_logit_softcapping", origin, family->attention_soft_cap,
                                 &config->attention_soft_cap));
        STATUS_TRY(read_soft_cap(root, "final_logit_softcapping", origin, family->logit_soft_cap,
                                 &config->logit_soft_cap));
    }
    /* Gemma 3 has the key, always null; Transformers would not heed another value. */
    if (config->attention_soft_cap > 0 && family->attention_soft_cap == 0)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: attn_logit_softcapping must be null for model_type \"%s\"", origin,
                           config->family);
    STATUS_TRY(json_member_boolean(root, "use_bidirectional_attention", origin, &both_ways));
    if (both_ways)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: use_bidirectional_attention is not supported; decoders look back only",
                           origin);
    return read_windows(config, family, root, origin);
}

static balora_status read_traits(model_config *config, const family_description *family, const json_t *root,
                                 const char *origin) {
    double epsilon = NORM_EPSILON;
    config->norm_weight_offset = family->stores_norms_less_one ? 1 : 0;
    config->scaled_embeddings = family->scaled_embeddings;
    config->query_key_norms = family->query_key_norms;
    config->output_norms = family->output_norms;
    config->tied_embeddings = family->tied_embeddings;
    STATUS_TRY(json_member_boolean(root, "tie_word_embeddings", origin, &config->tied_embeddings));
    STATUS_TRY(json_member_number(root, "rms_norm_eps", origin, false, &epsilon));
    STATUS_TRY(config_positive(origin, "rms_norm_eps", epsilon));
    config->norm_epsilon = (float)epsilon;
    if (json_object_get(root, "quantization_config") != NULL && !is_null(root, "quantization_config"))
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: quantization_config: quantised base models are not supported by this version",
                           origin);
    STATUS_TRY(read_biases(config, family, root, origin));
    return read_activation(config, family, root, origin);
}

static balora_status read_root(model_config *config, const json_t *root, const char *origin) {
    const char *model_type = NULL;
    const family_description *family = NULL;
    STATUS_TRY(json_member_string(root, "model_type", origin, true, &model_type));
    STATUS_TRY(family_find(&family, model_type, origin));
    snprintf(config->family, sizeof config->family, "%s", model_type);
    STATUS_TRY(read_sizes(config, family, root, origin));
    STATUS_TRY(read_traits(config, family, root, origin));
    STATUS_TRY(read_attention(config, family, root, origin));
    return config_rope_read(config, family, root, origin);
}

/* What a computation may depend on: all but the writer's version and the place that it was read from. */
static balora_status sum_up(model_config *config, json_t *root) {
    json_object_del(root, "transformers_version");
    json_object_del(root, "_name_or_path");
    return json_checksum(&config->checksum, root);
}

balora_status model_config_read(model_config *out, allocator *memory, const char *folder) {
    memset(out, 0, sizeof *out);
    char *path;
    json_t *root = NULL;
    STATUS_TRY(file_join(memory, &path, folder, "config.json"));
    balora_status status = json_read_object(&root, memory, path, CONFIG_BYTES_LIMIT);
    if (status == BALORA_OK)
        status = read_root(out, root, path);
    if (status == BALORA_OK)
        status = sum_up(out, root);
    json_decref(root);
    memory_free(memory, path);
    return status;
}

/* To nearest even at `digits` binary digits; a number far from the ends of any 16-bit type. */
static float round_to_digits(double x, int digits) {
    int exponent;
    double fraction = frexp(x, &exponent);
    return (float)ldexp(nearbyint(ldexp(fraction, digits)), exponent - digits);
}

float model_config_embedding_scale(const model_config *config, int32_t dtype) {
    if (!config->scaled_embeddings)
        return 1;
    double scale = (double)(float)sqrt((double)config->hidden);
    return round_to_digits(scale, dtype == BALORA_BF16 ? 8 : dtype == BALORA_F16 ? 11 : 24);
}
