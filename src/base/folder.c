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

/* Without memory: it must work where that has run out. */
static balora_status remove_files(const char *path) {
    DIR *folder = opendir(path);
    if (folder == NULL)
        return folder_failure("read the folder", path);
    balora_status status = BALORA_OK;
    for (const struct dirent *entry; status == BALORA_OK && (entry = readdir(folder)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(dirfd(folder), entry->d_name, 0) != 0 && errno != ENOENT)
            status = folder_failure("remove the files of", path);
    closedir(folder);
    return status;
}

balora_status folder_remove(const char *path) {
    if (!file_exists(path))
        return BALORA_OK;
    STATUS_TRY(remove_files(path));
    return rmdir(path) == 0 ? BALORA_OK : folder_failure("remove the folder", path);
}

void folder_discard(const char *path) {
    status_detail before;
    status_keep(&before);
    folder_remove(path);
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

/* Without memory, as it is before every write: where the folder's path is longer than any file system has, it is left. */
void folder_clean_beside(const char *path) {
    char parent[4096] = ".";
    const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    size_t length = slash != NULL ? (size_t)(slash - path) + (slash == path) : 0;
    if (length >= sizeof parent)
        return;
    if (slash != NULL)
        snprintf(parent, sizeof parent, "%.*s", (int)length, path);
    DIR *folder = opendir(parent);
    if (folder == NULL)
        return;
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (strncmp(entry->d_name, name, strlen(name)) == 0 && folder_is_stale(entry->d_name + strlen(name)))
            unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
}

balora_status folder_rename(const char *from, const char *to) {
    return rename(from, to) == 0 ? BALORA_OK : folder_failure("rename the folder", from);
}

/* Both names at once where the file system can (*exchanged, when something was there); else a moment passes without
 * either. */
static balora_status change_places(const char *temporary, const char *path, bool *exchanged) {
    *exchanged = false;
    if (file_exists(path)) {
        *exchanged = renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE) == 0;
        if (*exchanged)
            return BALORA_OK;
        if (errno != EINVAL && errno != ENOSYS)
            return folder_failure("rename the folder", temporary);
        STATUS_TRY(folder_remove(path));
    }
    return rename(temporary, path) == 0 ? BALORA_OK : folder_failure("rename the folder", temporary);
}

balora_status folder_publish(allocator *memory, const char *temporary, const char *path) {
    char *parent; /* known before the rename: behind it only the disk may fail */
    bool exchanged;
    STATUS_TRY(file_parent(memory, &parent, path));
    balora_status status = file_sync_folder(temporary);
    if (status == BALORA_OK)
        status = change_places(temporary, path, &exchanged);
    if (status == BALORA_OK) {
        status = file_sync_folder(parent);
        /* A failed sync discards the attempt. What was at `path` comes back; where it cannot, both stay. */
        bool stuck = status != BALORA_OK && exchanged &&
                     renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_EXCHANGE) != 0;
        if (status != BALORA_OK && !exchanged)
            folder_discard(path);
        if (!stuck)
            folder_discard(temporary);
    }
    memory_free(memory, parent);
    return status;
}
