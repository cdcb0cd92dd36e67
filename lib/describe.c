#include "describe.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/registry.h"
#include "balora/version.h"
#include "base/status.h"
#include "format/json.h"

/* Text from paths and drivers, which may be no UTF-8: those bytes become question marks. */
static json_t *any_text(const char *text) {
    json_t *value = json_string(text);
    if (value != NULL)
        return value;
    char plain[STATUS_MESSAGE_BYTES];
    snprintf(plain, sizeof plain, "%s", text);
    for (char *c = plain; *c != '\0'; c++)
        if ((unsigned char)*c > 0x7f)
            *c = '?';
    return json_string(plain);
}

/* Of "avx2,fma,OpenBLAS=Haswell": plain words into the array, "name=value" into the object. */
static void add_features(json_t *features, json_t *parts, const char *text) {
    while (*text != '\0') {
        text += strspn(text, ", ");
        size_t length = strcspn(text, ",");
        const char *equals = memchr(text, '=', length);
        char name[64];
        if (equals != NULL && (size_t)(equals - text) < sizeof name) {
            snprintf(name, sizeof name, "%.*s", (int)(equals - text), text);
            json_object_set_new(parts, name, json_stringn(equals + 1, length - (size_t)(equals + 1 - text)));
        } else if (length > 0)
            json_array_append_new(features, json_stringn(text, length));
        text += length;
    }
}

static void describe_properties(json_t *device, const backend_properties *properties) {
    json_object_set_new(device, "name", any_text(properties->name));
    json_t *features = json_array(), *parts = json_object();
    add_features(features, parts, properties->features);
    json_object_set_new(device, "features", features);
    json_object_set_new(device, "parts", parts);
    json_object_set_new(device, "memory_bytes", json_integer(properties->memory_bytes));
}

/* The CPU's memory is the system's, whose free part says little. */
static balora_status describe_open(json_t *device, const backend *opened) {
    backend_properties properties;
    backend_memory usage;
    STATUS_TRY(opened->ops->device_properties(opened->device, &properties));
    bool is_cpu = opened->ops == cpu_backend();
    if (!is_cpu)
        STATUS_TRY(opened->ops->memory_usage(opened->device, &usage));
    describe_properties(device, &properties);
    if (!is_cpu)
        json_object_set_new(device, "free_memory_bytes", json_integer(usage.free));
    json_object_set_new(device, "threads", json_integer(properties.threads));
    return BALORA_OK;
}

static balora_status add_device(json_t *devices, balora_context *context, const char *backend_name,
                                const char *device_name) {
    backend opened;
    json_t *device = json_object();
    json_object_set_new(device, "backend", json_string(backend_name));
    json_object_set_new(device, "device", json_string(device_name));
    json_array_append_new(devices, device);
    balora_status status =
        backend_open(&opened, &context->memory, device_name, context->plugin_path, context->threads);
    if (status == BALORA_OK)
        status = describe_open(device, &opened);
    backend_close(&opened);
    if (status != BALORA_OK)
        json_object_set_new(device, "error", any_text(balora_error_message()));
    return status;
}

static void add_plugin_devices(json_t *plugin, json_t *devices, balora_context *context,
                               const backend_ops *ops) {
    int32_t count = 0;
    if (ops->device_count(&count) != BALORA_OK) {
        json_object_set_new(plugin, "error", any_text(balora_error_message()));
        count = 0;
    }
    json_object_set_new(plugin, "devices", json_integer(count));
    for (int32_t i = 0; i < count; i++) {
        char device_name[64];
        snprintf(device_name, sizeof device_name, "%s:%d", ops->name, i);
        add_device(devices, context, ops->name, device_name); /* its failure stands in the device's entry */
    }
}

static void add_plugin(json_t *description, balora_context *context, const char *name) {
    loader_result found;
    char version[32];
    json_t *plugin = json_object();
    json_array_append_new(json_object_get(description, "plugins"), plugin);
    json_object_set_new(plugin, "backend", json_string(name));
    balora_status status = loader_load(&found, name, context->plugin_path);
    json_object_set_new(plugin, "state",
                        json_string(status == BALORA_OK     ? "loaded"
                                    : found.path[0] != '\0' ? "refused"
                                                            : "not found"));
    json_object_set_new(plugin, "searched", any_text(found.searched));
    if (found.path[0] != '\0')
        json_object_set_new(plugin, "path", any_text(found.path));
    if (status != BALORA_OK) {
        json_object_set_new(plugin, "error", any_text(balora_error_message()));
        return;
    }
    snprintf(version, sizeof version, "%u.%u", found.ops->abi_major, found.ops->abi_minor);
    json_object_set_new(plugin, "abi", json_string(version));
    json_array_append_new(json_object_get(description, "backends"), json_string(name));
    add_plugin_devices(plugin, json_object_get(description, "devices"), context, found.ops);
}

static balora_status fill(json_t *description, balora_context *context) {
    json_object_set_new(description, "version", json_string(balora_version()));
    json_object_set_new(description, "abi", json_integer(balora_abi_version()));
    json_object_set_new(description, "backends", json_pack("[s]", "cpu"));
    json_object_set_new(description, "plugins", json_array());
    json_object_set_new(description, "devices", json_array());
    STATUS_TRY(add_device(json_object_get(description, "devices"), context, "cpu", "cpu"));
    for (int i = 0; backend_plugin_name(i) != NULL; i++)
        add_plugin(description, context, backend_plugin_name(i));
    return BALORA_OK;
}

static balora_status publish(char **out, balora_context *context, const json_t *description) {
    char *text = json_dumps(description, JSON_COMPACT);
    if (text == NULL)
        return status_fail(BALORA_ERROR_MEMORY, "no memory for the description of the context");
    balora_status status = memory_string(&context->memory, out, text);
    json_free_text(text);
    return status;
}

balora_status describe_machine(char **out, balora_context *context) {
    status_detail before;
    status_keep(&before);
    json_t *description = json_object();
    balora_status status = fill(description, context);
    if (status == BALORA_OK)
        status = publish(out, context, description);
    json_decref(description);
    if (status == BALORA_OK)
        status_put_back(&before);
    return status;
}
