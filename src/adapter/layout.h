/*
 * For adapter.c: what the matrices of an adapter are and where they lie. Every placing function runs twice, on an empty
 * arena to learn its size and on the allocated one for the views (tensor/arena.h).
 */
#ifndef ADAPTER_LAYOUT_H
#define ADAPTER_LAYOUT_H

#include "adapter/adapter.h"

/* Of the rows of an adapted weight whose norms are taken at once: half of a core's cache. */
#define ADAPTER_PIECE_ELEMENTS ((int64_t)1 << 17)

/* modules.c: fill the table of modules with those that the shape chooses. */
balora_status adapter_list_modules(balora_adapter *adapter, const adapter_shape *shape);

/* A, B and magnitude of every module, or their gradients. */
void adapter_place_factors(balora_adapter *adapter, arena *plan, bool gradients);
/* A0 and B0 where they count. */
void adapter_place_initial(balora_adapter *adapter, arena *plan);
/* The groups' packed factors, scales and norms, the change of one factor, and a piece of a weight. */
void adapter_place_packed(balora_adapter *adapter, arena *plan);

/*
 * trained.c: fill the tables of trained tensors and their fields, and make the student's weights; nothing where the
 * shape trains none.
 */
balora_status adapter_list_trained(balora_adapter *adapter, const adapter_shape *shape);
/* Every trained tensor, or its gradient. */
void adapter_place_trained(balora_adapter *adapter, arena *plan, bool gradients);
/* Copies of fields of which only some parts are trained. */
void adapter_place_copies(balora_adapter *adapter, arena *plan);
/* Let the student read the trained tensors, which begin as the model's. */
balora_status adapter_start_trained(balora_adapter *adapter);
/* Let backward find their gradients. */
void adapter_connect_gradients(balora_adapter *adapter);

#endif
