/*
 * For adapter.c: what the matrices of an adapter are and where they lie. Every placing function runs twice, on an empty
 * arena to learn its size and on the allocated one for the views (tensor/arena.h).
 */
#ifndef ADAPTER_LAYOUT_H
#define ADAPTER_LAYOUT_H

#include "adapter/adapter.h"

/* modules.c: fill the table of modules with those that the shape chooses. */
balora_status adapter_list_modules(balora_adapter *adapter, const adapter_shape *shape);

/* A and B of every module, or their gradients. */
void adapter_place_factors(balora_adapter *adapter, arena *plan, bool gradients);
/* A0 and B0 where they count. */
void adapter_place_initial(balora_adapter *adapter, arena *plan);
/* The groups' packed factors, and the change of one factor. */
void adapter_place_packed(balora_adapter *adapter, arena *plan);

#endif
