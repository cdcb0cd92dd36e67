/* Schedules: learning rates against Transformers, weights of the regularizers against their closed forms. */
#include "scratch.h"

#include <math.h>

#include "optim/schedule.h"
#include "regularizer/set.h"
#include "schedule_table.h"

/* Both sides compute in double precision; a cosine may differ by some units in the last place. */
#define TOLERANCE 1e-14

static void expect_close(const char *what, double found, double expected) {
    if (!(fabs(found - expected) <= TOLERANCE * fmax(1, fabs(expected))))
        fail_msg("%s is %.17g, expected %.17g", what, found, expected);
}

static void learning_rates_are_those_of_transformers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof learning_rates / sizeof learning_rates[0]; i++) {
        double found = schedule_learning_rate(learning_rates[i].schedule, 1, learning_rates[i].warmup_ratio,
                                              learning_rates[i].step, learning_rates[i].total);
        char what[128];
        snprintf(what, sizeof what, "schedule %d, warm-up %g, step %lld of %lld",
                 (int)learning_rates[i].schedule, learning_rates[i].warmup_ratio,
                 (long long)learning_rates[i].step, (long long)learning_rates[i].total);
        expect_close(what, found, learning_rates[i].expected);
    }
}

static void the_peak_is_a_factor(void **state) {
    (void)state;
    static const int32_t schedules[] = {BALORA_LR_COSINE, BALORA_LR_LINEAR, BALORA_LR_CONSTANT};
    for (size_t i = 0; i < 3; i++)
        for (int64_t step = 0; step < 20; step++) {
            double unit = schedule_learning_rate(schedules[i], 1, 0.2, step, 20);
            double found = schedule_learning_rate(schedules[i], 2e-5, 0.2, step, 20);
            expect_close("a share of the peak", found / 2e-5, unit);
        }
}

typedef struct weights_case {
    int32_t consistency, focus;
    double warmup, ramp;
    double minimum, maximum; /* of the adaptive schedule; negative: the defaults */
    int64_t step, total;
    double entropy;
    double expected[3]; /* lambdas over 0.4, 0.2 and 0.1 */
} weights_case;

static void check_weights(const weights_case *one) {
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    balora_regularizer_options regularizers = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_context *context;
    balora_regularizers *set;
    static const double lambdas[3] = {0.4, 0.2, 0.1};
    double found[3] = {-1, -1, -1};
    regularizers.lambda_consistency = lambdas[0];
    regularizers.lambda_diversity = lambdas[1];
    regularizers.lambda_svd = lambdas[2];
    regularizers.consistency_schedule = one->consistency;
    regularizers.focus_schedule = one->focus;
    regularizers.focus_warmup_ratio = one->warmup;
    regularizers.focus_ramp_ratio = one->ramp;
    regularizers.adaptive_minimum = one->minimum;
    regularizers.adaptive_maximum = one->maximum;
    expect_ok(context_new(&context, &options));
    expect_ok(regularizers_create(&set, context, &regularizers));
    regularizers_weights(set, one->step, one->total, one->entropy, found);
    for (int i = 0; i < 3; i++) {
        char what[96];
        snprintf(what, sizeof what, "lambda %d at step %lld of %lld, schedules %d and %d", i + 1,
                 (long long)one->step, (long long)one->total, (int)one->consistency, (int)one->focus);
        expect_close(what, found[i], lambdas[i] * one->expected[i]);
    }
    regularizers_release(set);
    context_release(context);
}

#define COSINE   BALORA_CONSISTENCY_COSINE
#define ADAPTIVE BALORA_CONSISTENCY_ADAPTIVE
#define FIXED    BALORA_CONSISTENCY_CONSTANT
#define PHASES   BALORA_FOCUS_TWO_PHASE
#define LINEAR   BALORA_FOCUS_LINEAR_WARMUP
#define SQUARE   BALORA_FOCUS_QUADRATIC_WARMUP
#define ALWAYS   BALORA_FOCUS_CONSTANT

static void consistency_follows_a_cosine_to_a_tenth(void **state) {
    (void)state;
    const weights_case cases[] = {
        {COSINE, ALWAYS, 0.2, 0.05, -1, -1, 0, 1, 0, {1, 1, 1}},
        {COSINE, ALWAYS, 0.2, 0.05, -1, -1, 0, 100, 0, {1, 1, 1}},
        {COSINE, ALWAYS, 0.2, 0.05, -1, -1, 25, 100, 0, {0.55 + 0.45 * 0.70710678118654752, 1, 1}},
        {COSINE, ALWAYS, 0.2, 0.05, -1, -1, 50, 100, 0, {0.55, 1, 1}},
        {COSINE, ALWAYS, 0.2, 0.05, -1, -1, 2, 3, 0, {0.325, 1, 1}},
        {FIXED, ALWAYS, 0.2, 0.05, -1, -1, 50, 100, 0.7, {1, 1, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_weights(&cases[i]);
}

static void consistency_adapts_to_the_teachers_certainty(void **state) {
    (void)state;
    const weights_case cases[] = {
        {ADAPTIVE, ALWAYS, 0.2, 0.05, -1, -1, 3, 10, 0, {1, 1, 1}},
        {ADAPTIVE, ALWAYS, 0.2, 0.05, -1, -1, 3, 10, 1, {0.1, 1, 1}},
        {ADAPTIVE, ALWAYS, 0.2, 0.05, -1, -1, 9, 10, 0.25, {0.1 + 0.9 * 0.75, 1, 1}},
        /* clamped: rounding may put an entropy beyond its bounds */
        {ADAPTIVE, ALWAYS, 0.2, 0.05, -1, -1, 3, 10, 1.5, {0.1, 1, 1}},
        {ADAPTIVE, ALWAYS, 0.2, 0.05, -1, -1, 3, 10, -0.5, {1, 1, 1}},
        /* the given bounds are weights themselves, not shares of lambda 1 */
        {ADAPTIVE, ALWAYS, 0.2, 0.05, 0.2, 0.8, 3, 10, 0.5, {0.5 / 0.4, 1, 1}},
        {ADAPTIVE, ALWAYS, 0.2, 0.05, 0, -1, 3, 10, 1, {0, 1, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_weights(&cases[i]);
}

static void focus_terms_wait_and_then_ramp_up(void **state) {
    (void)state;
    const weights_case cases[] = {
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 0, 100, 0, {1, 0, 0}},
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 19, 100, 0, {1, 0, 0}},
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 20, 100, 0, {1, 0, 0}},
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 21, 100, 0, {1, 0.2, 0.2}},
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 24, 100, 0, {1, 0.8, 0.8}},
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 25, 100, 0, {1, 1, 1}},
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 99, 100, 0, {1, 1, 1}},
        /* floor(0.2 * 9) = 1 step of waiting, and a ramp is one step long at least */
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 1, 9, 0, {1, 0, 0}},
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 2, 9, 0, {1, 1, 1}},
        {FIXED, PHASES, 0, 0, -1, -1, 0, 10, 0, {1, 0, 0}},
        {FIXED, PHASES, 0, 0, -1, -1, 1, 10, 0, {1, 1, 1}},
        {FIXED, PHASES, 0.2, 0.05, -1, -1, 0, 1, 0, {1, 0, 0}},
        {FIXED, PHASES, 0, 1, -1, -1, 5, 10, 0, {1, 0.5, 0.5}},
        {FIXED, PHASES, 1, 1, -1, -1, 9, 10, 0, {1, 0, 0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_weights(&cases[i]);
}

static void focus_terms_warm_up(void **state) {
    (void)state;
    const weights_case cases[] = {
        {FIXED, LINEAR, 0.2, 0.05, -1, -1, 0, 100, 0, {1, 0, 0}},
        {FIXED, LINEAR, 0.2, 0.05, -1, -1, 5, 100, 0, {1, 0.25, 0.25}},
        {FIXED, LINEAR, 0.2, 0.05, -1, -1, 20, 100, 0, {1, 1, 1}},
        {FIXED, LINEAR, 0, 0.05, -1, -1, 0, 100, 0, {1, 1, 1}},
        {FIXED, LINEAR, 0.5, 0.05, -1, -1, 0, 1, 0, {1, 1, 1}},
        {FIXED, LINEAR, 1, 1, -1, -1, 0, 1, 0, {1, 0, 0}},
        {FIXED, LINEAR, 1, 1, -1, -1, 9, 10, 0, {1, 0.9, 0.9}},
        {FIXED, SQUARE, 0.2, 0.05, -1, -1, 0, 100, 0, {1, 0, 0}},
        {FIXED, SQUARE, 0.2, 0.05, -1, -1, 5, 100, 0, {1, 0.0625, 0.0625}},
        {FIXED, SQUARE, 0.2, 0.05, -1, -1, 20, 100, 0, {1, 1, 1}},
        {FIXED, SQUARE, 0, 0.05, -1, -1, 0, 100, 0, {1, 1, 1}},
        {FIXED, SQUARE, 1, 1, -1, -1, 9, 10, 0, {1, 0.81, 0.81}},
        {FIXED, ALWAYS, 1, 1, -1, -1, 0, 10, 0, {1, 1, 1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_weights(&cases[i]);
}

static void a_weight_of_zero_switches_its_term_off(void **state) {
    (void)state;
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    balora_regularizer_options regularizers = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_context *context;
    balora_regularizers *set;
    double found[3] = {-1, -1, -1};
    regularizers.lambda_consistency = 0;
    regularizers.lambda_diversity = 0;
    regularizers.consistency_schedule = ADAPTIVE;
    regularizers.focus_schedule = ALWAYS;
    regularizers.adaptive_minimum = 0.3; /* does not bring the teacher back */
    expect_ok(context_new(&context, &options));
    expect_ok(regularizers_create(&set, context, &regularizers));
    regularizers_weights(set, 3, 10, 0.5, found);
    assert_true(found[0] == 0 && found[1] == 0);
    assert_true(found[2] == regularizers.lambda_svd);
    assert_false(regularizers_use_teacher(set));
    assert_true(regularizers_any(set));
    assert_false(regularizers_any(NULL));
    regularizers_release(set);
    context_release(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learning_rates_are_those_of_transformers),
        cmocka_unit_test(the_peak_is_a_factor),
        cmocka_unit_test(consistency_follows_a_cosine_to_a_tenth),
        cmocka_unit_test(consistency_adapts_to_the_teachers_certainty),
        cmocka_unit_test(focus_terms_wait_and_then_ramp_up),
        cmocka_unit_test(focus_terms_warm_up),
        cmocka_unit_test(a_weight_of_zero_switches_its_term_off),
    };
    return cmocka_run_group_tests_name("schedules", tests, NULL, NULL);
}
