/*
 * Bad inputs, each a valid folder with one thing changed: the expected status, a message that names the file and the
 * key, nothing leaked, no file descriptor left open, nothing on disk changed.
 */
#include "hostile.h"
#include "tree.h"

#define SMALLEST_COUNT 150

static const bad_inputs *const tables[] = {&safetensors_inputs, &index_inputs, &config_inputs,
                                           &tokenizer_inputs,   &row_inputs,   &token_inputs,
                                           &adapter_inputs,     &file_inputs};

#define TABLES (sizeof tables / sizeof *tables)

static balora_context *make_context(void) {
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    balora_context *context;
    options.threads = 1;
    expect_ok(balora_context_create(&context, &options));
    return context;
}

static uint64_t held_bytes(const balora_context *context) {
    balora_memory_statistics statistics = BALORA_MEMORY_STATISTICS_INIT;
    expect_ok(balora_context_memory(context, &statistics));
    return statistics.current_bytes;
}

/* What is wrong with the failure of a row; NULL: nothing. */
static const char *judge(const bad_input *row, balora_status status) {
    static char problem[512];
    if (status != row->status || balora_error_status() != status) {
        snprintf(problem, sizeof problem, "status %s, expected %s", balora_status_name(status),
                 balora_status_name(row->status));
        return problem;
    }
    for (int i = 0; i < 3; i++)
        if (row->parts[i] != NULL && strstr(balora_error_message(), row->parts[i]) == NULL) {
            snprintf(problem, sizeof problem, "the message lacks \"%s\"", row->parts[i]);
            return problem;
        }
    return NULL;
}

/* 1: tried, 0: cannot be tried here; *failed counts what is wrong. */
static int try_row(scratch *self, balora_context *context, const bad_input *row, int *failed) {
    valid_folder(self);
    if (!change_folder(self, row))
        return 0;
    uint64_t before = tree_sum(self->folder), held = held_bytes(context);
    int descriptors = open_descriptors();
    balora_status status = make_call(self, context, row);
    const char *problem = judge(row, status);
    if (problem == NULL && held_bytes(context) != held)
        problem = "memory is kept";
    if (problem == NULL && open_descriptors() != descriptors)
        problem = "a file is left open";
    if (problem == NULL && tree_sum(self->folder) != before)
        problem = "files have changed";
    if (problem != NULL) {
        *failed += 1;
        print_message("%s: %s\n    \"%s\"\n", row->name, problem, balora_error_message());
    }
    return 1;
}

static void every_bad_input_is_refused(void **state) {
    scratch *self = *state;
    balora_context *context = make_context();
    int tried = 0, untried = 0, failed = 0;
    for (size_t t = 0; t < TABLES; t++)
        for (size_t i = 0; i < tables[t]->count; i++)
            if (try_row(self, context, &tables[t]->rows[i], &failed))
                tried++;
            else
                untried++;
    balora_context_free(context);
    remove_base(self);
    print_message(
        "%d bad inputs tried, %d with the right status and message (%d need another user than root)\n", tried,
        tried - failed, untried);
    assert_int_equal(failed, 0);
    assert_true(tried >= SMALLEST_COUNT);
}

static void the_folder_without_a_change_is_accepted(void **state) {
    static const call_kind calls[] = {OPEN_MODEL, OPEN_MODEL_F32, OPEN_SHARDS,  OPEN_TOKENIZER,
                                      OPEN_ROWS,  OPEN_TOKENS,    OPEN_ADAPTER, TRAIN,
                                      EVALUATE,   SAVE,           MERGE};
    scratch *self = *state;
    balora_context *context = make_context();
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const bad_input row = {.call = calls[i]};
        valid_folder(self);
        expect_ok(make_call(self, context, &row));
    }
    balora_context_free(context);
    remove_base(self);
}

static void every_row_is_another_one(void **state) {
    (void)state;
    for (size_t t = 0; t < TABLES; t++)
        for (size_t i = 0; i < tables[t]->count; i++)
            for (size_t u = 0; u <= t; u++)
                for (size_t j = 0; j < (u == t ? i : tables[u]->count); j++)
                    if (strcmp(tables[t]->rows[i].name, tables[u]->rows[j].name) == 0)
                        fail_msg("two rows have the name \"%s\"", tables[t]->rows[i].name);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_another_one),
        SCRATCH_TEST(the_folder_without_a_change_is_accepted),
        SCRATCH_TEST(every_bad_input_is_refused),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
