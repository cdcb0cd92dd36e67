#include <math.h>

#include "facade.h"
#include "options.h"
#include "regularizer/set.h"

/* The adaptive schedule moves between two weights; negative ones stand for their defaults. */
static balora_status check_adaptive_range(const balora_regularizer_options *options) {
    double lambda = options->lambda_consistency;
    double low = options->adaptive_minimum < 0.0 ? 0.1 * lambda : options->adaptive_minimum;
    double high = options->adaptive_maximum < 0.0 ? lambda : options->adaptive_maximum;
    if (options->consistency_schedule == BALORA_CONSISTENCY_ADAPTIVE && low > high)
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "balora_regularizer_options: adaptive_minimum is %g; expected at most adaptive_maximum, "
            "which is %g",
            low, high);
    return BALORA_OK;
}

balora_status balora_regularizers_create(balora_regularizers **out, balora_context *context,
                                         const balora_regularizer_options *options) {
    FACADE_OUT(out);
    FACADE_REQUIRE(context);
    balora_regularizer_options complete;
    STATUS_TRY(options_import(BALORA_OPTIONS_REGULARIZER, &complete, options));
    STATUS_TRY(check_adaptive_range(&complete));
    STATUS_TRY(context_poll(context));
    return regularizers_create(out, context, &complete);
}

void balora_regularizers_free(balora_regularizers *regularizers) {
    regularizers_release(regularizers);
}

balora_status balora_regularizers_weights(const balora_regularizers *regularizers, int64_t step,
                                          int64_t total_steps, double relative_teacher_entropy,
                                          double lambdas[3]) {
    FACADE_REQUIRE(regularizers);
    FACADE_REQUIRE(lambdas);
    if (step < 0 || step >= total_steps)
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "balora_regularizers_weights: step is %lld of %lld; expected 0 <= step < total_steps",
            (long long)step, (long long)total_steps);
    if (!isfinite(relative_teacher_entropy) || relative_teacher_entropy < 0.0 ||
        relative_teacher_entropy > 1.0)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "balora_regularizers_weights: relative_teacher_entropy is %g; expected 0 to 1",
                           relative_teacher_entropy);
    regularizers_weights(regularizers, step, total_steps, relative_teacher_entropy, lambdas);
    return BALORA_OK;
}
