/* Suggestions for mistyped words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/nearest.h"

static const char *const words[] = {"lambda_svd", "learning_rate", "rank",
                                    "top_k",      "temperature",   "max_steps"};

static const char *nearest_of(const char *typed) {
    nearest_word nearest;
    nearest_start(&nearest, typed);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        nearest_consider(&nearest, words[i]);
    return nearest.best;
}

static void finds_the_word_behind_a_slip(void **state) {
    (void)state;
    assert_string_equal(nearest_of("lamda_svd"), "lambda_svd");        /* a letter is missing */
    assert_string_equal(nearest_of("lambda-svd"), "lambda_svd");       /* '-' for '_' */
    assert_string_equal(nearest_of("learnign_rate"), "learning_rate"); /* two are swapped */
    assert_string_equal(nearest_of("rnak"), "rank");
    assert_string_equal(nearest_of("max_step"), "max_steps");
    assert_string_equal(nearest_of("tempratur"), "temperature");
}

static void offers_nothing_for_strange_words(void **state) {
    (void)state;
    assert_null(nearest_of("zzzzzzzz"));
    assert_null(nearest_of("q"));
    assert_null(nearest_of(""));
}

static void refuses_words_beyond_its_table(void **state) {
    (void)state;
    char endless[200];
    for (size_t i = 0; i < sizeof endless - 1; i++)
        endless[i] = 'r';
    endless[sizeof endless - 1] = '\0';
    assert_null(nearest_of(endless));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_word_behind_a_slip),
        cmocka_unit_test(offers_nothing_for_strange_words),
        cmocka_unit_test(refuses_words_beyond_its_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
