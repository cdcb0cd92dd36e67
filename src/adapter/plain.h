/*
 * An adapter's modules as plain LoRA in host memory, as files hold them. Where the initial factors count they are part of
 * it, B A - B0 A0 = [B, -B0] [A; A0], so that any program can load the result on the untouched base: twice the rank, and an
 * alpha that keeps the scale s. Or only what is trained, A and B: for the residual W - s B0 A0 as base.
 *
 * Such a doubled module looks like any other when it is read again; initial_mark.h tells it apart.
 */
#ifndef ADAPTER_PLAIN_H
#define ADAPTER_PLAIN_H

#include "adapter/adapter.h"
#include "model/staging.h"

/* Of a module: two factors, and a magnitude where those are trained. It is that of the same weight in either form. */
typedef enum factor_kind { FACTOR_A, FACTOR_B, FACTOR_COUNT, FACTOR_MAGNITUDE } factor_kind;

/* Tensors of each module, and the kind of the index-th. */
int64_t plain_tensors(const balora_adapter *adapter);
factor_kind plain_kind(int64_t index);

/* Rank and alpha of a module as plain LoRA. */
int64_t plain_rank(const adapter_module *module, bool trained_only);
double plain_alpha(const adapter_module *module, bool use_rslora, bool trained_only);

/* A [rank, in], B [out, rank] or magnitude [out]: the number of dimensions. */
int32_t plain_shape(int64_t shape[2], const projection *part, int64_t rank, factor_kind kind);

/* The initial product of a module: what is taken from W is scale * b a. None: the scale is 0. */
typedef struct initial_product {
    matrix_view a, b;
    double scale;
} initial_product;

initial_product plain_initial(const adapter_module *module);

typedef struct plain_factors {
    balora_adapter *adapter;
    bool trained_only;
    float *loaded;  /* a factor as the device has it */
    float *values;  /* what plain_read read, row-major */
    arena narrowed; /* for plain_emit: room for a factor on the device */
    staging stage;
} plain_factors;

/* NUMERIC, naming module and place, when a factor holds a value that is not finite: such an adapter is not written. */
balora_status plain_create(plain_factors *out, balora_adapter *adapter, bool trained_only);
void plain_free(plain_factors *self); /* also after a creation that failed, and twice */

balora_status plain_read(plain_factors *self, const adapter_module *module, factor_kind kind);

/* The first `count` values as `dtype` to `sink`. NUMERIC, naming the tensor, when one is not finite as that type. */
balora_status plain_emit(plain_factors *self, const char *name, int64_t count, int32_t dtype,
                         staging_sink sink, void *user);

#endif
