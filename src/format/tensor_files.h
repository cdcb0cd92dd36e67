/*
 * The weights of a folder: STEM.safetensors, or the shards that STEM.safetensors.index.json lists.
 *
 * The index rules: a tensor that it names must be in the shard that it names; tensors of a shard that it does
 * not name are not found here (they stay reachable through `shards`, so that a rewritten shard can keep
 * them).
 */
#ifndef FORMAT_TENSOR_FILES_H
#define FORMAT_TENSOR_FILES_H

#include "format/safetensors.h"

typedef struct tensor_place {
    const safetensors_file *file;
    const safetensors_entry *entry;
} tensor_place;

typedef struct tensor_files {
    allocator *memory;
    char *folder;
    safetensors_file *shards;
    char **shard_names; /* plain file names inside the folder */
    int64_t shard_count;
    tensor_place *places; /* by name */
    int64_t count;
    bool has_index; /* sharded, even if in one shard */
} tensor_files;

/*
 * `stem` is "model" for a model folder, "adapter_model" for a PEFT folder. The value may be moved while it is
 * open. NOT_FOUND: neither file is there, or a shard, or a tensor of the index, is missing. UNSUPPORTED: only
 * STEM's pickled form is there.
 */
balora_status tensor_files_open(tensor_files *out, allocator *memory, const char *folder, const char *stem);
void tensor_files_close(tensor_files *self); /* also on a zeroed value, and twice */

/* False, with *out zeroed, when there is no such tensor. */
bool tensor_files_find(const tensor_files *self, const char *name, tensor_place *out);

/* The tensor must be there (NOT_FOUND), with this shape (MISMATCH), in F32, F16 or BF16 (UNSUPPORTED). */
balora_status tensor_files_expect(const tensor_files *self, const char *name, int32_t rank,
                                  const int64_t *shape, tensor_place *out);

#endif
