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

/* Give back a queue's handle and plans; also where there are none. */
void cudnn_close(backend_queue *queue);

#endif
