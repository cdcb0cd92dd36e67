/* The valid folder, and a sum over it. */
#include "hostile.h"

#include "format/safetensors.h"
#include "tree.h"
#include <dirent.h>

enum { HIDDEN = 4, INNER = 6, VOCABULARY = 100 };

static const float numbers[VOCABULARY * HIDDEN] = {[0] = 0.5f, [1] = -0.25f, [7] = 1, [20] = 0.125f};

#define LAYER                  "model.layers.0."
#define FACTOR(module, letter) "base_model.model.model.layers.0." module ".lora_" letter ".weight"

static const safetensors_tensor model_tensors[] = {
    {"model.embed_tokens.weight", BALORA_F32, 2, {VOCABULARY, HIDDEN}, numbers},
    {LAYER "input_layernorm.weight", BALORA_F32, 1, {HIDDEN}, numbers},
    {LAYER "post_attention_layernorm.weight", BALORA_F32, 1, {HIDDEN}, numbers},
    {LAYER "self_attn.q_proj.weight", BALORA_F32, 2, {HIDDEN, HIDDEN}, numbers},
    {LAYER "self_attn.k_proj.weight", BALORA_F32, 2, {HIDDEN / 2, HIDDEN}, numbers},
    {LAYER "self_attn.v_proj.weight", BALORA_F32, 2, {HIDDEN / 2, HIDDEN}, numbers},
    {LAYER "self_attn.o_proj.weight", BALORA_F32, 2, {HIDDEN, HIDDEN}, numbers},
    {LAYER "mlp.gate_proj.weight", BALORA_F32, 2, {INNER, HIDDEN}, numbers},
    {LAYER "mlp.up_proj.weight", BALORA_F32, 2, {INNER, HIDDEN}, numbers},
    {LAYER "mlp.down_proj.weight", BALORA_F32, 2, {HIDDEN, INNER}, numbers},
    {"model.norm.weight", BALORA_F32, 1, {HIDDEN}, numbers},
    {"lm_head.weight", BALORA_F32, 2, {VOCABULARY, HIDDEN}, numbers},
};

enum { MODEL_TENSORS = sizeof model_tensors / sizeof *model_tensors, FIRST_SHARD = 5 };

static const safetensors_tensor adapter_tensors[] = {
    {FACTOR("self_attn.q_proj", "A"), BALORA_F32, 2, {2, HIDDEN}, numbers},
    {FACTOR("self_attn.q_proj", "B"), BALORA_F32, 2, {HIDDEN, 2}, numbers},
    {FACTOR("mlp.down_proj", "A"), BALORA_F32, 2, {2, INNER}, numbers},
    {FACTOR("mlp.down_proj", "B"), BALORA_F32, 2, {HIDDEN, 2}, numbers},
};

static const int32_t ids[] = {1, 2, 3, 4, 5, 6}, labels[] = {-100, 2, 3, -100, 5, 6};
static const int64_t offsets[] = {0, 3, 6};
static const safetensors_tensor token_tensors[] = {{"input_ids", BALORA_I32, 1, {6}, ids},
                                                   {"labels", BALORA_I32, 1, {6}, labels},
                                                   {"offsets", BALORA_I64, 1, {3}, offsets}};

static const char config[] =
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 1, \"hidden_size\": 4, \"intermediate_size\": 6,"
    " \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 2, \"vocab_size\": 100,"
    " \"max_position_embeddings\": 32, \"tie_word_embeddings\": false, \"rms_norm_eps\": 1e-5,"
    " \"hidden_act\": \"silu\", \"rope_theta\": 10000.0}";

static const char adapter_config[] =
    "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"bias\": \"none\", \"task_type\": \"CAUSAL_LM\","
    " \"base_model_name_or_path\": \"base\", \"target_modules\": [\"q_proj\", \"down_proj\"]}";

static const char rows[] = "{\"instruction\": \"1 + 1?\", \"response\": \"2\"}\n"
                           "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
                           "{\"text\": \"free\"}\n";

/* Every printable ASCII character is a token of its own, and ":#" is one too. */
static void write_tokenizer(scratch *self) {
    char text[8192];
    size_t used =
        (size_t)snprintf(text, sizeof text,
                         "{\"version\":\"1.0\",\"added_tokens\":["
                         "{\"id\":97,\"content\":\"<|im_end|>\",\"special\":true,\"single_word\":false,"
                         "\"lstrip\":false,\"rstrip\":false,\"normalized\":false},"
                         "{\"id\":98,\"content\":\"<|im_start|>\",\"special\":true,\"single_word\":false,"
                         "\"lstrip\":false,\"rstrip\":false,\"normalized\":false}],"
                         "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                         "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
                         "\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\"},"
                         "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                         "\"merges\":[\": #\"],\"vocab\":{");
    for (int c = '!'; c <= '~'; c++)
        used += (size_t)snprintf(text + used, sizeof text - used, "\"%s%c\":%d,",
                                 c == '"' || c == '\\' ? "\\" : "", c, c - '!');
    snprintf(text + used, sizeof text - used, "\"\xC4\x8A\":94,\"\xC4\xA0\":95,\":#\":96}}}");
    scratch_text(self, "model/tokenizer.json", text);
    scratch_text(self, "model/tokenizer_config.json", "{\"eos_token\": \"<|im_end|>\"}");
}

static void write_tensors(scratch *self, const char *name, const safetensors_tensor *tensors, int64_t count) {
    expect_ok(safetensors_save(&self->memory, scratch_path(self, name), tensors, count, NULL));
}

static void write_index(scratch *self) {
    char text[4096];
    size_t used = (size_t)snprintf(text, sizeof text, "{\"metadata\": {}, \"weight_map\": {");
    for (int i = 0; i < MODEL_TENSORS; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s\"%s\": \"%s.safetensors\"",
                                 i > 0 ? ", " : "", model_tensors[i].name, i < FIRST_SHARD ? "a" : "b");
    snprintf(text + used, sizeof text - used, "}}");
    scratch_text(self, "shards/model.safetensors.index.json", text);
}

/* Into the scratch folder, where the files are synced one by one. */
static void make_folder(scratch *self) {
    static const char *const folders[] = {"model", "shards", "adapter", "out"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        expect_ok(file_make_folder(scratch_path(self, folders[i])));
    scratch_text(self, "model/config.json", config);
    scratch_text(self, "shards/config.json", config);
    write_tensors(self, "model/model.safetensors", model_tensors, MODEL_TENSORS);
    write_tensors(self, "shards/a.safetensors", model_tensors, FIRST_SHARD);
    write_tensors(self, "shards/b.safetensors", model_tensors + FIRST_SHARD, MODEL_TENSORS - FIRST_SHARD);
    write_index(self);
    write_tokenizer(self);
    scratch_text(self, "adapter/adapter_config.json", adapter_config);
    write_tensors(self, "adapter/adapter_model.safetensors", adapter_tensors,
                  sizeof adapter_tensors / sizeof *adapter_tensors);
    scratch_text(self, "rows.jsonl", rows);
    write_tensors(self, "tokens.safetensors", token_tensors, 3);
    scratch_text(self, "out/keep.txt", "what was there before");
}

static const char *base_of(const scratch *self) {
    static char path[48];
    snprintf(path, sizeof path, "%s.base", self->folder);
    return path;
}

void valid_folder(scratch *self) {
    if (!file_exists(base_of(self))) {
        make_folder(self);
        tree_copy(self->folder, base_of(self));
    }
    tree_remove(self->folder);
    tree_copy(base_of(self), self->folder);
}

void remove_base(const scratch *self) {
    tree_remove(base_of(self));
}

void put_file(scratch *self, const char *name, const void *data, size_t bytes) {
    FILE *file = fopen(scratch_path(self, name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

int open_descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}
