#include "model/config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backend/ops.h"
#include "base/file.h"
#include "base/status.h"
#include "format/json.h"

#define CONFIG_BYTES_LIMIT ((uint64_t)8 << 20)
#define DIMENSION_LIMIT    ((int64_t)1 << 24)
#define VOCABULARY_LIMIT   ((int64_t)2 << 20)
#define LAYER_LIMIT        ((int64_t)4096)
#define PARAMETER_LIMIT    1e14 /* keeps every size in bytes far from overflow */
#define POSITION_LIMIT     ((int64_t)1 << 30)

/* Defaults that Transformers gives a family where config.json is silent. */
typedef struct family_defaults {
    const char *model_type;
    int64_t key_heads; /* 0: as many as heads */
    int64_t positions;
    int64_t window;
    double norm_epsilon;
    bool reads_bias_keys; /* attention_bias, mlp_bias */
    bool reads_window;    /* sliding_window */
} family_defaults;

static const family_defaults families[] = {
    {"llama", 0, 2048, 0, 1e-6, true, false},
    {"mistral", 8, 131072, 4096, 1e-6, false, true},
};

static balora_status find_family(const family_defaults **out, const char *model_type, const char *origin) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].model_type, model_type) == 0) {
            *out = &families[i];
            return BALORA_OK;
        }
    return status_fail(BALORA_ERROR_UNSUPPORTED,
                       "%s: model_type \"%s\" is not supported by this version; supported: llama, mistral",
                       origin, model_type);
}

static balora_status read_sizes(model_config *config, const family_defaults *family, const json_t *root,
                                const char *origin) {
    STATUS_TRY(json_member_integer(root, "num_hidden_layers", origin, true, 1, LAYER_LIMIT, &config->layers));
    STATUS_TRY(json_member_integer(root, "hidden_size", origin, true, 1, DIMENSION_LIMIT, &config->hidden));
    STATUS_TRY(json_member_integer(root, "intermediate_size", origin, true, 1, DIMENSION_LIMIT,
                                   &config->intermediate));
    STATUS_TRY(
        json_member_integer(root, "num_attention_heads", origin, true, 1, DIMENSION_LIMIT, &config->heads));
    STATUS_TRY(
        json_member_integer(root, "vocab_size", origin, true, 1, VOCABULARY_LIMIT, &config->vocabulary));
    config->key_heads = family->key_heads != 0 ? family->key_heads : config->heads;
    STATUS_TRY(json_member_integer(root, "num_key_value_heads", origin, false, 1, DIMENSION_LIMIT,
                                   &config->key_heads));
    config->positions = family->positions;
    STATUS_TRY(json_member_integer(root, "max_position_embeddings", origin, false, 1, POSITION_LIMIT,
                                   &config->positions));
    config->head_dim = config->hidden / config->heads;
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

static balora_status positive(const char *origin, const char *key, double value) {
    if (isfinite(value) && value > 0)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_FORMAT, "%s: %s is %g; expected a finite number above 0", origin, key,
                       value);
}

static balora_status read_rope_kind(rope_config *rope, const char *name, const char *origin) {
    static const struct {
        const char *name;
        rope_kind kind;
    } kinds[] = {{"default", ROPE_DEFAULT},
                 {"linear", ROPE_LINEAR},
                 {"dynamic", ROPE_DYNAMIC},
                 {"llama3", ROPE_LLAMA3},
                 {"yarn", ROPE_YARN}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0) {
            rope->kind = kinds[i].kind;
            return BALORA_OK;
        }
    return status_fail(
        BALORA_ERROR_UNSUPPORTED,
        "%s: rope type \"%s\" is not supported; supported: default, linear, dynamic, llama3, yarn", origin,
        name);
}

static double yarn_scale(double factor, double mscale) {
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static balora_status read_yarn(rope_config *rope, const model_config *config, const json_t *object,
                               bool factor_given, const char *origin) {
    double mscale = 0, mscale_all = 0;
    rope->beta_fast = 32;
    rope->beta_slow = 1;
    if (!factor_given)
        rope->factor = (double)config->positions / (double)rope->original_positions;
    STATUS_TRY(json_member_number(object, "beta_fast", origin, false, &rope->beta_fast));
    STATUS_TRY(json_member_number(object, "beta_slow", origin, false, &rope->beta_slow));
    STATUS_TRY(json_member_number(object, "mscale", origin, false, &mscale));
    STATUS_TRY(json_member_number(object, "mscale_all_dim", origin, false, &mscale_all));
    STATUS_TRY(json_member_boolean(object, "truncate", origin, &rope->truncate));
    rope->attention_factor = mscale != 0 && mscale_all != 0
                                 ? yarn_scale(rope->factor, mscale) / yarn_scale(rope->factor, mscale_all)
                                 : yarn_scale(rope->factor, 1);
    STATUS_TRY(json_member_number(object, "attention_factor", origin, false, &rope->attention_factor));
    STATUS_TRY(positive(origin, "beta_fast", rope->beta_fast));
    STATUS_TRY(positive(origin, "beta_slow", rope->beta_slow));
    return positive(origin, "attention_factor", rope->attention_factor);
}

static balora_status read_rope_scaling(model_config *config, const json_t *object, const char *origin) {
    rope_config *rope = &config->rope;
    const char *kind = NULL;
    STATUS_TRY(json_member_string(object, "type", origin, false, &kind));
    STATUS_TRY(json_member_string(object, "rope_type", origin, false, &kind));
    STATUS_TRY(read_rope_kind(rope, kind != NULL ? kind : "default", origin));
    STATUS_TRY(json_member_number(object, "rope_theta", origin, false, &rope->theta));
    double rotated_share = 1;
    STATUS_TRY(json_member_number(object, "partial_rotary_factor", origin, false, &rotated_share));
    if (rotated_share != 1)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: partial_rotary_factor %g is not supported; only 1 is", origin, rotated_share);
    if (rope->kind == ROPE_DEFAULT)
        return BALORA_OK;
    json_t *factor = json_object_get(object, "factor");
    bool factor_given = factor != NULL && !json_is_null(factor);
    STATUS_TRY(json_member_number(object, "factor", origin, rope->kind != ROPE_YARN, &rope->factor));
    /* dynamic scaling reads the model's own maximum; the others may name the one before the context was
     * extended */
    if (rope->kind != ROPE_DYNAMIC)
        STATUS_TRY(json_member_integer(object, "original_max_position_embeddings", origin, false, 1,
                                       POSITION_LIMIT, &rope->original_positions));
    if (rope->kind == ROPE_YARN)
        STATUS_TRY(read_yarn(rope, config, object, factor_given, origin));
    if (rope->kind == ROPE_LLAMA3) {
        STATUS_TRY(json_member_number(object, "low_freq_factor", origin, true, &rope->low_frequency_factor));
        STATUS_TRY(
            json_member_number(object, "high_freq_factor", origin, true, &rope->high_frequency_factor));
        STATUS_TRY(positive(origin, "low_freq_factor", rope->low_frequency_factor));
        if (!(rope->high_frequency_factor > rope->low_frequency_factor))
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: high_freq_factor (%g) must be above low_freq_factor (%g)", origin,
                               rope->high_frequency_factor, rope->low_frequency_factor);
    }
    return positive(origin, "factor", rope->factor);
}

static balora_status read_rope(model_config *config, const json_t *root, const char *origin) {
    rope_config *rope = &config->rope;
    *rope = (rope_config){.kind = ROPE_DEFAULT,
                          .theta = 10000,
                          .factor = 1,
                          .attention_factor = 1,
                          .truncate = true,
                          .original_positions = config->positions};
    STATUS_TRY(json_member_number(root, "rope_theta", origin, false, &rope->theta));
    const char *keys[] = {"rope_scaling", "rope_parameters"};
    for (size_t i = 0; i < 2; i++) {
        const json_t *object = json_object_get(root, keys[i]);
        if (object == NULL || json_is_null(object))
            continue;
        if (!json_is_object(object))
            return status_fail(BALORA_ERROR_FORMAT, "%s: %s must be an object or null", origin, keys[i]);
        char place[1200];
        snprintf(place, sizeof place, "%s: %s", origin, keys[i]);
        STATUS_TRY(read_rope_scaling(config, object, place));
    }
    if (rope->kind == ROPE_DYNAMIC && config->head_dim <= 2)
        return status_fail(BALORA_ERROR_FORMAT, "%s: dynamic rope scaling needs a head_dim above 2", origin);
    if (!(rope->theta > 1))
        return status_fail(BALORA_ERROR_FORMAT, "%s: rope_theta is %g; expected a number above 1", origin,
                           rope->theta);
    return positive(origin, "rope_theta", rope->theta);
}

static balora_status read_activation(model_config *config, const json_t *root, const char *origin) {
    const char *name = "silu";
    STATUS_TRY(json_member_string(root, "hidden_act", origin, false, &name));
    if (strcmp(name, "silu") == 0 || strcmp(name, "swish") == 0)
        config->activation = ACTIVATION_SILU;
    else if (strcmp(name, "gelu_pytorch_tanh") == 0 || strcmp(name, "gelu_new") == 0)
        config->activation = ACTIVATION_GELU_TANH;
    else
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: hidden_act \"%s\" is not supported; supported: silu, gelu_pytorch_tanh",
                           origin, name);
    return BALORA_OK;
}

static balora_status read_switches(model_config *config, const family_defaults *family, const json_t *root,
                                   const char *origin) {
    bool attention_bias = false;
    STATUS_TRY(json_member_boolean(root, "tie_word_embeddings", origin, &config->tied_embeddings));
    if (family->reads_bias_keys) {
        STATUS_TRY(json_member_boolean(root, "attention_bias", origin, &attention_bias));
        STATUS_TRY(json_member_boolean(root, "mlp_bias", origin, &config->mlp_bias));
    }
    config->qkv_bias = config->output_bias = attention_bias;
    if (family->reads_window) {
        const json_t *window = json_object_get(root, "sliding_window");
        config->window = window != NULL && json_is_null(window) ? 0 : family->window;
        STATUS_TRY(
            json_member_integer(root, "sliding_window", origin, false, 1, POSITION_LIMIT, &config->window));
    }
    const json_t *quantization = json_object_get(root, "quantization_config");
    if (quantization != NULL && !json_is_null(quantization))
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: quantization_config: quantised base models are not supported by this version",
                           origin);
    return BALORA_OK;
}

static balora_status read_root(model_config *config, const json_t *root, const char *origin) {
    const char *model_type = NULL;
    const family_defaults *family = NULL;
    STATUS_TRY(json_member_string(root, "model_type", origin, true, &model_type));
    STATUS_TRY(find_family(&family, model_type, origin));
    snprintf(config->family, sizeof config->family, "%s", model_type);
    STATUS_TRY(read_sizes(config, family, root, origin));
    STATUS_TRY(read_switches(config, family, root, origin));
    STATUS_TRY(read_activation(config, root, origin));
    double epsilon = family->norm_epsilon;
    STATUS_TRY(json_member_number(root, "rms_norm_eps", origin, false, &epsilon));
    STATUS_TRY(positive(origin, "rms_norm_eps", epsilon));
    config->norm_epsilon = (float)epsilon;
    config->attention_scale = (float)(1 / sqrt((double)config->head_dim));
    return read_rope(config, root, origin);
}

balora_status model_config_read(model_config *out, allocator *memory, const char *folder) {
    memset(out, 0, sizeof *out);
    char *path;
    json_t *root = NULL;
    STATUS_TRY(file_join(memory, &path, folder, "config.json"));
    balora_status status = json_read_object(&root, memory, path, CONFIG_BYTES_LIMIT);
    if (status == BALORA_OK)
        status = read_root(out, root, path);
    json_decref(root);
    memory_free(memory, path);
    return status;
}
