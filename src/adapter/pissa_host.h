/* PiSSA's factors of a host's matrix, where it lies. */
#ifndef ADAPTER_PISSA_HOST_H
#define ADAPTER_PISSA_HOST_H

#include "balora/pissa.h"
#include "base/context.h"

/* Checked tensors (tensor/host_tensor.h); residual NULL: not wanted. `options` are complete. */
typedef struct pissa_host_request {
    const balora_tensor *weight, *a, *b, *residual;
    const balora_pissa_options *options;
} pissa_host_request;

balora_status pissa_host(balora_context *context, const pissa_host_request *request);

#endif
