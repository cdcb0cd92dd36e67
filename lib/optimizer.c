#include "optim/optimizer.h"

#include "adapter/adapter.h"
#include "facade.h"
#include "model/model.h"
#include "options.h"

balora_status balora_optimizer_create(balora_optimizer **out, balora_adapter *adapter,
                                      const balora_optimizer_options *options) {
    FACADE_OUT(out);
    FACADE_REQUIRE(adapter);
    balora_optimizer_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_OPTIMIZER, &complete, options));
    facade_call call;
    STATUS_TRY(facade_enter(&call, adapter->model->context));
    return facade_leave(&call, optimizer_create(out, adapter, &complete));
}

void balora_optimizer_free(balora_optimizer *optimizer) {
    optimizer_release(optimizer);
}
