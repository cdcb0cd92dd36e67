#include "backend/registry.h"

#include <string.h>

#include "base/nearest.h"
#include "base/status.h"

#define DEVICE_FORMS "expected cpu, cuda or cuda:N with N = 0, 1, ..."

static const char cpu_name[] = "cpu";
static const char *const plugin_names[] = {"cuda"};

enum { PLUGIN_COUNT = sizeof plugin_names / sizeof plugin_names[0] };

const char *backend_plugin_name(int index) {
    return index >= 0 && index < PLUGIN_COUNT ? plugin_names[index] : NULL;
}

static balora_status fail_unknown(const char *word, size_t length) {
    char name[64] = "";
    nearest_word nearest;
    if (length < sizeof name)
        memcpy(name, word, length);
    nearest_start(&nearest, name);
    nearest_consider(&nearest, cpu_name);
    for (int i = 0; i < PLUGIN_COUNT; i++)
        nearest_consider(&nearest, plugin_names[i]);
    /* One letter from "cpu", but not what is meant. */
    const char *meant = strcmp(name, "gpu") == 0 ? plugin_names[0] : nearest.best;
    if (meant != NULL)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "device \"%s\" is not known; did you mean \"%s\"? " DEVICE_FORMS, word, meant);
    return status_fail(BALORA_ERROR_UNSUPPORTED, "device \"%s\" is not known; " DEVICE_FORMS, word);
}

/* ":3" to 3; nothing is 0. */
static balora_status parse_index(int32_t *out, const char *word, const char *rest) {
    int64_t index = 0;
    const char *digit = rest + (*rest == ':');
    for (; *digit >= '0' && *digit <= '9' && index <= INT32_MAX; digit++)
        index = 10 * index + (*digit - '0');
    if (*digit != '\0' || index > INT32_MAX || (*rest == ':' && digit == rest + 1))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "device \"%s\" has no device number behind the colon; " DEVICE_FORMS, word);
    *out = (int32_t)index;
    return BALORA_OK;
}

static int is_word(const char *name, size_t length, const char *word) {
    return strlen(word) == length && strncmp(name, word, length) == 0;
}

static balora_status load_plugin(const backend_ops **ops, const char *name, const char *path,
                                 const char *device_name) {
    loader_result plugin;
    balora_status status = loader_load(&plugin, name, path);
    *ops = plugin.ops;
    return status == BALORA_OK ? status : status_prefix(status, "device \"%s\"", device_name);
}

balora_status backend_open(backend *out, allocator *memory, const char *device_name, const char *plugin_path,
                           int32_t threads) {
    memset(out, 0, sizeof *out);
    size_t length = strcspn(device_name, ":");
    int plugin = 0;
    int32_t index = 0;
    while (plugin < PLUGIN_COUNT && !is_word(device_name, length, plugin_names[plugin]))
        plugin++;
    if (plugin == PLUGIN_COUNT && !is_word(device_name, length, cpu_name))
        return fail_unknown(device_name, length);
    STATUS_TRY(parse_index(&index, device_name, device_name + length));
    const backend_ops *ops = cpu_backend();
    if (plugin < PLUGIN_COUNT)
        STATUS_TRY(load_plugin(&ops, plugin_names[plugin], plugin_path, device_name));
    STATUS_TRY(ops->device_open(&out->device, memory, index, threads));
    out->ops = ops;
    return BALORA_OK;
}

void backend_close(backend *self) {
    if (self->ops != NULL)
        self->ops->device_close(self->device);
    memset(self, 0, sizeof *self);
}
