/*
 * An adapter's modules as plain LoRA in host memory, as files hold them. Where the initial factors count they are part of
 * it, B A - B0 A0 = [B, -B0] [A; A0], so that any program can load the result on the untouched base: twice the rank, and an
 * alpha that keeps the scale s. Or only what is trained, for a base from which s B0 A0 is taken away.
 */
#ifndef ADAPTER_PLAIN_H
#define ADAPTER_PLAIN_H

#include "adapter/adapter.h"

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

typedef struct plain_factors {
    balora_adapter *adapter;
    bool trained_only;
    float *loaded; /* a factor as the device has it */
    float *values; /* what plain_read read, row-major */
} plain_factors;

/* NUMERIC, naming module and place, when a factor holds a value that is not finite: such an adapter is not written. */
balora_status plain_create(plain_factors *out, balora_adapter *adapter, bool trained_only);
void plain_free(plain_factors *self); /* also after a creation that failed, and twice */

balora_status plain_read(const plain_factors *self, const adapter_module *module, factor_kind kind);

#endif
