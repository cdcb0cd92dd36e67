/* Merged models whose head is no longer the embedding: a tensor more, and a configuration that says so. */
#ifndef ADAPTER_MERGE_UNTIED_H
#define ADAPTER_MERGE_UNTIED_H

#include "adapter/merge_folder.h"

/* In the staging folder: "tie_word_embeddings" becomes false, and an index says that the head's tensor is in `shard`. */
balora_status merge_untie(const merge_folder *self, const char *shard, const char *head, uint64_t head_bytes);

#endif
