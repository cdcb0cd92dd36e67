/* Adapters for other programs: which form, where, and what none of the forms can express. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "adapter/adapter.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/status.h"

static balora_status without_slashes(allocator *memory, char **out, const char *path) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    if (length == 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "the path of the exported adapter is empty");
    return memory_string_n(memory, out, path, length);
}

/* A model folder with an adapter's files in it is loaded as that adapter by other programs. */
static balora_status check_folder(const balora_adapter *adapter, const char *path) {
    if (file_exists(path) && !file_is_folder(path))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: expected a folder, or nothing there, but it is a file",
                           path);
    if (file_is_same(path, adapter->model->folder))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s is the base's own folder; choose another one", path);
    return BALORA_OK;
}

/* In one step where nothing is at `path` yet. */
static balora_status export_peft(balora_adapter *adapter, const char *path, const char *base_model,
                                 const adapter_form *form) {
    allocator *memory = &adapter->model->context->memory;
    STATUS_TRY(check_folder(adapter, path));
    if (file_exists(path))
        return adapter_save_as(adapter, path, base_model, form);
    size_t capacity = strlen(path) + 32;
    char *staging;
    STATUS_TRY(memory_new(memory, &staging, capacity, 1, "a temporary folder's name"));
    snprintf(staging, capacity, "%s.tmp-%ld", path, (long)getpid());
    balora_status status = adapter_save_as(adapter, staging, base_model, form);
    if (status == BALORA_OK)
        status = folder_publish(memory, staging, path);
    if (status != BALORA_OK)
        folder_discard(staging);
    memory_free(memory, staging);
    return status;
}

static balora_status export_gguf(balora_adapter *adapter, const char *path, int32_t dtype) {
    allocator *memory = &adapter->model->context->memory;
    char *parent;
    if (file_is_folder(path))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s is a folder; a GGUF adapter is one file", path);
    STATUS_TRY(file_parent(memory, &parent, path));
    bool risky = file_exists(path) && file_is_same(parent, adapter->model->folder);
    memory_free(memory, parent);
    if (risky)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s is a file of the base's own folder; choose another name", path);
    return adapter_write_gguf(adapter, path, dtype);
}

balora_status adapter_export(balora_adapter *adapter, const char *path,
                             const balora_export_options *options) {
    allocator *memory = &adapter->model->context->memory;
    int32_t dtype = options->factor_dtype == BALORA_DTYPE_AUTO ? BALORA_F32 : options->factor_dtype;
    bool named = options->base_model != NULL && options->base_model[0] != '\0';
    const char *base_model = named ? options->base_model : NULL;
    char *plain;
    if (adapter->method == BALORA_METHOD_FULL)
        return status_fail(
            BALORA_ERROR_STATE,
            "every weight is trained (method full), so there is no adapter to write to %s; write the "
            "merged model instead",
            path);
    STATUS_TRY(without_slashes(memory, &plain, path));
    balora_status status;
    if (options->to == BALORA_EXPORT_PISSA)
        status = adapter_write_pissa(adapter, plain, base_model, dtype);
    else if (options->to == BALORA_EXPORT_GGUF)
        status = export_gguf(adapter, plain, dtype);
    else
        status = export_peft(adapter, plain, base_model, &(adapter_form){.dtype = dtype});
    memory_free(memory, plain);
    return status;
}
