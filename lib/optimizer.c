#include <math.h>
#include <stdio.h>

#include "adapter/adapter.h"
#include "facade.h"
#include "model/model.h"
#include "optim/host.h"
#include "optim/schedule.h"
#include "optim/state.h"
#include "options.h"
#include "tensor.h"

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

balora_status balora_optimizer_create_for(balora_optimizer **out, balora_context *context,
                                          const balora_optimizer_options *options, const char *device,
                                          const int64_t *counts, const char *const *names, int64_t tensors) {
    FACADE_OUT(out);
    FACADE_REQUIRE(context);
    if (tensors < 0 || tensors > INT32_MAX)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: tensors is %lld; expected 0 to %d", __func__,
                           (long long)tensors, INT32_MAX);
    if (tensors > 0)
        FACADE_REQUIRE(counts);
    balora_optimizer_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_OPTIMIZER, &complete, options));
    host_request request = {device != NULL ? device : "cpu", counts, names, tensors};
    facade_call call;
    STATUS_TRY(facade_enter(&call, context));
    return facade_leave(&call, host_optimizer_create(out, context, &complete, &request));
}

static balora_status take_tensor(host_side *out, const balora_tensor *caller, const char *list,
                                 int64_t index) {
    char name[48];
    snprintf(name, sizeof name, "%s[%lld]", list, (long long)index);
    if (caller == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "balora_optimizer_step: %s is NULL", name);
    return facade_tensor(&out->tensor, caller, name);
}

static balora_status take_tensors(balora_optimizer *optimizer, const balora_tensor *const *parameters,
                                  const balora_tensor *const *gradients) {
    host_tensors *host = optimizer->host;
    if (host->count == 0)
        return BALORA_OK;
    if (parameters == NULL || gradients == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "balora_optimizer_step: %s is NULL",
                           parameters == NULL ? "parameters" : "gradients");
    for (int64_t i = 0; i < host->count; i++) {
        STATUS_TRY(take_tensor(&host->parameters[i].value, parameters[i], "parameters", i));
        STATUS_TRY(take_tensor(&host->parameters[i].gradient, gradients[i], "gradients", i));
    }
    return BALORA_OK;
}

balora_status balora_optimizer_step(balora_optimizer *optimizer, const balora_tensor *const *parameters,
                                    const balora_tensor *const *gradients, double learning_rate,
                                    double max_grad_norm, double *grad_norm) {
    double norm = 0;
    FACADE_REQUIRE(optimizer);
    if (optimizer->host == NULL)
        return status_fail(BALORA_ERROR_STATE,
                           "%s: the optimizer was made for an adapter, which a trainer steps", __func__);
    if (!isfinite(learning_rate) || learning_rate < 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: learning_rate is %g; expected 0 or more", __func__,
                           learning_rate);
    if (!isfinite(max_grad_norm) || max_grad_norm < 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: max_grad_norm is %g; expected 0 or more", __func__,
                           max_grad_norm);
    STATUS_TRY(take_tensors(optimizer, parameters, gradients));
    facade_call call;
    STATUS_TRY(facade_enter(&call, optimizer->context));
    STATUS_TRY(facade_leave(&call, host_optimizer_step(optimizer, learning_rate, max_grad_norm, &norm)));
    if (grad_norm != NULL)
        *grad_norm = norm;
    return BALORA_OK;
}

balora_status balora_optimizer_state_bytes(const balora_optimizer *optimizer, uint64_t *bytes) {
    FACADE_REQUIRE(optimizer);
    FACADE_REQUIRE(bytes);
    *bytes = state_bytes(optimizer);
    return BALORA_OK;
}

balora_status balora_optimizer_save_state(const balora_optimizer *optimizer, void *buffer, uint64_t bytes) {
    FACADE_REQUIRE(optimizer);
    FACADE_REQUIRE(buffer);
    if (bytes < state_bytes(optimizer))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: bytes is %llu; the state has %llu", __func__,
                           (unsigned long long)bytes, (unsigned long long)state_bytes(optimizer));
    facade_call call;
    STATUS_TRY(facade_enter(&call, optimizer->context));
    return facade_leave(&call, state_save(optimizer, buffer));
}

balora_status balora_optimizer_load_state(balora_optimizer *optimizer, const void *buffer, uint64_t bytes) {
    FACADE_REQUIRE(optimizer);
    FACADE_REQUIRE(buffer);
    facade_call call;
    STATUS_TRY(facade_enter(&call, optimizer->context));
    return facade_leave(&call, state_load(optimizer, buffer, bytes));
}

balora_status balora_schedule_learning_rate(double *out, int32_t schedule, double peak, double warmup_ratio,
                                            int64_t step, int64_t total_steps) {
    FACADE_REQUIRE(out);
    if (schedule != BALORA_LR_COSINE && schedule != BALORA_LR_LINEAR && schedule != BALORA_LR_CONSTANT)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: schedule is %d; expected BALORA_LR_...", __func__,
                           (int)schedule);
    if (!isfinite(peak) || peak < 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: peak is %g; expected 0 or more", __func__, peak);
    if (!(warmup_ratio >= 0 && warmup_ratio <= 1))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: warmup_ratio is %g; expected 0 to 1", __func__,
                           warmup_ratio);
    if (step < 0 || step >= total_steps)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s: step is %lld of %lld; expected 0 <= step < total_steps", __func__,
                           (long long)step, (long long)total_steps);
    *out = schedule_learning_rate(schedule, peak, warmup_ratio, step, total_steps);
    return BALORA_OK;
}
