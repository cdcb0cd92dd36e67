/*
 * The layout of every public struct and the value of every public constant, as released programs were
 * compiled with. A line here is only ever added, with the field that it describes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <balora/balora.h>

typedef struct layout {
    const char *name;
    size_t offset, bytes;                   /* as compiled here */
    size_t expected_offset, expected_bytes; /* as released */
} layout;

typedef struct constant {
    const char *name;
    int64_t value, expected;
} constant;

#define FIELD(structure, field, offset, bytes)                                                               \
    { #structure "." #field, offsetof(structure, field), sizeof(((structure *)0)->field), offset, bytes }
#define WHOLE(structure, bytes)                                                                              \
    { #structure, 0, sizeof(structure), 0, bytes }
#define VALUE(name, value)                                                                                   \
    { #name, name, value }

// clang-format off
static const layout layouts[] = {
    FIELD(balora_adapter_options, struct_size, 0, 8),
    FIELD(balora_adapter_options, method, 8, 4),
    FIELD(balora_adapter_options, use_rslora, 12, 4),
    FIELD(balora_adapter_options, rank, 16, 8),
    FIELD(balora_adapter_options, alpha, 24, 8),
    FIELD(balora_adapter_options, target_modules, 32, 8),
    FIELD(balora_adapter_options, seed, 40, 8),
    FIELD(balora_adapter_options, full_svd, 48, 4),
    FIELD(balora_adapter_options, reserved, 52, 4),
    WHOLE(balora_adapter_options, 56),
    FIELD(balora_adapter_information, struct_size, 0, 8),
    FIELD(balora_adapter_information, method, 8, 4),
    FIELD(balora_adapter_information, use_rslora, 12, 4),
    FIELD(balora_adapter_information, rank, 16, 8),
    FIELD(balora_adapter_information, alpha, 24, 8),
    FIELD(balora_adapter_information, modules, 32, 8),
    FIELD(balora_adapter_information, trainable_parameters, 40, 8),
    FIELD(balora_adapter_information, device_bytes, 48, 8),
    FIELD(balora_adapter_information, creation_seconds, 56, 8),
    WHOLE(balora_adapter_information, 64),
    FIELD(balora_context_options, struct_size, 0, 8),
    FIELD(balora_context_options, threads, 8, 4),
    FIELD(balora_context_options, log_level, 12, 4),
    FIELD(balora_context_options, log, 16, 8),
    FIELD(balora_context_options, log_user, 24, 8),
    FIELD(balora_context_options, allocate, 32, 8),
    FIELD(balora_context_options, release, 40, 8),
    FIELD(balora_context_options, allocator_user, 48, 8),
    FIELD(balora_context_options, plugin_path, 56, 8),
    WHOLE(balora_context_options, 64),
    FIELD(balora_memory_statistics, struct_size, 0, 8),
    FIELD(balora_memory_statistics, current_bytes, 8, 8),
    FIELD(balora_memory_statistics, peak_bytes, 16, 8),
    FIELD(balora_memory_statistics, allocations, 24, 8),
    WHOLE(balora_memory_statistics, 32),
    FIELD(balora_data_options, struct_size, 0, 8),
    FIELD(balora_data_options, max_length, 8, 8),
    FIELD(balora_data_options, fields, 16, 8),
    WHOLE(balora_data_options, 24),
    FIELD(balora_data_information, struct_size, 0, 8),
    FIELD(balora_data_information, sequences, 8, 8),
    FIELD(balora_data_information, tokens, 16, 8),
    FIELD(balora_data_information, supervised_tokens, 24, 8),
    FIELD(balora_data_information, longest_sequence, 32, 8),
    FIELD(balora_data_information, skipped_rows, 40, 8),
    FIELD(balora_data_information, truncated_rows, 48, 8),
    WHOLE(balora_data_information, 56),
    FIELD(balora_model_options, struct_size, 0, 8),
    FIELD(balora_model_options, device, 8, 8),
    FIELD(balora_model_options, dtype, 16, 4),
    FIELD(balora_model_options, tf32, 20, 4),
    WHOLE(balora_model_options, 24),
    FIELD(balora_model_information, struct_size, 0, 8),
    FIELD(balora_model_information, family, 8, 32),
    FIELD(balora_model_information, parameters, 40, 8),
    FIELD(balora_model_information, weight_bytes, 48, 8),
    FIELD(balora_model_information, layers, 56, 8),
    FIELD(balora_model_information, hidden_size, 64, 8),
    FIELD(balora_model_information, intermediate_size, 72, 8),
    FIELD(balora_model_information, heads, 80, 8),
    FIELD(balora_model_information, key_value_heads, 88, 8),
    FIELD(balora_model_information, head_dim, 96, 8),
    FIELD(balora_model_information, vocabulary_size, 104, 8),
    FIELD(balora_model_information, maximum_positions, 112, 8),
    FIELD(balora_model_information, dtype, 120, 4),
    FIELD(balora_model_information, tied_embeddings, 124, 4),
    WHOLE(balora_model_information, 128),
    FIELD(balora_optimizer_options, struct_size, 0, 8),
    FIELD(balora_optimizer_options, beta1, 8, 8),
    FIELD(balora_optimizer_options, beta2, 16, 8),
    FIELD(balora_optimizer_options, epsilon, 24, 8),
    FIELD(balora_optimizer_options, weight_decay, 32, 8),
    FIELD(balora_optimizer_options, optimizer, 40, 4),
    FIELD(balora_optimizer_options, reserved, 44, 4),
    FIELD(balora_optimizer_options, lora_plus_ratio, 48, 8),
    FIELD(balora_optimizer_options, lion_beta2, 56, 8),
    FIELD(balora_optimizer_options, parameter_groups, 64, 8),
    WHOLE(balora_optimizer_options, 72),
    FIELD(balora_option_description, struct_size, 0, 8),
    FIELD(balora_option_description, key, 8, 8),
    FIELD(balora_option_description, type, 16, 4),
    FIELD(balora_option_description, reserved, 20, 4),
    FIELD(balora_option_description, default_value, 24, 8),
    FIELD(balora_option_description, choices, 32, 8),
    FIELD(balora_option_description, minimum, 40, 8),
    FIELD(balora_option_description, maximum, 48, 8),
    FIELD(balora_option_description, help, 56, 8),
    WHOLE(balora_option_description, 64),
    FIELD(balora_regularizer_options, struct_size, 0, 8),
    FIELD(balora_regularizer_options, lambda_consistency, 8, 8),
    FIELD(balora_regularizer_options, lambda_diversity, 16, 8),
    FIELD(balora_regularizer_options, lambda_svd, 24, 8),
    FIELD(balora_regularizer_options, temperature, 32, 8),
    FIELD(balora_regularizer_options, top_k, 40, 8),
    FIELD(balora_regularizer_options, svd_k, 48, 8),
    FIELD(balora_regularizer_options, svd_norm, 56, 4),
    FIELD(balora_regularizer_options, positions, 60, 4),
    FIELD(balora_regularizer_options, consistency_schedule, 64, 4),
    FIELD(balora_regularizer_options, focus_schedule, 68, 4),
    FIELD(balora_regularizer_options, focus_warmup_ratio, 72, 8),
    FIELD(balora_regularizer_options, focus_ramp_ratio, 80, 8),
    FIELD(balora_regularizer_options, adaptive_minimum, 88, 8),
    FIELD(balora_regularizer_options, adaptive_maximum, 96, 8),
    WHOLE(balora_regularizer_options, 104),
    FIELD(balora_train_options, struct_size, 0, 8),
    FIELD(balora_train_options, learning_rate, 8, 8),
    FIELD(balora_train_options, max_grad_norm, 16, 8),
    FIELD(balora_train_options, warmup_ratio, 24, 8),
    FIELD(balora_train_options, epochs, 32, 8),
    FIELD(balora_train_options, max_steps, 40, 8),
    FIELD(balora_train_options, batch_size, 48, 8),
    FIELD(balora_train_options, gradient_accumulation, 56, 8),
    FIELD(balora_train_options, seed, 64, 8),
    FIELD(balora_train_options, lr_schedule, 72, 4),
    FIELD(balora_train_options, loss_reduction, 76, 4),
    FIELD(balora_train_options, shuffle, 80, 4),
    FIELD(balora_train_options, packing, 84, 4),
    FIELD(balora_train_options, logit_chunk, 88, 8),
    FIELD(balora_train_options, regularizers, 96, 8),
    FIELD(balora_train_options, optimizer, 104, 8),
    FIELD(balora_train_options, device_graph, 112, 4),
    WHOLE(balora_train_options, 120),
    FIELD(balora_step_metrics, struct_size, 0, 8),
    FIELD(balora_step_metrics, step, 8, 8),
    FIELD(balora_step_metrics, epoch, 16, 8),
    FIELD(balora_step_metrics, loss, 24, 8),
    FIELD(balora_step_metrics, task, 32, 8),
    FIELD(balora_step_metrics, consistency, 40, 8),
    FIELD(balora_step_metrics, diversity, 48, 8),
    FIELD(balora_step_metrics, svd, 56, 8),
    FIELD(balora_step_metrics, grad_norm, 64, 8),
    FIELD(balora_step_metrics, lambda_consistency, 72, 8),
    FIELD(balora_step_metrics, lambda_diversity, 80, 8),
    FIELD(balora_step_metrics, lambda_svd, 88, 8),
    FIELD(balora_step_metrics, learning_rate, 96, 8),
    FIELD(balora_step_metrics, tokens, 104, 8),
    FIELD(balora_step_metrics, supervised_tokens, 112, 8),
    FIELD(balora_step_metrics, seconds, 120, 8),
    FIELD(balora_step_metrics, peak_memory_bytes, 128, 8),
    FIELD(balora_step_metrics, skipped, 136, 8),
    WHOLE(balora_step_metrics, 144),
    FIELD(balora_trainer_information, struct_size, 0, 8),
    FIELD(balora_trainer_information, total_steps, 8, 8),
    FIELD(balora_trainer_information, micro_batch_tokens, 16, 8),
    FIELD(balora_trainer_information, micro_batch_rows, 24, 8),
    FIELD(balora_trainer_information, activation_bytes, 32, 8),
    FIELD(balora_trainer_information, head_bytes, 40, 8),
    FIELD(balora_trainer_information, weight_bytes, 48, 8),
    FIELD(balora_trainer_information, adapter_bytes, 56, 8),
    FIELD(balora_trainer_information, optimizer_bytes, 64, 8),
    WHOLE(balora_trainer_information, 72),
    FIELD(balora_evaluation, struct_size, 0, 8),
    FIELD(balora_evaluation, loss, 8, 8),
    FIELD(balora_evaluation, perplexity, 16, 8),
    FIELD(balora_evaluation, token_accuracy, 24, 8),
    FIELD(balora_evaluation, sequence_accuracy, 32, 8),
    FIELD(balora_evaluation, drift, 40, 8),
    FIELD(balora_evaluation, entropy, 48, 8),
    FIELD(balora_evaluation, tokens, 56, 8),
    FIELD(balora_evaluation, supervised_tokens, 64, 8),
    FIELD(balora_evaluation, sequences, 72, 8),
    FIELD(balora_evaluation, seconds, 80, 8),
    WHOLE(balora_evaluation, 88),
    FIELD(balora_tensor, struct_size, 0, 8),
    FIELD(balora_tensor, data, 8, 8),
    FIELD(balora_tensor, dtype, 16, 4),
    FIELD(balora_tensor, rank, 20, 4),
    FIELD(balora_tensor, device, 24, 4),
    FIELD(balora_tensor, device_index, 28, 4),
    FIELD(balora_tensor, read_only, 32, 4),
    FIELD(balora_tensor, reserved, 36, 4),
    FIELD(balora_tensor, shape, 40, 64),
    FIELD(balora_tensor, strides, 104, 64),
    WHOLE(balora_tensor, 168),
};

static const constant constants[] = {
    VALUE(BALORA_LOG_ERROR, 10),
    VALUE(BALORA_LOG_WARNING, 20),
    VALUE(BALORA_LOG_INFO, 30),
    VALUE(BALORA_LOG_DEBUG, 40),
    VALUE(BALORA_OPTIONS_CONTEXT, 10),
    VALUE(BALORA_OPTIONS_MODEL, 20),
    VALUE(BALORA_OPTIONS_ADAPTER, 30),
    VALUE(BALORA_OPTIONS_REGULARIZER, 40),
    VALUE(BALORA_OPTIONS_OPTIMIZER, 50),
    VALUE(BALORA_OPTIONS_DATA, 60),
    VALUE(BALORA_OPTIONS_TRAIN, 70),
    VALUE(BALORA_OPTION_INTEGER, 10),
    VALUE(BALORA_OPTION_NUMBER, 20),
    VALUE(BALORA_OPTION_FLAG, 30),
    VALUE(BALORA_OPTION_CHOICE, 40),
    VALUE(BALORA_OPTION_TEXT, 50),
    VALUE(BALORA_OK, 0),
    VALUE(BALORA_DONE, 1),
    VALUE(BALORA_ERROR_ARGUMENT, 100),
    VALUE(BALORA_ERROR_STATE, 110),
    VALUE(BALORA_ERROR_ABI, 120),
    VALUE(BALORA_ERROR_UNSUPPORTED, 130),
    VALUE(BALORA_ERROR_CANCELLED, 140),
    VALUE(BALORA_ERROR_MEMORY, 200),
    VALUE(BALORA_ERROR_IO, 210),
    VALUE(BALORA_ERROR_NOT_FOUND, 220),
    VALUE(BALORA_ERROR_FORMAT, 230),
    VALUE(BALORA_ERROR_MISMATCH, 240),
    VALUE(BALORA_ERROR_NUMERIC, 300),
    VALUE(BALORA_ERROR_BACKEND, 310),
    VALUE(BALORA_ERROR_INTERNAL, 400),
    VALUE(BALORA_ORIGIN_BALORA, 0),
    VALUE(BALORA_ORIGIN_LIBC, 10),
    VALUE(BALORA_ORIGIN_LAPACK, 20),
    VALUE(BALORA_ORIGIN_JSON, 30),
    VALUE(BALORA_DTYPE_AUTO, 0),
    VALUE(BALORA_F32, 10),
    VALUE(BALORA_F16, 20),
    VALUE(BALORA_BF16, 30),
    VALUE(BALORA_F64, 40),
    VALUE(BALORA_I32, 50),
    VALUE(BALORA_I64, 60),
    VALUE(BALORA_U8, 70),
    VALUE(BALORA_DEVICE_CPU, 0),
    VALUE(BALORA_DEVICE_CUDA, 10),
    VALUE(BALORA_TENSOR_RANK, 8),
    VALUE(BALORA_METHOD_BA_LORA, 0),
    VALUE(BALORA_METHOD_PISSA, 10),
    VALUE(BALORA_METHOD_LORA, 20),
    VALUE(BALORA_METHOD_FULL, 40),
    VALUE(BALORA_LR_COSINE, 0),
    VALUE(BALORA_LR_LINEAR, 10),
    VALUE(BALORA_LR_CONSTANT, 20),
    VALUE(BALORA_REDUCTION_GLOBAL, 0),
    VALUE(BALORA_REDUCTION_MEAN_OF_MEANS, 10),
    VALUE(BALORA_POSITIONS_LABEL, 0),
    VALUE(BALORA_POSITIONS_PREDICT, 10),
    VALUE(BALORA_SVD_FROBENIUS, 0),
    VALUE(BALORA_SVD_NUCLEAR, 10),
    VALUE(BALORA_CONSISTENCY_COSINE, 0),
    VALUE(BALORA_CONSISTENCY_CONSTANT, 10),
    VALUE(BALORA_CONSISTENCY_ADAPTIVE, 20),
    VALUE(BALORA_FOCUS_TWO_PHASE, 0),
    VALUE(BALORA_FOCUS_CONSTANT, 10),
    VALUE(BALORA_FOCUS_LINEAR_WARMUP, 20),
    VALUE(BALORA_FOCUS_QUADRATIC_WARMUP, 30),
};
// clang-format on

static void structs_are_laid_out_as_released(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        const layout *one = &layouts[i];
        if (one->offset != one->expected_offset || one->bytes != one->expected_bytes)
            fail_msg("%s: offset %zu and %zu bytes, released with offset %zu and %zu bytes", one->name,
                     one->offset, one->bytes, one->expected_offset, one->expected_bytes);
    }
}

static void constants_keep_their_values(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof constants / sizeof constants[0]; i++)
        if (constants[i].value != constants[i].expected)
            fail_msg("%s is %lld, released as %lld", constants[i].name, (long long)constants[i].value,
                     (long long)constants[i].expected);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structs_are_laid_out_as_released),
        cmocka_unit_test(constants_keep_their_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
