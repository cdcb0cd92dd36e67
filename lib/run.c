#include "train/run.h"

#include <string.h>

#include "balora/options.h"
#include "facade.h"
#include "option_table.h"
#include "option_value.h"
#include "options.h"

/* Options that do not change what a step does. The run's length counts where a schedule depends on it: identity.c. */
static int is_free(const char *key) {
    static const char *const keys[] = {"epochs", "max_steps", "max_skipped_steps"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (strcmp(key, keys[i]) == 0)
            return 1;
    return 0;
}

/* All fields of an option struct as "GROUP.KEY": text. */
static balora_status add_group(json_t *object, int32_t group, const char *name, const void *options) {
    const option_table *table = option_table_find(group);
    char key[96], text[1024];
    for (size_t i = 0; i < table->count; i++) {
        if (is_free(table->fields[i].key))
            continue;
        STATUS_TRY(option_value_print(&table->fields[i], options, text, sizeof text));
        snprintf(key, sizeof key, "%s.%s", name, table->fields[i].key);
        if (json_object_set_new(object, key, json_string(text)) != 0)
            return status_fail(BALORA_ERROR_MEMORY, "no memory for the description of a run");
    }
    return BALORA_OK;
}

/* As the adapter's options name it. */
static balora_status add_method(json_t *object, const balora_adapter *adapter) {
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    char text[64];
    options.method = adapter->method;
    STATUS_TRY(balora_options_get(BALORA_OPTIONS_ADAPTER, &options, "method", text, sizeof text));
    return json_object_set_new(object, "adapter.method", json_string(text)) == 0
               ? BALORA_OK
               : status_fail(BALORA_ERROR_MEMORY, "no memory for the description of a run");
}

/* What a result depends on of what the caller chose; owned. */
static balora_status list_options(json_t **out, const balora_trainer *trainer) {
    json_t *object = json_object();
    balora_status status;
    STATUS_GOTO(add_group(object, BALORA_OPTIONS_TRAIN, "train", &trainer->options));
    STATUS_GOTO(add_method(object, trainer->adapter));
    STATUS_GOTO(add_group(object, BALORA_OPTIONS_OPTIMIZER, "optimizer", &trainer->optimizer->options));
    if (trainer->regularizers != NULL)
        STATUS_GOTO(
            add_group(object, BALORA_OPTIONS_REGULARIZER, "regularizer", &trainer->regularizers->options));
    *out = object;
    return BALORA_OK;
fail:
    json_decref(object);
    return status;
}

static balora_status save_checkpoint(balora_trainer *trainer, const char *folder, int64_t keep) {
    json_t *listed = NULL;
    if (trainer->run_options == NULL)
        STATUS_TRY(list_options(&listed, trainer));
    checkpoint_request request = {.folder = folder,
                                  .keep = keep,
                                  .options = listed != NULL ? listed : trainer->run_options,
                                  .heed_cancel = true};
    balora_status status = checkpoint_save(trainer, &request);
    json_decref(listed);
    return status;
}

balora_status balora_trainer_save_checkpoint(balora_trainer *trainer, const char *folder, int64_t keep) {
    FACADE_REQUIRE(trainer);
    FACADE_REQUIRE(folder);
    if (keep < CHECKPOINT_KEEP_LEAST)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "balora_trainer_save_checkpoint: keep is %lld; expected at least %d",
                           (long long)keep, CHECKPOINT_KEEP_LEAST);
    facade_call call;
    STATUS_TRY(facade_enter(&call, trainer->adapter->model->context));
    return facade_leave(&call, save_checkpoint(trainer, folder, keep));
}

static balora_status check_idle(const balora_trainer *trainer, const char *function) {
    return trainer->run_options == NULL
               ? BALORA_OK
               : status_fail(BALORA_ERROR_STATE, "%s: the trainer is inside balora_trainer_run", function);
}

static balora_status resume(balora_trainer *trainer, const char *folder, balora_resume_information *out) {
    json_t *listed;
    STATUS_TRY(list_options(&listed, trainer));
    checkpoint_request request = {.folder = folder, .options = listed};
    balora_status status = checkpoint_resume(trainer, &request, out);
    json_decref(listed);
    return status;
}

balora_status balora_trainer_resume(balora_trainer *trainer, const char *folder,
                                    balora_resume_information *out) {
    FACADE_REQUIRE(trainer);
    FACADE_REQUIRE(folder);
    if (out != NULL)
        STATUS_TRY(options_check_size(out, "balora_resume_information"));
    STATUS_TRY(check_idle(trainer, __func__));
    balora_resume_information found = BALORA_RESUME_INFORMATION_INIT;
    facade_call call;
    STATUS_TRY(facade_enter(&call, trainer->adapter->model->context));
    STATUS_TRY(facade_leave(&call, resume(trainer, folder, &found)));
    if (out != NULL)
        options_export(out, &found, sizeof found);
    return BALORA_OK;
}

static balora_status run(balora_trainer *trainer, const balora_run_options *options,
                         balora_run_result *result) {
    json_t *listed;
    STATUS_TRY(list_options(&listed, trainer));
    balora_status status = run_execute(trainer, options, listed, result);
    json_decref(listed);
    return status;
}

balora_status balora_trainer_run(balora_trainer *trainer, const balora_run_options *options,
                                 balora_run_result *result) {
    FACADE_REQUIRE(trainer);
    if (result != NULL)
        STATUS_TRY(options_check_size(result, "balora_run_result"));
    STATUS_TRY(check_idle(trainer, __func__));
    balora_run_options complete;
    balora_run_result found = BALORA_RUN_RESULT_INIT;
    STATUS_TRY(options_import(BALORA_OPTIONS_RUN, &complete, options));
    facade_call call;
    STATUS_TRY(facade_enter(&call, trainer->adapter->model->context));
    balora_status status = facade_leave(&call, run(trainer, &complete, &found));
    if (result != NULL)
        options_export(result, &found, sizeof found);
    return status;
}
