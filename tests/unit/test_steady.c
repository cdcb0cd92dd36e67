/*
 * A training step allocates nothing: neither through the context's allocator nor, counted at the C library
 * itself, anywhere in the process outside the numerical libraries.
 *
 * This program takes the place of malloc and its kin and notes who called. What OpenBLAS, LAPACK and the
 * OpenMP runtime take for themselves inside a call is printed and not ours to plan; everything else must be
 * nothing.
 */
#include "scratch.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>

#include "balora/balora.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif
#if !defined(SANITIZED) && defined(__GLIBC__)
#define COUNTED 1 /* a sanitizer brings its own malloc */
#else
#define COUNTED 0
#endif

enum { CALLERS_KEPT = 4096 };

static atomic_int counting;
static atomic_int call_count;
static void *callers[CALLERS_KEPT];

#if COUNTED

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static void note(void *caller) {
    if (atomic_load(&counting) == 0)
        return;
    int place = atomic_fetch_add(&call_count, 1);
    if (place < CALLERS_KEPT)
        callers[place] = caller;
}

void *malloc(size_t bytes) {
    note(__builtin_return_address(0));
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes) {
    note(__builtin_return_address(0));
    return __libc_calloc(count, bytes);
}

void *realloc(void *block, size_t bytes) {
    note(__builtin_return_address(0));
    return __libc_realloc(block, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
    note(__builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
    note(__builtin_return_address(0));
    return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes) {
    note(__builtin_return_address(0));
    void *block = __libc_memalign(alignment, bytes);
    if (block == NULL)
        return ENOMEM;
    *out = block;
    return 0;
}

#endif

/* The file that the code at an address was loaded from. */
static const char *owner_of(void *address) {
    Dl_info information;
    return dladdr(address, &information) != 0 && information.dli_fname != NULL ? information.dli_fname : "?";
}

static bool is_numerical_library(const char *file) {
    static const char *const names[] = {"openblas", "libblas", "liblapack", "libgomp", "libomp"};
    const char *base = strrchr(file, '/');
    base = base != NULL ? base + 1 : file;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strstr(base, names[i]) != NULL)
            return true;
    return false;
}

/* Calls by numerical libraries; any other one fails the test. */
static int judge_callers(const char *run) {
    int calls = atomic_load(&call_count), kept = calls < CALLERS_KEPT ? calls : CALLERS_KEPT;
    for (int i = 0; i < kept; i++)
        if (!is_numerical_library(owner_of(callers[i])))
            fail_msg("%s: one of %d calls of malloc and its kin comes from %s at %p", run, calls,
                     owner_of(callers[i]), callers[i]);
    return calls;
}

typedef struct run {
    const char *name, *model;
    int32_t threads, method, consistency;
    int64_t accumulation;
    int32_t optimizer;
} run;

typedef struct handles {
    balora_context *context;
    balora_model *model;
    balora_adapter *adapter;
    balora_data *data;
    balora_regularizers *regularizers;
    balora_optimizer *optimizer;
    balora_trainer *trainer;
} handles;

static const char *fixture_file(const char *name, const char *file) {
    static char path[1024];
    const char *root = getenv("BALORA_FIXTURES");
    assert_non_null(root);
    snprintf(path, sizeof path, "%s/%s/%s", root, name, file);
    return path;
}

static void open_handles(handles *self, const run *one) {
    balora_context_options context = BALORA_CONTEXT_OPTIONS_INIT;
    balora_adapter_options adapter = BALORA_ADAPTER_OPTIONS_INIT;
    balora_regularizer_options regularizers = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_optimizer_options optimizer = BALORA_OPTIMIZER_OPTIONS_INIT;
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    context.threads = one->threads;
    adapter.method = one->method;
    adapter.rank = 4;
    regularizers.consistency_schedule = one->consistency;
    train.max_steps = 5;
    train.batch_size = 3; /* of eight ragged sequences in a random order: no two steps are alike */
    train.gradient_accumulation = one->accumulation;
    train.learning_rate = 1e-3;
    expect_ok(balora_context_create(&self->context, &context));
    expect_ok(balora_model_open(&self->model, self->context, fixture_file(one->model, "model"), NULL));
    expect_ok(balora_adapter_create(&self->adapter, self->model, &adapter));
    expect_ok(balora_data_open(&self->data, self->model, fixture_file(one->model, "data.safetensors"), NULL));
    expect_ok(balora_regularizers_create(&self->regularizers, self->context, &regularizers));
    optimizer.optimizer = one->optimizer;
    optimizer.lora_plus_ratio = one->optimizer != BALORA_OPTIMIZER_ADAMW ? 4 : 1;
    expect_ok(balora_optimizer_create(&self->optimizer, self->adapter, &optimizer));
    train.regularizers = self->regularizers;
    train.optimizer = self->optimizer;
    expect_ok(balora_trainer_create(&self->trainer, self->adapter, self->data, &train));
}

static void close_handles(handles *self) {
    balora_trainer_free(self->trainer);
    balora_optimizer_free(self->optimizer);
    balora_regularizers_free(self->regularizers);
    balora_data_free(self->data);
    balora_adapter_free(self->adapter);
    balora_model_free(self->model);
    balora_context_free(self->context);
}

static uint64_t allocations(const handles *self) {
    balora_memory_statistics statistics = BALORA_MEMORY_STATISTICS_INIT;
    expect_ok(balora_context_memory(self->context, &statistics));
    return statistics.allocations;
}

static void check(const run *one) {
    handles self = {0};
    balora_step_metrics metrics[5];
    bool ragged = false;
    open_handles(&self, one);
    uint64_t before = allocations(&self);
    atomic_store(&call_count, 0);
    for (int i = 0; i < 5; i++) {
        metrics[i] = (balora_step_metrics)BALORA_STEP_METRICS_INIT;
        balora_status status = balora_trainer_step(self.trainer, &metrics[i]);
        atomic_store(&counting, i < 4); /* from the second step on */
        expect_ok(status);
        ragged = ragged || metrics[i].tokens != metrics[0].tokens;
    }
    assert_int_equal(allocations(&self), before);
    assert_true(ragged);
    int calls = judge_callers(one->name);
    print_message("%s: %d allocations inside OpenBLAS and OpenMP in four steps\n", one->name, calls);
    close_handles(&self);
}

/* The counter works: a call that allocates is seen. */
static void an_allocation_is_seen(void **state) {
    (void)state;
    if (!COUNTED)
        skip();
    handles self = {0};
    open_handles(&self, &(run){"control", "llama", 1, BALORA_METHOD_BA_LORA, 0, 1, BALORA_OPTIMIZER_ADAMW});
    atomic_store(&call_count, 0);
    atomic_store(&counting, 1);
    balora_evaluation evaluation = BALORA_EVALUATION_INIT;
    balora_status status = balora_evaluate(&evaluation, self.model, self.adapter, self.data, NULL, NULL);
    atomic_store(&counting, 0);
    expect_ok(status);
    int calls = atomic_load(&call_count), own = 0;
    assert_in_range(calls, 1, CALLERS_KEPT);
    for (int i = 0; i < calls; i++)
        own += !is_numerical_library(owner_of(callers[i]));
    assert_true(own > 0);
    close_handles(&self);
}

static void a_step_allocates_nothing_on_one_thread(void **state) {
    (void)state;
    check(&(run){"one thread", "llama", 1, BALORA_METHOD_BA_LORA, BALORA_CONSISTENCY_COSINE, 1,
                 BALORA_OPTIMIZER_ADAMW});
    check(&(run){"one thread, two micro-batches, adaptive", "llama", 1, BALORA_METHOD_BA_LORA,
                 BALORA_CONSISTENCY_ADAPTIVE, 2, BALORA_OPTIMIZER_ADAMW});
}

static void a_step_allocates_nothing_on_two_threads(void **state) {
    (void)state;
    check(&(run){"two threads", "llama", 2, BALORA_METHOD_BA_LORA, BALORA_CONSISTENCY_COSINE, 1,
                 BALORA_OPTIMIZER_ADAMW});
    check(&(run){"two threads, two micro-batches, adaptive", "llama", 2, BALORA_METHOD_BA_LORA,
                 BALORA_CONSISTENCY_ADAPTIVE, 2, BALORA_OPTIMIZER_ADAMW});
}

static void a_step_on_16_bits_allocates_nothing(void **state) {
    (void)state;
    check(&(run){"bf16", "bf16", 1, BALORA_METHOD_BA_LORA, BALORA_CONSISTENCY_COSINE, 1,
                 BALORA_OPTIMIZER_ADAMW});
    check(&(run){"bf16, two threads", "bf16", 2, BALORA_METHOD_BA_LORA, BALORA_CONSISTENCY_COSINE, 1,
                 BALORA_OPTIMIZER_ADAMW});
}

static void a_step_of_every_weight_allocates_nothing(void **state) {
    (void)state;
    check(&(run){"every weight", "llama-tied", 1, BALORA_METHOD_FULL, BALORA_CONSISTENCY_COSINE, 2,
                 BALORA_OPTIMIZER_ADAMW});
    check(&(run){"every weight under a soft-cap", "gemma2", 1, BALORA_METHOD_FULL, BALORA_CONSISTENCY_COSINE,
                 2, BALORA_OPTIMIZER_ADAMW});
}

static void a_step_of_any_optimizer_allocates_nothing(void **state) {
    (void)state;
    check(&(run){"lion, groups", "llama", 2, BALORA_METHOD_BA_LORA, BALORA_CONSISTENCY_COSINE, 1,
                 BALORA_OPTIMIZER_LION});
    check(&(run){"8-bit moments, groups", "llama", 2, BALORA_METHOD_BA_LORA, BALORA_CONSISTENCY_COSINE, 1,
                 BALORA_OPTIMIZER_ADAMW_8BIT});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_allocation_is_seen),
        cmocka_unit_test(a_step_allocates_nothing_on_one_thread),
        cmocka_unit_test(a_step_allocates_nothing_on_two_threads),
        cmocka_unit_test(a_step_on_16_bits_allocates_nothing),
        cmocka_unit_test(a_step_of_every_weight_allocates_nothing),
        cmocka_unit_test(a_step_of_any_optimizer_allocates_nothing),
    };
    return cmocka_run_group_tests_name("steady", tests, NULL, NULL);
}
