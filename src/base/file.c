#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/folder.h"
#include "base/status.h"

#define BLOCK_BYTES ((uint64_t)1 << 20)

static balora_status io_failure(const char *verb, const char *path) {
    int code = errno;
    balora_status status = code == ENOENT ? BALORA_ERROR_NOT_FOUND : BALORA_ERROR_IO;
    return status_fail_native(status, BALORA_ORIGIN_LIBC, code, "%s: cannot %s", path, verb);
}

int file_descriptor(const char *path, int flags) {
    int descriptor;
    do
        descriptor = open(path, flags | O_CLOEXEC, 0666);
    while (descriptor < 0 && errno == EINTR);
    return descriptor;
}

static int sync_descriptor(int descriptor) {
    int result;
    do
        result = fsync(descriptor);
    while (result != 0 && errno == EINTR);
    return result;
}

/* Behind EINTR the descriptor is closed all the same (Linux), and what was synced is on the disk. */
static int close_descriptor(int descriptor) {
    return close(descriptor) == 0 || errno == EINTR ? 0 : -1;
}

balora_status file_open(file_reader *out, allocator *memory, const char *path) {
    memset(out, 0, sizeof *out);
    out->descriptor = -1;
    /* Not blocking: a named pipe in a file's place must be refused, not waited for. */
    int descriptor = file_descriptor(path, O_RDONLY | O_NONBLOCK);
    if (descriptor < 0)
        return io_failure("open", path);
    struct stat information;
    balora_status status;
    if (fstat(descriptor, &information) != 0)
        status = io_failure("examine", path);
    else if (!S_ISREG(information.st_mode))
        status = status_fail(BALORA_ERROR_IO, "%s: expected a regular file", path);
    else
        status = memory_string(memory, &out->path, path);
    if (status != BALORA_OK) {
        close(descriptor);
        return status;
    }
    out->memory = memory;
    out->descriptor = descriptor;
    out->bytes = (uint64_t)information.st_size;
    return BALORA_OK;
}

void file_close(file_reader *reader) {
    if (reader->memory == NULL)
        return;
    close(reader->descriptor);
    memory_free(reader->memory, reader->path);
    memset(reader, 0, sizeof *reader);
    reader->descriptor = -1;
}

balora_status file_read_at(const file_reader *reader, uint64_t offset, void *out, uint64_t bytes) {
    if (offset > reader->bytes || bytes > reader->bytes - offset)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: %llu bytes at offset %llu go beyond the file's end (%llu bytes)",
                           reader->path, (unsigned long long)bytes, (unsigned long long)offset,
                           (unsigned long long)reader->bytes);
    unsigned char *place = out;
    while (bytes > 0) {
        uint64_t piece = bytes < ((uint64_t)1 << 30) ? bytes : (uint64_t)1 << 30;
        ssize_t got = pread(reader->descriptor, place, piece, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return io_failure("read", reader->path);
        if (got == 0)
            return status_fail(BALORA_ERROR_IO, "%s: the file became shorter while it was read (offset %llu)",
                               reader->path, (unsigned long long)offset);
        place += got;
        offset += (uint64_t)got;
        bytes -= (uint64_t)got;
    }
    return BALORA_OK;
}

balora_status file_read_all(char **out, uint64_t *bytes, allocator *memory, const char *path,
                            uint64_t limit) {
    *out = NULL;
    file_reader reader;
    STATUS_TRY(file_open(&reader, memory, path));
    balora_status status;
    char *text = NULL;
    if (reader.bytes > limit) {
        status = status_fail(BALORA_ERROR_FORMAT, "%s: %llu bytes; at most %llu are read", path,
                             (unsigned long long)reader.bytes, (unsigned long long)limit);
        goto fail;
    }
    STATUS_GOTO(memory_new(memory, &text, reader.bytes + 1, 1, path));
    STATUS_GOTO(file_read_at(&reader, 0, text, reader.bytes));
    text[reader.bytes] = '\0';
    *bytes = reader.bytes;
    *out = text;
    file_close(&reader);
    return BALORA_OK;
fail:
    memory_free(memory, text);
    file_close(&reader);
    return status;
}

balora_status file_checksum(allocator *memory, const char *path, uint64_t *bytes, uint32_t *checksum) {
    file_reader reader;
    unsigned char *block;
    STATUS_TRY(memory_new(memory, &block, BLOCK_BYTES, 1, "a block of a file"));
    balora_status status = file_open(&reader, memory, path);
    uint32_t sum = 0;
    for (uint64_t at = 0, piece; status == BALORA_OK && at < reader.bytes; at += piece) {
        piece = reader.bytes - at < BLOCK_BYTES ? reader.bytes - at : BLOCK_BYTES;
        status = file_read_at(&reader, at, block, piece);
        if (status == BALORA_OK)
            sum = checksum_add(sum, block, piece);
    }
    *bytes = status == BALORA_OK ? reader.bytes : 0;
    *checksum = sum;
    file_close(&reader);
    memory_free(memory, block);
    return status;
}

balora_status file_create(file_writer *out, allocator *memory, const char *path) {
    memset(out, 0, sizeof *out);
    out->descriptor = -1;
    out->memory = memory;
    balora_status status;
    size_t length = strlen(path) + 32;
    STATUS_GOTO(memory_string(memory, &out->path, path));
    STATUS_GOTO(memory_new(memory, &out->temporary_path, length, 1, "a temporary file's name"));
    snprintf(out->temporary_path, length, "%s.tmp-%ld", path, (long)getpid());
    STATUS_GOTO(memory_new(memory, &out->buffer, BLOCK_BYTES, 1, "a write buffer"));
    folder_clean_beside(path);
    out->descriptor = file_descriptor(out->temporary_path, O_WRONLY | O_CREAT | O_TRUNC);
    if (out->descriptor < 0)
        STATUS_GOTO(io_failure("create", out->temporary_path));
    return BALORA_OK;
fail:
    file_abandon(out);
    return status;
}

static balora_status write_through(file_writer *writer, const unsigned char *data, uint64_t bytes) {
    while (bytes > 0) {
        uint64_t piece = bytes < ((uint64_t)1 << 30) ? bytes : (uint64_t)1 << 30;
        ssize_t done = write(writer->descriptor, data, piece);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return io_failure("write", writer->temporary_path);
        data += done;
        bytes -= (uint64_t)done;
    }
    return BALORA_OK;
}

static balora_status flush(file_writer *writer) {
    uint64_t bytes = writer->buffered;
    writer->buffered = 0;
    return write_through(writer, writer->buffer, bytes);
}

balora_status file_write(file_writer *writer, const void *data, uint64_t bytes) {
    writer->checksum = checksum_add(writer->checksum, data, bytes);
    writer->written += bytes;
    if (bytes > BLOCK_BYTES - writer->buffered) {
        STATUS_TRY(flush(writer));
        if (bytes >= BLOCK_BYTES)
            return write_through(writer, data, bytes);
    }
    memcpy(writer->buffer + writer->buffered, data, bytes);
    writer->buffered += bytes;
    return BALORA_OK;
}

balora_status file_parent(allocator *memory, char **out, const char *path) {
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 1 : (size_t)(slash - path) + (slash == path);
    return memory_string_n(memory, out, slash == NULL ? "." : path, length);
}

balora_status file_sync_folder(const char *path) {
    int descriptor = file_descriptor(path, O_RDONLY | O_DIRECTORY);
    balora_status status = BALORA_OK;
    if (descriptor < 0 || sync_descriptor(descriptor) != 0)
        status = io_failure("sync", path);
    if (descriptor >= 0)
        close(descriptor);
    return status;
}

balora_status file_publish(file_writer *writer) {
    balora_status status;
    char *folder = NULL; /* known before the rename: behind it only the disk may fail */
    STATUS_GOTO(file_parent(writer->memory, &folder, writer->path));
    STATUS_GOTO(flush(writer));
    if (sync_descriptor(writer->descriptor) != 0)
        STATUS_GOTO(io_failure("sync", writer->temporary_path));
    int descriptor = writer->descriptor;
    writer->descriptor = -1;
    if (close_descriptor(descriptor) != 0)
        STATUS_GOTO(io_failure("close", writer->temporary_path));
    if (rename(writer->temporary_path, writer->path) != 0)
        STATUS_GOTO(io_failure("rename the new file to", writer->path));
    memory_free(writer->memory, writer->temporary_path);
    writer->temporary_path = NULL;
    status = file_sync_folder(folder);
fail:
    memory_free(writer->memory, folder);
    file_abandon(writer);
    return status;
}

void file_abandon(file_writer *writer) {
    if (writer->memory == NULL)
        return;
    if (writer->descriptor >= 0)
        close(writer->descriptor);
    if (writer->temporary_path != NULL)
        unlink(writer->temporary_path);
    memory_free(writer->memory, writer->buffer);
    memory_free(writer->memory, writer->temporary_path);
    memory_free(writer->memory, writer->path);
    memset(writer, 0, sizeof *writer);
    writer->descriptor = -1;
}

balora_status file_write_all(allocator *memory, const char *path, const void *data, uint64_t bytes) {
    file_writer writer;
    STATUS_TRY(file_create(&writer, memory, path));
    balora_status status = file_write(&writer, data, bytes);
    if (status == BALORA_OK)
        return file_publish(&writer);
    file_abandon(&writer);
    return status;
}

balora_status file_join(allocator *memory, char **out, const char *folder, const char *name) {
    size_t length = strlen(folder), total = length + strlen(name) + 2;
    STATUS_TRY(memory_new(memory, out, total, 1, "a path"));
    bool slash = length > 0 && folder[length - 1] == '/';
    snprintf(*out, total, "%s%s%s", folder, slash ? "" : "/", name);
    return BALORA_OK;
}

balora_status file_make_folder(const char *path) {
    char prefix[4096];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof prefix)
        return status_fail(BALORA_ERROR_ARGUMENT, "a folder's path must have 1 to %zu bytes, not %zu",
                           sizeof prefix - 1, length);
    for (size_t end = 1; end <= length; end++) {
        if (end < length && path[end] != '/')
            continue;
        memcpy(prefix, path, end);
        prefix[end] = '\0';
        if (mkdir(prefix, 0777) != 0 && errno != EEXIST)
            return io_failure("make the folder", prefix);
    }
    if (!file_is_folder(path))
        return status_fail(BALORA_ERROR_IO, "%s: expected a folder, but it is a file", path);
    return BALORA_OK;
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool file_is_folder(const char *path) {
    struct stat information;
    return stat(path, &information) == 0 && S_ISDIR(information.st_mode);
}

bool file_is_same(const char *a, const char *b) {
    struct stat first, second;
    return stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

bool file_is_plain_name(const char *name) {
    return name[0] != '\0' && strchr(name, '/') == NULL && strchr(name, '\\') == NULL &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}
