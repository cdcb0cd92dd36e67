/* What becomes of plugins that are wrong in one way each, and of devices of one that is right. Their folder is
 * BALORA_TEST_PLUGINS. */
#include "../unit/faulty.h"
#include "../unit/scratch.h"

#include "backend/registry.h"
#include "backend/table.h"

#define WORD_OF(number) #number
#define WORD(number)    WORD_OF(number)
#define OUR_ABI         WORD(BACKEND_ABI_MAJOR) "." WORD(BACKEND_ABI_MINOR)

typedef struct refusal {
    const char *file; /* below the plugins' folder */
    balora_status status;
    const char *parts[3]; /* of the message */
} refusal;

static const refusal refusals[] = {
    {"other_major.so",
     BALORA_ERROR_ABI,
     {"built for backend ABI 2.", "this library needs " OUR_ABI, "of one release"}},
    {"older_minor.so",
     BALORA_ERROR_ABI,
     {"built for backend ABI 1.", "needs " OUR_ABI " or a later minor", "of one release"}},
    {"bad_magic.so",
     BALORA_ERROR_UNSUPPORTED,
     {"begins with 0x12345678 instead of 0x42614c6f", "no backend"}},
    {"truncated.so", BALORA_ERROR_ABI, {"its table has", "has at least", "built wrongly"}},
    {"without_symbol.so",
     BALORA_ERROR_UNSUPPORTED,
     {"lacks the function balora_backend_plugin", "no plugin"}},
    {"refuses_host.so",
     BALORA_ERROR_ABI,
     {"built for another ABI of the library", "backend ABI " OUR_ABI, "install"}},
    {"empty_slot.so", BALORA_ERROR_ABI, {"its table lacks eigh_top", "every backend of ABI " OUR_ABI " has"}},
    {"half_capture.so", BALORA_ERROR_ABI, {"one of capture_begin and capture_end", "both or neither"}},
    {"other_name.so", BALORA_ERROR_UNSUPPORTED, {"it is the backend \"vulkan\"", "expected \"cuda\""}},
    {"without_name.so", BALORA_ERROR_UNSUPPORTED, {"it is the backend \"\"", "expected \"cuda\""}},
    {"unresolved.so",
     BALORA_ERROR_UNSUPPORTED,
     {"cannot be loaded", "a_function_that_nobody_has", "installed"}},
    {"absent.so", BALORA_ERROR_UNSUPPORTED, {"does not exist", "plugin_path", "libbalora-cuda.so"}},
    {"", BALORA_ERROR_UNSUPPORTED, {"it is a folder", "expected the file of a plugin"}},
};

enum { REFUSALS = sizeof refusals / sizeof refusals[0] };

static const char *plugin_path(const char *file) {
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", getenv("BALORA_TEST_PLUGINS"), file);
    return path;
}

static balora_status open_with(scratch *self, backend *device, const char *name, const char *path) {
    return backend_open(device, &self->memory, name, path, 1);
}

/* The message names the device, the file and everything in `parts`; nothing is open. */
static void expect_refusal(scratch *self, const char *path, balora_status status,
                           const char *const parts[3]) {
    backend device;
    expect_failure(open_with(self, &device, "cuda:1", path), status, "device \"cuda:1\": the plugin ");
    expect_failure(balora_error_status(), status, path);
    for (int i = 0; i < 3 && parts[i] != NULL; i++)
        expect_failure(balora_error_status(), status, parts[i]);
    assert_null(device.ops);
    assert_null(device.device);
    backend_close(&device);
}

static void wrong_plugins_are_refused(void **state) {
    for (int i = 0; i < REFUSALS; i++)
        expect_refusal(*state, plugin_path(refusals[i].file), refusals[i].status, refusals[i].parts);
}

static void a_refusal_stays_one(void **state) {
    for (int i = 0; i < 3; i++)
        expect_refusal(*state, plugin_path(refusals[0].file), refusals[0].status, refusals[0].parts);
}

static void other_files_are_refused(void **state) {
    scratch *self = *state;
    char path[PATH_MAX + 8];
    expect_refusal(self, scratch_text(self, "libbalora-cuda.so", "no library at all\n"),
                   BALORA_ERROR_UNSUPPORTED,
                   (const char *const[3]){"it cannot be loaded: ", "expected a shared library", NULL});
    expect_refusal(self, scratch_text(self, "empty.so", ""), BALORA_ERROR_UNSUPPORTED,
                   (const char *const[3]){"it cannot be loaded: ", NULL, NULL});
    assert_int_equal(mkfifo(scratch_path(self, "pipe.so"), 0600), 0); /* opening it would wait for ever */
    expect_refusal(self, scratch_path(self, "pipe.so"), BALORA_ERROR_UNSUPPORTED,
                   (const char *const[3]){"it is not a file", NULL, NULL});
    assert_int_equal(symlink("loop.so", scratch_path(self, "loop.so")), 0);
    expect_refusal(self, scratch_path(self, "loop.so"), BALORA_ERROR_UNSUPPORTED,
                   (const char *const[3]){"it cannot be looked at: ", NULL, NULL});
    assert_int_equal(balora_error_origin(), BALORA_ORIGIN_LIBC);
    backend device;
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    memcpy(path, "/tmp/", 5);
    expect_failure(open_with(self, &device, "cuda", path), BALORA_ERROR_UNSUPPORTED, "plugin_path has ");
}

/* dlopen would look for a plain name in the system's folders. */
static void a_plain_name_is_a_file_of_the_current_folder(void **state) {
    static const char *const parts[3] = {"the plugin ./libm.so.6 does not exist"};
    backend device;
    expect_failure(open_with(*state, &device, "cuda", "libm.so.6"), BALORA_ERROR_UNSUPPORTED, parts[0]);
}

static void open_and_close(scratch *self, const char *file, const char *name) {
    backend device;
    backend_properties properties;
    expect_ok(open_with(self, &device, name, plugin_path(file)));
    assert_string_equal(device.ops->name, "cuda");
    assert_true(self->memory.current_bytes > 0); /* of the library's allocator */
    expect_ok(device.ops->device_properties(device.device, &properties));
    assert_true(properties.memory_bytes == INT64_C(80) << 30);
    backend_close(&device);
    backend_close(&device);
    assert_true(self->memory.current_bytes == 0);
}

static void right_plugins_are_taken(void **state) {
    open_and_close(*state, "good.so", "cuda");
    open_and_close(*state, "good.so", "cuda:1");
    open_and_close(*state, "newer_minor.so", "cuda:0");
    open_and_close(*state, "without_optional.so", "cuda");
}

static void failures_of_devices_pass_through(void **state) {
    backend device;
    expect_failure(open_with(*state, &device, "cuda", plugin_path("open_fails.so")), BALORA_ERROR_BACKEND,
                   "cuda:0: all of it is in use");
    assert_int_equal(balora_error_origin(), BALORA_ORIGIN_CUDA);
    assert_int_equal(balora_error_native_code(), 46);
    assert_null(device.ops);
    expect_failure(open_with(*state, &device, "cuda", plugin_path("no_devices.so")), BALORA_ERROR_UNSUPPORTED,
                   "0 devices were found");
    expect_failure(open_with(*state, &device, "cuda:2", plugin_path("good.so")), BALORA_ERROR_UNSUPPORTED,
                   "cuda:2 does not exist; 2 devices");
}

static void a_refused_allocation_passes_through(void **state) {
    (void)state;
    faulty first = {0, 0, 1};
    allocator empty;
    backend device;
    memory_init(&empty, faulty_allocate, faulty_release, &first);
    expect_failure(backend_open(&device, &empty, "cuda", plugin_path("good.so"), 1), BALORA_ERROR_MEMORY,
                   "a test's device");
    assert_null(device.ops);
}

/* The path's copy is the context's second allocation. */
static void a_context_without_memory_for_the_path_is_none(void **state) {
    (void)state;
    faulty second = {0, 1, 0};
    balora_context *context;
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.allocate = faulty_allocate;
    options.release = faulty_release;
    options.allocator_user = &second;
    options.plugin_path = "a.so";
    expect_failure(balora_context_create(&context, &options), BALORA_ERROR_MEMORY, "the allocator refused");
    assert_null(context);
    assert_true(second.calls == 2);
}

static void the_cpu_needs_no_plugin(void **state) {
    backend device;
    expect_ok(table_check(cpu_backend(), "cpu"));
    expect_ok(open_with(*state, &device, "cpu", plugin_path("absent.so")));
    assert_ptr_equal(device.ops, cpu_backend());
    backend_close(&device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(wrong_plugins_are_refused),
        SCRATCH_TEST(a_refusal_stays_one),
        SCRATCH_TEST(other_files_are_refused),
        SCRATCH_TEST(a_plain_name_is_a_file_of_the_current_folder),
        SCRATCH_TEST(right_plugins_are_taken),
        SCRATCH_TEST(failures_of_devices_pass_through),
        SCRATCH_TEST(a_refused_allocation_passes_through),
        SCRATCH_TEST(a_context_without_memory_for_the_path_is_none),
        SCRATCH_TEST(the_cpu_needs_no_plugin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
