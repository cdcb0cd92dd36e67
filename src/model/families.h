/* What Transformers knows of a family beyond its config.json: traits, the keys it reads, defaults. */
#ifndef MODEL_FAMILIES_H
#define MODEL_FAMILIES_H

#include <stdbool.h>
#include <stdint.h>

#include "balora/status.h"

/* Where biases come from. */
typedef enum bias_rule {
    BIAS_NONE,
    BIAS_QKV,                   /* q, k, v always; o never */
    BIAS_ATTENTION_KEY,         /* attention_bias: q, k, v, o */
    BIAS_ATTENTION_AND_MLP_KEYS /* mlp_bias too: gate, up, down */
} bias_rule;

/* Which layers have the window of sliding_window. */
typedef enum window_rule {
    WINDOW_NONE,
    WINDOW_ALL_LAYERS,
    WINDOW_UPPER_LAYERS, /* with use_sliding_window, those from max_window_layers on; layer_types says it anew */
    WINDOW_PATTERN       /* all but each sliding_window_pattern-th; layer_types says it anew */
} window_rule;

typedef struct family_description {
    const char *model_type;
    /* traits */
    bias_rule biases;
    window_rule windows;
    bool stores_norms_less_one;
    bool scaled_embeddings;
    bool query_key_norms;
    bool output_norms;
    bool two_ropes;
    bool reads_query_scale;     /* query_pre_attn_scalar instead of head_dim */
    bool reads_soft_caps;       /* attn_logit_softcapping, final_logit_softcapping */
    const char *activation_key; /* hidden_act or hidden_activation */
    bool plain_gelu_is_tanh;    /* early files say "gelu" and mean its tanh form */
    const char *gguf;           /* llama.cpp's name of it */
    bool gguf_interleaved; /* there heads turn in neighbouring pairs: rows of q and k stand in that order */
    /* where config.json is silent */
    int64_t key_heads; /* 0: as many as heads */
    int64_t head_dim;  /* 0: hidden / heads */
    int64_t positions;
    int64_t window;
    int64_t window_pattern;
    int64_t first_window_layer; /* max_window_layers */
    double query_scale;
    double attention_soft_cap, logit_soft_cap; /* 0: none */
    double rope_theta;
    const char *activation;
    bool tied_embeddings;
} family_description;

/* UNSUPPORTED, naming all there are, when there is no such family. */
balora_status family_find(const family_description **out, const char *model_type, const char *origin);

#endif
