/* New adapters: which modules take part, and their first factors. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "adapter/adapter.h"
#include "adapter/pissa.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/status.h"

/* Is `name` an entry of the comma-separated list? An entry may also be the end of the full name, behind a
 * dot. */
static bool list_holds(const char *list, const char *full_name) {
    size_t full = strlen(full_name);
    for (const char *entry = list; *entry != '\0';) {
        size_t length = strcspn(entry, ",");
        bool fits = length > 0 && length <= full && memcmp(full_name + full - length, entry, length) == 0;
        if (fits && (length == full || full_name[full - length - 1] == '.'))
            return true;
        entry += length + (entry[length] == ',');
    }
    return false;
}

static bool train_all(const balora_adapter *adapter, const named_tensor *tensor, const void *user) {
    (void)adapter;
    (void)tensor;
    (void)user;
    return true;
}

static bool choose(adapter_module *module, const void *user) {
    const balora_adapter_options *options = user;
    const char *list = options->target_modules;
    module->has_initial = options->method == BALORA_METHOD_BA_LORA || options->method == BALORA_METHOD_PISSA;
    return list == NULL || strcmp(list, "all-linear") == 0 || list_holds(list, module->name);
}

/* Every entry must select something: a misspelt name is not silently dropped. */
static balora_status check_targets(const balora_model *model, const char *list) {
    if (list == NULL || strcmp(list, "all-linear") == 0)
        return BALORA_OK;
    for (const char *entry = list; *entry != '\0';) {
        size_t length = strcspn(entry, ",");
        char one[128];
        if (length == 0 || length >= sizeof one)
            return status_fail(
                BALORA_ERROR_ARGUMENT,
                "target_modules \"%s\": expected names separated by single commas, or all-linear", list);
        memcpy(one, entry, length);
        one[length] = '\0';
        bool found = false;
        for (int64_t layer = 0; layer < model->config.layers && !found; layer++)
            for (int p = 0; p < PROJECTION_COUNT && !found; p++) {
                char name[128];
                snprintf(name, sizeof name, "model.layers.%lld.%s", (long long)layer,
                         model->projections[p].module);
                found = list_holds(one, name);
            }
        if (!found)
            return status_fail(
                BALORA_ERROR_ARGUMENT,
                "target_modules: no module is called \"%s\"; this model has q_proj, k_proj, v_proj, "
                "o_proj, gate_proj, up_proj, down_proj (or all-linear)",
                one);
        entry += length + (entry[length] == ',');
    }
    return BALORA_OK;
}

/* Kaiming-uniform with a = sqrt(5), PEFT's start of A: uniform within 1 / sqrt(in). B stays 0. */
static balora_status start_plain(balora_adapter *adapter, uint64_t seed, int64_t index) {
    const adapter_module *module = &adapter->modules[index];
    int64_t count = module->a.rows * module->a.cols;
    float *host;
    STATUS_TRY(
        memory_new(&adapter->model->context->memory, &host, (size_t)count, sizeof *host, "initial factors"));
    double bound = 1 / sqrt((double)module->a.cols);
    uint64_t stream = RANDOM_STREAM_FACTORS | (uint64_t)index << 8;
    for (int64_t i = 0; i < count; i++)
        host[i] = (float)(bound * (2 * random_uniform(seed, stream, (uint64_t)i) - 1));
    balora_status status = adapter_upload(adapter, module->a, host);
    memory_free(&adapter->model->context->memory, host);
    return status;
}

static balora_status start_principal(balora_adapter *adapter, const balora_adapter_options *options,
                                     int64_t index) {
    balora_model *model = adapter->model;
    const backend_ops *ops = model->device.ops;
    const adapter_module *module = &adapter->modules[index];
    const linear_weights *group = &model->weights.layers[module->layer].groups[module->projection->group];
    pissa_request request = {.device = &model->device,
                             .queue = adapter->queue,
                             .memory = &model->context->memory,
                             .name = module->name,
                             .weight =
                                 view_rows(group->weight, module->projection->first, module->projection->out),
                             .rank = module->rank,
                             .scale = module->scale,
                             .seed = options->seed,
                             .full_svd = options->full_svd,
                             .a = module->a0,
                             .b = module->b0};
    STATUS_TRY(pissa_factors(&request));
    STATUS_TRY(ops->copy(adapter->queue, module->a, module->a0));
    return ops->copy(adapter->queue, module->b, module->b0);
}

static balora_status fill(balora_adapter *adapter, const balora_adapter_options *options) {
    for (int64_t i = 0; i < adapter->module_count; i++) {
        STATUS_TRY(context_poll(adapter->model->context));
        STATUS_TRY(adapter->modules[i].has_initial ? start_principal(adapter, options, i)
                                                   : start_plain(adapter, options->seed, i));
    }
    STATUS_TRY(adapter_refresh(adapter, adapter->queue));
    return adapter->model->device.ops->synchronize(adapter->queue);
}

balora_status adapter_create(balora_adapter **out, balora_model *model,
                             const balora_adapter_options *options) {
    double begin = clock_seconds();
    bool full = options->method == BALORA_METHOD_FULL;
    adapter_shape shape = {.method = options->method,
                           .use_rslora = options->use_rslora,
                           .rank = options->rank,
                           .alpha = options->alpha,
                           .choose = full ? NULL : choose,
                           .trains = full ? train_all : NULL,
                           .user = options};
    balora_adapter *adapter;
    if (!full)
        STATUS_TRY(check_targets(model, options->target_modules));
    STATUS_TRY(adapter_allocate(&adapter, model, &shape));
    balora_status status = fill(adapter, options);
    if (status != BALORA_OK) {
        adapter_release(adapter);
        return status;
    }
    adapter->creation_seconds = clock_seconds() - begin;
    *out = adapter;
    return BALORA_OK;
}
