#include "train/trainer.h"

#include "adapter/adapter.h"
#include "data/data.h"
#include "facade.h"
#include "model/model.h"
#include "options.h"
#include "train/evaluate.h"

balora_status balora_trainer_create(balora_trainer **out, balora_adapter *adapter, balora_data *data,
                                    const balora_train_options *options) {
    FACADE_OUT(out);
    FACADE_REQUIRE(adapter);
    FACADE_REQUIRE(data);
    balora_train_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_TRAIN, &complete, options));
    facade_call call;
    STATUS_TRY(facade_enter(&call, adapter->model->context));
    return facade_leave(&call, trainer_create(out, adapter, data, &complete));
}

void balora_trainer_free(balora_trainer *trainer) {
    trainer_release(trainer);
}

balora_status balora_trainer_step(balora_trainer *trainer, balora_step_metrics *metrics) {
    FACADE_REQUIRE(trainer);
    if (metrics != NULL)
        STATUS_TRY(options_check_size(metrics, "balora_step_metrics"));
    balora_step_metrics complete = BALORA_STEP_METRICS_INIT;
    if (trainer->run_options != NULL)
        return status_fail(BALORA_ERROR_STATE,
                           "balora_trainer_step: the trainer is inside balora_trainer_run");
    facade_call call;
    STATUS_TRY(facade_enter(&call, trainer->adapter->model->context));
    balora_status status = facade_leave(&call, trainer_step(trainer, &complete));
    if (status == BALORA_OK && metrics != NULL)
        options_export(metrics, &complete, sizeof complete);
    return status;
}

balora_status balora_trainer_describe(const balora_trainer *trainer, balora_trainer_information *out) {
    FACADE_REQUIRE(trainer);
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_trainer_information"));
    balora_trainer_information information = BALORA_TRAINER_INFORMATION_INIT;
    trainer_describe(trainer, &information);
    options_export(out, &information, sizeof information);
    return BALORA_OK;
}

balora_status balora_evaluate(balora_evaluation *out, balora_model *model, balora_adapter *adapter,
                              balora_data *data, balora_logits_callback logits, void *user) {
    FACADE_REQUIRE(out);
    FACADE_REQUIRE(model);
    FACADE_REQUIRE(data);
    STATUS_TRY(options_check_size(out, "balora_evaluation"));
    balora_evaluation evaluation = BALORA_EVALUATION_INIT;
    facade_call call;
    STATUS_TRY(facade_enter(&call, model->context));
    STATUS_TRY(facade_leave(&call, evaluate_model(&evaluation, model, adapter, data, logits, user)));
    options_export(out, &evaluation, sizeof evaluation);
    return BALORA_OK;
}
