/* New adapters: which modules take part, and their first factors. */
#include <math.h>

#include "adapter/option_rules.h"
#include "adapter/pissa.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/status.h"

static bool train_all(const balora_adapter *adapter, const named_tensor *tensor, const void *user) {
    (void)adapter;
    (void)tensor;
    (void)user;
    return true;
}

static bool choose(adapter_module *module, const void *user) {
    const module_rules *rules = user;
    module->has_initial = name_set_holds(&rules->principal, module->name);
    rules_set_figures(rules, module);
    return rules_refusing_key(rules, module->name) == NULL;
}

static bool train_chosen(const balora_adapter *adapter, const named_tensor *tensor, const void *user) {
    char module[sizeof tensor->name];
    rules_module_of(module, tensor->name);
    return rules_train(user, tensor->name, adapter_find_module(adapter, module) != NULL);
}

/* PEFT's starts of A: Kaiming-uniform with a = sqrt(5), uniform within 1 / sqrt(in); or normal with deviation 1 / rank.
 * B stays 0. */
static balora_status start_plain(balora_adapter *adapter, const balora_adapter_options *options,
                                 int64_t index) {
    uint64_t seed = options->seed;
    bool gaussian = options->init == BALORA_INIT_GAUSSIAN;
    const adapter_module *module = &adapter->modules[index];
    int64_t count = module->a.rows * module->a.cols;
    float *host;
    STATUS_TRY(
        memory_new(&adapter->model->context->memory, &host, (size_t)count, sizeof *host, "initial factors"));
    double bound = 1 / sqrt((double)module->a.cols);
    uint64_t stream = RANDOM_STREAM_FACTORS | (uint64_t)index << 8;
    for (int64_t i = 0; i < count; i++)
        host[i] = (float)(gaussian ? random_normal(seed, stream, (uint64_t)i) / (double)module->rank
                                   : bound * (2 * random_uniform(seed, stream, (uint64_t)i) - 1));
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
                                                   : start_plain(adapter, options, i));
    }
    STATUS_TRY(adapter_start_magnitudes(adapter, adapter->queue));
    STATUS_TRY(adapter_refresh(adapter, adapter->queue));
    return adapter->model->device.ops->synchronize(adapter->queue);
}

/* Method full leaves nothing to choose. */
static balora_status check_full(const balora_adapter_options *options) {
    const struct {
        const char *key, *text;
    } texts[] = {{"exclude_modules", options->exclude_modules},
                 {"layers_to_transform", options->layers_to_transform},
                 {"rank_pattern", options->rank_pattern},
                 {"alpha_pattern", options->alpha_pattern},
                 {"modules_to_save", options->modules_to_save},
                 {"pissa_modules", options->pissa_modules},
                 {"bias", options->bias != 0 ? "given" : NULL},
                 {"init", options->init != 0 ? "given" : NULL},
                 {"use_dora", options->use_dora ? "given" : NULL},
                 {"lora_dropout", options->lora_dropout > 0 ? "given" : NULL}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].text != NULL && texts[i].text[0] != '\0')
            return status_fail(BALORA_ERROR_ARGUMENT,
                               "%s does not go with method full, which trains every weight", texts[i].key);
    return BALORA_OK;
}

static balora_status create_full(balora_adapter **out, balora_model *model,
                                 const balora_adapter_options *options) {
    STATUS_TRY(check_full(options));
    const adapter_shape shape = {.method = options->method,
                                 .use_rslora = options->use_rslora,
                                 .rank = options->rank,
                                 .alpha = options->alpha,
                                 .trains = train_all};
    return adapter_allocate(out, model, &shape);
}

static balora_status create_chosen(balora_adapter **out, balora_model *model,
                                   const balora_adapter_options *options) {
    module_rules rules = {0};
    balora_status status;
    STATUS_GOTO(option_rules_read(&rules, model, options));
    const adapter_shape shape = {.method = options->method,
                                 .use_rslora = options->use_rslora,
                                 .rank = options->rank,
                                 .alpha = options->alpha,
                                 .use_dora = options->use_dora || options->method == BALORA_METHOD_DORA,
                                 .dropout = options->lora_dropout,
                                 .choose = choose,
                                 .trains = train_chosen,
                                 .untied = true,
                                 .user = &rules};
    STATUS_GOTO(adapter_allocate(out, model, &shape));
    rules_give(&rules, *out);
fail:
    rules_free(&rules);
    return status;
}

balora_status adapter_create(balora_adapter **out, balora_model *model,
                             const balora_adapter_options *options) {
    double begin = clock_seconds();
    bool full = options->method == BALORA_METHOD_FULL;
    balora_adapter *adapter;
    STATUS_TRY(full ? create_full(&adapter, model, options) : create_chosen(&adapter, model, options));
    balora_status status = fill(adapter, options);
    if (status != BALORA_OK) {
        adapter_release(adapter);
        return status;
    }
    adapter->creation_seconds = clock_seconds() - begin;
    *out = adapter;
    return BALORA_OK;
}
