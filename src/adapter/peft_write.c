/* Adapters written as PEFT folders, as plain LoRA. */
#include "adapter/adapter.h"
#include "adapter/peft_config.h"
#include "adapter/peft_names.h"
#include "adapter/plain.h"
#include "base/file.h"
#include "base/status.h"
#include "format/safetensors.h"

/* A file under construction. */
typedef struct peft_output {
    plain_factors factors;
    safetensors_tensor *tensors; /* A and B of each module in turn */
    char (*names)[PEFT_NAME_BYTES];
} peft_output;

static balora_status list_tensors(peft_output *self, allocator *memory) {
    const balora_adapter *adapter = self->factors.adapter;
    size_t count = (size_t)adapter->module_count * FACTOR_COUNT;
    STATUS_TRY(memory_zeroed(memory, &self->tensors, count, sizeof *self->tensors, "a list of factors"));
    STATUS_TRY(memory_zeroed(memory, &self->names, count, sizeof *self->names, "names of factors"));
    for (size_t i = 0; i < count; i++) {
        const adapter_module *module = &adapter->modules[i / FACTOR_COUNT];
        factor_kind kind = (factor_kind)(i % FACTOR_COUNT);
        int64_t rank = plain_rank(module, self->factors.trained_only);
        peft_factor_name(self->names[i], module->name, kind);
        self->tensors[i] = (safetensors_tensor){.name = self->names[i], .dtype = BALORA_F32, .rank = 2};
        plain_shape(self->tensors[i].shape, module->projection, rank, kind);
    }
    return BALORA_OK;
}

static balora_status write_weights(const peft_output *self, allocator *memory, const char *path) {
    const balora_adapter *adapter = self->factors.adapter;
    safetensors_writer writer;
    STATUS_TRY(
        safetensors_create(&writer, memory, path, self->tensors, adapter->module_count * FACTOR_COUNT, NULL));
    for (int64_t i; (i = safetensors_next(&writer)) >= 0;) {
        const int64_t *shape = self->tensors[i].shape;
        balora_status status =
            plain_read(&self->factors, &adapter->modules[i / FACTOR_COUNT], (factor_kind)(i % FACTOR_COUNT));
        if (status == BALORA_OK)
            status = safetensors_write(&writer, self->factors.values,
                                       (uint64_t)(shape[0] * shape[1]) * sizeof(float));
        if (status != BALORA_OK) {
            safetensors_abandon(&writer);
            return status;
        }
    }
    return safetensors_publish(&writer);
}

balora_status adapter_save_form(balora_adapter *adapter, const char *folder, const char *base_model,
                                bool trained_only) {
    allocator *memory = &adapter->model->context->memory;
    if (adapter->method == BALORA_METHOD_FULL)
        return status_fail(BALORA_ERROR_STATE,
                           "every weight is trained (method full), so there is no adapter to write to "
                           "%s; write the merged model instead",
                           folder);
    peft_output output = {0};
    char *path = NULL;
    balora_status status;
    STATUS_GOTO(plain_create(&output.factors, adapter, trained_only));
    STATUS_GOTO(list_tensors(&output, memory));
    STATUS_GOTO(file_make_folder(folder));
    STATUS_GOTO(file_join(memory, &path, folder, PEFT_WEIGHTS_STEM ".safetensors"));
    STATUS_GOTO(write_weights(&output, memory, path));
    status = peft_config_write(adapter, trained_only, folder,
                               base_model != NULL ? base_model : adapter->model->folder);
fail:
    memory_free(memory, path);
    memory_free(memory, output.tensors);
    memory_free(memory, output.names);
    plain_free(&output.factors);
    return status;
}

balora_status adapter_save(balora_adapter *adapter, const char *folder, const char *base_model) {
    return adapter_save_form(adapter, folder, base_model, false);
}
