/*
 * A mark in the metadata of adapter files: which modules were written as [A; A0] and [B, -B0], so that the trained and the
 * initial factors can be told apart again. PEFT drops it when it writes the adapter anew, and so do we when it was
 * trained on, for then the halves are what they were called no longer.
 *
 * A mark that lies does no harm: W + s (B A + B' A') = (W + s B' A') + s B A wherever the factors are cut.
 */
#ifndef ADAPTER_INITIAL_MARK_H
#define ADAPTER_INITIAL_MARK_H

#include "adapter/adapter.h"
#include "format/tensor_files.h"

/* The metadata of an adapter's file as it is written whole; NULL: out of memory. Owned: json_decref. */
json_t *initial_mark_metadata(const balora_adapter *adapter);

/* Set ends_with_initial of the modules that the files name. */
void initial_mark_read(balora_adapter *adapter, const tensor_files *files);

#endif
