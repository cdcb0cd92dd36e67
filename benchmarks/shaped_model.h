/*
 * Models of well-known shapes with random weights, made on the device, and token rows for them: a step can be timed
 * without a model folder.
 *
 * Weights are never zeros, whose products are faster than those of numbers. The blocks' linears and an untied head have
 * a bulk of equal strength and leading directions that rise above it and decay, as trained weights have and as PiSSA's
 * iteration needs:
 *   W = N(0, 0.02^2) + c sum over j < r of u_j v_j^T / sqrt(1 + j / 8),   r = min(out, in) / 8,
 * with standard normal u_j, v_j, and c = 2 * 0.02 (1 / sqrt(out) + 1 / sqrt(in)), so that the largest singular value is
 * about twice that of the bulk. Norms multiply by 1, the embedding is N(0, 0.02^2).
 */
#ifndef BENCHMARKS_SHAPED_MODEL_H
#define BENCHMARKS_SHAPED_MODEL_H

#include "balora/balora.h"

typedef struct model_shape {
    const char *name;
    int64_t layers, hidden, intermediate;
    int64_t heads, key_heads, head_dim;
    int64_t vocabulary;
    int tied;
    const char *traits; /* further members of config.json, model_type among them */
} model_shape;

#define MODEL_SHAPE_NAMES "8b|1b|gemma2-2b|tiny"

/* "8b" and "1b" are LLaMA 3's, "gemma2-2b" is Gemma 2's, "tiny" is for trying a program out. NULL: no such shape. */
const model_shape *model_shape_find(const char *name);

/* A model of the shape; a `dtype` of AUTO in the options is F32. */
balora_status shaped_model_open(balora_model **out, balora_context *context, const model_shape *shape,
                                const balora_model_options *options);

/* `rows` sequences of `length` random tokens each; the last `supervised` share of every row is supervised. */
balora_status shaped_rows_open(balora_data **out, balora_model *model, int64_t rows, int64_t length,
                               double supervised);

#endif
