#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/parallel.h"
#include "conformance.h"
#include "tests.h"

typedef struct entry {
    bench *b;
    void (*run)(bench *);
} entry;

static void run_entry(void **state) {
    entry *self = *state;
    self->b->failures = 0;
    self->b->draws = 0; /* a test sees the same numbers whatever runs before it */
    self->run(self->b);
    if (self->b->failures > 0)
        fail_msg("%d failures on %s with %d threads", self->b->failures, self->b->ops->name,
                 (int)self->b->threads);
}

static bool is_left_out(const backend_ops *ops, slot_number slot) {
#define SLOT_LEFT_OUT(name)                                                                                  \
    case SLOT_##name:                                                                                        \
        return ops->name == NULL;
    switch (slot) {
        CONFORMANCE_SLOTS(SLOT_LEFT_OUT)
    default:
        return true;
    }
#undef SLOT_LEFT_OUT
}

/* The last test: every slot of the table was called by some test before it. */
static void test_every_slot_called(bench *b) {
    for (int slot = 0; slot < SLOT_COUNT; slot++)
        if (b->calls[slot] == 0 && !is_left_out(b->ops, (slot_number)slot)) {
            case_begin(b, (slot_number)slot, "completeness");
            bench_report(b, "no test has called this slot");
        }
}

static bool table_is_whole(const backend_ops *ops) {
    const char *missing = NULL;
#define CHECK_SLOT(name)                                                                                     \
    if (ops->name == NULL)                                                                                   \
        missing = #name;
    BACKEND_SLOTS(CHECK_SLOT, BACKEND_SLOT_NONE)
#undef CHECK_SLOT
    if (missing != NULL)
        print_error("the table of \"%s\" has no slot %s\n", ops->name, missing);
    bool header = ops->magic == BACKEND_MAGIC && ops->abi_major == BACKEND_ABI_MAJOR &&
                  ops->abi_minor == BACKEND_ABI_MINOR && ops->struct_size >= sizeof *ops && ops->name != NULL;
    if (!header)
        print_error("magic, ABI numbers, struct_size or name of the table are wrong\n");
    return missing == NULL && header;
}

int conformance_run(const backend_ops *ops, int32_t index, const conformance_options *options) {
    if (!table_is_whole(ops))
        return 1;
    bench b;
    int previous = parallel_enter(options->threads);
    if (bench_open(&b, ops, index, options->threads) != BALORA_OK) {
        print_error("cannot open device %d of \"%s\": %s\n", (int)index, ops->name, balora_error_message());
        parallel_leave(previous);
        return 1;
    }
#define TEST_ENTRY(name)  {&b, test_##name},
#define TEST_RECORD(test) {.name = #test, .test_func = run_entry, .initial_state = &entries[TEST_##test]},
#define TEST_NUMBER(name) TEST_##name,
    enum { CONFORMANCE_TESTS(TEST_NUMBER) TEST_every_slot_called };
    entry entries[] = {CONFORMANCE_TESTS(TEST_ENTRY) TEST_ENTRY(every_slot_called)};
    struct CMUnitTest tests[] = {CONFORMANCE_TESTS(TEST_RECORD) TEST_RECORD(every_slot_called)};
    /* A filtered run cannot call every slot. */
    size_t count = sizeof tests / sizeof tests[0] - (options->filter != NULL);
    if (options->filter != NULL)
        cmocka_set_test_filter(options->filter);
    char title[64];
    snprintf(title, sizeof title, "conformance-%s-%d-threads", ops->name, (int)options->threads);
    int failed = _cmocka_run_group_tests(title, tests, count, NULL, NULL);
    bench_close(&b);
    if (atomic_load(&b.memory.current_bytes) != 0) {
        print_error("%s keeps %llu bytes after device_close\n", ops->name,
                    (unsigned long long)atomic_load(&b.memory.current_bytes));
        failed++;
    }
    parallel_leave(previous);
    return failed;
}
