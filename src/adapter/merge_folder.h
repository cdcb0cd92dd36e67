/* The folder of a merged model under construction: built beside its place, then moved there. */
#ifndef ADAPTER_MERGE_FOLDER_H
#define ADAPTER_MERGE_FOLDER_H

#include "format/tensor_files.h"

typedef struct merge_folder {
    allocator *memory;
    char *path;    /* without closing slashes */
    char *staging; /* path.tmp-<process>; NULL when nothing is there to remove */
    char *part;    /* a folder inside it; NULL: plain files only */
    const tensor_files *base;
} merge_folder;

/*
 * ARGUMENT when `path` is the base's own folder, or holds a weight file that readers would prefer to the new
 * ones. `part`: the name of a folder inside, whose files must appear together with the weights: then `path` must not be
 * there, or be empty, also ARGUMENT.
 */
balora_status merge_folder_create(merge_folder *out, allocator *memory, const char *path,
                                  const tensor_files *base, const char *part);

/* Copy configuration, tokenizer and index of the base byte for byte. `block` is host memory to copy through.
 */
balora_status merge_folder_copy(const merge_folder *self, void *block, int64_t block_bytes);

/* Move all into place: by one rename where nothing is at `path` or there is a part, else file by file, the weights
 * first. */
balora_status merge_folder_publish(merge_folder *self);
void merge_folder_abandon(
    merge_folder *self); /* remove what was written; also after publish, on a zeroed one, twice */

#endif
