/* Folders of plain files: what they hold, and one that appears whole or not at all. */
#ifndef BASE_FOLDER_H
#define BASE_FOLDER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"

/* Names in a folder, in no order, without "." and "..". */
typedef struct folder_names {
    allocator *memory;
    char **names;
    int64_t count;
} folder_names;

/* NOT_FOUND: there is no such folder. */
balora_status folder_read(folder_names *out, allocator *memory, const char *path);
void folder_names_free(folder_names *self); /* also on a zeroed value, and twice */

/* Make a folder whose parent is there; one that exists already is an error. */
balora_status folder_create(const char *path);

/* Remove a folder and the files in it; one that is not there is no failure, one that holds folders is. */
balora_status folder_remove(const char *path);

/* The same as far as it can be done, without a word: the thread's last failure stays what it was. */
void folder_discard(const char *path);

/* Is that the end of a name, ".tmp-PID", of something that a process which is gone left half-written? This process
 * counts as well: what it writes now is not there yet, and in a container every life may have the same number. */
bool folder_is_stale(const char *suffix);

/* Remove what dead processes left of writing the file `path`: NAME.tmp-PID. As far as it can be done, without a word. */
void folder_clean_beside(const char *path);

/* Rename within a parent folder; brought to the disk by whoever syncs that next. */
balora_status folder_rename(const char *from, const char *to);

/*
 * Put the finished folder `temporary`, whose files are synced, in the place of `path`, in one step: synced,
 * renamed, the parent synced. A folder that was at `path` is gone then. After a failure nothing of
 * `temporary` is left at `path`, and what was there is there.
 */
balora_status folder_publish(allocator *memory, const char *temporary, const char *path);

#endif
