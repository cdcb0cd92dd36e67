#include "model/config_rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"

#define LOCAL_THETA 10000 /* of the local layers where there are two and config.json is silent */

/* Keys of rope_parameters where there are two. */
static const char full_layers[] = "full_attention", local_layers[] = "sliding_attention";

balora_status config_positive(const char *origin, const char *key, double value) {
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
    STATUS_TRY(config_positive(origin, "beta_fast", rope->beta_fast));
    STATUS_TRY(config_positive(origin, "beta_slow", rope->beta_slow));
    return config_positive(origin, "attention_factor", rope->attention_factor);
}

static balora_status read_scaling(rope_config *rope, const model_config *config, const json_t *object,
                                  const char *origin) {
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
                                       MODEL_POSITIONS_LIMIT, &rope->original_positions));
    if (rope->kind == ROPE_YARN)
        STATUS_TRY(read_yarn(rope, config, object, factor_given, origin));
    if (rope->kind == ROPE_LLAMA3) {
        STATUS_TRY(json_member_number(object, "low_freq_factor", origin, true, &rope->low_frequency_factor));
        STATUS_TRY(
            json_member_number(object, "high_freq_factor", origin, true, &rope->high_frequency_factor));
        STATUS_TRY(config_positive(origin, "low_freq_factor", rope->low_frequency_factor));
        if (!(rope->high_frequency_factor > rope->low_frequency_factor))
            return status_fail(BALORA_ERROR_FORMAT,
                               "%s: high_freq_factor (%g) must be above low_freq_factor (%g)", origin,
                               rope->high_frequency_factor, rope->low_frequency_factor);
    }
    return config_positive(origin, "factor", rope->factor);
}

/* The object under a key, NULL where it is absent or null. */
static balora_status find_object(const json_t *parent, const char *key, const char *origin,
                                 const json_t **out) {
    *out = json_object_get(parent, key);
    if (*out != NULL && json_is_null(*out))
        *out = NULL;
    if (*out != NULL && !json_is_object(*out))
        return status_fail(BALORA_ERROR_FORMAT, "%s: %s must be an object or null", origin, key);
    return BALORA_OK;
}

static balora_status read_scaling_of(rope_config *rope, const model_config *config, const json_t *parent,
                                     const char *key, const char *origin) {
    const json_t *object;
    char place[1200];
    STATUS_TRY(find_object(parent, key, origin, &object));
    snprintf(place, sizeof place, "%s: %s", origin, key);
    return object != NULL ? read_scaling(rope, config, object, place) : BALORA_OK;
}

/* One for all layers. */
static balora_status read_one(model_config *config, const json_t *root, const char *origin) {
    const json_t *parameters;
    STATUS_TRY(find_object(root, "rope_parameters", origin, &parameters));
    if (json_object_get(parameters, full_layers) != NULL || json_object_get(parameters, local_layers) != NULL)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: rope_parameters of each layer type are not supported for model_type \"%s\"",
                           origin, config->family);
    STATUS_TRY(read_scaling_of(&config->rope, config, root, "rope_scaling", origin));
    return read_scaling_of(&config->rope, config, root, "rope_parameters", origin);
}

/* One for the full layers, to which rope_scaling belongs, and one for the local ones. */
static balora_status read_two(model_config *config, const json_t *root, const char *origin) {
    const json_t *parameters;
    STATUS_TRY(json_member_number(root, "rope_local_base_freq", origin, false, &config->local_rope.theta));
    STATUS_TRY(read_scaling_of(&config->rope, config, root, "rope_scaling", origin));
    STATUS_TRY(find_object(root, "rope_parameters", origin, &parameters));
    if (parameters == NULL)
        return BALORA_OK;
    if (json_object_get(parameters, "rope_theta") != NULL || json_object_get(parameters, "rope_type") != NULL)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: rope_parameters must hold an object for each layer type, \"%s\" and \"%s\"",
                           origin, full_layers, local_layers);
    char place[1200];
    snprintf(place, sizeof place, "%s: rope_parameters", origin);
    STATUS_TRY(read_scaling_of(&config->rope, config, parameters, full_layers, place));
    return read_scaling_of(&config->local_rope, config, parameters, local_layers, place);
}

static balora_status check(const rope_config *rope, const model_config *config, const char *origin) {
    if (rope->kind == ROPE_DYNAMIC && config->head_dim <= 2)
        return status_fail(BALORA_ERROR_FORMAT, "%s: dynamic rope scaling needs a head_dim above 2", origin);
    if (!(rope->theta > 1))
        return status_fail(BALORA_ERROR_FORMAT, "%s: rope_theta is %g; expected a number above 1", origin,
                           rope->theta);
    return config_positive(origin, "rope_theta", rope->theta);
}

balora_status config_rope_read(model_config *config, const family_description *family, const json_t *root,
                               const char *origin) {
    config->two_ropes = family->two_ropes;
    config->rope = (rope_config){.kind = ROPE_DEFAULT,
                                 .theta = LOCAL_THETA,
                                 .factor = 1,
                                 .attention_factor = 1,
                                 .truncate = true,
                                 .original_positions = config->positions};
    config->local_rope = config->rope;
    config->rope.theta = family->rope_theta;
    STATUS_TRY(json_member_number(root, "rope_theta", origin, false, &config->rope.theta));
    STATUS_TRY(config->two_ropes ? read_two(config, root, origin) : read_one(config, root, origin));
    STATUS_TRY(check(&config->rope, config, origin));
    return config->two_ropes ? check(&config->local_rope, config, origin) : BALORA_OK;
}
