/* The engines behind the attention slots: cuDNN where it is there and can, our own kernels for everything else. */
#ifndef CUDA_ATTENTION_H
#define CUDA_ATTENTION_H

#include "internal.h"

/* What device features say: "cudnn-9.12.0+own" or "own". */
const char *attention_engine(void);

/*
 * cuDNN (attention_cudnn.cpp; attention_without_cudnn.cu where it is not built in). BF16 operands that were checked
 * already. BALORA_ERROR_UNSUPPORTED, without a recorded message, where cuDNN is missing or cannot do this shape: the
 * caller takes the own kernels then. Plans are made once a shape and kept with the queue.
 */
balora_status cudnn_attention(backend_queue *queue, const attention_forward *args);
balora_status cudnn_attention_backward(backend_queue *queue, const attention_backward *args);

/* "9.12.0", or NULL where cuDNN is not there. */
const char *cudnn_version(void);

/* What cuDNN's part of the slots needs of a queue's scratch within these limits; 0 where it is not used. */
int64_t cudnn_scratch_bytes(const backend_queue *queue, const backend_limits *limits);

/* Give back a queue's handle and plans; also where there are none. */
void cudnn_close(backend_queue *queue);

/* --- what cuDNN is told of a packed stream (attention_offsets.cu) --- */

enum { OFFSET_OPERANDS = 9, OFFSET_OUTPUTS = 3 };

/* A result, in units of 16 bits. */
struct offset_output {
    uint16_t *data;
    int64_t cols, ld;
};

struct offset_table {
    const int32_t *starts; /* [sequences + 1]: first row of each sequence, and the number of rows */
    int64_t sequences, longest, tokens;
    int64_t padded; /* sequences that a plan is for, at least `sequences`: the others are empty */
    int32_t operands, outputs;
    int64_t strides[OFFSET_OPERANDS];     /* of the operands' rows, in elements */
    offset_output output[OFFSET_OUTPUTS]; /* NaN where the starts are broken */
    int32_t *lengths;                     /* [padded], written */
    int64_t *offsets;                     /* [operands, padded + 1], written: starts[i] strides[operand] */
};

/* All pointers are to device memory. */
balora_status attention_offsets(backend_queue *queue, const offset_table *table);

#endif
