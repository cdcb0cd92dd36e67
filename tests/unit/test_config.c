/* config.json of each family: what it says, what it leaves to Transformers' defaults, and what is refused. */
#include "scratch.h"

#include <math.h>

#include "backend/ops.h"
#include "model/config.h"

#define SIZES                                                                                                \
    "\"vocab_size\": 50, \"hidden_size\": 48, \"intermediate_size\": 8, \"num_hidden_layers\": 6, "          \
    "\"num_attention_heads\": 32"

static balora_status read_text(scratch *self, const char *family, const char *members, model_config *out) {
    char text[1024];
    snprintf(text, sizeof text, "{\"model_type\": \"%s\", " SIZES "%s%s}", family, *members ? ", " : "",
             members);
    scratch_text(self, "config.json", text);
    return model_config_read(out, &self->memory, self->folder);
}

typedef struct expectation {
    const char *family, *members;
    const char *layers; /* L: local, F: full */
    int64_t window, key_heads, head_dim, positions;
    double scale; /* 1 / attention_scale^2 */
    double attention_cap, logit_cap, theta, local_theta;
    int32_t activation;
    const char
        *traits; /* b: q, k, v biases; o: o's; m: the MLP's; t: tied; e: scaled embeddings; 1: norms less one;
                           q: norms of q and k; n: norms of outputs */
} expectation;

static const expectation expectations[] = {
    {"llama", "\"head_dim\": 2", "FFFFFF", 0, 32, 2, 2048, 2, 0, 0, 1e4, 0, ACTIVATION_SILU, ""},
    {"llama", "\"head_dim\": 2, \"attention_bias\": true, \"mlp_bias\": true, \"sliding_window\": 4",
     "FFFFFF", 0, 32, 2, 2048, 2, 0, 0, 1e4, 0, ACTIVATION_SILU, "bom"},
    {"mistral", "\"head_dim\": 2", "LLLLLL", 4096, 8, 2, 131072, 2, 0, 0, 1e4, 0, ACTIVATION_SILU, ""},
    {"mistral", "\"head_dim\": 2, \"sliding_window\": null, \"num_key_value_heads\": null", "FFFFFF", 0, 32,
     2, 131072, 2, 0, 0, 1e4, 0, ACTIVATION_SILU, ""},
    {"qwen2", "\"head_dim\": 2", "FFFFFF", 0, 32, 2, 32768, 2, 0, 0, 1e4, 0, ACTIVATION_SILU, "b"},
    {"qwen2", "\"head_dim\": 2, \"use_sliding_window\": true", "FFFFFF", 0, 32, 2, 32768, 2, 0, 0, 1e4, 0,
     ACTIVATION_SILU, "b"},
    {"qwen2",
     "\"head_dim\": 2, \"use_sliding_window\": true, \"max_window_layers\": 4, \"sliding_window\": 9",
     "FFFFLL", 9, 32, 2, 32768, 2, 0, 0, 1e4, 0, ACTIVATION_SILU, "b"},
    {"qwen2",
     "\"head_dim\": 2, \"use_sliding_window\": false, \"max_window_layers\": 4, \"sliding_window\": 9",
     "FFFFFF", 0, 32, 2, 32768, 2, 0, 0, 1e4, 0, ACTIVATION_SILU, "b"},
    {"qwen3", "\"num_key_value_heads\": 1, \"tie_word_embeddings\": true, \"rope_theta\": 1000000.0",
     "FFFFFF", 0, 1, 128, 32768, 128, 0, 0, 1e6, 0, ACTIVATION_SILU, "tq"},
    {"gemma", "", "FFFFFF", 0, 16, 256, 8192, 256, 0, 0, 1e4, 0, ACTIVATION_GELU_TANH, "te1"},
    {"gemma", "\"hidden_act\": \"gelu\", \"hidden_activation\": null, \"tie_word_embeddings\": false",
     "FFFFFF", 0, 16, 256, 8192, 256, 0, 0, 1e4, 0, ACTIVATION_GELU_TANH, "e1"},
    {"gemma2", "", "LFLFLF", 4096, 4, 256, 8192, 256, 50, 30, 1e4, 0, ACTIVATION_GELU_TANH, "te1n"},
    {"gemma2",
     "\"attn_logit_softcapping\": null, \"final_logit_softcapping\": 4.5, \"query_pre_attn_scalar\": 144, "
     "\"sliding_window\": 7, \"attention_bias\": true",
     "LFLFLF", 7, 4, 256, 8192, 144, 0, 4.5, 1e4, 0, ACTIVATION_GELU_TANH, "bote1n"},
    {"gemma3_text", "", "LLLLLF", 4096, 4, 256, 131072, 256, 0, 0, 1e6, 1e4, ACTIVATION_GELU_TANH, "te1qn"},
    {"gemma3_text",
     "\"sliding_window_pattern\": 3, \"rope_local_base_freq\": 500.0, \"rope_theta\": 7000.0, "
     "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8.0}",
     "LLFLLF", 4096, 4, 256, 131072, 256, 0, 0, 7e3, 500, ACTIVATION_GELU_TANH, "te1qn"},
    {"gemma3_text",
     "\"layer_types\": [\"full_attention\", \"sliding_attention\", \"full_attention\", \"full_attention\", "
     "\"sliding_attention\", \"full_attention\"], \"sliding_window_pattern\": 2, \"rope_parameters\": "
     "{\"full_attention\": {\"rope_type\": \"default\", \"rope_theta\": 80.0}, \"sliding_attention\": null}",
     "FLFFLF", 4096, 4, 256, 131072, 256, 0, 0, 80, 1e4, ACTIVATION_GELU_TANH, "te1qn"},
};

static void expect_traits(const expectation *wanted, const model_config *found) {
    const struct {
        char letter;
        bool found;
    } traits[] = {{'b', found->qkv_bias},          {'o', found->output_bias},
                  {'m', found->mlp_bias},          {'t', found->tied_embeddings},
                  {'e', found->scaled_embeddings}, {'1', found->norm_weight_offset == 1.0F},
                  {'q', found->query_key_norms},   {'n', found->output_norms}};
    for (size_t i = 0; i < sizeof traits / sizeof traits[0]; i++)
        if (traits[i].found != (strchr(wanted->traits, traits[i].letter) != NULL))
            fail_msg("%s, %s: trait '%c' is %s", wanted->family, wanted->members, traits[i].letter,
                     traits[i].found ? "there" : "missing");
    for (int64_t i = 0; i < found->layers; i++)
        if (model_config_is_local(found, i) != (wanted->layers[i] == 'L'))
            fail_msg("%s, %s: layer %lld", wanted->family, wanted->members, (long long)i);
}

static void families_are_described(void **state) {
    for (size_t i = 0; i < sizeof expectations / sizeof expectations[0]; i++) {
        const expectation *wanted = &expectations[i];
        model_config found;
        expect_ok(read_text(*state, wanted->family, wanted->members, &found));
        expect_traits(wanted, &found);
        assert_string_equal(found.family, wanted->family);
        assert_int_equal(found.window, wanted->window);
        assert_int_equal(found.key_heads, wanted->key_heads);
        assert_int_equal(found.head_dim, wanted->head_dim);
        assert_int_equal(found.positions, wanted->positions);
        assert_int_equal(found.activation, wanted->activation);
        assert_true(fabs((double)found.attention_scale * sqrt(wanted->scale) - 1) < 1e-6);
        assert_true((double)found.attention_soft_cap == wanted->attention_cap);
        assert_true((double)found.logit_soft_cap == wanted->logit_cap);
        assert_true(found.rope.theta == wanted->theta);
        assert_int_equal(found.two_ropes, wanted->local_theta > 0);
        if (found.two_ropes)
            assert_true(found.local_rope.theta == wanted->local_theta &&
                        found.local_rope.kind == ROPE_DEFAULT);
    }
}

static void what_is_no_such_model_is_refused(void **state) {
    static const struct {
        const char *family, *members;
        balora_status status;
        const char *fragment;
    } cases[] = {
        {"gpt2", "", BALORA_ERROR_UNSUPPORTED,
         "model_type \"gpt2\" is not supported by this version; supported: llama, mistral, qwen2, qwen3, "
         "gemma, "
         "gemma2, gemma3_text"},
        {"gemma3", "", BALORA_ERROR_UNSUPPORTED, "its text part alone is"},
        {"gemma2", "\"layer_types\": [\"full_attention\"]", BALORA_ERROR_FORMAT,
         "layer_types must be a list of 6 words"},
        {"gemma2", "\"layer_types\": \"full_attention\"", BALORA_ERROR_FORMAT, "layer_types must be a list"},
        {"qwen3",
         "\"use_sliding_window\": true, \"layer_types\": [\"full_attention\", \"chunked_attention\", "
         "\"full_attention\", \"full_attention\", \"full_attention\", \"full_attention\"]",
         BALORA_ERROR_UNSUPPORTED, "layer_types[1] is chunked_attention"},
        {"gemma2", "\"layer_types\": [1, 2, 3, 4, 5, 6]", BALORA_ERROR_UNSUPPORTED,
         "layer_types[0] is no string"},
        {"gemma2", "\"sliding_window\": null", BALORA_ERROR_FORMAT, "sliding_window is null"},
        {"gemma2", "\"sliding_window\": 0", BALORA_ERROR_FORMAT, "sliding_window"},
        {"gemma3_text", "\"sliding_window_pattern\": 0", BALORA_ERROR_FORMAT, "sliding_window_pattern"},
        {"qwen2", "\"head_dim\": 2, \"use_sliding_window\": true, \"max_window_layers\": -1",
         BALORA_ERROR_FORMAT, "max_window_layers"},
        {"gemma2", "\"final_logit_softcapping\": 0", BALORA_ERROR_FORMAT, "final_logit_softcapping is 0"},
        {"gemma2", "\"attn_logit_softcapping\": -50.0", BALORA_ERROR_FORMAT, "attn_logit_softcapping is -50"},
        {"gemma3_text", "\"attn_logit_softcapping\": 50.0", BALORA_ERROR_UNSUPPORTED,
         "attn_logit_softcapping must be null"},
        {"gemma2", "\"query_pre_attn_scalar\": 0", BALORA_ERROR_FORMAT, "query_pre_attn_scalar is 0"},
        {"gemma", "\"use_bidirectional_attention\": true", BALORA_ERROR_UNSUPPORTED,
         "use_bidirectional_attention"},
        {"gemma2", "\"hidden_activation\": \"gelu\"", BALORA_ERROR_UNSUPPORTED, "hidden_activation \"gelu\""},
        {"llama", "\"head_dim\": 2, \"hidden_act\": \"gelu\"", BALORA_ERROR_UNSUPPORTED,
         "hidden_act \"gelu\""},
        {"gemma3_text", "\"rope_parameters\": {\"rope_theta\": 5.0}", BALORA_ERROR_FORMAT,
         "rope_parameters must hold an object for each layer type"},
        {"gemma3_text", "\"rope_parameters\": {\"full_attention\": 5}", BALORA_ERROR_FORMAT,
         "rope_parameters: full_attention must be an object"},
        {"gemma3_text", "\"rope_local_base_freq\": 1", BALORA_ERROR_FORMAT, "rope_theta is 1"},
        {"qwen3", "\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 5.0}}",
         BALORA_ERROR_UNSUPPORTED, "rope_parameters of each layer type"},
        {"gemma2", "\"num_key_value_heads\": 5", BALORA_ERROR_FORMAT, "num_attention_heads"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        model_config found;
        expect_failure(read_text(*state, cases[i].family, cases[i].members, &found), cases[i].status,
                       cases[i].fragment);
    }
}

/* As Transformers' Gemma has it: sqrt(3072) is 55.4256, and 55.5 in BF16. */
static void embeddings_are_scaled_as_their_dtype_rounds(void **state) {
    (void)state;
    model_config config = {.hidden = 3072, .scaled_embeddings = true};
    assert_true(model_config_embedding_scale(&config, BALORA_F32) == sqrtf(3072.0F));
    assert_true(model_config_embedding_scale(&config, BALORA_BF16) == 55.5F);
    assert_true(model_config_embedding_scale(&config, BALORA_F16) == 55.4375F);
    config.hidden = 2304;
    assert_true(model_config_embedding_scale(&config, BALORA_BF16) == 48.0F);
    config.scaled_embeddings = false;
    assert_true(model_config_embedding_scale(&config, BALORA_BF16) == 1.0F);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(families_are_described),
        SCRATCH_TEST(what_is_no_such_model_is_refused),
        cmocka_unit_test(embeddings_are_scaled_as_their_dtype_rounds),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
