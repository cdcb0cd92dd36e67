/*
 * The regularizer set on a host's logits: a device with a queue, and workspaces that grow to the largest call so far.
 * Logits are read in place where their layout allows; what is copied is a chunk of rows at a time.
 */
#ifndef REGULARIZER_EVALUATOR_H
#define REGULARIZER_EVALUATOR_H

#include "balora/tensor.h"
#include "base/context.h"
#include "regularizer/covariance.h"
#include "regularizer/normalized.h"
#include "regularizer/spectral_logits.h"

typedef struct evaluator_sizes {
    int64_t columns; /* V */
    int64_t chunk;   /* rows at a time */
    int64_t active;  /* M: valid rows */
    int64_t top;     /* k */
    int32_t norm;    /* BALORA_SVD_... */
    bool spectral, covariance, normalized;
    bool staged; /* a tensor's strides ask for packed pieces */
} evaluator_sizes;

typedef struct evaluator {
    balora_context *context; /* borrowed from the set */
    backend device;
    backend_queue *queue;
    int32_t place, place_index; /* BALORA_DEVICE_..., of the tensors that it takes */
    evaluator_sizes sizes;
    arena arena;
    spectral_logits spectral;
    covariance_term covariance;
    normalized_term normalized;
    matrix_view student, teacher, gradient; /* F32 [chunk, V] */
    matrix_view terms;                      /* F64 [chunk, LOSS_COLUMNS] */
    matrix_view entropy;                    /* F64 [chunk, 1] */
    matrix_view targets, flags,
        chunk_rows;       /* I32 [1, chunk]: -1 each; valid rows; their places in the chunk */
    matrix_view rows;     /* I32 [1, active]: all valid rows */
    matrix_view values;   /* F64 [1, 3]: svd; covariance; normalized */
    double *host_terms;   /* [chunk, LOSS_COLUMNS] */
    int32_t *host_rows;   /* [chunk] */
    unsigned char *stage; /* [chunk, V] of 4 bytes; NULL where nothing is staged */
} evaluator;

enum { EVALUATOR_SVD, EVALUATOR_COVARIANCE, EVALUATOR_NORMALIZED }; /* of values */

balora_status evaluator_create(evaluator **out, balora_context *context, int32_t place, int32_t place_index);
void evaluator_free(evaluator *self); /* NULL is allowed */

/* Rows at a time of logits with that many columns. */
balora_status evaluator_chunk(const evaluator *self, int64_t rows, int64_t columns, int64_t *out);

/* Make room for these sizes; what is there stays where it suffices. After a failure there is room for nothing. */
balora_status evaluator_prepare(evaluator *self, const evaluator_sizes *sizes);

/* Bytes of all workspaces. */
int64_t evaluator_bytes(const evaluator *self);

#endif
