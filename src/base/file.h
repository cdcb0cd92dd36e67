/* Files and paths: whole reads with a bound, positioned reads, and writes that are published atomically. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"

/* An open file that is read at positions. `path` is owned. */
typedef struct file_reader {
    allocator *memory;
    char *path;
    int descriptor;
    uint64_t bytes; /* its length when it was opened */
} file_reader;

balora_status file_open(file_reader *out, allocator *memory, const char *path);
void file_close(file_reader *reader); /* also on a zeroed reader, and twice */

/* Exactly `bytes` bytes from `offset`; a shorter file is BALORA_ERROR_FORMAT. */
balora_status file_read_at(const file_reader *reader, uint64_t offset, void *out, uint64_t bytes);

/* The whole file with a closing NUL after it (not counted in *bytes). More than `limit` bytes:
 * BALORA_ERROR_FORMAT. */
balora_status file_read_all(char **out, uint64_t *bytes, allocator *memory, const char *path, uint64_t limit);

/* Length and checksum (base/checksum.h) of a whole file. */
balora_status file_checksum(allocator *memory, const char *path, uint64_t *bytes, uint32_t *checksum);

/* A file under construction: written beside its place, then synced and renamed over it. What processes that died in
 * between left there goes when the file is written again. */
typedef struct file_writer {
    allocator *memory;
    char *path;
    char *temporary_path;
    int descriptor;
    unsigned char *buffer;
    uint64_t buffered;
    uint64_t written;  /* bytes so far */
    uint32_t checksum; /* of them */
} file_writer;

balora_status file_create(file_writer *out, allocator *memory, const char *path);
balora_status file_write(file_writer *writer, const void *data, uint64_t bytes);
balora_status file_publish(file_writer *writer); /* flush, fsync, rename; the writer is finished either way */
void file_abandon(file_writer *writer);          /* remove what was written; also after publish, and twice */

/* Write a whole small file atomically. */
balora_status file_write_all(allocator *memory, const char *path, const void *data, uint64_t bytes);

/* folder + "/" + name. */
balora_status file_join(allocator *memory, char **out, const char *folder, const char *name);

/* open(2) until no signal interrupts it; a new file is for everybody that the umask lets. -1 with errno. */
int file_descriptor(const char *path, int flags);

/* The folder that holds `path`; "." for a plain name. */
balora_status file_parent(allocator *memory, char **out, const char *path);

/* Bring a folder's list of entries to the disk. */
balora_status file_sync_folder(const char *path);

/* Make the folder and its missing parents. */
balora_status file_make_folder(const char *path);

bool file_exists(const char *path);
bool file_is_folder(const char *path);

/* Do both paths lead to one file or folder that is there? */
bool file_is_same(const char *a, const char *b);

/* A name that stays in its folder: not empty, no slash, no NUL, not "." or "..". */
bool file_is_plain_name(const char *name);

#endif
