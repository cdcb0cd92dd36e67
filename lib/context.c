#include "balora/context.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/registry.h"
#include "balora/version.h"
#include "facade.h"
#include "options.h"

balora_status balora_context_create(balora_context **out, const balora_context_options *options) {
    FACADE_OUT(out);
    balora_context_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_CONTEXT, &complete, options));
    if ((complete.allocate == NULL) != (complete.release == NULL))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "balora_context_options: only %s is given; expected allocate and release together",
                           complete.allocate != NULL ? "allocate" : "release");
    return context_new(out, &complete);
}

void balora_context_free(balora_context *context) {
    context_release(context);
}

void balora_context_cancel(balora_context *context) {
    if (context != NULL)
        atomic_store(&context->cancelled, 1);
}

void balora_context_resume(balora_context *context) {
    if (context != NULL)
        atomic_store(&context->cancelled, 0);
}

balora_status balora_context_memory(const balora_context *context, balora_memory_statistics *out) {
    FACADE_REQUIRE(context);
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_memory_statistics"));
    balora_memory_statistics statistics = {sizeof statistics, atomic_load(&context->memory.current_bytes),
                                           atomic_load(&context->memory.peak_bytes),
                                           atomic_load(&context->memory.allocations)};
    options_export(out, &statistics, sizeof statistics);
    return BALORA_OK;
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

static json_t *describe_device(const char *name, const backend_properties *properties) {
    json_t *device = json_object();
    json_object_set_new(device, "backend", json_string(name));
    json_object_set_new(device, "name", json_string(properties->name));
    json_t *features = json_array(), *parts = json_object();
    add_features(features, parts, properties->features);
    json_object_set_new(device, "features", features);
    json_object_set_new(device, "parts", parts);
    json_object_set_new(device, "memory_bytes", json_integer(properties->memory_bytes));
    json_object_set_new(device, "threads", json_integer(properties->threads));
    return device;
}

static json_t *describe_build(const char *backend_name, const backend_properties *properties) {
    json_t *description = json_object();
    json_object_set_new(description, "version", json_string(balora_version()));
    json_object_set_new(description, "abi", json_integer(balora_abi_version()));
    json_t *backends = json_array();
    json_array_append_new(backends, json_string(backend_name));
    json_object_set_new(description, "backends", backends);
    json_t *devices = json_array();
    json_array_append_new(devices, describe_device(backend_name, properties));
    json_object_set_new(description, "devices", devices);
    return description;
}

/* The JSON text in the context's memory. Takes the value over. */
static balora_status publish_json(char **out, balora_context *context, json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT);
    json_decref(value);
    if (text == NULL)
        return status_fail(BALORA_ERROR_MEMORY, "no memory for the description of the context");
    balora_status status = memory_string(&context->memory, out, text);
    free(text);
    return status;
}

static balora_status describe(char **out, balora_context *context) {
    backend cpu;
    backend_properties properties;
    STATUS_TRY(backend_open(&cpu, &context->memory, "cpu", context->threads));
    balora_status status = cpu.ops->device_properties(cpu.device, &properties);
    if (status == BALORA_OK)
        status = publish_json(out, context, describe_build(cpu.ops->name, &properties));
    backend_close(&cpu);
    return status;
}

balora_status balora_context_describe(char **out, balora_context *context) {
    FACADE_OUT(out);
    FACADE_REQUIRE(context);
    facade_call call;
    STATUS_TRY(facade_enter(&call, context));
    return facade_leave(&call, describe(out, context));
}

void balora_string_free(balora_context *context, char *string) {
    if (context != NULL)
        memory_free(&context->memory, string);
}
