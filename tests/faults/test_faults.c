/*
 * Every call that can fail, made to fail: the first one, the second one, and so on until a scenario runs to its end
 * undisturbed. Each time: the right status, with errno where the operating system failed; no memory, no block of jansson and
 * no file descriptor kept; every file in the output folder as it was or as it is to be; and the same call on the same
 * handles succeeds afterwards.
 */
#include "scenarios.h"

#include "../hostile/tree.h"
#include "inject.h"

#define MOST_CALLS 5000

static const char *const kind_names[FAULT_KINDS] = {"",        "errors", "short transfers",
                                                    "signals", "memory", "memory of jansson"};

typedef struct totals {
    int64_t injected, points;
} totals;

/* --- the output folder --- */

/* A folder beside the scratch folder, or in it. Valid until four calls later. */
static const char *place(const stage *self, const char *suffix) {
    static char paths[4][64];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s%s", self->files->folder, suffix);
    return path;
}

static void keep_output(const stage *self, const char *suffix) {
    tree_remove(place(self, suffix));
    tree_copy(place(self, "/out"), place(self, suffix));
}

static void restore_output(const stage *self) {
    tree_remove(place(self, "/out"));
    tree_copy(place(self, ".before"), place(self, "/out"));
}

/* --- one failure --- */

static uint64_t held_bytes(const balora_context *context) {
    balora_memory_statistics statistics = BALORA_MEMORY_STATISTICS_INIT;
    expect_ok(balora_context_memory(context, &statistics));
    return statistics.current_bytes;
}

/* A close whose file was only read, or whose folder was synced, may fail unheard; so may tidying up, and an old checkpoint that
 * cannot be removed is told to the log. */
static const char *judge(const scenario *what, fault_kind kind, balora_status status, injected seen) {
    if (kind == FAULT_SHORT || kind == FAULT_SIGNAL)
        return status == BALORA_OK ? NULL : "the call fails";
    /* A text that jansson cannot keep is a syntax error to it. */
    if (kind == FAULT_JSON && status == BALORA_ERROR_FORMAT &&
        strstr(balora_error_message(), "not valid JSON") != NULL)
        return NULL;
    if (what->forgives && (status == BALORA_OK || status == BALORA_ERROR_FORMAT))
        return NULL;
    if (kind == FAULT_MEMORY || kind == FAULT_JSON)
        return status == BALORA_ERROR_MEMORY ? NULL : "expected the status MEMORY";
    if (status == BALORA_OK)
        return strcmp(seen.call, "close") == 0 || strcmp(seen.call, "opendir") == 0 ? NULL
                                                                                    : "the call succeeds";
    if (status != BALORA_ERROR_IO)
        return "expected the status IO";
    if (balora_error_origin() != BALORA_ORIGIN_LIBC || !(seen.numbers >> balora_error_native_code() & 1))
        return "expected errno as the native code";
    return strstr(balora_error_message(), "scratch-") != NULL ? NULL : "the message names no file";
}

/* False when nothing was left to hit. */
static bool fail_once(stage *self, const scenario *what, fault_kind kind, int64_t at, bool from_then_on,
                      totals *sum) {
    if (what->writes)
        restore_output(self);
    uint64_t held = held_bytes(self->context);
    int64_t blocks = inject_json_blocks();
    int descriptors = open_descriptors();
    inject(kind, at, from_then_on);
    balora_status status = what->run(self);
    inject_nothing();
    injected seen = inject_report();
    const char *problem = seen.hits == 0 ? (status == BALORA_OK ? NULL : "it fails undisturbed")
                                         : judge(what, kind, status, seen);
    if (problem == NULL && self->trainer == NULL && held_bytes(self->context) != held)
        problem = "memory is kept"; /* a trainer may keep what it says of a resume */
    if (problem == NULL && inject_json_blocks() != blocks)
        problem = "JSON values are kept";
    if (problem == NULL && open_descriptors() != descriptors)
        problem = "a file is left open";
    if (problem == NULL && what->writes &&
        !tree_is_old_or_new(place(self, "/out"), place(self, ".before"), place(self, ".after")))
        problem = "the output folder is damaged";
    if (problem == NULL && what->writes && status != BALORA_OK &&
        !tree_holds(place(self, "/out"), place(self, ".before")))
        problem = "the output folder has lost something";
    if (problem == NULL && what->writes && !what->forgives && status == BALORA_OK &&
        tree_sum(place(self, "/out")) != tree_sum(place(self, ".after")))
        problem = "the result differs";
    if (problem != NULL)
        fail_msg("%s, %s, call %lld (%s)%s: %s; %s: \"%s\"", what->name, kind_names[kind], (long long)at,
                 seen.call != NULL ? seen.call : "none", from_then_on ? " and all behind it" : "", problem,
                 balora_status_name(status), balora_error_message());
    sum->injected += seen.hits;
    return seen.hits > 0;
}

static void expect_retry(stage *self, const scenario *what) {
    expect_ok(what->run(self));
    if (what->writes && !what->forgives && tree_sum(place(self, "/out")) != tree_sum(place(self, ".after")))
        fail_msg("%s: another result behind a failure", what->name);
}

static void fail_everywhere(stage *self, const scenario *what, fault_kind kind, bool from_then_on,
                            totals *sum) {
    int64_t at = 0;
    uint64_t held = held_bytes(self->context);
    while (fail_once(self, what, kind, at, from_then_on, sum)) {
        expect_retry(self, what);
        if (held_bytes(self->context) != held)
            fail_msg("%s, %s, call %lld: memory is kept", what->name, kind_names[kind], (long long)at);
        assert_true(++at < MOST_CALLS);
    }
    sum->points += at;
    if (!from_then_on)
        print_message("  %-36s %-18s %4lld calls\n", what->name, kind_names[kind], (long long)at);
}

static void run_kind(void **state, fault_kind kind) {
    scratch *files = *state;
    totals sum = {0};
    for (size_t i = 0; i < scenario_count; i++) {
        stage self;
        valid_folder(files);
        stage_open(&self, files, scenarios[i].needs);
        keep_output(&self, ".before");
        expect_ok(scenarios[i].run(&self)); /* also: what a first call keeps for later is there */
        keep_output(&self, ".after");
        fail_everywhere(&self, &scenarios[i], kind, false, &sum);
        if (kind != FAULT_SIGNAL && kind != FAULT_JSON)
            fail_everywhere(&self, &scenarios[i], kind, true, &sum);
        stage_close(&self);
    }
    remove_base(files);
    tree_remove(place(&(stage){.files = files}, ".before"));
    tree_remove(place(&(stage){.files = files}, ".after"));
    assert_true(sum.points > 0);
    print_message("%s: %zu scenarios, %lld places, %lld failures injected\n", kind_names[kind],
                  scenario_count, (long long)sum.points, (long long)sum.injected);
}

static void errors_are_reported(void **state) {
    run_kind(state, FAULT_ERROR);
}

static void short_transfers_are_no_errors(void **state) {
    run_kind(state, FAULT_SHORT);
}

static void signals_are_no_errors(void **state) {
    run_kind(state, FAULT_SIGNAL);
}

static void refused_memory_is_reported(void **state) {
    run_kind(state, FAULT_MEMORY);
}

static void memory_refused_to_jansson_is_reported(void **state) {
    run_kind(state, FAULT_JSON);
}

/* test_faults [PATTERN]: the tests whose names it matches. */
int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(errors_are_reported),
        SCRATCH_TEST(short_transfers_are_no_errors),
        SCRATCH_TEST(signals_are_no_errors),
        SCRATCH_TEST(refused_memory_is_reported),
        SCRATCH_TEST(memory_refused_to_jansson_is_reported),
    };
    /* Thousands of files are synced, which costs nothing in memory. */
    if (access("/dev/shm", W_OK) == 0 && chdir("/dev/shm") != 0)
        return 1;
    inject_into_json();
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
