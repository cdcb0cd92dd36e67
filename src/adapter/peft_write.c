/*
 * Adapters written as PEFT folders. Factors that start from W's own (PiSSA) are written as a plain LoRA of twice the
 * rank, B A - B0 A0 = [B, -B0] [A; A0], which any program can load on the untouched base; alpha grows with
 * the rank so that the scale s stays.
 */
#include "adapter/adapter.h"
#include "adapter/peft_config.h"
#include "adapter/peft_names.h"
#include "base/arith.h"
#include "base/file.h"
#include "base/status.h"
#include "format/safetensors.h"

/* A file under construction and the host memory for one factor of any module. */
typedef struct peft_output {
    balora_adapter *adapter;
    safetensors_tensor *tensors; /* A and B of each module in turn */
    char (*names)[PEFT_NAME_BYTES];
    float *factor;  /* as it is on the device */
    float *written; /* as the file has it */
} peft_output;

static balora_status check_finite(const peft_output *self, const adapter_module *module, matrix_view factor,
                                  const char *what) {
    STATUS_TRY(adapter_download(self->adapter, factor, self->factor));
    int64_t place = dtype_find_non_finite(BALORA_F32, self->factor, factor.rows * factor.cols);
    if (place < 0)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_NUMERIC, "%s: %s[%lld, %lld] is not finite; the adapter is not written",
                       module->name, what, (long long)(place / factor.cols),
                       (long long)(place % factor.cols));
}

static balora_status check_all_finite(const peft_output *self) {
    for (int64_t i = 0; i < self->adapter->module_count; i++) {
        const adapter_module *module = &self->adapter->modules[i];
        STATUS_TRY(check_finite(self, module, module->a, "A"));
        STATUS_TRY(check_finite(self, module, module->b, "B"));
        if (!module->has_initial)
            continue;
        STATUS_TRY(check_finite(self, module, module->a0, "A0"));
        STATUS_TRY(check_finite(self, module, module->b0, "B0"));
    }
    return BALORA_OK;
}

static balora_status allocate_output(peft_output *self, allocator *memory) {
    const balora_adapter *adapter = self->adapter;
    size_t count = (size_t)adapter->module_count * FACTOR_COUNT;
    int64_t elements = 0;
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        const projection *part = module->projection;
        elements = arith_max(elements, arith_max(part->in, part->out) * peft_written_rank(module));
    }
    STATUS_TRY(memory_zeroed(memory, &self->tensors, count, sizeof *self->tensors, "a list of factors"));
    STATUS_TRY(memory_zeroed(memory, &self->names, count, sizeof *self->names, "names of factors"));
    STATUS_TRY(memory_new(memory, &self->factor, (size_t)elements, sizeof(float), "a factor"));
    STATUS_TRY(memory_new(memory, &self->written, (size_t)elements, sizeof(float), "a factor"));
    for (size_t i = 0; i < count; i++) {
        const adapter_module *module = &adapter->modules[i / FACTOR_COUNT];
        factor_kind kind = (factor_kind)(i % FACTOR_COUNT);
        peft_factor_name(self->names[i], module->name, kind);
        self->tensors[i] = (safetensors_tensor){.name = self->names[i], .dtype = BALORA_F32, .rank = 2};
        peft_factor_shape(self->tensors[i].shape, module->projection, peft_written_rank(module), kind);
    }
    return BALORA_OK;
}

/* [A; A0] into `written`. */
static balora_status stack_rows(const peft_output *self, const adapter_module *module) {
    STATUS_TRY(adapter_download(self->adapter, module->a, self->written));
    if (!module->has_initial)
        return BALORA_OK;
    return adapter_download(self->adapter, module->a0, self->written + module->a.rows * module->a.cols);
}

/* sign * `factor` [rows, rank] into columns [first, first + rank) of `written` [rows, written rank]. */
static void place_columns(const peft_output *self, const adapter_module *module, int64_t first, float sign) {
    int64_t rank = module->rank, columns = peft_written_rank(module);
    for (int64_t row = 0; row < module->b.rows; row++)
        for (int64_t column = 0; column < rank; column++)
            self->written[row * columns + first + column] = sign * self->factor[row * rank + column];
}

/* [B, -B0] into `written`. */
static balora_status join_columns(const peft_output *self, const adapter_module *module) {
    STATUS_TRY(adapter_download(self->adapter, module->b, self->factor));
    place_columns(self, module, 0, 1);
    if (!module->has_initial)
        return BALORA_OK;
    STATUS_TRY(adapter_download(self->adapter, module->b0, self->factor));
    place_columns(self, module, module->rank, -1);
    return BALORA_OK;
}

static balora_status write_weights(const peft_output *self, allocator *memory, const char *path) {
    safetensors_writer writer;
    STATUS_TRY(safetensors_create(&writer, memory, path, self->tensors,
                                  self->adapter->module_count * FACTOR_COUNT, NULL));
    for (int64_t i; (i = safetensors_next(&writer)) >= 0;) {
        const adapter_module *module = &self->adapter->modules[i / FACTOR_COUNT];
        const int64_t *shape = self->tensors[i].shape;
        balora_status status =
            i % FACTOR_COUNT == FACTOR_A ? stack_rows(self, module) : join_columns(self, module);
        if (status == BALORA_OK)
            status =
                safetensors_write(&writer, self->written, (uint64_t)(shape[0] * shape[1]) * sizeof(float));
        if (status != BALORA_OK) {
            safetensors_abandon(&writer);
            return status;
        }
    }
    return safetensors_publish(&writer);
}

balora_status adapter_save(balora_adapter *adapter, const char *folder, const char *base_model) {
    allocator *memory = &adapter->model->context->memory;
    if (adapter->method == BALORA_METHOD_FULL)
        return status_fail(BALORA_ERROR_STATE,
                           "every weight is trained (method full), so there is no adapter to write to "
                           "%s; write the merged model instead",
                           folder);
    peft_output output = {.adapter = adapter};
    char *path = NULL;
    balora_status status;
    STATUS_GOTO(allocate_output(&output, memory));
    STATUS_GOTO(check_all_finite(&output));
    STATUS_GOTO(file_make_folder(folder));
    STATUS_GOTO(file_join(memory, &path, folder, PEFT_WEIGHTS_STEM ".safetensors"));
    STATUS_GOTO(write_weights(&output, memory, path));
    status = peft_config_write(adapter, folder, base_model != NULL ? base_model : adapter->model->folder);
fail:
    memory_free(memory, path);
    memory_free(memory, output.tensors);
    memory_free(memory, output.names);
    memory_free(memory, output.factor);
    memory_free(memory, output.written);
    return status;
}
