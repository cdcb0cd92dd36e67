#include "train/identity.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "balora/version.h"
#include "base/checksum.h"
#include "base/status.h"
#include "model/fingerprint.h"

enum { DIFFERENCES_TOLD = 4 };

static balora_status put(json_t *object, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static balora_status put(json_t *object, const char *key, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (json_object_set_new(object, key, json_string(text)) == 0)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_MEMORY, "no memory for the description of a run");
}

/* Once for a trainer: neither of them changes. */
static balora_status take_sums(balora_trainer *trainer) {
    if (trainer->has_sums)
        return BALORA_OK;
    STATUS_TRY(model_fingerprint(&trainer->model_sum, trainer->adapter->model, trainer->adapter->queue));
    STATUS_TRY(optimizer_fingerprint(&trainer->group_sum, trainer->optimizer));
    trainer->data_sum = dataset_fingerprint(&trainer->data->set);
    trainer->has_sums = true;
    return BALORA_OK;
}

static balora_status add_data(json_t *object, const balora_trainer *trainer) {
    const dataset *set = &trainer->data->set;
    STATUS_TRY(put(object, "data.sequences", "%lld", (long long)set->sequences));
    STATUS_TRY(put(object, "data.tokens", "%lld", (long long)set->tokens));
    return put(object, "data.contents", "%08x", trainer->data_sum);
}

static balora_status add_model(json_t *object, const balora_trainer *trainer) {
    const balora_model *model = trainer->adapter->model;
    STATUS_TRY(put(object, "model.family", "%s", model->config.family));
    STATUS_TRY(put(object, "model.parameters", "%lld", (long long)model->weights.parameters));
    STATUS_TRY(put(object, "model.dtype", "%s", dtype_name(model->weights.dtype)));
    STATUS_TRY(put(object, "model.activations", "%s", dtype_name(model->activation_dtype)));
    STATUS_TRY(put(object, "model.tf32", "%d", model->tf32));
    STATUS_TRY(put(object, "model.config", "%08x", model->config.checksum));
    return put(object, "model.weights", "%08x", trainer->model_sum);
}

/* What is trained: layers with their ranks and scales, tensors by name. */
static uint32_t sum_parts(const balora_adapter *adapter) {
    uint32_t sum = checksum_add(0, &adapter->packed_dtype, sizeof adapter->packed_dtype);
    for (int64_t i = 0; i < adapter->trained_count; i++) {
        const char *name = adapter->trained[i].tensor->name;
        sum = checksum_add(sum, name, strlen(name) + 1);
    }
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        int64_t sizes[4] = {module->rank, module->a.cols, module->b.rows, module->has_initial};
        sum = checksum_add(sum, module->name, strlen(module->name));
        sum = checksum_add(sum, &module->scale, sizeof module->scale);
        sum = checksum_add(sum, sizes, sizeof sizes);
    }
    return sum;
}

static balora_status add_adapter(json_t *object, const balora_adapter *adapter) {
    STATUS_TRY(put(object, "adapter.rank", "%lld", (long long)adapter->rank));
    STATUS_TRY(put(object, "adapter.alpha", "%.17g", adapter->alpha));
    STATUS_TRY(put(object, "adapter.use_rslora", "%d", adapter->use_rslora));
    STATUS_TRY(put(object, "adapter.use_dora", "%d", adapter->use_dora));
    STATUS_TRY(put(object, "adapter.lora_dropout", "%.17g", adapter->dropout));
    STATUS_TRY(put(object, "adapter.layers", "%lld", (long long)adapter->module_count));
    STATUS_TRY(put(object, "adapter.numbers", "%lld", (long long)adapter_parameters(adapter).cols));
    return put(object, "adapter.shape", "%08x", sum_parts(adapter));
}

/* Does a schedule, or the evaluation at the end, make a step depend on how long the run is? Otherwise a longer run
 * begins like a shorter one, and may go on from it. */
static bool length_matters(const balora_trainer *trainer, const checkpoint_request *request) {
    const balora_regularizers *set = trainer->regularizers;
    if (trainer->options.lr_schedule != BALORA_LR_CONSTANT ||
        json_object_get(request->options, "evaluation.patience") != NULL)
        return true;
    if (set == NULL)
        return false;
    const balora_regularizer_options *options = &set->options;
    bool focus = options->lambda_diversity != 0 || options->lambda_svd != 0;
    return (options->lambda_consistency != 0 && options->consistency_schedule == BALORA_CONSISTENCY_COSINE) ||
           (focus && options->focus_schedule != BALORA_FOCUS_CONSTANT);
}

static balora_status add_all(json_t *object, balora_trainer *trainer, const checkpoint_request *request) {
    if (json_object_update(object, (json_t *)request->options) != 0)
        return status_fail(BALORA_ERROR_MEMORY, "no memory for the description of a run");
    STATUS_TRY(take_sums(trainer));
    STATUS_TRY(add_data(object, trainer));
    STATUS_TRY(add_model(object, trainer));
    STATUS_TRY(add_adapter(object, trainer->adapter));
    STATUS_TRY(put(object, "optimizer.groups", "%08x", trainer->group_sum));
    return length_matters(trainer, request)
               ? put(object, "train.steps", "%lld", (long long)trainer->order.steps)
               : BALORA_OK;
}

balora_status identity_make(json_t **out, balora_trainer *trainer, const checkpoint_request *request) {
    json_t *object = json_object();
    balora_status status = add_all(object, trainer, request);
    if (status != BALORA_OK)
        json_decref(object);
    else
        *out = object;
    return status;
}

static balora_status add_environment(json_t *object, const balora_trainer *trainer) {
    const balora_model *model = trainer->adapter->model;
    backend_properties properties;
    STATUS_TRY(model->device.ops->device_properties(model->device.device, &properties));
    STATUS_TRY(put(object, "threads", "%d", model->context->threads));
    STATUS_TRY(put(object, "device", "%s", model->device.ops->name));
    STATUS_TRY(put(object, "features", "%s", properties.features));
    return put(object, "library", "%s", balora_version());
}

balora_status identity_environment(json_t **out, const balora_trainer *trainer) {
    json_t *object = json_object();
    balora_status status = add_environment(object, trainer);
    if (status != BALORA_OK)
        json_decref(object);
    else
        *out = object;
    return status;
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "absent";
}

static void tell(char *text, size_t capacity, int number, const char *key, const char *was, const char *now) {
    size_t used = strlen(text);
    if (number < DIFFERENCES_TOLD)
        snprintf(text + used, capacity - used, "%s%.64s was %.128s, is now %.128s", number > 0 ? "; " : "",
                 key, was, now);
}

int identity_differences(const json_t *saved, const json_t *current, char *text, size_t capacity) {
    const char *key;
    json_t *value;
    int count = 0;
    text[0] = '\0';
    json_object_foreach((json_t *)current, key, value) {
        if (strcmp(text_of(saved, key), json_string_value(value)) != 0)
            tell(text, capacity, count++, key, text_of(saved, key), json_string_value(value));
    }
    json_object_foreach((json_t *)saved, key, value) {
        if (json_object_get(current, key) == NULL)
            tell(text, capacity, count++, key, text_of(saved, key), "absent");
    }
    if (count > DIFFERENCES_TOLD) {
        size_t used = strlen(text);
        snprintf(text + used, capacity - used, "; and %d more", count - DIFFERENCES_TOLD);
    }
    return count;
}

balora_status identity_add_evaluation(json_t *options, const balora_run_options *run) {
    if (run->patience == 0 && run->load_best == 0)
        return BALORA_OK;
    STATUS_TRY(put(options, "evaluation.data", "%08x", dataset_fingerprint(&run->eval_data->set)));
    STATUS_TRY(put(options, "evaluation.eval_steps", "%lld", (long long)run->eval_steps));
    STATUS_TRY(put(options, "evaluation.patience", "%lld", (long long)run->patience));
    return put(options, "evaluation.load_best", "%d", run->load_best);
}
