#include "model/families.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

static const family_description families[] = {
    {.model_type = "llama",
     .biases = BIAS_ATTENTION_AND_MLP_KEYS,
     .activation_key = "hidden_act",
     .activation = "silu",
     .positions = 2048,
     .rope_theta = 10000},
    {.model_type = "mistral",
     .windows = WINDOW_ALL_LAYERS,
     .activation_key = "hidden_act",
     .activation = "silu",
     .key_heads = 8,
     .positions = 131072,
     .window = 4096,
     .rope_theta = 10000},
    {.model_type = "qwen2",
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
    char known[256];
    list_families(known, sizeof known);
    return status_fail(BALORA_ERROR_UNSUPPORTED,
                       "%s: model_type \"%s\" is not supported by this version; supported: %s", origin,
                       model_type, known);
}
