#include "adapter/adapter.h"

#include "facade.h"
#include "model/model.h"
#include "options.h"

balora_status balora_adapter_create(balora_adapter **out, balora_model *model,
                                    const balora_adapter_options *options) {
    FACADE_OUT(out);
    FACADE_REQUIRE(model);
    balora_adapter_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_ADAPTER, &complete, options));
    facade_call call;
    STATUS_TRY(facade_enter(&call, model->context));
    return facade_leave(&call, adapter_create(out, model, &complete));
}

balora_status balora_adapter_open(balora_adapter **out, balora_model *model, const char *folder) {
    FACADE_OUT(out);
    FACADE_REQUIRE(model);
    FACADE_REQUIRE(folder);
    facade_call call;
    STATUS_TRY(facade_enter(&call, model->context));
    return facade_leave(&call, adapter_open(out, model, folder));
}

void balora_adapter_free(balora_adapter *adapter) {
    adapter_release(adapter);
}

balora_status balora_adapter_save(balora_adapter *adapter, const char *folder, const char *base_model) {
    FACADE_REQUIRE(adapter);
    FACADE_REQUIRE(folder);
    facade_call call;
    STATUS_TRY(facade_enter(&call, adapter->model->context));
    return facade_leave(&call, adapter_save(adapter, folder, base_model));
}

balora_status balora_adapter_merge(balora_adapter *adapter, const char *folder) {
    FACADE_REQUIRE(adapter);
    FACADE_REQUIRE(folder);
    facade_call call;
    STATUS_TRY(facade_enter(&call, adapter->model->context));
    return facade_leave(&call, adapter_merge(adapter, folder));
}

balora_status balora_adapter_export(balora_adapter *adapter, const char *path,
                                    const balora_export_options *options) {
    FACADE_REQUIRE(adapter);
    FACADE_REQUIRE(path);
    balora_export_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_EXPORT, &complete, options));
    facade_call call;
    STATUS_TRY(facade_enter(&call, adapter->model->context));
    return facade_leave(&call, adapter_export(adapter, path, &complete));
}

balora_status balora_adapter_describe(const balora_adapter *adapter, balora_adapter_information *out) {
    FACADE_REQUIRE(adapter);
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_adapter_information"));
    balora_adapter_information information = BALORA_ADAPTER_INFORMATION_INIT;
    adapter_describe(adapter, &information);
    options_export(out, &information, sizeof information);
    return BALORA_OK;
}
