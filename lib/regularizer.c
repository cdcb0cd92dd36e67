#include <math.h>

#include "facade.h"
#include "options.h"
#include "regularizer/evaluate.h"
#include "tensor.h"

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

balora_status balora_regularizer_options_preset(balora_regularizer_options *out, int32_t preset) {
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_regularizer_options"));
    balora_regularizer_options made = BALORA_REGULARIZER_OPTIONS_INIT;
    if (preset != BALORA_PRESET_GENERATION && preset != BALORA_PRESET_UNDERSTANDING &&
        preset != BALORA_PRESET_UNDERSTANDING_2024)
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "balora_regularizer_options_preset: preset is %d; expected one of BALORA_PRESET_...", preset);
    if (preset != BALORA_PRESET_GENERATION) {
        made.lambda_consistency = 0.15;
        made.lambda_diversity = made.lambda_svd = 0.03;
        made.svd_k = 5;
        made.svd_norm = BALORA_SVD_NUCLEAR;
        made.diversity_form = BALORA_DIVERSITY_FORM_COVARIANCE;
    }
    if (preset == BALORA_PRESET_UNDERSTANDING_2024) {
        made.lambda_consistency = made.lambda_svd = 1e-4;
        made.lambda_diversity = 3e-4;
        made.consistency_form = BALORA_CONSISTENCY_FORM_NORMALIZED;
        made.consistency_schedule = BALORA_CONSISTENCY_CONSTANT;
        made.focus_schedule = BALORA_FOCUS_CONSTANT;
    }
    options_export(out, &made, sizeof made);
    return BALORA_OK;
}

/* --- evaluation --- */

/* The caller's inputs, complete, with copies of its tensors. */
typedef struct complete_inputs {
    balora_regularizer_inputs inputs;
    balora_tensor student, teacher, mask, indices, gradient;
    evaluate_request request;
} complete_inputs;

static balora_status import_inputs(complete_inputs *out, const balora_regularizer_inputs *caller) {
    const char *name = "balora_regularizer_inputs";
    balora_regularizer_inputs defaults = BALORA_REGULARIZER_INPUTS_INIT;
    STATUS_TRY(options_import_plain(&out->inputs, &defaults, sizeof defaults, caller, name));
    const balora_regularizer_inputs *inputs = &out->inputs;
    if (inputs->student == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: student is NULL", name);
    if ((inputs->accumulate | inputs->use_lambdas) & ~1)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: accumulate is %d and use_lambdas %d; expected 0 or 1",
                           name, inputs->accumulate, inputs->use_lambdas);
    if (inputs->total_steps < 0 || inputs->step < 0 ||
        (inputs->total_steps > 0 && inputs->step >= inputs->total_steps))
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "%s: step is %lld of %lld; expected 0 <= step < total_steps, or total_steps 0",
                           name, (long long)inputs->step, (long long)inputs->total_steps);
    for (int i = 0; inputs->use_lambdas && i < 3; i++)
        if (!isfinite(inputs->lambdas[i]) || inputs->lambdas[i] < 0)
            return status_fail(BALORA_ERROR_ARGUMENT, "%s: lambdas[%d] is %g; expected 0 or more", name, i,
                               inputs->lambdas[i]);
    if (!isfinite(inputs->gradient_scale) || (inputs->gradient != NULL && inputs->gradient_scale == 0))
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: gradient_scale is %g; expected a finite number, not 0",
                           name, inputs->gradient_scale);
    return BALORA_OK;
}

/* *out is the complete copy, or NULL where the caller gives none. */
static balora_status import_tensor(const balora_tensor **out, balora_tensor *copy,
                                   const balora_tensor *caller, const char *name) {
    *out = NULL;
    if (caller == NULL)
        return BALORA_OK;
    STATUS_TRY(facade_tensor(copy, caller, name));
    *out = copy;
    return BALORA_OK;
}

static balora_status import_request(complete_inputs *out, const balora_regularizer_inputs *caller) {
    STATUS_TRY(import_inputs(out, caller));
    const balora_regularizer_inputs *inputs = &out->inputs;
    evaluate_request *request = &out->request;
    *request = (evaluate_request){.lambdas = inputs->use_lambdas ? inputs->lambdas : NULL,
                                  .step = inputs->step,
                                  .total_steps = inputs->total_steps,
                                  .scale = inputs->gradient_scale,
                                  .accumulate = inputs->accumulate != 0};
    STATUS_TRY(import_tensor(&request->student, &out->student, inputs->student, "student"));
    STATUS_TRY(import_tensor(&request->teacher, &out->teacher, inputs->teacher, "teacher"));
    STATUS_TRY(import_tensor(&request->mask, &out->mask, inputs->mask, "mask"));
    STATUS_TRY(import_tensor(&request->indices, &out->indices, inputs->indices, "indices"));
    return import_tensor(&request->gradient, &out->gradient, inputs->gradient, "gradient");
}

balora_status balora_regularizers_evaluate(balora_regularizers *regularizers,
                                           const balora_regularizer_inputs *inputs,
                                           balora_regularizer_terms *out) {
    complete_inputs complete;
    balora_regularizer_terms terms = BALORA_REGULARIZER_TERMS_INIT;
    facade_call call;
    FACADE_REQUIRE(regularizers);
    FACADE_REQUIRE(inputs);
    FACADE_REQUIRE(out);
    STATUS_TRY(options_check_size(out, "balora_regularizer_terms"));
    balora_status status = import_request(&complete, inputs);
    if (status == BALORA_OK)
        status = facade_enter(&call, regularizers->context);
    if (status == BALORA_OK)
        status = facade_leave(&call, regularizers_evaluate(regularizers, &complete.request, &terms));
    if (status != BALORA_OK)
        return status_prefix(status, "balora_regularizers_evaluate");
    options_export(out, &terms, sizeof terms);
    return BALORA_OK;
}
