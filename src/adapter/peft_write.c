/* Adapters written as PEFT folders, as plain LoRA. */
#include "adapter/adapter.h"
#include "adapter/initial_mark.h"
#include "adapter/peft_config.h"
#include "adapter/peft_names.h"
#include "adapter/peft_trained.h"
#include "adapter/plain.h"
#include "base/file.h"
#include "base/status.h"
#include "format/safetensors.h"

/* A file under construction. */
typedef struct peft_output {
    plain_factors factors;
    safetensors_tensor *tensors; /* plain_tensors of each module in turn, then what is trained as it is */
    int64_t count;
    char (*names)[PEFT_NAME_BYTES];
} peft_output;

static int64_t factor_count(const balora_adapter *adapter) {
    return adapter->module_count * plain_tensors(adapter);
}

/* The trained tensor that is the file's tensor `index`: a head that is tied to the embedding comes last, once more. */
static const trained_tensor *trained_at(const balora_adapter *adapter, int64_t index) {
    index -= factor_count(adapter);
    return &adapter
                ->trained[index < adapter->trained_count ? index
                                                         : 0]; /* the embedding is the first of all tensors */
}

static void list_trained(peft_output *self, int64_t index) {
    const balora_adapter *adapter = self->factors.adapter;
    const trained_tensor *trained = trained_at(adapter, index);
    bool is_head = index - factor_count(adapter) == adapter->trained_count;
    safetensors_tensor *out = &self->tensors[index];
    peft_trained_name(self->names[index], adapter, is_head ? "lm_head.weight" : trained->tensor->name);
    *out =
        (safetensors_tensor){.name = self->names[index], .dtype = BALORA_F32, .rank = trained->tensor->rank};
    out->shape[0] = out->rank == 1 ? trained->value.cols : trained->value.rows;
    out->shape[1] = out->rank == 1 ? 0 : trained->value.cols;
}

static balora_status list_tensors(peft_output *self, allocator *memory, int32_t dtype) {
    const balora_adapter *adapter = self->factors.adapter;
    self->count = factor_count(adapter) + adapter->trained_count + adapter_ties_head(adapter);
    size_t count = (size_t)self->count;
    int64_t each = plain_tensors(adapter);
    STATUS_TRY(memory_zeroed(memory, &self->tensors, count, sizeof *self->tensors, "a list of factors"));
    STATUS_TRY(memory_zeroed(memory, &self->names, count, sizeof *self->names, "names of factors"));
    for (int64_t i = 0; i < factor_count(adapter); i++) {
        const adapter_module *module = &adapter->modules[i / each];
        factor_kind kind = plain_kind(i % each);
        int64_t rank = plain_rank(module, self->factors.trained_only);
        peft_factor_name(self->names[i], module->name, kind);
        int32_t stored = kind == FACTOR_MAGNITUDE ? BALORA_F32 : dtype;
        self->tensors[i] = (safetensors_tensor){.name = self->names[i], .dtype = stored};
        self->tensors[i].rank = plain_shape(self->tensors[i].shape, module->projection, rank, kind);
    }
    for (int64_t i = factor_count(adapter); i < self->count; i++)
        list_trained(self, i);
    return BALORA_OK;
}

static balora_status check_trained(peft_output *self) {
    const balora_adapter *adapter = self->factors.adapter;
    for (int64_t i = 0; i < adapter->trained_count; i++)
        STATUS_TRY(staging_check(&self->factors.stage, adapter->trained[i].tensor->name,
                                 adapter->trained[i].value, BALORA_F32));
    return BALORA_OK;
}

static balora_status write_tensor(peft_output *self, safetensors_writer *writer, int64_t index) {
    plain_factors *factors = &self->factors;
    const balora_adapter *adapter = factors->adapter;
    const safetensors_tensor *tensor = &self->tensors[index];
    if (index >= factor_count(adapter))
        return staging_write(&factors->stage, writer, tensor->name, trained_at(adapter, index)->value,
                             tensor->dtype);
    int64_t each = plain_tensors(adapter), elements = tensor->shape[0];
    elements *= tensor->rank == 2 ? tensor->shape[1] : 1;
    STATUS_TRY(plain_read(factors, &adapter->modules[index / each], plain_kind(index % each)));
    return plain_emit(factors, tensor->name, elements, tensor->dtype, staging_to_safetensors, writer);
}

static balora_status write_weights(peft_output *self, allocator *memory, const char *path) {
    safetensors_writer writer = {0};
    json_t *metadata = NULL;
    balora_status status;
    if (!self->factors.trained_only) {
        metadata = initial_mark_metadata(self->factors.adapter);
        if (metadata == NULL)
            STATUS_GOTO(
                status_fail(BALORA_ERROR_MEMORY, "%s: its metadata cannot be made: out of memory", path));
    }
    STATUS_GOTO(safetensors_create(&writer, memory, path, self->tensors, self->count, metadata));
    for (int64_t i; (i = safetensors_next(&writer)) >= 0;)
        STATUS_GOTO(write_tensor(self, &writer, i));
    status = safetensors_publish(&writer);
fail:
    safetensors_abandon(&writer);
    json_decref(metadata);
    return status;
}

balora_status adapter_save_as(balora_adapter *adapter, const char *folder, const char *base_model,
                              const adapter_form *form) {
    allocator *memory = &adapter->model->context->memory;
    if (adapter->method == BALORA_METHOD_FULL)
        return status_fail(BALORA_ERROR_STATE,
                           "every weight is trained (method full), so there is no adapter to write to "
                           "%s; write the merged model instead",
                           folder);
    peft_output output = {0};
    char *path = NULL;
    balora_status status;
    STATUS_GOTO(plain_create(&output.factors, adapter, form->trained_only));
    STATUS_GOTO(check_trained(&output));
    STATUS_GOTO(list_tensors(&output, memory, form->dtype));
    STATUS_GOTO(file_make_folder(folder));
    STATUS_GOTO(file_join(memory, &path, folder, PEFT_WEIGHTS_STEM ".safetensors"));
    STATUS_GOTO(write_weights(&output, memory, path));
    status = peft_config_write(adapter, form->trained_only, folder,
                               base_model != NULL ? base_model : adapter->model->folder);
fail:
    memory_free(memory, path);
    memory_free(memory, output.tensors);
    memory_free(memory, output.names);
    plain_free(&output.factors);
    return status;
}

balora_status adapter_save(balora_adapter *adapter, const char *folder, const char *base_model) {
    return adapter_save_as(adapter, folder, base_model, &(adapter_form){.dtype = BALORA_F32});
}
