#include "adapter/pissa_host.h"
#include "facade.h"
#include "options.h"
#include "tensor.h"

balora_status balora_pissa(const balora_tensor *a, const balora_tensor *b, const balora_tensor *residual,
                           balora_context *context, const balora_tensor *weight,
                           const balora_pissa_options *options) {
    balora_tensor own_a, own_b, own_weight, own_residual;
    balora_pissa_options complete;
    FACADE_REQUIRE(a);
    FACADE_REQUIRE(b);
    FACADE_REQUIRE(context);
    FACADE_REQUIRE(weight);
    STATUS_TRY(options_import(BALORA_OPTIONS_PISSA, &complete, options));
    STATUS_TRY(facade_tensor(&own_a, a, "a"));
    STATUS_TRY(facade_tensor(&own_b, b, "b"));
    STATUS_TRY(facade_tensor(&own_weight, weight, "weight"));
    if (residual != NULL)
        STATUS_TRY(facade_tensor(&own_residual, residual, "residual"));
    pissa_host_request request = {&own_weight, &own_a, &own_b, residual != NULL ? &own_residual : NULL,
                                  &complete};
    facade_call call;
    STATUS_TRY(facade_enter(&call, context));
    return facade_leave(&call, pissa_host(context, &request));
}
