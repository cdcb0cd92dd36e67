/* The smallest model: what an adapter is opened on. One layer, hidden size 4, two heads. */
#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H

#define TINY_CONFIG                                                                                          \
    "{\"model_type\":\"llama\",\"num_hidden_layers\":1,\"hidden_size\":4,\"intermediate_size\":6,"           \
    "\"num_attention_heads\":2,\"num_key_value_heads\":1,\"vocab_size\":5,\"head_dim\":2,"                   \
    "\"max_position_embeddings\":16,\"tie_word_embeddings\":true}"

#define TINY_TENSOR(name, shape, begin, end)                                                                 \
    "\"model." name "\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

#define TINY_HEADER                                                                                                                                                                            \
    "{" TINY_TENSOR("embed_tokens.weight", "5,4", 0, 80) "," TINY_TENSOR("layers.0.input_layernorm.weight", "4", 80, 96) "," TINY_TENSOR(                                                      \
        "layers.0.post_attention_layernorm.weight", "4", 96,                                                                                                                                   \
        112) "," TINY_TENSOR("layers.0.self_attn.q_proj.weight", "4,4", 112,                                                                                                                   \
                             176) "," TINY_TENSOR("layers.0.self_attn.k_proj.weight", "2,4", 176,                                                                                              \
                                                  208) "," TINY_TENSOR("layers.0.self_attn.v_proj.weight",                                                                                     \
                                                                       "2,4", 208,                                                                                                             \
                                                                       240) "," TINY_TENSOR("layers.0.self_"                                                                                   \
                                                                                            "attn.o_proj."                                                                                     \
                                                                                            "weight",                                                                                          \
                                                                                            "4,4", 240,                                                                                        \
                                                                                            304) "," TINY_TENSOR("layers.0.mlp.gate_proj.weight",                                              \
                                                                                                                 "6,4",                                                                        \
                                                                                                                 304,                                                                          \
                                                                                                                 400) "," TINY_TENSOR("layers.0.mlp.up_proj.weight",                           \
                                                                                                                                      "6,4",                                                   \
                                                                                                                                      400,                                                     \
                                                                                                                                      496) "," TINY_TENSOR("layers.0.mlp.down_proj.weight",    \
                                                                                                                                                           "4,6",                              \
                                                                                                                                                           496,                                \
                                                                                                                                                           592) "," TINY_TENSOR("norm.weight", \
                                                                                                                                                                                "4",           \
                                                                                                                                                                                592,           \
                                                                                                                                                                                608) "}"

#endif
