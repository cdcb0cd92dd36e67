/*
 * What is trained: low-rank factors beside a model's projections, or with BALORA_METHOD_FULL a copy of every
 * weight.
 *
 * A linear layer with weight W [out, in] becomes  W + s (B A - B0 A0)  with A [rank, in], B [out, rank]
 * trained, A0, B0 their initial values (zero contribution for plain LoRA) and s = alpha / rank, or alpha /
 * sqrt(rank) with rank-stabilised LoRA. So the adapted model equals the pre-trained one at the start, W is
 * never changed, and the result is a plain LoRA of rank 2 rank (PiSSA: arXiv 2404.02948).
 *
 * With trained magnitudes m [out] (DoRA: arXiv 2402.09353) the weight is  m / n (W + s (B A - B0 A0)), n the norms of
 * its rows, which count as constants in the gradient. At the start m = n: nothing changes either.
 */
#ifndef BALORA_ADAPTER_H
#define BALORA_ADAPTER_H

#include "balora/model.h"

BALORA_BEGIN_DECLS

typedef struct balora_adapter_options {
    uint64_t struct_size;
    int32_t method;     /* BALORA_METHOD_...; BA_LORA and PISSA start alike */
    int32_t use_rslora; /* 1: s = alpha / sqrt(rank) */
    int64_t rank;       /* 1 to the smallest side of a targeted weight */
    double alpha;       /* greater than 0 */
    const char *
        target_modules; /* comma-separated names such as "q_proj,v_proj", or "all-linear"; NULL: all-linear */
    uint64_t seed;      /* of A in plain LoRA, and of the start of PiSSA's iteration */
    int32_t full_svd;   /* 1: PiSSA by a full SVD of each weight instead of subspace iteration */
    int32_t use_dora; /* 1: magnitudes are trained beside the factors, whatever their start; not with full */
    /*
     * Which modules, further. Lists of names are as target_modules; that, exclude_modules and pissa_modules may also be
     * "re:" and a regular expression (Python's, without lookaround, backreferences and flags) that the whole name of a
     * module matches, such as "re:model\\.layers\\.\\d+\\.mlp\\..*". NULL or "": nothing.
     */
    const char *exclude_modules;     /* not adapted, though targeted */
    const char *layers_to_transform; /* only in these layers: "0,1,4-7"; NULL: in all */
    const char
        *rank_pattern; /* ranks of their own: "q_proj=8,down_proj=4"; names are regular expressions that a
                                        module's name, or its end behind a dot, matches; the first that does counts */
    const char *alpha_pattern; /* the same for alpha */
    const char
        *modules_to_save; /* trained whole, and saved with the adapter: names, or ends of names, such as
                                        "embed_tokens,lm_head,norm". One of two tied matrices becomes one of its own */
    const char
        *pissa_modules; /* where only some adapted modules start as PiSSA's, the others as KAIMING: which */
    int32_t bias;       /* BALORA_BIAS_...: the model's biases that are trained, as PEFT's `bias` */
    int32_t init;       /* BALORA_INIT_... */
    double
        lora_dropout; /* while training, share of the low-rank path's input that is set to 0, the rest being
                            scaled up: from 0 to below 1. 0 where factors start from PiSSA, and with full */
} balora_adapter_options;

#define BALORA_ADAPTER_OPTIONS_INIT                                                                          \
    {                                                                                                        \
        sizeof(balora_adapter_options), BALORA_METHOD_BA_LORA, 0, 16, 16.0, NULL, 0, 0, 0, NULL, NULL, NULL, \
            NULL, NULL, NULL, 0, 0, 0.0                                                                      \
    }

/*
 * Make a new adapter on a model; the model is kept alive. PiSSA computes the leading singular vectors of
 * every targeted weight here, with relative errors of the singular values of at most 1e-4. Errors: ARGUMENT
 * (rank, alpha, a part of an option that chooses no module: the message lists the names there are; use_dora or
 * lora_dropout with a start that excludes it), MEMORY, NUMERIC (a weight is not finite), CANCELLED, ABI. Since 0.1.
 */
BALORA_API balora_status balora_adapter_create(balora_adapter **out, balora_model *model,
                                               const balora_adapter_options *options);

/*
 * Open a PEFT LoRA adapter folder (adapter_config.json, adapter_model.safetensors): to go on training,
 * evaluate or merge, with ranks and alphas by patterns, modules_to_save and bias (docs/formats.md lists the keys). Keys of its configuration that this version cannot honour are BALORA_ERROR_UNSUPPORTED,
 * naming the key. Errors: as balora_model_open, MISMATCH (a module that the model lacks, a shape). Since 0.1.
 */
BALORA_API balora_status balora_adapter_open(balora_adapter **out, balora_model *model, const char *folder);

/* Give the handle back; NULL is allowed. Since 0.1. */
BALORA_API void balora_adapter_free(balora_adapter *adapter);

/*
 * Write a PEFT folder that loads on the untouched base model: plain LoRA, of rank 2 rank where the initial
 * factors count. Each file appears whole or not at all. `base_model` is what adapter_config.json names as
 * base, NULL for the folder that the model was opened from. A non-finite factor is BALORA_ERROR_NUMERIC and
 * nothing is written. Errors: STATE (method full: use balora_adapter_merge), IO, NUMERIC. Since 0.1.
 */
BALORA_API balora_status balora_adapter_save(balora_adapter *adapter, const char *folder,
                                             const char *base_model);

/*
 * Write a model folder with the adapter merged into the weights (for method full: the trained weights): the
 * files of the base's folder with the same names, shards and storage types, configuration and tokenizer
 * copied. `folder` must not be the base's own. Errors: ARGUMENT, IO, NUMERIC, FORMAT. Since 0.1.
 */
BALORA_API balora_status balora_adapter_merge(balora_adapter *adapter, const char *folder);

/* Forms in which an adapter is written for other programs. */
enum {
    /* A PEFT folder, plain LoRA for the untouched base: what balora_adapter_save writes. */
    BALORA_EXPORT_PEFT = 0,
    /* A model folder with the residual W - s B0 A0 in the place of W, in the base's storage types, and in its subfolder
     * pissa_init the PEFT adapter A, B that belongs on it: the layout of PiSSA's own programs. Needs initial factors, of
     * an adapter that was made here or opened from a folder that this library wrote; the folder must not exist, or be
     * empty. */
    BALORA_EXPORT_PISSA = 10,
    /* A GGUF file for llama.cpp, which applies it to the base's GGUF. */
    BALORA_EXPORT_GGUF = 20
};

typedef struct balora_export_options {
    uint64_t struct_size;
    int32_t to;           /* BALORA_EXPORT_... */
    int32_t factor_dtype; /* storage of A and B: BALORA_F32, F16 or BF16; BALORA_DTYPE_AUTO: F32 */
    const char *
        base_model; /* what adapter_config.json names as base; NULL: the base's folder, for PISSA the new one */
} balora_export_options;

#define BALORA_EXPORT_OPTIONS_INIT                                                                           \
    { sizeof(balora_export_options), BALORA_EXPORT_PEFT, BALORA_DTYPE_AUTO, NULL }

/*
 * Write an adapter in a form that other programs read. Everything appears whole or not at all, except that a PEFT
 * folder that is there already gets its new files one by one.
 *
 * path     UTF-8 path of the folder, or of the file of GGUF; parents are made. Not the base's own folder.
 * options  may be NULL
 * Errors: UNSUPPORTED (what the form cannot express, naming it), STATE (method full: use balora_adapter_merge),
 * ARGUMENT, IO, NUMERIC (a value that is not finite, or too large for `factor_dtype`), FORMAT (the base's files),
 * MEMORY, ABI. Since 0.1.
 */
BALORA_API balora_status balora_adapter_export(balora_adapter *adapter, const char *path,
                                               const balora_export_options *options);

typedef struct balora_adapter_information {
    uint64_t struct_size;
    int32_t method;
    int32_t use_rslora;
    int64_t rank;
    double alpha;
    int64_t modules;              /* adapted linear layers */
    int64_t trainable_parameters; /* numbers that training changes */
    int64_t device_bytes;         /* device memory of factors, initial factors and packed copies */
    double creation_seconds;      /* of balora_adapter_create, SVDs included */
    double lora_dropout;
    int32_t use_dora;
    int32_t reserved;
} balora_adapter_information;

#define BALORA_ADAPTER_INFORMATION_INIT                                                                      \
    { sizeof(balora_adapter_information), 0, 0, 0, 0.0, 0, 0, 0, 0.0, 0.0, 0, 0 }

/* Facts of an adapter. Errors: ARGUMENT, ABI. Since 0.1. */
BALORA_API balora_status balora_adapter_describe(const balora_adapter *adapter,
                                                 balora_adapter_information *out);

BALORA_END_DECLS

#endif
