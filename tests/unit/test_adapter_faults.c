/* Every allocation of opening a model and of opening, saving and merging an adapter refused in turn: a status
 * each time, all memory given back, nothing published. */
#include "adapters.h"
#include "faulty.h"

typedef balora_status (*scenario)(const scratch *self, balora_context *context);

static balora_status open_model(balora_model **out, balora_context *context) {
    const balora_model_options options = BALORA_MODEL_OPTIONS_INIT;
    return model_open(out, context, fixture_path("llama/model"), &options);
}

static balora_status open_adapter(balora_adapter **out, balora_context *context) {
    balora_model *model;
    STATUS_TRY(open_model(&model, context));
    balora_status status = adapter_open(out, model, fixture_path("lora/initial_adapter"));
    model_release(model);
    return status;
}

static balora_status save(const scratch *self, balora_context *context) {
    balora_adapter *adapter;
    STATUS_TRY(open_adapter(&adapter, context));
    balora_status status = adapter_save(adapter, scratch_path(self, "result"), NULL);
    adapter_release(adapter);
    return status;
}

static balora_status merge(const scratch *self, balora_context *context) {
    balora_adapter *adapter;
    STATUS_TRY(open_adapter(&adapter, context));
    balora_status status = adapter_merge(adapter, scratch_path(self, "result"));
    adapter_release(adapter);
    return status;
}

static balora_status create(const scratch *self, balora_context *context) {
    balora_model *model;
    balora_adapter *adapter;
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    (void)self;
    options.rank = 2;
    options.target_modules = "q_proj";
    STATUS_TRY(open_model(&model, context));
    balora_status status = adapter_create(&adapter, model, &options);
    if (status == BALORA_OK)
        adapter_release(adapter);
    model_release(model);
    return status;
}

static balora_status run_refusing(const scratch *self, scenario what, faulty *faults) {
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    balora_context *context;
    options.threads = 1;
    options.allocate = faulty_allocate;
    options.release = faulty_release;
    options.allocator_user = faults;
    faults->calls = 0;
    STATUS_TRY(context_new(&context, &options));
    balora_status status = what(self, context);
    uint64_t kept = context->memory.current_bytes;
    context_release(context);
    if (kept != 0)
        fail_msg("allocation %lld refused: %llu bytes are kept", (long long)faults->refused,
                 (unsigned long long)kept);
    return status;
}

/* `marker` appears when the scenario has succeeded, and only then. */
static void refuse_in_turn(const scratch *self, scenario what, int from_then_on, const char *marker) {
    faulty faults = {.refused = 0, .from_then_on = from_then_on};
    balora_status status = BALORA_ERROR_MEMORY;
    for (; status != BALORA_OK; faults.refused++) {
        status = run_refusing(self, what, &faults);
        bool published = marker != NULL && file_exists(scratch_path(self, marker));
        if (status != BALORA_OK && (status != BALORA_ERROR_MEMORY || published))
            fail_msg("allocation %lld refused: %s, %s, \"%s\"", (long long)faults.refused,
                     balora_status_name(status), published ? "published" : "nothing published",
                     balora_error_message());
        assert_true(faults.refused < 10000);
    }
    assert_true(faults.refused > 20); /* the scenario does allocate */
    assert_true(marker == NULL || file_exists(scratch_path(self, marker)));
}

static void check(void **state, scenario what, const char *marker) {
    scratch *self = *state;
    char command[64];
    int previous = parallel_enter(1);
    for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
        snprintf(command, sizeof command, "rm -rf %s/result", self->folder);
        assert_int_equal(system(command), 0);
        refuse_in_turn(self, what, from_then_on, marker);
    }
    parallel_leave(previous);
}

static void saving_survives_refused_memory(void **state) {
    check(state, save, "result/adapter_config.json");
}

static void merging_survives_refused_memory(void **state) {
    check(state, merge, "result/config.json");
}

static void creating_survives_refused_memory(void **state) {
    check(state, create, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(saving_survives_refused_memory),
        SCRATCH_TEST(merging_survives_refused_memory),
        SCRATCH_TEST(creating_survives_refused_memory),
    };
    return cmocka_run_group_tests_name("adapter_faults", tests, NULL, NULL);
}
