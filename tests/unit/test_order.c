/* The order of the data: full permutations, the same every time, steps that cover the stream once. */
#include <math.h>

#include "data/order.h"
#include "scratch.h"

static order_options usual(void) {
    return (order_options){.sequences = 10,
                           .batch_size = 2,
                           .accumulation = 2,
                           .epochs = 1,
                           .seed = 7,
                           .shuffle = true,
                           .packing = true};
}

static void every_epoch_is_a_permutation(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 10, 64, 65, 1000, 4097};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        order_options options = usual();
        data_order order;
        options.sequences = sizes[s];
        options.epochs = 3;
        expect_ok(order_init(&order, &options));
        int *seen = calloc((size_t)sizes[s], sizeof *seen);
        assert_non_null(seen);
        for (int64_t place = 0; place < 3 * sizes[s]; place++) {
            int64_t sequence = order_sequence(&order, place);
            assert_in_range(sequence, 0, sizes[s] - 1);
            assert_int_equal(seen[sequence], place / sizes[s]);
            seen[sequence]++;
        }
        free(seen);
    }
}

static int64_t count_equal_places(const data_order *a, const data_order *b, int64_t shift) {
    int64_t equal = 0;
    for (int64_t i = 0; i < a->sequences; i++)
        equal += order_sequence(a, i) == order_sequence(b, i + shift);
    return equal;
}

static void orders_follow_seed_and_epoch_only(void **state) {
    (void)state;
    order_options options = usual();
    data_order order, same, other;
    options.sequences = 1000;
    options.epochs = 2;
    expect_ok(order_init(&order, &options));
    options.batch_size = 5;
    options.max_steps = 9; /* another cut of the same stream */
    expect_ok(order_init(&same, &options));
    options.seed = 8;
    expect_ok(order_init(&other, &options));
    assert_int_equal(count_equal_places(&order, &same, 0), 1000);
    /* Two random orders of 1000 agree at one place on average. */
    assert_in_range(count_equal_places(&order, &other, 0), 0, 10);
    assert_in_range(count_equal_places(&order, &order, 1000), 0, 10);
}

static void without_shuffle_the_file_order_wraps_round(void **state) {
    (void)state;
    order_options options = usual();
    data_order order;
    options.shuffle = false;
    options.max_steps = 7;
    expect_ok(order_init(&order, &options));
    assert_int_equal(order.steps, 7);
    for (int64_t place = 0; place < order.places; place++)
        assert_int_equal(order_sequence(&order, place), place % 10);
}

/* Steps and their micro-batches follow each other without gap, to the end of the run. */
static void check_cover(const data_order *order, int64_t largest_micro_batch) {
    int64_t place = 0;
    for (int64_t step = 0; step < order->steps; step++) {
        assert_int_equal(order_step(order, step).first, place);
        for (int64_t i = 0; i < order_micro_batches(order, step); i++) {
            order_range range = order_micro_batch(order, step, i);
            assert_int_equal(range.first, place);
            assert_in_range(range.count, 1, largest_micro_batch);
            place += range.count;
        }
    }
    assert_int_equal(place, order->places);
}

static void steps_cover_the_run(void **state) {
    (void)state;
    static const struct {
        double epochs;
        int64_t max_steps, places, steps, last;
    } cases[] = {
        {1, 0, 10, 3, 2}, {2, 0, 20, 5, 4}, {1.1, 0, 11, 3, 3}, {0.25, 0, 3, 1, 3},
        {3, 0, 30, 8, 2}, {1, 1, 4, 1, 4},  {1, 9, 36, 9, 4},   {0.01, 0, 1, 1, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        order_options options = usual();
        data_order order;
        options.epochs = cases[i].epochs;
        options.max_steps = cases[i].max_steps;
        expect_ok(order_init(&order, &options));
        assert_int_equal(order.places, cases[i].places);
        assert_int_equal(order.steps, cases[i].steps);
        assert_int_equal(order_step(&order, order.steps - 1).count, cases[i].last);
        check_cover(&order, 2);
        options.packing = false;
        expect_ok(order_init(&order, &options));
        assert_int_equal(order.steps, cases[i].steps);
        check_cover(&order, 1);
    }
    order_options options = usual();
    data_order order;
    options.max_steps = 3;
    expect_ok(order_init(&order, &options));
    assert_true(order_epochs(&order, 0) == 0.0);
    assert_true(order_epochs(&order, 2) == 0.8);
    assert_true(order_epochs(&order, 3) == 1.2);
}

static void bad_options_are_named(void **state) {
    (void)state;
    static const struct {
        int64_t sequences, batch_size, accumulation, max_steps;
        double epochs;
        const char *fragment;
    } cases[] = {
        {0, 1, 1, 0, 1, "no sequence"},
        {9, 0, 1, 0, 1, "batch_size is 0"},
        {9, 1, -1, 0, 1, "gradient_accumulation -1"},
        {9, INT64_MAX, 2, 0, 1, "batch_size is 9223372036854775807"},
        {9, 1, 1, -1, 1, "max_steps is -1"},
        {9, 4, 1, INT64_MAX / 2, 1, "max_steps is"},
        {9, 1, 1, 0, 0, "epochs is 0"},
        {9, 1, 1, 0, -1, "epochs is -1"},
        {9, 1, 1, 0, 1e300, "epochs is 1e+300"},
        {9, 1, 1, 0, (double)NAN, "epochs is"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        order_options options = {.sequences = cases[i].sequences,
                                 .batch_size = cases[i].batch_size,
                                 .accumulation = cases[i].accumulation,
                                 .max_steps = cases[i].max_steps,
                                 .epochs = cases[i].epochs};
        data_order order;
        expect_failure(order_init(&order, &options), BALORA_ERROR_ARGUMENT, cases[i].fragment);
    }
    order_options options = usual();
    data_order order;
    options.batch_size = INT64_MAX; /* one step takes everything */
    options.accumulation = 1;
    expect_ok(order_init(&order, &options));
    assert_int_equal(order.steps, 1);
    assert_int_equal(order_micro_batch(&order, 0, 0).count, 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_epoch_is_a_permutation),
        cmocka_unit_test(orders_follow_seed_and_epoch_only),
        cmocka_unit_test(without_shuffle_the_file_order_wraps_round),
        cmocka_unit_test(steps_cover_the_run),
        cmocka_unit_test(bad_options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
