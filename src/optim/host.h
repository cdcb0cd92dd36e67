/* An optimizer for tensors that a host keeps: one flat state, a tensor's part behind another's. */
#ifndef OPTIM_HOST_H
#define OPTIM_HOST_H

#include "balora/tensor.h"
#include "optim/optimizer.h"

/* A tensor of this step: where it is, and the buffer over it, which is kept while the host passes the same memory. */
typedef struct host_side {
    balora_tensor tensor; /* checked */
    void *wrapped;        /* what `buffer` is over */
    int64_t wrapped_bytes;
    backend_buffer *buffer;
    matrix_view view; /* of the tensor: rows without gaps in them */
} host_side;

typedef struct host_parameter {
    int64_t count, first;        /* numbers, and where they begin in the state */
    int64_t blocks, first_block; /* the same for the scales */
    int32_t group;
    host_side value, gradient;
} host_parameter;

typedef struct host_tensors {
    backend device;      /* opened for this optimizer */
    int32_t kind, index; /* BALORA_DEVICE_...: where the host's tensors must be */
    host_parameter *parameters;
    int64_t count;
    struct host_span *spans; /* [2 count] */
    arena scalars;
    matrix_view norm, scale; /* F64 [1, 1], F32 [1, 1] */
    arena copies;            /* in F32, of a tensor that is no F32 row; grown to the largest that comes */
    int64_t copied;          /* numbers that there is room for */
    matrix_view value_copy, gradient_copy; /* F32 [1, copied] */
} host_tensors;

/* `device` as for a model; names may be NULL, and those of single tensors. */
typedef struct host_request {
    const char *device;
    const int64_t *counts;
    const char *const *names;
    int64_t tensors;
} host_request;

balora_status host_optimizer_create(balora_optimizer **out, balora_context *context,
                                    const balora_optimizer_options *options, const host_request *request);
void host_tensors_free(balora_optimizer *optimizer); /* for optimizer_release; also where there are none */

/*
 * One step on the tensors in `value.tensor` and `gradient.tensor` of every parameter, which the caller has set and
 * checked (tensor/host_tensor.h). *norm gets the gradients' norm before clipping; where it is not finite nothing changes.
 */
balora_status host_optimizer_step(balora_optimizer *optimizer, double learning_rate, double max_grad_norm,
                                  double *norm);

#endif
