/*
 * The adapter handle: low-rank factors on a model's projections, and trained copies of some of its tensors: norms,
 * embeddings, biases, or with method full all.
 *
 * All trained numbers lie in one flat F32 array, their gradients in another of the same layout, so that norm,
 * clipping and optimizer are each one call.
 */
#ifndef ADAPTER_ADAPTER_H
#define ADAPTER_ADAPTER_H

#include <stdatomic.h>

#include "adapter/names.h"
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
    bool ends_with_initial;             /* as read: A is [A; A0], B is [B, -B0]; see initial_mark.h */
    matrix_view a, b;                   /* F32 [rank, in], [out, rank], in parameters */
    matrix_view gradient_a, gradient_b; /* the same in gradients; none before training */
    matrix_view a0, b0;                 /* the initial values; none for plain LoRA */
    matrix_view magnitude;              /* F32 [1, out], in parameters; none unless use_dora */
    matrix_view gradient_magnitude;     /* in gradients */
} adapter_module;

/* A tensor of the model that is trained as it is. */
typedef struct trained_tensor {
    const named_tensor *tensor;  /* of `student` */
    int64_t field;               /* of the table of fields */
    matrix_view value, gradient; /* F32, in parameters and gradients */
} trained_tensor;

/*
 * A field of the weights with trained tensors. Where all of its parts are trained they lie in parameters as the field
 * has them, and the student reads them there. Where only some are (the bias of q, but not of k), the student reads a
 * copy of the whole field, which is brought up to date after each change.
 */
typedef struct trained_field {
    matrix_view *student, *gradient; /* fields of the two weights */
    matrix_view base;                /* what the model holds there */
    bool whole;
    int32_t rank;
    matrix_view value;          /* F32, in parameters or, a copy, in packed */
    matrix_view whole_gradient; /* F32, in gradients; none where not whole */
} trained_field;

struct balora_adapter {
    _Atomic int references;
    atomic_int training; /* 1: a trainer holds it */
    balora_model *model;
    int32_t method;
    int32_t use_rslora;
    int64_t rank; /* of modules that have none of their own */
    double alpha; /* the same */
    bool use_dora;
    double dropout;       /* of the low-rank path's input while training */
    int32_t packed_dtype; /* of what the low-rank path multiplies by and keeps */
    double creation_seconds;
    backend_queue *queue;

    arena parameters;   /* F32: all A, B, then trained tensors */
    arena gradients;    /* the same layout; empty before training */
    arena initial;      /* A0, B0 */
    arena packed;       /* what the step multiplies by: see low_rank_group and trained_field */
    matrix_view change; /* in it: one factor's A - A0 or B - B0, F32; none where packed factors are F32 */
    matrix_view piece;  /* in it: some rows of W + s (B A - B0 A0), F32; none unless use_dora */

    adapter_module *modules; /* NULL: no low-rank factors */
    int64_t module_count;
    low_rank_group *groups; /* [layers * GROUP_COUNT]; NULL where there is no module */

    trained_tensor *trained; /* NULL: none, and the fields below are empty */
    int64_t trained_count;
    trained_field *fields;
    int64_t field_count;
    name_set saved;                /* the modules of them that were chosen whole: modules_to_save */
    int32_t bias;                  /* BALORA_BIAS_...: what else is chosen */
    weights student;               /* the model's weights, with trained tensors in their places */
    weights gradient_views;        /* gradients in their places, except those of groups */
    trained_group *trained_groups; /* [layers * GROUP_COUNT]: those */
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

/* NULL: the adapter has no factors on it. */
const adapter_module *adapter_find_module(const balora_adapter *adapter, const char *name);

/* The weights that the student reads. */
const weights *adapter_student(const balora_adapter *adapter);
/* Does training change the output head? Large matrices, which are F32 then and so is what they are multiplied by? */
/* The head is the trained embedding. */
bool adapter_ties_head(const balora_adapter *adapter);
/* The model's head is its embedding, the student's is not. */
bool adapter_unties_head(const balora_adapter *adapter);
bool adapter_trains_head(const balora_adapter *adapter);
bool adapter_trains_matrices(const balora_adapter *adapter);
/* Below it no layer has a trained number. */
int64_t adapter_lowest_layer(const balora_adapter *adapter);

/* A tensor among the trained numbers, by the name that files give it: "model.layers.0.mlp.up_proj.lora_B.weight". */
typedef struct trained_range {
    char name[128];
    int64_t first, count; /* numbers of adapter_parameters */
} trained_range;

/* The index-th one, in no order that counts; false behind the last. No two share a number; numbers that none holds are
 * padding. */
bool adapter_trained_range(const balora_adapter *adapter, int64_t index, trained_range *out);

/* Take memory for gradients and let groups point to it. Once. */
balora_status adapter_prepare_training(balora_adapter *adapter);

/* Bring packed factors, norms and scales up to date with A, B and magnitudes; after every change of them. */
balora_status adapter_refresh(balora_adapter *adapter, backend_queue *queue);

/* Let the magnitudes be the norms of the adapted weights' rows, so that they change nothing: where training starts. */
balora_status adapter_start_magnitudes(balora_adapter *adapter, backend_queue *queue);

/* For adapter_create and adapter_open: make the handle with zeroed factors on the given modules. */
typedef struct adapter_shape {
    int32_t method;
    int32_t use_rslora;
    int64_t rank;
    double alpha;
    bool use_dora;
    double dropout;
    bool exact;    /* low-rank path in F32 whatever activations are */
    bool any_rank; /* also one above the smallest side of a weight: files may hold such */
    /* Does the module take part? Name, layer and projection are set, rank and alpha as above: it may change these two
     * and has_initial. */
    bool (*choose)(adapter_module *module, const void *user);
    /* Is the tensor trained as it is, beside the modules that the adapter has by now? NULL: none is. */
    bool (*trains)(const balora_adapter *adapter, const named_tensor *tensor, const void *user);
    bool untied; /* a head that is tied to the embedding is a tensor of its own */
    const void *user;
} adapter_shape;

balora_status adapter_allocate(balora_adapter **out, balora_model *model, const adapter_shape *shape);

/* Copy a module's factor to the host, F32 contiguous. */
balora_status adapter_download(balora_adapter *adapter, matrix_view factor, float *host);
/* And into it. */
balora_status adapter_upload(balora_adapter *adapter, matrix_view factor, const float *host);

/*
 * Everything of an adapter that training changed or that its start drew, as arrays [1, n]: what a checkpoint keeps.
 * Fills `out` and returns their number.
 */
#define ADAPTER_STATE_LIMIT 4
int32_t adapter_state(const balora_adapter *adapter, named_view out[ADAPTER_STATE_LIMIT]);

/* The name of an element of adapter_parameters: "model.layers.0.self_attn.q_proj.lora_A[3, 5]". */
void adapter_locate(const balora_adapter *adapter, int64_t element, char *text, size_t capacity);

/* The first element of a flat F32 array [1, n] that is infinite or NaN; -1: none is. Allocates nothing. */
balora_status adapter_find_non_finite(const balora_adapter *adapter, backend_queue *queue, matrix_view flat,
                                      int64_t *element);

/* peft_read.c, peft_write.c */
balora_status adapter_open(balora_adapter **out, balora_model *model, const char *folder);
balora_status adapter_save(balora_adapter *adapter, const char *folder, const char *base_model);

/* How an adapter is written. */
typedef struct adapter_form {
    bool
        trained_only; /* without the initial factors: for the residual model W - s B0 A0 as base, see plain.h */
    int32_t dtype;    /* of the factors */
} adapter_form;

balora_status adapter_save_as(balora_adapter *adapter, const char *folder, const char *base_model,
                              const adapter_form *form);

/* gguf_adapter.c: one file for llama.cpp. */
balora_status adapter_write_gguf(balora_adapter *adapter, const char *path, int32_t dtype);

/* merge.c */
balora_status adapter_merge(balora_adapter *adapter, const char *folder);
/* A model folder with the residual W - s B0 A0 of every module, and in its subfolder pissa_init the adapter for it. */
balora_status adapter_write_pissa(balora_adapter *adapter, const char *folder, const char *base_model,
                                  int32_t dtype);

/* export.c: any form of balora_export_options. */
balora_status adapter_export(balora_adapter *adapter, const char *path, const balora_export_options *options);

#endif
