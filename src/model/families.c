#include "model/families.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

static const family_description families[] = {
    {.model_type = "llama",
     .gguf = "llama",
     .gguf_interleaved = true,
     .biases = BIAS_ATTENTION_AND_MLP_KEYS,
     .activation_key = "hidden_act",
     .activation = "silu",
     .positions = 2048,
     .rope_theta = 10000},
    {.model_type = "mistral",
     .gguf = "llama",
     .gguf_interleaved = true,
     .windows = WINDOW_ALL_LAYERS,
     .activation_key = "hidden_act",
     .activation = "silu",
     .key_heads = 8,
     .positions = 131072,
     .window = 4096,
     .rope_theta = 10000},
    {.model_type = "qwen2",
     .gguf = "qwen2",
     .biases = BIAS_QKV,
     .windows = WINDOW_UPPER_LAYERS,
     .activation_key = "hidden_act",
     .activation = "silu",
     .key_heads = 32,
     .positions = 32768,
     .window = 4096,
     .first_window_layer = 28,
     .rope_theta = 10000},
    {.model_type = "qwen3",
     .gguf = "qwen3",
     .biases = BIAS_ATTENTION_KEY,
     .windows = WINDOW_UPPER_LAYERS,
     .query_key_norms = true,
     .activation_key = "hidden_act",
     .activation = "silu",
     .key_heads = 32,
     .head_dim = 128,
     .positions = 32768,
     .window = 4096,
     .first_window_layer = 28,
     .rope_theta = 10000},
    {.model_type = "gemma",
     .gguf = "gemma",
     .biases = BIAS_ATTENTION_KEY,
     .stores_norms_less_one = true,
     .scaled_embeddings = true,
     .activation_key = "hidden_act",
     .activation = "gelu_pytorch_tanh",
     .plain_gelu_is_tanh = true,
     .key_heads = 16,
     .head_dim = 256,
     .positions = 8192,
     .rope_theta = 10000,
     .tied_embeddings = true},
    {.model_type = "gemma2",
     .gguf = "gemma2",
     .biases = BIAS_ATTENTION_KEY,
     .windows = WINDOW_PATTERN,
     .stores_norms_less_one = true,
     .scaled_embeddings = true,
     .output_norms = true,
     .reads_query_scale = true,
     .reads_soft_caps = true,
     .activation_key = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .key_heads = 4,
     .head_dim = 256,
     .positions = 8192,
     .window = 4096,
     .window_pattern = 2,
     .query_scale = 256,
     .attention_soft_cap = 50,
     .logit_soft_cap = 30,
     .rope_theta = 10000,
     .tied_embeddings = true},
    {.model_type = "gemma3_text",
     .gguf = "gemma3",
     .biases = BIAS_ATTENTION_KEY,
     .windows = WINDOW_PATTERN,
     .stores_norms_less_one = true,
     .scaled_embeddings = true,
     .query_key_norms = true,
     .output_norms = true,
     .two_ropes = true,
     .reads_query_scale = true,
     .reads_soft_caps = true,
     .activation_key = "hidden_activation",
     .activation = "gelu_pytorch_tanh",
     .key_heads = 4,
     .head_dim = 256,
     .positions = 131072,
     .window = 4096,
     .window_pattern = 6,
     .query_scale = 256,
     .rope_theta = 1000000,
     .tied_embeddings = true},
};

#define FAMILY_COUNT (sizeof families / sizeof families[0])

static void list_families(char *out, size_t bytes) {
    size_t used = 0;
    for (size_t i = 0; i < FAMILY_COUNT && used < bytes; i++)
        used +=
            (size_t)snprintf(out + used, bytes - used, "%s%s", i == 0 ? "" : ", ", families[i].model_type);
}

balora_status family_find(const family_description **out, const char *model_type, const char *origin) {
    for (size_t i = 0; i < FAMILY_COUNT; i++)
        if (strcmp(families[i].model_type, model_type) == 0) {
            *out = &families[i];
            return BALORA_OK;
        }
    if (strcmp(model_type, "gemma3") == 0)
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "%s: model_type \"gemma3\" is a model of images and text, which is not supported; its "
            "text part alone is: save it by itself, with model_type \"gemma3_text\"",
            origin);
    char known[256];
    list_families(known, sizeof known);
    return status_fail(BALORA_ERROR_UNSUPPORTED,
                       "%s: model_type \"%s\" is not supported by this version; supported: %s", origin,
                       model_type, known);
}
