#include "backend/loader.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backend/host.h"
#include "backend/table.h"
#include "base/status.h"

/* Something whose address tells which file this code is in. */
static const char landmark = 0;

/* The file that the landmark was mapped from, as the kernel knows it. */
static bool mapped_file(char file[PATH_MAX]) {
    char line[PATH_MAX + 128];
    FILE *maps = fopen("/proc/self/maps", "re");
    bool found = false;
    while (!found && maps != NULL && fgets(line, sizeof line, maps) != NULL) {
        uintptr_t begin, end;
        const char *path = strchr(line, '/');
        if (path == NULL || sscanf(line, "%" SCNxPTR "-%" SCNxPTR, &begin, &end) != 2)
            continue;
        found = (uintptr_t)&landmark >= begin && (uintptr_t)&landmark < end &&
                (size_t)snprintf(file, PATH_MAX, "%.*s", (int)strcspn(path, "\n"), path) < PATH_MAX;
    }
    if (maps != NULL)
        fclose(maps);
    return found;
}

/* The file of libbalora, or of the program that it is linked into. The dynamic linker's name of it is relative where
 * the library was loaded by such a path, and empty for the program: the current directory may be another by now. */
static bool own_file(char file[PATH_MAX]) {
    Dl_info information;
    struct link_map *map = NULL;
    if (dladdr1(&landmark, &information, (void **)&map, RTLD_DL_LINKMAP) != 0 && map->l_name[0] == '/')
        return (size_t)snprintf(file, PATH_MAX, "%s", map->l_name) < PATH_MAX;
    return mapped_file(file);
}

static void add_place(loader_result *self, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add_place(loader_result *self, const char *format, ...) {
    size_t length = strlen(self->searched);
    if (length > 0)
        length += (size_t)snprintf(self->searched + length, sizeof self->searched - length, ", ");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(self->searched + length, sizeof self->searched - length, format, arguments);
    va_end(arguments);
}

/* Take the path as the one that was found, unless no file is there. What cannot be looked at is found, so that the
 * user is told and nothing else takes its place. */
static bool take_file(loader_result *self, const char *path) {
    struct stat facts;
    add_place(self, "%s", path);
    if (stat(path, &facts) != 0 && (errno == ENOENT || errno == ENOTDIR))
        return false;
    snprintf(self->path, sizeof self->path, "%s", path);
    return true;
}

static bool take_from_folder(loader_result *self, const char *folder, const char *name) {
    char path[PATH_MAX];
    int length = snprintf(path, sizeof path, "%s/libbalora-%s.so", folder, name);
    return (size_t)length < sizeof path && take_file(self, path);
}

static bool take_beside_library(loader_result *self, const char *name) {
    char file[PATH_MAX], folder[PATH_MAX];
    if (!own_file(file))
        return false;
    *strrchr(file, '/') = '\0';
    /* Of "/usr/bin/../lib" the shorter name. */
    return take_from_folder(self, realpath(file, folder) != NULL ? folder : file, name);
}

/* secure_getenv: a program that runs with more rights than its caller must not load the caller's code. */
static bool take_from_environment(loader_result *self, const char *name) {
    const char *folder = secure_getenv(LOADER_FOLDER_VARIABLE);
    if (folder != NULL && folder[0] == '/')
        return take_from_folder(self, folder, name);
    if (folder != NULL && folder[0] != '\0')
        add_place(self, "not in " LOADER_FOLDER_VARIABLE " \"%s\", which must be an absolute path", folder);
    else
        add_place(self, LOADER_FOLDER_VARIABLE " is not set");
    return false;
}

static balora_status find_file(loader_result *self, const char *name, const char *path) {
    char relative[PATH_MAX];
    if (path != NULL && strchr(path, '/') == NULL) { /* dlopen would look for a plain name elsewhere */
        snprintf(relative, sizeof relative, "./%s", path);
        path = relative;
    }
    if (path != NULL && strlen(path) >= PATH_MAX)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "plugin_path has %zu bytes; expected less than %d",
                           strlen(path), PATH_MAX);
    if (path != NULL && !take_file(self, path))
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "the plugin %s does not exist; plugin_path must be the file of the backend \"%s\" "
                           "(libbalora-%s.so)",
                           path, name, name);
    if (path != NULL || take_beside_library(self, name) || take_from_environment(self, name))
        return BALORA_OK;
    return status_fail(
        BALORA_ERROR_UNSUPPORTED,
        "the plugin of the backend \"%s\" was not found (searched: %s); put libbalora-%s.so beside "
        "libbalora, or name its folder in " LOADER_FOLDER_VARIABLE ", or its file as plugin_path",
        name, self->searched, name);
}

static balora_status check_file(const char *path) {
    struct stat facts;
    if (stat(path, &facts) != 0)
        return status_fail_native(BALORA_ERROR_UNSUPPORTED, BALORA_ORIGIN_LIBC, errno,
                                  "it cannot be looked at");
    if (!S_ISREG(facts.st_mode))
        return status_fail(BALORA_ERROR_UNSUPPORTED, "it is %s; expected the file of a plugin",
                           S_ISDIR(facts.st_mode) ? "a folder" : "not a file");
    return BALORA_OK;
}

/* RTLD_NODELETE, and no dlclose: device libraries leave threads and handlers behind that must not lose their code.
 * Loading again gives the same library. */
static balora_status open_library(void **library, const char *path) {
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (*library != NULL)
        return BALORA_OK;
    const char *reason = dlerror();
    size_t length = strlen(path);
    if (reason != NULL && strncmp(reason, path, length) == 0 && strncmp(reason + length, ": ", 2) == 0)
        reason += length + 2;
    return status_fail(BALORA_ERROR_UNSUPPORTED,
                       "it cannot be loaded: %s; expected a shared library for this machine, with all that "
                       "it needs installed",
                       reason != NULL ? reason : "unknown reason");
}

static balora_status open_file(const backend_ops **ops, const char *path, const char *name) {
    void *library;
    backend_plugin_entry entry;
    STATUS_TRY(check_file(path));
    STATUS_TRY(open_library(&library, path));
    void *symbol = dlsym(library, BACKEND_PLUGIN_SYMBOL);
    if (symbol == NULL)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "it lacks the function " BACKEND_PLUGIN_SYMBOL ": it is no plugin of libbalora");
    memcpy(&entry, &symbol, sizeof entry); /* ISO C has no cast from an object's pointer to a function's */
    const backend_ops *table = entry(backend_host_services());
    if (table == NULL)
        return status_fail(
            BALORA_ERROR_ABI,
            "it was built for another ABI of the library than this one's backend ABI %d.%d: install "
            "library and plugin of one release",
            BACKEND_ABI_MAJOR, BACKEND_ABI_MINOR);
    STATUS_TRY(table_check(table, name));
    *ops = table;
    return BALORA_OK;
}

balora_status loader_load(loader_result *out, const char *name, const char *path) {
    out->ops = NULL;
    out->path[0] = '\0';
    out->searched[0] = '\0';
    STATUS_TRY(find_file(out, name, path));
    balora_status status = open_file(&out->ops, out->path, name);
    return status == BALORA_OK ? status : status_prefix(status, "the plugin %s", out->path);
}
