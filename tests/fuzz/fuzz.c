#include "fuzz.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/context.h"

#define DATA_LIMIT 65536

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

void fuzz_require_at(bool holds, const char *condition, const char *file, int line) {
    if (holds)
        return;
    fprintf(stderr, "%s:%d: %s does not hold; the last message: %s\n", file, line, condition,
            balora_error_message());
    abort();
}

/* --- inputs --- */

fuzz_part fuzz_take(fuzz_part *rest, size_t count) {
    fuzz_part taken = {rest->bytes, count < rest->count ? count : rest->count};
    if (taken.count > 0)
        rest->bytes += taken.count;
    rest->count -= taken.count;
    return taken;
}

fuzz_part fuzz_next_part(fuzz_part *rest) {
    size_t end = 0;
    while (end < rest->count && rest->bytes[end] != FUZZ_CUT)
        end++;
    fuzz_part part = fuzz_take(rest, end);
    fuzz_take(rest, 1);
    return part;
}

unsigned fuzz_take_byte(fuzz_part *rest) {
    fuzz_part one = fuzz_take(rest, 1);
    return one.count > 0 ? one.bytes[0] : 0;
}

char *fuzz_text(fuzz_part part) {
    char *text = malloc(part.count + 1);
    fuzz_require(text != NULL);
    if (part.count > 0)
        memcpy(text, part.bytes, part.count);
    text[part.count] = '\0';
    return text;
}

/* --- files --- */

static char folder[64];

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *place) {
    (void)facts;
    (void)kind;
    (void)place;
    return remove(path);
}

static void remove_folder(void) {
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void) {
    if (folder[0] == '\0') {
        snprintf(folder, sizeof folder, "%s/balora-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        fuzz_require(mkdtemp(folder) != NULL);
        fuzz_require(atexit(remove_folder) == 0);
    }
    return folder;
}

const char *fuzz_path(const char *name) {
    static char paths[4][192];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_folder(), name);
    return path;
}

static FILE *create(const char *name) {
    FILE *file = fopen(fuzz_path(name), "wb");
    fuzz_require(file != NULL);
    return file;
}

static void append(FILE *file, const void *bytes, size_t count) {
    fuzz_require(count == 0 || fwrite(bytes, 1, count, file) == count);
}

void fuzz_write(const char *name, fuzz_part content) {
    FILE *file = create(name);
    append(file, content.bytes, content.count);
    fuzz_require(fclose(file) == 0);
}

void fuzz_write_text(const char *name, const char *text) {
    fuzz_write(name, (fuzz_part){(const uint8_t *)text, strlen(text)});
}

void fuzz_remove(const char *name) {
    unlink(fuzz_path(name));
}

/* The largest of the second numbers behind "data_offsets". */
static size_t find_data_bytes(const char *header) {
    static const char key[] = "\"data_offsets\"";
    long long largest = 0, first, last;
    for (const char *place = header; (place = strstr(place, key)) != NULL;) {
        place += sizeof key - 1;
        if (sscanf(place, " : [ %lld , %lld", &first, &last) == 2 && last > largest && last <= DATA_LIMIT)
            largest = last;
    }
    return (size_t)largest;
}

void fuzz_write_safetensors(const char *name, fuzz_part header, fuzz_part data) {
    static uint8_t pattern[DATA_LIMIT];
    char *text = fuzz_text(header);
    size_t bytes = find_data_bytes(text);
    free(text);
    for (size_t i = 0; i < bytes; i++)
        pattern[i] = i < data.count ? data.bytes[i] : (uint8_t)(i % 4 == 3 ? 0x3c : i); /* small floats */
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)header.count >> (8 * i));
    FILE *file = create(name);
    append(file, length, sizeof length);
    append(file, header.bytes, header.count);
    append(file, pattern, bytes);
    fuzz_require(fclose(file) == 0);
}

/* --- memory --- */

static uint64_t held;

static void *allocate(uint64_t bytes, uint64_t alignment, void *user) {
    (void)user;
    if (bytes > FUZZ_MEMORY_LIMIT || held + bytes > FUZZ_MEMORY_LIMIT)
        return NULL;
    void *block = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    held += block != NULL ? bytes : 0;
    return block;
}

static void release(void *block, uint64_t bytes, void *user) {
    (void)user;
    held -= bytes;
    free(block);
}

allocator *fuzz_memory(void) {
    static allocator memory;
    if (memory.allocate == NULL)
        memory_init(&memory, allocate, release, NULL);
    return &memory;
}

balora_context *fuzz_context(void) {
    static balora_context *context;
    if (context == NULL) {
        balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
        options.threads = 1;
        options.allocate = allocate;
        options.release = release;
        fuzz_require(balora_context_create(&context, &options) == BALORA_OK);
    }
    return context;
}

long fuzz_accepted;

void fuzz_expect_message(balora_status status, const char *file_name) {
    if (status == BALORA_OK) {
        fuzz_accepted++;
        return;
    }
    fuzz_require(balora_error_status() == status);
    fuzz_require(status != BALORA_ERROR_INTERNAL);
    fuzz_require(file_name == NULL || status == BALORA_ERROR_MEMORY ||
                 strstr(balora_error_message(), file_name) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count) {
    static bool started;
    if (!started) { /* what a target makes once is held from here on */
        fuzz_context();
        fuzz_one((fuzz_part){bytes, count});
        started = true;
    }
    uint64_t before = held;
    fuzz_one((fuzz_part){bytes, count});
    fuzz_require(held == before);
    return 0;
}
