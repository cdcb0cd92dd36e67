/*
 * A pre-trained model: its weights are read once and never change. One model may be shared by several
 * adapters and threads.
 */
#ifndef BALORA_MODEL_H
#define BALORA_MODEL_H

#include "balora/types.h"

BALORA_BEGIN_DECLS

typedef struct balora_model_options {
    uint64_t struct_size;
    const char *device; /* "cpu", "cuda" (the first GPU) or "cuda:N"; NULL: "cpu" */
    int32_t dtype; /* storage of the weights: BALORA_DTYPE_AUTO as in the files, BALORA_F32 or BALORA_BF16 */
    /* 1: products of float32 operands may round them to TF32 on devices that have it; 0: full float32. */
    int32_t tf32;
} balora_model_options;

#define BALORA_MODEL_OPTIONS_INIT                                                                            \
    { sizeof(balora_model_options), NULL, BALORA_DTYPE_AUTO, 0 }

/*
 * Open a Hugging Face folder: config.json with model.safetensors, or model.safetensors.index.json and its
 * shards. Families: LLaMA 1, 2, 3.x, Mistral, Qwen 2, 2.5 and 3, Gemma 1 and 2, the text models of Gemma 3. Weights
 * F32, F16 or BF16 keep their storage unless `dtype` asks otherwise; arithmetic is F32.
 *
 * out      receives the model, NULL on failure
 * context  kept alive by the model
 * folder   UTF-8 path
 * options  may be NULL
 * Errors: NOT_FOUND, IO, FORMAT (naming file, key and expectation), MISMATCH (a tensor's shape), UNSUPPORTED
 * (family, dtype, a device that is not there), MEMORY, BACKEND (the device failed), ARGUMENT, ABI (also of the
 * device's plugin). Since 0.1.
 */
BALORA_API balora_status balora_model_open(balora_model **out, balora_context *context, const char *folder,
                                           const balora_model_options *options);

/* Give the handle back; NULL is allowed. Since 0.1. */
BALORA_API void balora_model_free(balora_model *model);

typedef struct balora_model_information {
    uint64_t struct_size;
    char family[32];      /* config.json's model_type */
    int64_t parameters;   /* all weights, shared ones once */
    int64_t weight_bytes; /* device memory that they take */
    int64_t layers, hidden_size, intermediate_size, heads, key_value_heads, head_dim, vocabulary_size;
    int64_t maximum_positions;
    int32_t dtype; /* storage of the large weights */
    int32_t tied_embeddings;
} balora_model_information;

#define BALORA_MODEL_INFORMATION_INIT                                                                        \
    { sizeof(balora_model_information), "", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Facts of a model. Errors: ARGUMENT, ABI. Any thread. Since 0.1. */
BALORA_API balora_status balora_model_describe(const balora_model *model, balora_model_information *out);

BALORA_END_DECLS

#endif
