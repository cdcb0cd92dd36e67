/*
 * What sets a decoder family apart, as data: the block (block.c) reads this description and never a family's
 * name. Read from config.json of Transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5
 * (rope_parameters, dtype).
 */
#ifndef MODEL_CONFIG_H
#define MODEL_CONFIG_H

#include <stdbool.h>

#include "base/memory.h"

#define MODEL_LAYERS_LIMIT    4096
#define MODEL_POSITIONS_LIMIT ((int64_t)1 << 30)

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
    int64_t window;                               /* of the local layers' attention; 0: no layer is local */
    uint8_t local_layers[MODEL_LAYERS_LIMIT / 8]; /* a bit a layer: its attention has the window */
    float norm_epsilon;
    float norm_weight_offset; /* 1 where a family stores w - 1 */
    float attention_scale;
    float attention_soft_cap; /* scores x become c tanh(x / c); 0: they stay */
    float logit_soft_cap;     /* the same for logits */
    int32_t activation;       /* ACTIVATION_... of backend/ops.h */
    bool qkv_bias, output_bias, mlp_bias;
    bool tied_embeddings;   /* the head is the embedding table */
    bool scaled_embeddings; /* times sqrt(hidden) */
    bool query_key_norms;   /* each head of q and k is normed before it is rotated */
    bool output_norms;      /* what attention and MLP give is normed before it joins the residual stream */
    bool two_ropes;         /* the local layers have rotary positions of their own */
    rope_config rope, local_rope;
    uint32_t checksum; /* of everything that config.json says but who wrote it */
} model_config;

/* Read and check FOLDER/config.json. */
balora_status model_config_read(model_config *out, allocator *memory, const char *folder);

/* Does the layer's attention have the window? */
static inline bool model_config_is_local(const model_config *config, int64_t layer) {
    return (config->local_layers[layer / 8] >> (layer % 8) & 1) != 0;
}

/*
 * What embeddings are multiplied by, 1 where they are taken as they are. A model stored in 16 bits was trained
 * with the factor in 16 bits: `dtype` is that of its stored embeddings.
 */
float model_config_embedding_scale(const model_config *config, int32_t dtype);

#endif
