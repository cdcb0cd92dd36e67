#include "model/model.h"

#include "facade.h"
#include "options.h"

balora_status balora_model_open(balora_model **out, balora_context *context, const char *folder,
                                const balora_model_options *options) {
    FACADE_OUT(out);
    FACADE_REQUIRE(context);
    FACADE_REQUIRE(folder);
    balora_model_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_MODEL, &complete, options));
    facade_call call;
    STATUS_TRY(facade_enter(&call, context));
    return facade_leave(&call, model_open(out, context, folder, &complete));
}

void balora_model_free(balora_model *model) {
    model_release(model);
}

balora_status balora_model_describe(const balora_model *model, balora_model_information *out) {
    FACADE_REQUIRE(model);
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_model_information"));
    balora_model_information information = BALORA_MODEL_INFORMATION_INIT;
    model_describe(model, &information);
    options_export(out, &information, sizeof information);
    return BALORA_OK;
}
