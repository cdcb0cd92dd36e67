/* Micro-batches: packing, shifted targets, and the rows that each mode asks for. */
#include "data/batch.h"
#include "scratch.h"

#define NONE LABEL_NONE

/* Three sequences: prompt and answer; everything supervised; a supervised token in the middle. */
static const int32_t ids[] = {1, 2, 3, 4, 5, /**/ 6, 7, /**/ 8, 9, 10, 11};
static const int32_t labels[] = {NONE, NONE, NONE, 4, 5, /**/ 6, 7, /**/ NONE, 9, NONE, NONE};
static const int64_t offsets[] = {0, 5, 7, 11};

static void open_data(scratch *self, dataset *data) {
    expect_ok(dataset_from_tokens(data, &self->memory, ids, labels, offsets, 3, 100));
}

static void counts_follow_the_labels(void **state) {
    scratch *self = *state;
    dataset data;
    open_data(self, &data);
    assert_int_equal(data.sequences, 3);
    assert_int_equal(data.tokens, 11);
    assert_int_equal(data.supervised_tokens, 2 + 2 + 1);
    assert_int_equal(data.target_tokens, 2 + 1 + 1);
    assert_int_equal(data.longest_sequence, 5);
    assert_int_equal(data.counts[0].either, 3);
    assert_int_equal(data.counts[1].either, 2);
    assert_int_equal(data.counts[2].either, 2);
    dataset_free(&data);
    dataset_free(&data);
}

typedef struct expected_rows {
    int32_t mode;
    int64_t count, targets, regularized;
    int32_t indices[11], target[11], flag[11];
} expected_rows;

static void rows_are_what_the_terms_need(void **state) {
    scratch *self = *state;
    static const expected_rows cases[] = {
        {BATCH_ROWS_TASK, 4, 4, 0, {2, 3, 5, 7}, {4, 5, 7, 9}, {0, 0, 0, 0}},
        {BATCH_ROWS_PREDICT, 4, 4, 4, {2, 3, 5, 7}, {4, 5, 7, 9}, {1, 1, 1, 1}},
        /* the last token of a sequence has no next one: a row for the regularizers alone */
        {BATCH_ROWS_LABEL, 7, 4, 5, {2, 3, 4, 5, 6, 7, 8}, {4, 5, -1, 7, -1, 9, -1}, {0, 1, 1, 1, 1, 0, 1}},
        {BATCH_ROWS_ALL,
         11,
         4,
         4,
         {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10},
         {-1, -1, 4, 5, -1, 7, -1, 9, -1, -1, -1},
         {0, 0, 1, 1, 0, 1, 0, 1, 0, 0, 0}},
    };
    dataset data;
    open_data(self, &data);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const expected_rows *expected = &cases[i];
        batch_counts capacity = {
            .sequences = 3, .tokens = 11, .longest_sequence = 5, .rows = expected->count};
        token_batch batch;
        expect_ok(batch_allocate(&batch, &self->memory, &capacity));
        for (int64_t s = 0; s < 3; s++)
            expect_ok(batch_append(&batch, &data, s, expected->mode));
        static const int32_t positions[] = {0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3}, borders[] = {0, 5, 7, 11};
        assert_memory_equal(batch.tokens, ids, sizeof ids);
        assert_memory_equal(batch.positions, positions, sizeof positions);
        assert_memory_equal(batch.offsets, borders, sizeof borders);
        assert_int_equal(batch.counts.rows, expected->count);
        assert_int_equal(batch.counts.targets, expected->targets);
        assert_int_equal(batch.counts.regularized, expected->regularized);
        for (int64_t row = 0; row < expected->count; row++) {
            assert_int_equal(batch.row_indices[row], expected->indices[row]);
            assert_int_equal(batch.row_targets[row], expected->target[row]);
            assert_int_equal(batch.row_regularized[row], expected->flag[row]);
        }
        expect_failure(batch_append(&batch, &data, 1, expected->mode), BALORA_ERROR_INTERNAL,
                       "was not planned for");
        assert_int_equal(batch.counts.sequences, 3);
        batch_free(&batch);
        batch_free(&batch);
    }
    dataset_free(&data);
}

static void make_ragged(scratch *self, dataset *data, int64_t sequences) {
    int64_t *borders = calloc((size_t)sequences + 1, sizeof *borders);
    int32_t *tokens = calloc((size_t)sequences * 40, sizeof *tokens), *supervised;
    assert_non_null(borders);
    assert_non_null(tokens);
    for (int64_t i = 0; i < sequences; i++)
        borders[i + 1] = borders[i] + 1 + i * 7919 % 40;
    supervised = calloc((size_t)borders[sequences], sizeof *supervised);
    assert_non_null(supervised);
    for (int64_t i = 0; i < borders[sequences]; i++)
        supervised[i] = i * 31 % 7 < 3 ? NONE : 5;
    expect_ok(dataset_from_tokens(data, &self->memory, tokens, supervised, borders, sequences, 100));
    free(borders);
    free(tokens);
    free(supervised);
}

static void a_planned_run_fits_and_fills_its_plan(void **state) {
    scratch *self = *state;
    dataset data;
    make_ragged(self, &data, 53);
    order_options options = {.sequences = 53,
                             .batch_size = 4,
                             .accumulation = 3,
                             .epochs = 2.5,
                             .seed = 3,
                             .shuffle = true,
                             .packing = true};
    data_order order;
    batch_counts plan, largest = {0};
    token_batch batch;
    expect_ok(order_init(&order, &options));
    expect_ok(batch_plan(&plan, &data, &order, BATCH_ROWS_LABEL));
    expect_ok(batch_allocate(&batch, &self->memory, &plan));
    uint64_t allocations = self->memory.allocations;
    for (int64_t step = 0; step < order.steps; step++) {
        batch_counts sum = {0},
                     whole = batch_count(&data, &order, order_step(&order, step), BATCH_ROWS_LABEL);
        for (int64_t i = 0; i < order_micro_batches(&order, step); i++) {
            expect_ok(
                batch_fill(&batch, &data, &order, order_micro_batch(&order, step, i), BATCH_ROWS_LABEL));
            largest.tokens = batch.counts.tokens > largest.tokens ? batch.counts.tokens : largest.tokens;
            largest.rows = batch.counts.rows > largest.rows ? batch.counts.rows : largest.rows;
            sum.targets += batch.counts.targets;
            sum.regularized += batch.counts.regularized;
            sum.tokens += batch.counts.tokens;
        }
        assert_int_equal(sum.tokens, whole.tokens);
        assert_int_equal(sum.targets, whole.targets);
        assert_int_equal(sum.regularized, whole.regularized);
    }
    assert_int_equal(self->memory.allocations, allocations);
    assert_int_equal(largest.tokens, plan.tokens);
    assert_int_equal(largest.rows, plan.rows);
    assert_int_equal(plan.longest_sequence, data.longest_sequence);

    batch_counts bound;
    options.max_steps = INT64_C(1) << 40; /* too long to be counted: a bound */
    expect_ok(order_init(&order, &options));
    expect_ok(batch_plan(&bound, &data, &order, BATCH_ROWS_LABEL));
    assert_int_equal(bound.tokens, 4 * data.longest_sequence);
    assert_true(bound.rows >= plan.rows && bound.rows <= bound.tokens);
    assert_int_equal(bound.sequences, 4);

    options.batch_size = INT64_C(1) << 31;
    options.max_steps = 1000;
    expect_ok(order_init(&order, &options));
    expect_failure(batch_plan(&bound, &data, &order, BATCH_ROWS_LABEL), BALORA_ERROR_ARGUMENT,
                   "lower batch_size");
    batch_free(&batch);
    dataset_free(&data);
}

static void evaluation_covers_the_file_in_order(void **state) {
    scratch *self = *state;
    dataset data;
    make_ragged(self, &data, 53);
    for (int64_t budget = 1; budget <= 1000; budget = budget * 3 + 1) {
        batch_counts plan;
        token_batch batch;
        expect_ok(batch_plan_spans(&plan, &data, budget, BATCH_ROWS_ALL));
        assert_true(plan.tokens <= budget || plan.tokens == data.longest_sequence);
        expect_ok(batch_allocate(&batch, &self->memory, &plan));
        int64_t tokens = 0;
        for (int64_t first = 0; first < data.sequences;) {
            int64_t end = first + batch_span(&data, first, budget);
            batch_clear(&batch);
            for (; first < end; first++)
                expect_ok(batch_append(&batch, &data, first, BATCH_ROWS_ALL));
            assert_memory_equal(batch.tokens, data.ids + tokens,
                                (size_t)batch.counts.tokens * sizeof(int32_t));
            tokens += batch.counts.tokens;
            assert_int_equal(batch.counts.rows, batch.counts.tokens);
        }
        assert_int_equal(tokens, data.tokens);
        batch_free(&batch);
    }
    dataset_free(&data);
}

static void tokens_in_memory_are_checked(void **state) {
    scratch *self = *state;
    dataset data;
    static const int64_t falling[] = {0, 5, 4, 11}, late[] = {1, 5, 7, 11}, empty[] = {0, 0, 11, 11};
    balora_status status = dataset_from_tokens(&data, &self->memory, ids, labels, falling, 3, 100);
    expect_failure(status, BALORA_ERROR_ARGUMENT, "offsets[2] is 4; expected 5");
    status = dataset_from_tokens(&data, &self->memory, ids, labels, late, 3, 100);
    expect_failure(status, BALORA_ERROR_ARGUMENT, "offsets[0] is 1");
    status = dataset_from_tokens(&data, &self->memory, ids, labels, offsets, 0, 100);
    expect_failure(status, BALORA_ERROR_ARGUMENT, "0 sequences");
    status = dataset_from_tokens(&data, &self->memory, ids, labels, offsets, 3, 11);
    expect_failure(status, BALORA_ERROR_MISMATCH, "input_ids[10] is 11; expected 0 to 10");
    expect_ok(dataset_from_tokens(&data, &self->memory, ids, NULL, empty, 3, 12));
    assert_int_equal(data.sequences, 1);
    assert_int_equal(data.skipped_rows, 2);
    assert_int_equal(data.supervised_tokens, 11);
    assert_int_equal(data.target_tokens, 10);
    dataset_free(&data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(counts_follow_the_labels),
        SCRATCH_TEST(rows_are_what_the_terms_need),
        SCRATCH_TEST(a_planned_run_fits_and_fills_its_plan),
        SCRATCH_TEST(evaluation_covers_the_file_in_order),
        SCRATCH_TEST(tokens_in_memory_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
