/*
 * The adapter handle: low-rank factors on a model's projections, or a trained copy of every weight.
 *
 * All trained numbers lie in one flat F32 array, their gradients in another of the same layout, so that norm,
 * clipping and optimizer are each one call.
 */
#ifndef ADAPTER_ADAPTER_H
#define ADAPTER_ADAPTER_H

#include <stdatomic.h>

#include "balora/adapter.h"
#include "model/linear.h"
#include "model/model.h"

/* One adapted linear layer:  W + s (B A - B0 A0). Rank and scale are its own. */
typedef struct adapter_module {
    char name[96]; /* "model.layers.0.self_attn.q_proj" */
    int64_t layer;
    const projection *projection;
    int64_t rank;
    double alpha;
    double scale;                       /* s: alpha / rank, rank-stabilised alpha / sqrt(rank) */
    bool has_initial;                   /* A0 and B0 count */
    matrix_view a, b;                   /* F32 [rank, in], [out, rank], in parameters */
    matrix_view gradient_a, gradient_b; /* the same in gradients; none before training */
    matrix_view a0, b0;                 /* the initial values; none for plain LoRA */
} adapter_module;

struct balora_adapter {
    _Atomic int references;
    atomic_int training; /* 1: a trainer holds it */
    balora_model *model;
    int32_t method;
    int32_t use_rslora;
    int64_t rank;         /* of modules that have none of their own */
    double alpha;         /* the same */
    int32_t packed_dtype; /* of what the low-rank path multiplies by and keeps */
    double creation_seconds;
    backend_queue *queue;

    arena parameters;   /* F32: all A, B; or every weight */
    arena gradients;    /* the same layout; empty before training */
    arena initial;      /* A0, B0 */
    arena packed;       /* what the step multiplies by, see low_rank_group */
    matrix_view change; /* in it: one factor's A - A0 or B - B0, F32; none where packed factors are F32 */

    adapter_module *modules; /* NULL for method full */
    int64_t module_count;
    low_rank_group *groups; /* [layers * GROUP_COUNT]; NULL for method full */

    weights full;           /* method full: the trained copy; its arena takes the place of `parameters` */
    weights full_gradients; /* and of `gradients` */
};

balora_status adapter_create(balora_adapter **out, balora_model *model,
                             const balora_adapter_options *options);
balora_adapter *adapter_retain(balora_adapter *adapter);
void adapter_release(balora_adapter *adapter); /* NULL is allowed */
void adapter_describe(const balora_adapter *adapter, balora_adapter_information *out);

/* Flat F32 vectors [1, n] of all trained numbers and their gradients. Padding between matrices is 0 in both.
 */
matrix_view adapter_parameters(const balora_adapter *adapter);
matrix_view adapter_gradients(const balora_adapter *adapter);

/* Take memory for gradients and let groups point to it. Once. */
balora_status adapter_prepare_training(balora_adapter *adapter);

/* Bring the packed factors up to date with A and B; after every change of them. */
balora_status adapter_refresh(balora_adapter *adapter, backend_queue *queue);

/* For adapter_create and adapter_open: make the handle with zeroed factors on the given modules. */
typedef struct adapter_shape {
    int32_t method;
    int32_t use_rslora;
    int64_t rank;
    double alpha;
    bool exact;    /* low-rank path in F32 whatever activations are */
    bool any_rank; /* also one above the smallest side of a weight: files may hold such */
    /* Does the module take part? Name, layer and projection are set, rank and alpha as above: it may change these two
     * and has_initial. */
    bool (*choose)(adapter_module *module, const void *user);
    const void *user;
} adapter_shape;

balora_status adapter_allocate(balora_adapter **out, balora_model *model, const adapter_shape *shape);

/* Copy a module's factor to the host, F32 contiguous. */
balora_status adapter_download(balora_adapter *adapter, matrix_view factor, float *host);
/* And into it. */
balora_status adapter_upload(balora_adapter *adapter, matrix_view factor, const float *host);

/* peft_read.c, peft_write.c */
balora_status adapter_open(balora_adapter **out, balora_model *model, const char *folder);
balora_status adapter_save(balora_adapter *adapter, const char *folder, const char *base_model);
/* The same, or `trained_only` without the initial factors: for the residual model W - s B0 A0 as base. */
balora_status adapter_save_form(balora_adapter *adapter, const char *folder, const char *base_model,
                                bool trained_only);

/* merge.c */
balora_status adapter_merge(balora_adapter *adapter, const char *folder);

#endif
