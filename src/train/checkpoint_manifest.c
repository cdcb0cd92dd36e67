#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balora/version.h"
#include "base/status.h"
#include "train/checkpoint_files.h"

#define FORMAT_NAME    "libbalora checkpoint"
#define FORMAT_VERSION 1

const char *const checkpoint_file_names[CHECKPOINT_FILES] = {"adapter.safetensors", "optimizer.safetensors",
                                                             "trainer.json"};

balora_status manifest_write(allocator *memory, const char *path, int64_t step,
                             const checkpoint_file files[CHECKPOINT_FILES]) {
    json_t *entries = json_object();
    for (int i = 0; i < CHECKPOINT_FILES; i++) {
        char checksum[16];
        snprintf(checksum, sizeof checksum, "%08x", files[i].checksum);
        json_object_set_new(entries, checkpoint_file_names[i],
                            json_pack("{s:I, s:s}", "bytes", (json_int_t)files[i].bytes, "crc32", checksum));
    }
    json_t *manifest =
        json_pack("{s:s, s:i, s:s, s:I, s:o}", "format", FORMAT_NAME, "version", FORMAT_VERSION, "library",
                  balora_version(), "step", (json_int_t)step, "files", entries);
    char *place = NULL;
    balora_status status;
    if (manifest == NULL || json_object_size(entries) != CHECKPOINT_FILES)
        STATUS_GOTO(status_fail(BALORA_ERROR_MEMORY, "%s: no memory for the manifest", path));
    STATUS_GOTO(file_join(memory, &place, path, "manifest.json"));
    status = json_write_file(memory, place, manifest, false);
fail:
    memory_free(memory, place);
    json_decref(manifest);
    return status;
}

static balora_status check_form(const json_t *manifest, const char *origin, int64_t step) {
    const char *format;
    int64_t version, found;
    STATUS_TRY(json_member_string(manifest, "format", origin, true, &format));
    if (strcmp(format, FORMAT_NAME) != 0)
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"format\" is \"%.64s\"; expected \"%s\"", origin,
                           format, FORMAT_NAME);
    STATUS_TRY(json_member_integer(manifest, "version", origin, true, 1, INT32_MAX, &version));
    if (version > FORMAT_VERSION)
        return status_fail(
            BALORA_ERROR_UNSUPPORTED,
            "%s: \"version\" is %lld; this library reads %d: go on with the release that wrote it", origin,
            (long long)version, FORMAT_VERSION);
    STATUS_TRY(json_member_integer(manifest, "step", origin, true, 1, CHECKPOINT_STEP_LIMIT, &found));
    if (found != step)
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"step\" is %lld; its folder is of step %lld", origin,
                           (long long)found, (long long)step);
    return BALORA_OK;
}

static balora_status read_entry(const json_t *files, const char *name, const char *origin,
                                checkpoint_file *out) {
    const json_t *entry = json_object_get(files, name);
    const char *text;
    int64_t bytes;
    if (!json_is_object(entry))
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"files\": \"%s\" is missing", origin, name);
    STATUS_TRY(json_member_integer(entry, "bytes", origin, true, 0, INT64_MAX, &bytes));
    STATUS_TRY(json_member_string(entry, "crc32", origin, true, &text));
    if (strlen(text) != 8 || strspn(text, "0123456789abcdef") != 8)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: \"crc32\" of \"%s\" is \"%.64s\"; expected 8 hexadecimal digits", origin,
                           name, text);
    *out = (checkpoint_file){(uint64_t)bytes, (uint32_t)strtoul(text, NULL, 16)};
    return BALORA_OK;
}

static balora_status verify_file(allocator *memory, const char *folder, const char *name,
                                 const checkpoint_file *expected) {
    char *path;
    checkpoint_file found = {0, 0};
    STATUS_TRY(file_join(memory, &path, folder, name));
    balora_status status = file_checksum(memory, path, &found.bytes, &found.checksum);
    if (status == BALORA_OK && found.bytes != expected->bytes)
        status = status_fail(BALORA_ERROR_FORMAT, "%s: %llu bytes; the manifest says %llu", path,
                             (unsigned long long)found.bytes, (unsigned long long)expected->bytes);
    else if (status == BALORA_OK && found.checksum != expected->checksum)
        status = status_fail(BALORA_ERROR_FORMAT, "%s: its CRC-32 is %08x; the manifest says %08x", path,
                             found.checksum, expected->checksum);
    memory_free(memory, path);
    return status;
}

static balora_status verify(allocator *memory, const char *folder, const json_t *manifest, const char *origin,
                            int64_t step) {
    STATUS_TRY(check_form(manifest, origin, step));
    const json_t *files = json_object_get(manifest, "files");
    if (json_object_size(files) != CHECKPOINT_FILES)
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"files\": expected an object of %d files", origin,
                           CHECKPOINT_FILES);
    for (int i = 0; i < CHECKPOINT_FILES; i++) {
        checkpoint_file expected = {0, 0};
        STATUS_TRY(read_entry(files, checkpoint_file_names[i], origin, &expected));
        STATUS_TRY(verify_file(memory, folder, checkpoint_file_names[i], &expected));
    }
    return BALORA_OK;
}

balora_status manifest_verify(allocator *memory, const char *folder, int64_t step) {
    char *path;
    json_t *manifest = NULL;
    STATUS_TRY(file_join(memory, &path, folder, "manifest.json"));
    balora_status status = json_read_object(&manifest, memory, path, CHECKPOINT_JSON_LIMIT);
    if (status == BALORA_OK)
        status = verify(memory, folder, manifest, path, step);
    json_decref(manifest);
    memory_free(memory, path);
    return status;
}
