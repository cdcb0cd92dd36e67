#include "adapter/merge_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/folder.h"
#include "base/status.h"

#define INDEX_NAME  "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

/* What belongs to a model folder beside its weights, in the order of publication: config.json makes it
 * complete. */
static const char *const copied_names[] = {INDEX_NAME,
                                           "tokenizer.json",
                                           "tokenizer.model",
                                           "tokenizer_config.json",
                                           "special_tokens_map.json",
                                           "added_tokens.json",
                                           "vocab.json",
                                           "merges.txt",
                                           "chat_template.jinja",
                                           "chat_template.json",
                                           "generation_config.json",
                                           "config.json"};

#define COPIED_COUNT (sizeof copied_names / sizeof copied_names[0])

static balora_status io_failure(const char *verb, const char *path) {
    return status_fail_native(BALORA_ERROR_IO, BALORA_ORIGIN_LIBC, errno, "%s: cannot %s", path, verb);
}

/* Nothing, or an empty folder, is at `path`. */
static bool is_vacant(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL)
        return errno == ENOENT;
    bool vacant = true;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        vacant = vacant && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
    closedir(folder);
    return vacant;
}

static balora_status check_place(const merge_folder *self, bool whole) {
    if (file_is_same(self->path, self->base->folder))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s: the new model cannot take the place of its own base; choose another folder",
                           self->path);
    if (file_exists(self->path) && !file_is_folder(self->path))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: expected a folder, or nothing there, but it is a file",
                           self->path);
    if (whole && !is_vacant(self->path))
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "%s holds files already, but the new model and its adapter belong together and must appear at "
            "once; choose another folder",
            self->path);
    if (!self->base->has_index)
        return BALORA_OK;
    char *single;
    STATUS_TRY(file_join(self->memory, &single, self->path, SINGLE_NAME));
    bool shadowed = file_exists(single);
    memory_free(self->memory, single);
    if (shadowed)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s holds a " SINGLE_NAME
                           ", which readers would take instead of the new shards; choose an empty "
                           "folder",
                           self->path);
    return BALORA_OK;
}

static balora_status make_staging(merge_folder *self) {
    size_t capacity = strlen(self->path) + 32;
    char *name;
    STATUS_TRY(memory_new(self->memory, &name, capacity, 1, "a temporary folder's name"));
    snprintf(name, capacity, "%s.tmp-%ld", self->path, (long)getpid());
    balora_status status = file_make_folder(name);
    if (status == BALORA_OK)
        self->staging = name;
    else
        memory_free(self->memory, name);
    return status;
}

static balora_status make_part(merge_folder *self, const char *name) {
    STATUS_TRY(file_join(self->memory, &self->part, self->staging, name));
    return file_make_folder(self->part);
}

balora_status merge_folder_create(merge_folder *out, allocator *memory, const char *path,
                                  const tensor_files *base, const char *part) {
    *out = (merge_folder){.memory = memory, .base = base};
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length == 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "the folder of the new model has an empty name");
    STATUS_TRY(memory_string_n(memory, &out->path, path, length));
    STATUS_TRY(check_place(out, part != NULL));
    STATUS_TRY(make_staging(out));
    return part != NULL ? make_part(out, part) : BALORA_OK;
}

static balora_status copy_file(const merge_folder *self, const char *from, const char *to, void *block,
                               uint64_t block_bytes) {
    file_reader reader;
    file_writer writer;
    STATUS_TRY(file_open(&reader, self->memory, from));
    balora_status status = file_create(&writer, self->memory, to);
    for (uint64_t offset = 0, bytes; status == BALORA_OK && offset < reader.bytes; offset += bytes) {
        bytes = reader.bytes - offset < block_bytes ? reader.bytes - offset : block_bytes;
        status = file_read_at(&reader, offset, block, bytes);
        if (status == BALORA_OK)
            status = file_write(&writer, block, bytes);
    }
    file_close(&reader);
    if (status == BALORA_OK)
        return file_publish(&writer);
    file_abandon(&writer);
    return status;
}

balora_status merge_folder_copy(const merge_folder *self, void *block, int64_t block_bytes) {
    for (size_t i = 0; i < COPIED_COUNT; i++) {
        char *from = NULL, *to = NULL;
        if (strcmp(copied_names[i], INDEX_NAME) == 0 && !self->base->has_index)
            continue;
        balora_status status = file_join(self->memory, &from, self->base->folder, copied_names[i]);
        if (status == BALORA_OK)
            status = file_join(self->memory, &to, self->staging, copied_names[i]);
        if (status == BALORA_OK && file_exists(from))
            status = copy_file(self, from, to, block, (uint64_t)block_bytes);
        memory_free(self->memory, from);
        memory_free(self->memory, to);
        STATUS_TRY(status);
    }
    return BALORA_OK;
}

static balora_status move_file(const merge_folder *self, int from, int to, const char *name) {
    if (renameat(from, name, to, name) == 0 || errno == ENOENT)
        return BALORA_OK; /* not every base has every file */
    return status_fail_native(BALORA_ERROR_IO, BALORA_ORIGIN_LIBC, errno, "%s: cannot put the new %s there",
                              self->path, name);
}

static balora_status move_files(const merge_folder *self) {
    int from = file_descriptor(self->staging, O_RDONLY | O_DIRECTORY);
    int to = file_descriptor(self->path, O_RDONLY | O_DIRECTORY);
    balora_status status = from < 0 || to < 0 ? io_failure("open", self->path) : BALORA_OK;
    for (int64_t i = 0; i < self->base->shard_count && status == BALORA_OK; i++)
        status = move_file(self, from, to, self->base->shard_names[i]);
    for (size_t i = 0; i < COPIED_COUNT && status == BALORA_OK; i++)
        status = move_file(self, from, to, copied_names[i]);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return status == BALORA_OK ? file_sync_folder(self->path) : status;
}

balora_status merge_folder_publish(merge_folder *self) {
    if (self->part == NULL && file_exists(self->path))
        return move_files(self);
    return folder_publish(self->memory, self->staging, self->path);
}

void merge_folder_abandon(merge_folder *self) {
    if (self->memory == NULL)
        return;
    if (self->part != NULL)
        folder_discard(self->part);
    if (self->staging != NULL)
        folder_discard(self->staging);
    memory_free(self->memory, self->part);
    memory_free(self->memory, self->staging);
    memory_free(self->memory, self->path);
    *self = (merge_folder){0};
}
