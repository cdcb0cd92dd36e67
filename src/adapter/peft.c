/*
 * Adapters as PEFT folders. Factors that start from W's own (PiSSA) are written as a plain LoRA of twice the
 * rank, B A - B0 A0 = [B, -B0] [A; A0], which any program can load on the untouched base; alpha grows with
 * the rank so that the scale s stays.
 */
#include <stdio.h>
#include <string.h>

#include "adapter/adapter.h"
#include "adapter/peft_config.h"
#include "base/arith.h"
#include "base/file.h"
#include "base/status.h"
#include "model/staging.h"

#define NAME_PREFIX "base_model.model."
#define NAME_BYTES  160

typedef enum factor_kind { FACTOR_A, FACTOR_B, FACTOR_COUNT } factor_kind;

static const char *const factor_suffixes[FACTOR_COUNT] = {".lora_A.weight", ".lora_B.weight"};

static void factor_name(char name[NAME_BYTES], const char *module, factor_kind kind) {
    snprintf(name, NAME_BYTES, NAME_PREFIX "%s%s", module, factor_suffixes[kind]);
}

static void factor_shape(int64_t shape[2], const projection *part, int64_t rank, factor_kind kind) {
    shape[0] = kind == FACTOR_A ? rank : part->out;
    shape[1] = kind == FACTOR_A ? part->in : rank;
}

/* --- writing --- */

/* A file under construction and the host memory for one factor of any module. */
typedef struct peft_output {
    balora_adapter *adapter;
    safetensors_tensor *tensors; /* A and B of each module in turn */
    char (*names)[NAME_BYTES];
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
        factor_name(self->names[i], module->name, kind);
        self->tensors[i] = (safetensors_tensor){.name = self->names[i], .dtype = BALORA_F32, .rank = 2};
        factor_shape(self->tensors[i].shape, module->projection, peft_written_rank(module), kind);
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

/* --- reading --- */

/* A PEFT folder being read for a model. */
typedef struct peft_input {
    const balora_model *model;
    peft_config config;
    tensor_files files;
} peft_input;

/* The projection that `name` [length] calls, "model.layers.N.self_attn.q_proj"; NULL when the model lacks it.
 */
static const projection *find_module(const balora_model *model, const char *name, size_t length) {
    static const char prefix[] = "model.layers.";
    const size_t start = sizeof prefix - 1;
    if (length <= start || memcmp(name, prefix, start) != 0)
        return NULL;
    int64_t layer = 0;
    size_t at = start;
    for (; at < length && name[at] >= '0' && name[at] <= '9' && layer < model->config.layers; at++)
        layer = 10 * layer + (name[at] - '0');
    if (at == start || layer >= model->config.layers)
        return NULL;
    for (int p = 0; p < PROJECTION_COUNT; p++) {
        /* Rebuilt, so that "layers.007" is not taken for layer 7. */
        char exact[NAME_BYTES];
        int written = snprintf(exact, sizeof exact, "%s%lld.%s", prefix, (long long)layer,
                               model->projections[p].module);
        if ((size_t)written == length && memcmp(name, exact, length) == 0)
            return &model->projections[p];
    }
    return NULL;
}

/* The kind of factor that a tensor's name calls, and its module [*length]; FACTOR_COUNT for any other name.
 */
static factor_kind parse_name(const char *name, const char **module, size_t *length) {
    size_t full = strlen(name), prefix = sizeof NAME_PREFIX - 1;
    *module = name;
    *length = full;
    for (int kind = 0; kind < FACTOR_COUNT; kind++) {
        size_t suffix = strlen(factor_suffixes[kind]);
        if (full <= prefix + suffix || memcmp(name, NAME_PREFIX, prefix) != 0 ||
            strcmp(name + full - suffix, factor_suffixes[kind]) != 0)
            continue;
        *module = name + prefix;
        *length = full - prefix - suffix;
        return (factor_kind)kind;
    }
    return FACTOR_COUNT;
}

static balora_status check_name(const peft_input *self, const tensor_place *place) {
    const char *name = place->entry->name, *path = place->file->file.path, *module;
    size_t length;
    if (parse_name(name, &module, &length) == FACTOR_COUNT)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "%s: tensor \"%s\": expected only " NAME_PREFIX
                           "MODULE.lora_A.weight and .lora_B.weight; "
                           "this version cannot do what other tensors stand for",
                           path, name);
    if (find_module(self->model, module, length) == NULL)
        return status_fail(
            BALORA_ERROR_MISMATCH,
            "%s: tensor \"%s\": the model %s has no linear layer \"%.*s\" that can be adapted; it has "
            "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj in %lld layers",
            path, name, self->model->folder, (int)length, module, (long long)self->model->config.layers);
    if (!peft_config_targets(&self->config, module, length))
        return status_fail(BALORA_ERROR_MISMATCH,
                           "%s: tensor \"%s\": \"target_modules\" of %s does not list its module", path, name,
                           self->config.path);
    return BALORA_OK;
}

/* The tensor and its partner, for a name that is known to be sound. */
static balora_status check_pair(const peft_input *self, const tensor_place *place) {
    const char *name;
    size_t length;
    parse_name(place->entry->name, &name, &length);
    const projection *part = find_module(self->model, name, length);
    char module[NAME_BYTES];
    snprintf(module, sizeof module, "%.*s", (int)length, name);
    for (int kind = 0; kind < FACTOR_COUNT; kind++) {
        char factor[NAME_BYTES];
        int64_t shape[2];
        tensor_place found;
        factor_name(factor, module, (factor_kind)kind);
        factor_shape(shape, part, self->config.rank, (factor_kind)kind);
        STATUS_TRY(tensor_files_expect(&self->files, factor, 2, shape, &found));
    }
    return BALORA_OK;
}

static balora_status check_tensors(const peft_input *self) {
    if (self->files.count == 0)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: the weights hold no tensor; expected pairs of lora_A and lora_B",
                           self->files.folder);
    for (int64_t i = 0; i < self->files.count; i++)
        STATUS_TRY(check_name(self, &self->files.places[i]));
    for (int64_t i = 0; i < self->files.count; i++)
        STATUS_TRY(check_pair(self, &self->files.places[i]));
    return BALORA_OK;
}

/* An index may name fewer tensors than its shards hold. */
static balora_status check_nothing_hidden(const peft_input *self) {
    int64_t held = 0;
    for (int64_t i = 0; i < self->files.shard_count; i++)
        held += self->files.shards[i].count;
    if (held == self->files.count)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_FORMAT,
                       "%s: the weight files hold %lld tensors, of which the index names %lld",
                       self->files.folder, (long long)held, (long long)self->files.count);
}

static bool is_held(adapter_module *module, const void *user) {
    const peft_input *self = user;
    char factor[NAME_BYTES];
    tensor_place found;
    factor_name(factor, module->name, FACTOR_A);
    return tensor_files_find(&self->files, factor, &found);
}

static balora_status read_factors(const peft_input *self, balora_adapter *adapter) {
    staging stage;
    balora_status status =
        staging_create(&stage, &adapter->model->context->memory, &adapter->model->device, adapter->queue);
    for (int64_t i = 0; i < adapter->module_count * FACTOR_COUNT && status == BALORA_OK; i++) {
        const adapter_module *module = &adapter->modules[i / FACTOR_COUNT];
        factor_kind kind = (factor_kind)(i % FACTOR_COUNT);
        char name[NAME_BYTES];
        tensor_place place;
        factor_name(name, module->name, kind);
        tensor_files_find(&self->files, name, &place);
        status = staging_read(&stage, &place, 0, kind == FACTOR_A ? module->a : module->b, true);
    }
    if (status == BALORA_OK)
        status = adapter_refresh(adapter, adapter->queue);
    if (status == BALORA_OK)
        status = adapter->model->device.ops->synchronize(adapter->queue);
    staging_free(&stage);
    return status;
}

balora_status adapter_open(balora_adapter **out, balora_model *model, const char *folder) {
    allocator *memory = &model->context->memory;
    peft_input input = {.model = model};
    balora_adapter *adapter = NULL;
    balora_status status;
    STATUS_GOTO(peft_config_read(&input.config, model->context, folder));
    STATUS_GOTO(tensor_files_open(&input.files, memory, folder, PEFT_WEIGHTS_STEM));
    STATUS_GOTO(check_nothing_hidden(&input));
    STATUS_GOTO(check_tensors(&input));
    adapter_shape shape = {
        .method = BALORA_METHOD_LORA,
        .use_rslora = input.config.use_rslora,
        .rank = input.config.rank,
        .alpha = input.config.alpha,
        /* B A may be a small difference of large products: B A - B0 A0, as PiSSA's results are saved */
        .exact = true,
        .any_rank = true,
        .choose = is_held,
        .user = &input};
    STATUS_GOTO(adapter_allocate(&adapter, model, &shape));
    STATUS_GOTO(read_factors(&input, adapter));
    *out = adapter;
    adapter = NULL;
fail:
    adapter_release(adapter);
    tensor_files_close(&input.files);
    peft_config_free(&input.config, memory);
    return status;
}
