/* A caller's tensor as its own struct, completed and checked; see tensor/host_tensor.h. */
#ifndef LIB_TENSOR_H
#define LIB_TENSOR_H

#include "balora/tensor.h"

/* `name` says in messages which one it is. ABI: a size that no version has, or fields of a newer one; ARGUMENT. */
balora_status facade_tensor(balora_tensor *complete, const balora_tensor *caller, const char *name);

#endif
