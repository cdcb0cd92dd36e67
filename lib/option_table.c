#include "option_table.h"

#include <float.h>
#include <math.h>

#include "balora/balora.h"

#define ABOVE_ZERO   DBL_MIN
#define BELOW_ONE    (1.0 - DBL_EPSILON / 2)
#define COUNT_LIMIT  2147483647.0
#define SEED_LIMIT   18446744073709551615.0
#define LENGTH(list) (sizeof(list) / sizeof((list)[0]))

#define STORAGE(structure, field)                                                                            \
    _Generic(((structure *)0)->field,                                                                          \
        int32_t: STORED_INT32,                                                                                 \
        int64_t: STORED_INT64,                                                                                 \
        uint64_t: STORED_UINT64,                                                                               \
        double: STORED_DOUBLE,                                                                                 \
        const char *: STORED_TEXT)
#define PLACE(structure, field) STORAGE(structure, field), offsetof(structure, field)

#define INTEGER(structure, field, low, high, value, help)                                                    \
    { #field, BALORA_OPTION_INTEGER, PLACE(structure, field), low, high, value, NULL, NULL, help }
#define NUMBER(structure, field, low, high, value, help)                                                     \
    { #field, BALORA_OPTION_NUMBER, PLACE(structure, field), low, high, value, NULL, NULL, help }
#define FLAG(structure, field, value, help)                                                                  \
    { #field, BALORA_OPTION_FLAG, PLACE(structure, field), 0, 1, value, NULL, NULL, help }
#define CHOICE(structure, field, choices, values, value, help)                                               \
    { #field, BALORA_OPTION_CHOICE, PLACE(structure, field), 0, 0, value, choices, values, help }
#define TEXT(structure, field, value, help)                                                                  \
    { #field, BALORA_OPTION_TEXT, PLACE(structure, field), 0, 0, value, NULL, NULL, help }

static const int32_t log_level_values[] = {0, BALORA_LOG_ERROR, BALORA_LOG_WARNING, BALORA_LOG_INFO,
                                           BALORA_LOG_DEBUG};
static const int32_t dtype_values[] = {BALORA_DTYPE_AUTO, BALORA_F32, BALORA_BF16};
static const int32_t method_values[] = {BALORA_METHOD_BA_LORA, BALORA_METHOD_PISSA, BALORA_METHOD_LORA,
                                        BALORA_METHOD_DORA, BALORA_METHOD_FULL};
static const int32_t bias_values[] = {BALORA_BIAS_NONE, BALORA_BIAS_ALL, BALORA_BIAS_LORA_ONLY};
static const int32_t init_values[] = {BALORA_INIT_AUTO, BALORA_INIT_KAIMING, BALORA_INIT_GAUSSIAN,
                                      BALORA_INIT_PISSA};
static const int32_t to_values[] = {BALORA_EXPORT_PEFT, BALORA_EXPORT_PISSA, BALORA_EXPORT_GGUF};
static const int32_t factor_dtype_values[] = {BALORA_DTYPE_AUTO, BALORA_F32, BALORA_F16, BALORA_BF16};
static const int32_t svd_norm_values[] = {BALORA_SVD_FROBENIUS, BALORA_SVD_NUCLEAR};
static const int32_t positions_values[] = {BALORA_POSITIONS_LABEL, BALORA_POSITIONS_PREDICT};
static const int32_t consistency_schedule_values[] = {BALORA_CONSISTENCY_CONSTANT, BALORA_CONSISTENCY_COSINE,
                                                      BALORA_CONSISTENCY_ADAPTIVE};
static const int32_t focus_schedule_values[] = {BALORA_FOCUS_CONSTANT, BALORA_FOCUS_TWO_PHASE,
                                                BALORA_FOCUS_LINEAR_WARMUP, BALORA_FOCUS_QUADRATIC_WARMUP};
static const int32_t consistency_form_values[] = {BALORA_CONSISTENCY_FORM_KL,
                                                  BALORA_CONSISTENCY_FORM_NORMALIZED};
static const int32_t diversity_form_values[] = {BALORA_DIVERSITY_FORM_ENTROPY,
                                                BALORA_DIVERSITY_FORM_COVARIANCE};
static const int32_t lr_schedule_values[] = {BALORA_LR_COSINE, BALORA_LR_LINEAR, BALORA_LR_CONSTANT};
static const int32_t optimizer_values[] = {BALORA_OPTIMIZER_ADAMW, BALORA_OPTIMIZER_LION,
                                           BALORA_OPTIMIZER_ADAMW_8BIT};
static const int32_t loss_reduction_values[] = {BALORA_REDUCTION_GLOBAL, BALORA_REDUCTION_MEAN_OF_MEANS};

static const balora_context_options context_defaults = BALORA_CONTEXT_OPTIONS_INIT;
static const option_field context_fields[] = {
    INTEGER(balora_context_options, threads, 0, 1024, "0", "threads a call may use; 0: one a core"),
    CHOICE(balora_context_options, log_level, "default|error|warning|info|debug", log_level_values, "default",
           "least severe messages that reach the log callback; default: info"),
    TEXT(balora_context_options, plugin_path, "", "file of the device's plugin; empty: searched for"),
};

static const balora_model_options model_defaults = BALORA_MODEL_OPTIONS_INIT;
static const option_field model_fields[] = {
    TEXT(balora_model_options, device, "cpu", "where the model lives and computes: cpu, cuda or cuda:N"),
    CHOICE(balora_model_options, dtype, "auto|float32|bfloat16", dtype_values, "auto",
           "storage of the weights; auto: as in the files"),
    FLAG(balora_model_options, tf32, "false", "products of float32 may round their operands to TF32"),
};

static const balora_adapter_options adapter_defaults = BALORA_ADAPTER_OPTIONS_INIT;
static const option_field adapter_fields[] = {
    CHOICE(balora_adapter_options, method, "ba-lora|pissa|lora|dora|full", method_values, "ba-lora",
           "what is trained and how it starts"),
    INTEGER(balora_adapter_options, rank, 1, 65536, "16", "rank of the trained factors"),
    NUMBER(balora_adapter_options, alpha, ABOVE_ZERO, INFINITY, "16", "scale of the factors is alpha / rank"),
    FLAG(balora_adapter_options, use_rslora, "false", "rank-stabilised: the scale is alpha / sqrt(rank)"),
    TEXT(balora_adapter_options, target_modules, "all-linear",
         "layers to adapt: a,b,... or all-linear or re:PATTERN"),
    INTEGER(balora_adapter_options, seed, 0, SEED_LIMIT, "0", "seed of the factors' start"),
    FLAG(balora_adapter_options, full_svd, "false", "start from a full SVD instead of subspace iteration"),
    TEXT(balora_adapter_options, exclude_modules, "", "targeted layers that are not adapted: a,b,..."),
    TEXT(balora_adapter_options, layers_to_transform, "", "only these layers: 0,1,4-7; empty: all"),
    TEXT(balora_adapter_options, rank_pattern, "", "ranks of their own: q_proj=8,down_proj=4"),
    TEXT(balora_adapter_options, alpha_pattern, "", "alphas of their own: q_proj=8,down_proj=4"),
    TEXT(balora_adapter_options, modules_to_save, "", "trained whole: embed_tokens,lm_head,norm"),
    TEXT(balora_adapter_options, pissa_modules, "",
         "the only ones that start from singular vectors: a,b,..."),
    CHOICE(balora_adapter_options, bias, "none|all|lora_only", bias_values, "none",
           "the model's biases that are trained"),
    CHOICE(balora_adapter_options, init, "auto|kaiming|gaussian|pissa", init_values, "auto",
           "start of the factors; auto: by method"),
    FLAG(balora_adapter_options, use_dora, "false", "train magnitudes beside the factors (DoRA)"),
    NUMBER(balora_adapter_options, lora_dropout, 0, BELOW_ONE, "0",
           "dropout on the low-rank path's input while training"),
};

static const balora_regularizer_options regularizer_defaults = BALORA_REGULARIZER_OPTIONS_INIT;
static const option_field regularizer_fields[] = {
    NUMBER(balora_regularizer_options, lambda_consistency, 0, INFINITY, "0.025",
           "weight of the consistency term; 0: off"),
    NUMBER(balora_regularizer_options, lambda_diversity, 0, INFINITY, "0.005",
           "weight of the diversity term; 0: off"),
    NUMBER(balora_regularizer_options, lambda_svd, 0, INFINITY, "0.005", "weight of the SVD term; 0: off"),
    NUMBER(balora_regularizer_options, temperature, ABOVE_ZERO, INFINITY, "2",
           "temperature of the consistency term"),
    INTEGER(balora_regularizer_options, top_k, 0, COUNT_LIMIT, "20",
            "logits that the diversity term looks at; 0: all"),
    INTEGER(balora_regularizer_options, svd_k, 1, COUNT_LIMIT, "10",
            "leading singular values of the SVD term"),
    CHOICE(balora_regularizer_options, svd_norm, "frobenius|nuclear", svd_norm_values, "frobenius",
           "denominator of the SVD term"),
    CHOICE(balora_regularizer_options, positions, "label|predict", positions_values, "label",
           "regularize where the own token, or the next one, is supervised"),
    CHOICE(balora_regularizer_options, consistency_schedule, "constant|cosine|adaptive",
           consistency_schedule_values, "cosine", "course of the consistency weight"),
    CHOICE(balora_regularizer_options, focus_schedule, "constant|two_phase|linear_warmup|quadratic_warmup",
           focus_schedule_values, "two_phase", "course of the diversity and SVD weights"),
    NUMBER(balora_regularizer_options, focus_warmup_ratio, 0, 1, "0.2",
           "share of the run before diversity and SVD are on"),
    NUMBER(balora_regularizer_options, focus_ramp_ratio, 0, 1, "0.05",
           "share of the run that two_phase ramps"),
    NUMBER(balora_regularizer_options, adaptive_minimum, -INFINITY, INFINITY, "-1",
           "least adaptive consistency weight; negative: a tenth of it"),
    NUMBER(balora_regularizer_options, adaptive_maximum, -INFINITY, INFINITY, "-1",
           "largest adaptive consistency weight; negative: the weight itself"),
    CHOICE(balora_regularizer_options, consistency_form, "kl|normalized", consistency_form_values, "kl",
           "what the consistency term compares; training has kl"),
    CHOICE(balora_regularizer_options, diversity_form, "entropy|covariance", diversity_form_values, "entropy",
           "what the diversity term measures; training has entropy"),
};

static const balora_optimizer_options optimizer_defaults = BALORA_OPTIMIZER_OPTIONS_INIT;
static const option_field optimizer_fields[] = {
    NUMBER(balora_optimizer_options, beta1, 0, BELOW_ONE, "0.9", "decay of the gradient's mean"),
    NUMBER(balora_optimizer_options, beta2, 0, BELOW_ONE, "0.999", "decay of the squared gradient's mean"),
    NUMBER(balora_optimizer_options, epsilon, ABOVE_ZERO, INFINITY, "1e-08", "added to AdamW's denominator"),
    NUMBER(balora_optimizer_options, weight_decay, 0, INFINITY, "0",
           "decoupled decay, times the learning rate"),
    CHOICE(balora_optimizer_options, optimizer, "adamw|lion|adamw-8bit", optimizer_values, "adamw",
           "rule of a step; bytes kept a parameter: 8, 4, 2"),
    NUMBER(balora_optimizer_options, lora_plus_ratio, 0, INFINITY, "1",
           "learning rate of B over that of A (LoRA+)"),
    NUMBER(balora_optimizer_options, lion_beta2, 0, BELOW_ONE, "0.99", "decay of Lion's mean of gradients"),
    TEXT(balora_optimizer_options, parameter_groups, "",
         "rates by part of a tensor's name: NAME=FACTOR[:DECAY],..."),
};

static const balora_data_options data_defaults = BALORA_DATA_OPTIONS_INIT;
static const option_field data_fields[] = {
    INTEGER(balora_data_options, max_length, 0, COUNT_LIMIT, "0",
            "tokens kept of a sequence; 0: 512 for JSONL, all of a token file"),
    TEXT(balora_data_options, fields, "", "JSONL keys of instruction and answer: a,b"),
};

static const balora_train_options train_defaults = BALORA_TRAIN_OPTIONS_INIT;
static const option_field train_fields[] = {
    NUMBER(balora_train_options, learning_rate, 0, INFINITY, "2e-05", "largest learning rate of the run"),
    NUMBER(balora_train_options, max_grad_norm, 0, INFINITY, "1",
           "gradients are clipped to this norm; 0: not"),
    CHOICE(balora_train_options, lr_schedule, "cosine|linear|constant", lr_schedule_values, "cosine",
           "course of the learning rate after the warm-up"),
    NUMBER(balora_train_options, warmup_ratio, 0, 1, "0.03", "share of the run over which the rate rises"),
    NUMBER(balora_train_options, epochs, ABOVE_ZERO, INFINITY, "1", "passes over the data"),
    INTEGER(balora_train_options, max_steps, 0, 1e12, "0",
            "optimizer steps, instead of epochs; 0: from epochs"),
    INTEGER(balora_train_options, batch_size, 1, 1048576, "4", "sequences of a micro-batch"),
    FLAG(balora_train_options, device_graph, "false", "run a step as one graph of the device, where it can"),
    INTEGER(balora_train_options, gradient_accumulation, 1, 1048576, "1",
            "micro-batches of an optimizer step"),
    INTEGER(balora_train_options, seed, 0, SEED_LIMIT, "0", "seed of the order of the data and of dropout"),
    FLAG(balora_train_options, shuffle, "true", "a new order of the data every epoch"),
    FLAG(balora_train_options, packing, "true", "compute the sequences of a micro-batch as one stream"),
    CHOICE(balora_train_options, loss_reduction, "global|mean_of_means", loss_reduction_values, "global",
           "how terms are averaged over the micro-batches of a step"),
    INTEGER(balora_train_options, logit_chunk, 0, COUNT_LIMIT, "0", "rows of logits held at once; 0: chosen"),
    INTEGER(balora_train_options, max_skipped_steps, 0, COUNT_LIMIT, "10",
            "end after so many steps in a row without a finite gradient; 0: 10"),
};

static const balora_run_options run_defaults = BALORA_RUN_OPTIONS_INIT;
static const option_field run_fields[] = {
    FLAG(balora_run_options, resume, "false", "go on from the newest good checkpoint, if there is one"),
    INTEGER(balora_run_options, save_steps, 0, 1e12, "500",
            "a checkpoint every so many steps; 0: only when stopped"),
    INTEGER(balora_run_options, keep, 2, COUNT_LIMIT, "2", "newest checkpoints that stay, beside the best"),
    INTEGER(balora_run_options, eval_steps, 0, 1e12, "0",
            "evaluate every so many steps and at the end; 0: at the end"),
    INTEGER(balora_run_options, patience, 0, COUNT_LIMIT, "0",
            "stop after so many evaluations without a lower loss; 0: never"),
    FLAG(balora_run_options, load_best, "false", "end with the adapter of the lowest evaluation loss"),
    TEXT(balora_run_options, checkpoint_folder, "", "folder of the checkpoints; empty: OUT/checkpoints"),
};

static const balora_pissa_options pissa_defaults = BALORA_PISSA_OPTIONS_INIT;
static const option_field pissa_fields[] = {
    INTEGER(balora_pissa_options, rank, 1, COUNT_LIMIT, "16", "rank of the factors"),
    NUMBER(balora_pissa_options, scale, ABOVE_ZERO, INFINITY, "1", "scale of the adapter"),
    INTEGER(balora_pissa_options, seed, 0, SEED_LIMIT, "0", "seed of the iteration's start"),
    FLAG(balora_pissa_options, full_svd, "false", "a full SVD instead of subspace iteration"),
};

static const balora_export_options export_defaults = BALORA_EXPORT_OPTIONS_INIT;
static const option_field export_fields[] = {
    CHOICE(balora_export_options, to, "peft|pissa|gguf", to_values, "peft",
           "plain LoRA folder; residual model with its adapter; file for llama.cpp"),
    CHOICE(balora_export_options, factor_dtype, "auto|float32|float16|bfloat16", factor_dtype_values, "auto",
           "storage of the factors; auto: float32"),
    TEXT(balora_export_options, base_model, "", "what adapter_config.json names as base; empty: the folder"),
};

#define TABLE(number, prefix, reserved)                                                                      \
    {                                                                                                        \
        number, "balora_" #prefix "_options", sizeof prefix##_defaults, &prefix##_defaults, reserved,        \
            prefix##_fields, LENGTH(prefix##_fields)                                                         \
    }

static const option_table tables[] = {
    TABLE(BALORA_OPTIONS_CONTEXT, context, 0),
    TABLE(BALORA_OPTIONS_MODEL, model, 0),
    TABLE(BALORA_OPTIONS_ADAPTER, adapter, 0),
    TABLE(BALORA_OPTIONS_REGULARIZER, regularizer, 0),
    TABLE(BALORA_OPTIONS_OPTIMIZER, optimizer, offsetof(balora_optimizer_options, reserved)),
    TABLE(BALORA_OPTIONS_DATA, data, 0),
    TABLE(BALORA_OPTIONS_TRAIN, train, offsetof(balora_train_options, reserved)),
    TABLE(BALORA_OPTIONS_PISSA, pissa, offsetof(balora_pissa_options, reserved)),
    TABLE(BALORA_OPTIONS_RUN, run, 0),
    TABLE(BALORA_OPTIONS_EXPORT, export, 0),
};

const option_table *option_table_find(int32_t options) {
    for (size_t i = 0; i < LENGTH(tables); i++)
        if (tables[i].options == options)
            return &tables[i];
    return NULL;
}
