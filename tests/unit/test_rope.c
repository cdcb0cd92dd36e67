/* Rotary frequencies of every context extension against Transformers, and the tables made from them. */
#include "scratch.h"

#include <math.h>

#include "../device.h"
#include "base/parallel.h"
#include "model/rope.h"
#include "rope_table.h"

/* Transformers raises theta to a power in F32: its exponent is rounded before, which moves a frequency by
 * some 1e-6. */
#define FREQUENCY_TOLERANCE 2e-6
#define CASE_COUNT          (sizeof rope_frequency_table / sizeof rope_frequency_table[0])

static model_config read_config(scratch *self, size_t index) {
    char text[1024];
    model_config config;
    snprintf(text, sizeof text,
             "{\"model_type\": \"llama\", \"vocab_size\": 50, \"intermediate_size\": 8, "
             "\"num_hidden_layers\": 1, \"num_attention_heads\": 2, %s}",
             rope_frequency_table[index].config);
    scratch_text(self, "config.json", text);
    expect_ok(model_config_read(&config, &self->memory, self->folder));
    return config;
}

static void frequencies_are_those_of_transformers(void **state) {
    for (size_t i = 0; i < CASE_COUNT; i++) {
        model_config config = read_config(*state, i);
        float found[16];
        assert_int_equal(config.head_dim, 2 * rope_frequency_table[i].count);
        rope_frequencies(&config, &config.rope, rope_frequency_table[i].length, found);
        for (int64_t pair = 0; pair < config.head_dim / 2; pair++) {
            double expected = rope_frequency_table[i].expected[pair], one = (double)found[pair];
            if (!(fabs(one - expected) <= FREQUENCY_TOLERANCE * expected))
                fail_msg("%s, length %lld: frequency %lld is %.9g, expected %.9g",
                         rope_frequency_table[i].name, (long long)rope_frequency_table[i].length,
                         (long long)pair, one, expected);
        }
        assert_true(fabs(config.rope.attention_factor - rope_frequency_table[i].attention_factor) <= 1e-12);
    }
}

typedef struct workbench {
    backend device;
    backend_queue *queue;
    rope_table table;
    float *host; /* [rows, head_dim] */
} workbench;

static void open_table(workbench *self, scratch *base, const model_config *config, const int64_t *lengths,
                       int64_t count) {
    expect_ok(backend_open(&self->device, &base->memory, test_device(), NULL, 1));
    const backend_ops *ops = self->device.ops;
    expect_ok(ops->queue_open(&self->queue, self->device.device));
    expect_ok(
        rope_table_create(&self->table, &base->memory, &self->device, self->queue, config, lengths, count));
    int64_t bytes = view_bytes(self->table.table);
    self->host = malloc((size_t)bytes);
    assert_non_null(self->host);
    expect_ok(
        ops->download(self->queue, self->host, self->table.table.buffer, self->table.table.offset, bytes));
    expect_ok(ops->synchronize(self->queue));
}

static void close_table(workbench *self) {
    free(self->host);
    rope_table_free(&self->table);
    self->device.ops->queue_close(self->queue);
    backend_close(&self->device);
}

/* Cosines, then sines, of positions from 0 on at the frequencies of a length; rounded to F32 twice. */
static void check_section(const workbench *self, const model_config *config, int64_t length) {
    int64_t first = rope_table_first_row(&self->table, length), half = config->head_dim / 2;
    float frequencies[16];
    assert_in_range(first + length, 1, self->table.table.rows);
    rope_frequencies(config, &config->rope, length, frequencies);
    for (int64_t position = 0; position < length; position++)
        for (int64_t pair = 0; pair < half; pair++) {
            const float *row = self->host + (first + position) * config->head_dim;
            double angle = (double)((float)position * frequencies[pair]);
            double factor = config->rope.attention_factor;
            if (!(fabs((double)row[pair] - factor * cos(angle)) <= 2e-7 * factor &&
                  fabs((double)row[half + pair] - factor * sin(angle)) <= 2e-7 * factor))
                fail_msg("length %lld, position %lld, pair %lld: %.9g and %.9g", (long long)length,
                         (long long)position, (long long)pair, (double)row[pair], (double)row[half + pair]);
        }
}

static size_t find_case(const char *name) {
    for (size_t i = 0; i < CASE_COUNT; i++)
        if (strcmp(rope_frequency_table[i].name, name) == 0)
            return i;
    fail_msg("the table has no case \"%s\"", name);
    return 0;
}

static void a_table_holds_cosines_and_sines(void **state) {
    static const char *const names[] = {"default", "yarn", "llama3 of LLaMA 3.1"};
    static const int64_t lengths[] = {7, 30, 1};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        model_config config = read_config(*state, find_case(names[i]));
        workbench self = {0};
        open_table(&self, *state, &config, lengths, 3);
        assert_int_equal(self.table.table.rows, 30);
        assert_int_equal(self.table.table.cols, config.head_dim);
        for (size_t k = 0; k < 3; k++) {
            assert_int_equal(rope_table_first_row(&self.table, lengths[k]), 0);
            check_section(&self, &config, lengths[k]);
        }
        close_table(&self);
    }
}

/* Lengths up to the model's 64 positions share one section; each longer one has its own, made once. */
static void dynamic_scaling_has_a_section_a_length(void **state) {
    static const int64_t lengths[] = {100, 20, 65, 100, 64, 65, 5};
    static const int64_t distinct[] = {5, 20, 64, 65, 100};
    model_config config = read_config(*state, find_case("dynamic"));
    workbench self = {0};
    open_table(&self, *state, &config, lengths, 7);
    assert_int_equal(self.table.table.rows, 64 + 65 + 100);
    assert_int_equal(self.table.long_count, 2);
    assert_int_equal(rope_table_first_row(&self.table, 5), 0);
    assert_int_equal(rope_table_first_row(&self.table, 64), 0);
    assert_int_equal(rope_table_first_row(&self.table, 65), 64);
    assert_int_equal(rope_table_first_row(&self.table, 100), 64 + 65);
    for (size_t i = 0; i < sizeof distinct / sizeof distinct[0]; i++)
        check_section(&self, &config, distinct[i]);
    close_table(&self);
}

static void dynamic_scaling_needs_no_short_sequence(void **state) {
    static const int64_t lengths[] = {70, 66};
    model_config config = read_config(*state, find_case("dynamic"));
    workbench self = {0};
    open_table(&self, *state, &config, lengths, 2);
    check_section(&self, &config, 66);
    check_section(&self, &config, 70);
    close_table(&self);
    open_table(&self, *state, &config, NULL, 0);
    assert_int_equal(self.table.table.rows, 1);
    close_table(&self);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(frequencies_are_those_of_transformers),
        SCRATCH_TEST(a_table_holds_cosines_and_sines),
        SCRATCH_TEST(dynamic_scaling_has_a_section_a_length),
        SCRATCH_TEST(dynamic_scaling_needs_no_short_sequence),
    };
    parallel_enter(1);
    return cmocka_run_group_tests_name("rope", tests, NULL, NULL);
}
