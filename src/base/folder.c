#include "base/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/status.h"

static balora_status folder_failure(const char *verb, const char *path) {
    int code = errno;
    balora_status status = code == ENOENT ? BALORA_ERROR_NOT_FOUND : BALORA_ERROR_IO;
    return status_fail_native(status, BALORA_ORIGIN_LIBC, code, "%s: cannot %s", path, verb);
}

static balora_status add_name(folder_names *self, const char *name) {
    STATUS_TRY(memory_grow(self->memory, &self->names, (size_t)self->count, (size_t)self->count + 1,
                           sizeof *self->names, "names in a folder"));
    STATUS_TRY(memory_string(self->memory, &self->names[self->count], name));
    self->count++;
    return BALORA_OK;
}

balora_status folder_read(folder_names *out, allocator *memory, const char *path) {
    *out = (folder_names){.memory = memory};
    DIR *folder = opendir(path);
    if (folder == NULL)
        return folder_failure("read the folder", path);
    balora_status status = BALORA_OK;
    struct dirent *entry;
    errno = 0;
    while (status == BALORA_OK && (entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = add_name(out, entry->d_name);
        errno = 0;
    }
    if (status == BALORA_OK && errno != 0)
        status = folder_failure("read the folder", path);
    closedir(folder);
    if (status != BALORA_OK)
        folder_names_free(out);
    return status;
}

void folder_names_free(folder_names *self) {
    if (self->memory == NULL)
        return;
    for (int64_t i = 0; i < self->count; i++)
        memory_free(self->memory, self->names[i]);
    memory_free(self->memory, self->names);
    *self = (folder_names){0};
}

balora_status folder_create(const char *path) {
    return mkdir(path, 0777) == 0 ? BALORA_OK : folder_failure("make the folder", path);
}

static balora_status remove_file(allocator *memory, const char *folder, const char *name) {
    char *path;
    STATUS_TRY(file_join(memory, &path, folder, name));
    balora_status status = unlink(path) == 0 || errno == ENOENT ? BALORA_OK : folder_failure("remove", path);
    memory_free(memory, path);
    return status;
}

balora_status folder_remove(allocator *memory, const char *path) {
    if (!file_exists(path))
        return BALORA_OK;
    folder_names held;
    STATUS_TRY(folder_read(&held, memory, path));
    balora_status status = BALORA_OK;
    for (int64_t i = 0; i < held.count && status == BALORA_OK; i++)
        status = remove_file(memory, path, held.names[i]);
    folder_names_free(&held);
    if (status == BALORA_OK && rmdir(path) != 0)
        status = folder_failure("remove the folder", path);
    return status;
}

void folder_discard(allocator *memory, const char *path) {
    status_detail before;
    status_keep(&before);
    folder_remove(memory, path);
    status_put_back(&before);
}

bool folder_is_stale(const char *suffix) {
    static const char prefix[] = ".tmp-";
    char *end;
    if (strncmp(suffix, prefix, sizeof prefix - 1) != 0)
        return false;
    errno = 0;
    long process = strtol(suffix + sizeof prefix - 1, &end, 10);
    if (errno != 0 || *end != '\0' || process <= 0 || process > INT32_MAX)
        return false;
    return process == (long)getpid() || (kill((pid_t)process, 0) != 0 && errno == ESRCH);
}

static balora_status clean_beside(allocator *memory, const char *path, folder_names *held) {
    char *parent;
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    STATUS_TRY(file_parent(memory, &parent, path));
    balora_status status = folder_read(held, memory, parent);
    for (int64_t i = 0; i < held->count && status == BALORA_OK; i++)
        if (strncmp(held->names[i], name, strlen(name)) == 0 &&
            folder_is_stale(held->names[i] + strlen(name)))
            status = remove_file(memory, parent, held->names[i]);
    memory_free(memory, parent);
    return status;
}

void folder_clean_beside(allocator *memory, const char *path) {
    status_detail before;
    folder_names held = {0};
    status_keep(&before);
    clean_beside(memory, path, &held);
    folder_names_free(&held);
    status_put_back(&before);
}

static balora_status sync_parent(allocator *memory, const char *path) {
    char *parent;
    STATUS_TRY(file_parent(memory, &parent, path));
    balora_status status = file_sync_folder(parent);
    memory_free(memory, parent);
    return status;
}

balora_status folder_rename(allocator *memory, const char *from, const char *to) {
    if (rename(from, to) != 0)
        return folder_failure("rename the folder", from);
    return sync_parent(memory, to);
}

/* Both names at once where the file system can; else a moment passes without either. */
static balora_status change_places(allocator *memory, const char *temporary, const char *path) {
    if (!file_exists(path))
        return rename(temporary, path) == 0 ? BALORA_OK : folder_failure("rename the folder", temporary);
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
        return BALORA_OK;
    if (errno != EINVAL && errno != ENOSYS)
        return folder_failure("rename the folder", temporary);
    STATUS_TRY(folder_remove(memory, path));
    return rename(temporary, path) == 0 ? BALORA_OK : folder_failure("rename the folder", temporary);
}

balora_status folder_publish(allocator *memory, const char *temporary, const char *path) {
    STATUS_TRY(file_sync_folder(temporary));
    STATUS_TRY(change_places(memory, temporary, path));
    balora_status status = sync_parent(memory, path);
    if (status != BALORA_OK)
        folder_discard(memory, path);  /* a failed sync discards the attempt */
    folder_discard(memory, temporary); /* what was at `path` before */
    return status;
}
