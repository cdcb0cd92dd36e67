/* Every allocation of opening a model and of opening, saving, merging and exporting an adapter refused in turn: a status
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

static balora_status create_adapter(balora_adapter **out, balora_context *context) {
    balora_model *model;
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    options.rank = 2;
    options.target_modules = "q_proj";
    STATUS_TRY(open_model(&model, context));
    balora_status status = adapter_create(out, model, &options);
    model_release(model);
    return status;
}

static balora_status create(const scratch *self, balora_context *context) {
    balora_adapter *adapter;
    (void)self;
    STATUS_TRY(create_adapter(&adapter, context));
    adapter_release(adapter);
    return BALORA_OK;
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

/* Gives blocks that hold the path of a file: what a program freed may be that. */
typedef struct haunted {
    faulty faults;
    const char *path;
} haunted;

static void *haunted_allocate(uint64_t bytes, uint64_t alignment, void *user) {
    haunted *self = user;
    char *block = faulty_allocate(bytes, alignment, &self->faults);
    size_t length = strlen(self->path) + 1;
    if (block != NULL && bytes > MEMORY_ALIGNMENT + length)
        memcpy(block + MEMORY_ALIGNMENT, self->path, length);
    return block;
}

/* Once, a file that was refused its buffer removed what stood in a name that had not been written yet. */
static void a_file_that_is_refused_memory_removes_no_other(void **state) {
    scratch *self = *state;
    haunted source = {.path = scratch_text(self, "v", "mine")};
    allocator memory;
    file_writer writer;
    memory_init(&memory, haunted_allocate, faulty_release, &source);
    for (source.faults.refused = 0; source.faults.refused < 3; source.faults.refused++) {
        source.faults.calls = 0;
        assert_int_equal(file_create(&writer, &memory, scratch_path(self, "new")), BALORA_ERROR_MEMORY);
        assert_true(file_exists(source.path));
        assert_int_equal(memory.current_bytes, 0);
    }
}

static void saving_survives_refused_memory(void **state) {
    check(state, save, "result/adapter_config.json");
}

static void merging_survives_refused_memory(void **state) {
    check(state, merge, "result/config.json");
}

/* One adapter, exported until no allocation is refused; `marker` appears then, and nothing beside it before. */
static void export_refusing(const scratch *self, balora_adapter *adapter, faulty *faults, int32_t to,
                            const char *marker) {
    balora_export_options options = BALORA_EXPORT_OPTIONS_INIT;
    allocator *memory = &adapter->model->context->memory;
    char temporary[64];
    snprintf(temporary, sizeof temporary, "result.tmp-%ld", (long)getpid());
    options.to = to;
    uint64_t kept = memory->current_bytes;
    balora_status status = BALORA_ERROR_MEMORY;
    for (faults->refused = 0; status != BALORA_OK; faults->refused++) {
        faults->calls = 0;
        status = adapter_export(adapter, scratch_path(self, "result"), &options);
        if (status != BALORA_OK && status != BALORA_ERROR_MEMORY)
            fail_msg("allocation %lld refused: %s: %s", (long long)faults->refused,
                     balora_status_name(status), balora_error_message());
        assert_int_equal(file_exists(scratch_path(self, marker)), status == BALORA_OK);
        assert_false(file_exists(scratch_path(self, temporary)));
        assert_int_equal(memory->current_bytes, kept);
    }
    assert_true(faults->refused > 8); /* it does allocate */
    faults->refused = -1;
}

static void exporting_survives_refused_memory(void **state) {
    scratch *self = *state;
    static const char *const markers[] = {"result/adapter_config.json",
                                          "result/pissa_init/adapter_config.json", "result"};
    static const int32_t forms[] = {BALORA_EXPORT_PEFT, BALORA_EXPORT_PISSA, BALORA_EXPORT_GGUF};
    faulty faults = {.refused = -1};
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    balora_context *context;
    balora_adapter *adapter;
    char command[64];
    options.threads = 1;
    options.allocate = faulty_allocate;
    options.release = faulty_release;
    options.allocator_user = &faults;
    snprintf(command, sizeof command, "rm -rf %s/result", self->folder);
    int previous = parallel_enter(1);
    expect_ok(context_new(&context, &options));
    expect_ok(create_adapter(&adapter, context));
    for (int i = 0; i < 6; i++) {
        faults.from_then_on = i % 2;
        assert_int_equal(system(command), 0);
        export_refusing(self, adapter, &faults, forms[i / 2], markers[i / 2]);
    }
    adapter_release(adapter);
    context_release(context);
    parallel_leave(previous);
}

static void creating_survives_refused_memory(void **state) {
    check(state, create, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(a_file_that_is_refused_memory_removes_no_other),
        SCRATCH_TEST(saving_survives_refused_memory),
        SCRATCH_TEST(merging_survives_refused_memory),
        SCRATCH_TEST(exporting_survives_refused_memory),
        SCRATCH_TEST(creating_survives_refused_memory),
    };
    return cmocka_run_group_tests_name("adapter_faults", tests, NULL, NULL);
}
