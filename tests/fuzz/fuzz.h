/*
 * What the fuzz targets share. A target is one file with fuzz_one(); fuzz.c makes it a libFuzzer target, or with
 * driver.c a plain program that runs files.
 *
 * The parsers read files, so a target writes its bytes into a folder in memory (/dev/shm where there is one) first.
 * Inputs that stand for several files are cut at bytes 0xFF, which UTF-8 never has.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "balora/balora.h"
#include "base/memory.h"

#define FUZZ_CUT 0xFF

typedef struct fuzz_part {
    const uint8_t *bytes;
    size_t count;
} fuzz_part;

/* One input; the target's own. Whatever it finds wrong ends in fuzz_require. */
void fuzz_one(fuzz_part input);

/* The first part of `rest`, which loses it and the cut; everything and then nothing where there is no cut. */
fuzz_part fuzz_next_part(fuzz_part *rest);

/* The first `count` bytes (or fewer), which `rest` loses. */
fuzz_part fuzz_take(fuzz_part *rest, size_t count);

/* The first byte, 0 where there is none. */
unsigned fuzz_take_byte(fuzz_part *rest);

/* The process's own folder; it goes when the process ends. */
const char *fuzz_folder(void);

/* Path of a file there; valid until four calls later. */
const char *fuzz_path(const char *name);

void fuzz_write(const char *name, fuzz_part content);
void fuzz_write_text(const char *name, const char *text);
void fuzz_remove(const char *name);

/*
 * A safetensors file around a header: the length before it is right, and behind it are as many bytes of data as
 * the largest of the header's data_offsets asks for (at most 64 KiB), from `data` and then a pattern. So the
 * fuzzer gets behind the checks of the container without guessing numbers.
 */
void fuzz_write_safetensors(const char *name, fuzz_part header, fuzz_part data);

/* A copy with a closing NUL, cut at the first NUL; free() it. */
char *fuzz_text(fuzz_part part);

/* The allocator of rooms, and a context with one thread. Both count, and refuse more than FUZZ_MEMORY_LIMIT. */
#define FUZZ_MEMORY_LIMIT ((uint64_t)512 << 20)
allocator *fuzz_memory(void);
balora_context *fuzz_context(void);

/* A failed call says why, with the file's name in the message (NULL: any message). */
void fuzz_expect_message(balora_status status, const char *file_name);

/* Calls that were held to it and succeeded: a target whose seeds are all refused tests little. */
extern long fuzz_accepted;

#define fuzz_require(condition) fuzz_require_at((condition), #condition, __FILE__, __LINE__)
void fuzz_require_at(bool holds, const char *condition, const char *file, int line);

#endif
