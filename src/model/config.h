/*
 * What sets a decoder family apart, as data: the block (block.c) reads this description and never a family's
 * name. Read from config.json of Transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5
 * (rope_parameters, dtype).
 */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <stdbool.h>

#include "base/memory.h"

/* How rotary frequencies change for long contexts; names as in rope_type. */
typedef enum rope_kind { ROPE_DEFAULT, ROPE_LINEAR, ROPE_DYNAMIC, ROPE_LLAMA3, ROPE_YARN } rope_kind;

typedef struct rope_config {
    rope_kind kind;
    double theta;
    double factor;
    double low_frequency_factor, high_frequency_factor; /* llama3 */
    double beta_fast, beta_slow;                        /* yarn */
    double attention_factor; /* yarn: multiplies cosines and sines; 1 for the others */
    bool truncate;           /* yarn: correction range rounded to whole dimensions */
    int64_t original_positions;
} rope_config;

typedef struct model_config {
    char family[32]; /* model_type */
    int64_t layers, hidden, intermediate;
    int64_t heads, key_heads, head_dim;
    int64_t vocabulary, positions;
    int64_t window; /* sliding attention window, 0: none */
    float norm_epsilon;
    float norm_weight_offset; /* 1 where a family stores w - 1 */
    float attention_scale;
    int32_t activation; /* ACTIVATION_... of backend/ops.h */
    bool qkv_bias, output_bias, mlp_bias;
    bool tied_embeddings; /* the head is the embedding table */
    rope_config rope;
} model_config;

/* Read and check FOLDER/config.json. */
balora_status model_config_read(model_config *out, allocator *memory, const char *folder);

#endif
