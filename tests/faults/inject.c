#include "inject.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>

static fault_kind armed;
static int64_t hit_at, json_blocks;
static bool repeated;
static injected report;

void inject(fault_kind kind, int64_t at, bool from_then_on) {
    armed = kind;
    hit_at = at;
    repeated = from_then_on;
    report = (injected){0};
}

void inject_nothing(void) {
    armed = FAULT_NONE;
}

injected inject_report(void) {
    return report;
}

/* Does this call, which such a fault can hit, get hit? */
static bool hits(const char *call, int number) {
    int64_t turn = report.calls++;
    if (turn != hit_at && !(repeated && turn > hit_at))
        return false;
    report.hits++;
    report.numbers |= UINT64_C(1) << number;
    report.call = call;
    errno = number;
    return true;
}

/* For calls that fail or are interrupted. */
static bool fails(const char *call, int number, bool interruptible) {
    if (armed == FAULT_ERROR)
        return hits(call, number);
    return armed == FAULT_SIGNAL && interruptible && hits(call, EINTR);
}

/* --- the operating system --- */

/* The names that the linker gives to wrapped functions and to what they wrap. Files of any size: the 64-bit names. */
int __wrap_open64(const char *path, int flags, ...);
int __real_open64(const char *path, int flags, ...);
ssize_t __wrap_pread64(int descriptor, void *out, size_t bytes, off_t offset);
ssize_t __real_pread64(int descriptor, void *out, size_t bytes, off_t offset);
ssize_t __wrap_write(int descriptor, const void *data, size_t bytes);
ssize_t __real_write(int descriptor, const void *data, size_t bytes);
int __wrap_fstat64(int descriptor, struct stat *out);
int __real_fstat64(int descriptor, struct stat *out);
int __wrap_fsync(int descriptor);
int __real_fsync(int descriptor);
int __wrap_close(int descriptor);
int __real_close(int descriptor);
int __wrap_rename(const char *from, const char *to);
int __real_rename(const char *from, const char *to);
int __wrap_renameat(int from_folder, const char *from, int to_folder, const char *to);
int __real_renameat(int from_folder, const char *from, int to_folder, const char *to);
int __wrap_mkdir(const char *path, mode_t mode);
int __real_mkdir(const char *path, mode_t mode);

int __wrap_renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags);
int __real_renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags);
DIR *__wrap_opendir(const char *path);
DIR *__real_opendir(const char *path);

int __wrap_open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return fails("open", flags & O_CREAT ? ENOSPC : EMFILE, true) ? -1 : __real_open64(path, flags, mode);
}

ssize_t __wrap_pread64(int descriptor, void *out, size_t bytes, off_t offset) {
    if (fails("pread", EIO, true))
        return -1;
    bool short_one = armed == FAULT_SHORT && bytes > 1 && hits("pread", 0);
    return __real_pread64(descriptor, out, short_one ? bytes / 2 : bytes, offset);
}

ssize_t __wrap_write(int descriptor, const void *data, size_t bytes) {
    if (fails("write", ENOSPC, true))
        return -1;
    bool short_one = armed == FAULT_SHORT && bytes > 1 && hits("write", 0);
    return __real_write(descriptor, data, short_one ? bytes / 2 : bytes);
}

int __wrap_fstat64(int descriptor, struct stat *out) {
    return fails("fstat", EIO, false) ? -1 : __real_fstat64(descriptor, out);
}

int __wrap_fsync(int descriptor) {
    return fails("fsync", EIO, true) ? -1 : __real_fsync(descriptor);
}

/* Linux has let go of the descriptor whatever close says. */
int __wrap_close(int descriptor) {
    int kept = errno, result = __real_close(descriptor);
    if (fails("close", EIO, true))
        return -1;
    errno = kept;
    return result;
}

int __wrap_rename(const char *from, const char *to) {
    return fails("rename", ENOSPC, false) ? -1 : __real_rename(from, to);
}

int __wrap_renameat(int from_folder, const char *from, int to_folder, const char *to) {
    return fails("renameat", ENOSPC, false) ? -1 : __real_renameat(from_folder, from, to_folder, to);
}

int __wrap_renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
    return fails("renameat2", ENOSPC, false) ? -1 : __real_renameat2(from_folder, from, to_folder, to, flags);
}

/* Always works where everything fails: what was begun could not be taken away again. */
DIR *__wrap_opendir(const char *path) {
    return !repeated && fails("opendir", EMFILE, false) ? NULL : __real_opendir(path);
}

int __wrap_mkdir(const char *path, mode_t mode) {
    return fails("mkdir", ENOSPC, false) ? -1 : __real_mkdir(path, mode);
}

/* --- memory --- */

void *inject_allocate(uint64_t bytes, uint64_t alignment, void *user) {
    (void)user;
    if (armed == FAULT_MEMORY && hits("allocate", 0))
        return NULL;
    return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void inject_release(void *block, uint64_t bytes, void *user) {
    (void)bytes;
    (void)user;
    free(block);
}

/*
 * The buffer of a token's text, which grows by doubling. jansson 2.14 does not look whether it could: refused, the token loses its
 * end and a later one is written beyond the buffer. That is jansson's to correct, so those blocks (and others of their sizes)
 * are always given.
 */
static bool may_be_token_buffer(size_t bytes) {
    return bytes >= 32 && (bytes & (bytes - 1)) == 0;
}

static void *json_allocate(size_t bytes) {
    if (armed == FAULT_JSON && !may_be_token_buffer(bytes) && hits("json", 0))
        return NULL;
    void *block = malloc(bytes);
    json_blocks += block != NULL;
    return block;
}

static void json_release(void *block) {
    json_blocks -= block != NULL;
    free(block);
}

void inject_into_json(void) {
    json_set_alloc_funcs(json_allocate, json_release);
}

int64_t inject_json_blocks(void) {
    return json_blocks;
}
