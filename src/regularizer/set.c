#include "regularizer/set.h"

#include <math.h>

#include "base/status.h"
#include "regularizer/evaluator.h"

#define PI 3.14159265358979323846

balora_status regularizers_create(balora_regularizers **out, balora_context *context,
                                  const balora_regularizer_options *options) {
    balora_regularizers *set;
    STATUS_TRY(memory_zeroed(&context->memory, &set, 1, sizeof *set, "a regularizer set"));
    atomic_init(&set->references, 1);
    set->context = context_retain(context);
    set->options = *options;
    if (set->options.adaptive_minimum < 0)
        set->options.adaptive_minimum = 0.1 * options->lambda_consistency;
    if (set->options.adaptive_maximum < 0)
        set->options.adaptive_maximum = options->lambda_consistency;
    *out = set;
    return BALORA_OK;
}

balora_regularizers *regularizers_retain(balora_regularizers *set) {
    atomic_fetch_add(&set->references, 1);
    return set;
}

void regularizers_release(balora_regularizers *set) {
    if (set == NULL || atomic_fetch_sub(&set->references, 1) != 1)
        return;
    balora_context *context = set->context;
    evaluator_free(set->evaluator);
    memory_free(&context->memory, set);
    context_release(context);
}

static double consistency_weight(const balora_regularizer_options *options, double progress, double entropy) {
    double lambda = options->lambda_consistency;
    switch (options->consistency_schedule) {
    case BALORA_CONSISTENCY_COSINE:
        return 0.1 * lambda + 0.9 * lambda * 0.5 * (1 + cos(PI * progress));
    case BALORA_CONSISTENCY_ADAPTIVE: {
        double certainty = 1 - fmin(fmax(entropy, 0), 1);
        return options->adaptive_minimum +
               (options->adaptive_maximum - options->adaptive_minimum) * certainty;
    }
    default:
        return lambda;
    }
}

static double focus_factor(const balora_regularizer_options *options, int64_t step, int64_t total) {
    double warmup = floor(options->focus_warmup_ratio * (double)total);
    double ramp = fmax(floor(options->focus_ramp_ratio * (double)total), 1);
    double t = (double)step;
    switch (options->focus_schedule) {
    case BALORA_FOCUS_TWO_PHASE:
        return t < warmup ? 0 : fmin((t - warmup) / ramp, 1);
    case BALORA_FOCUS_LINEAR_WARMUP:
        return t < warmup ? t / warmup : 1;
    case BALORA_FOCUS_QUADRATIC_WARMUP:
        return t < warmup ? (t / warmup) * (t / warmup) : 1;
    default:
        return 1;
    }
}

void regularizers_weights(const balora_regularizers *set, int64_t step, int64_t total, double entropy,
                          double lambdas[3]) {
    const balora_regularizer_options *options = &set->options;
    double focus = focus_factor(options, step, total);
    lambdas[0] = regularizers_use_teacher(set)
                     ? consistency_weight(options, (double)step / (double)total, entropy)
                     : 0;
    lambdas[1] = options->lambda_diversity * focus;
    lambdas[2] = options->lambda_svd * focus;
}

bool regularizers_use_teacher(const balora_regularizers *set) {
    return set != NULL && set->options.lambda_consistency != 0;
}

bool regularizers_any(const balora_regularizers *set) {
    return regularizers_use_teacher(set) ||
           (set != NULL && (set->options.lambda_diversity != 0 || set->options.lambda_svd != 0));
}
