/*
 * Runs a fuzz target without libFuzzer: every file of the given folders as it is, cut short at up to 64 places, and
 * with up to `--mutations N` changes that only depend on the file's name and their number.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"

#define CUTS       64
#define FILE_BYTES (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

static long executions, accepted_files;

/* In a block of its own size, so that a sanitizer sees what reads beyond it. */
static void run(const uint8_t *bytes, size_t count) {
    uint8_t *copy = malloc(count > 0 ? count : 1);
    fuzz_require(copy != NULL);
    memcpy(copy, bytes, count);
    LLVMFuzzerTestOneInput(copy, count);
    free(copy);
    executions++;
}

static uint64_t mix(uint64_t x) { /* splitmix64 */
    x += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* A few bytes replaced, a piece repeated, or a piece left out. */
static void mutate(const uint8_t *bytes, size_t count, uint64_t seed) {
    static uint8_t changed[2 * FILE_BYTES];
    size_t place = mix(seed) % count, length = 1 + mix(seed + 1) % (count - place);
    memcpy(changed, bytes, count);
    switch (mix(seed + 2) % 3) {
    case 0:
        for (uint64_t i = 0; i < 1 + mix(seed + 3) % 4; i++)
            changed[mix(seed + 4 + 2 * i) % count] = (uint8_t)mix(seed + 5 + 2 * i);
        break;
    case 1:
        memcpy(changed + place + length, bytes + place, count - place);
        count += length;
        break;
    default:
        memcpy(changed + place, bytes + place + length, count - place - length);
        count -= length;
    }
    run(changed, count);
}

/* What does not end the process was survived: a case of its own in the count of tests. */
static void report_file(const char *path) {
    const char *name = strrchr(path, '/');
    printf("[       OK ] %s\n", name != NULL ? name + 1 : path);
}

static void run_file(const char *path, long mutations) {
    static uint8_t bytes[FILE_BYTES];
    FILE *file = fopen(path, "rb");
    fuzz_require(file != NULL);
    size_t count = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    long before = fuzz_accepted;
    run(bytes, count);
    accepted_files += fuzz_accepted > before;
    for (size_t i = 0; i < CUTS && mutations > 0 && count > 0; i++)
        run(bytes, count * i / CUTS);
    uint64_t seed = count;
    for (const char *c = path + strlen(path); c > path && c[-1] != '/'; c--)
        seed = mix(seed ^ (uint8_t)c[-1]);
    for (long i = 0; i < mutations && count > 0; i++)
        mutate(bytes, count, seed + 1000 * (uint64_t)i);
    report_file(path);
}

static int by_name(const struct dirent **left, const struct dirent **right) {
    return strcmp((*left)->d_name, (*right)->d_name);
}

static int is_plain(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

static int run_folder(const char *folder, long mutations) {
    struct dirent **entries;
    int count = scandir(folder, &entries, is_plain, by_name);
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        run_file(path, mutations);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    return count;
}

int main(int argc, char **argv) {
    long mutations = 0;
    int files = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mutations") == 0 && i + 1 < argc) {
            mutations = strtol(argv[++i], NULL, 10);
            continue;
        }
        int found = run_folder(argv[i], mutations);
        if (found < 0)
            run_file(argv[i], mutations);
        files += found < 0 ? 1 : found;
    }
    printf("%d files (%ld accepted), %ld inputs\n", files, accepted_files, executions);
    if (accepted_files == 0)
        printf("[  FAILED  ] every file was refused: a target that accepts nothing tests nothing\n");
    return accepted_files > 0 ? 0 : 1;
}
