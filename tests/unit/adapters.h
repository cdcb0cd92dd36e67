/* For tests of adapters: a context, a fixture's model, adapters with factors of known values. */
#ifndef TESTS_ADAPTERS_H
#define TESTS_ADAPTERS_H

#include <math.h>

#include "../device.h"
#include "adapter/adapter.h"
#include "base/parallel.h"
#include "base/random.h"
#include "format/tensor_files.h"
#include "scratch.h"

typedef struct workshop {
    scratch base;
    balora_context *context;
    balora_model *model;
    char warning[512]; /* the last message that was logged */
} workshop;

static int keep_warning(int32_t level, const char *message, void *user) {
    workshop *self = user;
    if (level == BALORA_LOG_WARNING)
        snprintf(self->warning, sizeof self->warning, "%s", message);
    return 0;
}

static inline int workshop_setup(void **state) {
    workshop *self = calloc(1, sizeof *self);
    if (self == NULL)
        return -1;
    memory_init(&self->base.memory, NULL, NULL, NULL);
    strcpy(self->base.folder, "scratch-XXXXXX");
    *state = self;
    parallel_enter(1); /* as the facade does for a context of one thread */
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    options.threads = 1;
    options.log_level = BALORA_LOG_INFO;
    options.log = keep_warning;
    options.log_user = self;
    return mkdtemp(self->base.folder) == NULL || context_new(&self->context, &options) != BALORA_OK ? -1 : 0;
}

/* Holds the code under test to giving back all its memory. */
static inline int workshop_teardown(void **state) {
    workshop *self = *state;
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", self->base.folder);
    model_release(self->model);
    int failed = system(command) != 0 || self->base.memory.current_bytes != 0 ||
                 self->context->memory.current_bytes != 0;
    context_release(self->context);
    free(self);
    return failed ? -1 : 0;
}

#define WORKSHOP_TEST(function) cmocka_unit_test_setup_teardown(function, workshop_setup, workshop_teardown)

/* A path below the fixtures' folder; valid until four calls later. */
static inline const char *fixture_path(const char *name) {
    static char paths[4][512];
    static unsigned next;
    const char *root = getenv("BALORA_FIXTURES");
    if (root == NULL)
        fail_msg("BALORA_FIXTURES must name the folder tests/oracle/fixtures");
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", root, name);
    return path;
}

static inline balora_model *open_folder(workshop *self, const char *folder, int32_t dtype) {
    balora_model_options options = test_model_options();
    options.dtype = dtype;
    expect_ok(model_open(&self->model, self->context, folder, &options));
    return self->model;
}

static inline balora_model *open_fixture(workshop *self, const char *name) {
    return open_folder(self, fixture_path(name), BALORA_DTYPE_AUTO);
}

/* Add reproducible noise to a factor. */
static inline void shake(balora_adapter *adapter, matrix_view factor, uint64_t seed, double size) {
    int64_t count = factor.rows * factor.cols;
    float *host = calloc((size_t)count, sizeof *host);
    assert_non_null(host);
    expect_ok(adapter_download(adapter, factor, host));
    for (int64_t i = 0; i < count; i++)
        host[i] += (float)(size * random_normal(seed, 77, (uint64_t)i));
    expect_ok(adapter_upload(adapter, factor, host));
    free(host);
}

/* A new adapter whose factors have left their start. */
static inline balora_adapter *make_adapter(workshop *self, int32_t method, int64_t rank, double alpha,
                                           int use_rslora, const char *targets) {
    balora_adapter_options options = BALORA_ADAPTER_OPTIONS_INIT;
    options.method = method;
    options.rank = rank;
    options.alpha = alpha;
    options.use_rslora = use_rslora;
    options.target_modules = targets;
    balora_adapter *adapter;
    expect_ok(adapter_create(&adapter, self->model, &options));
    for (int64_t i = 0; i < adapter->module_count; i++) {
        shake(adapter, adapter->modules[i].a, (uint64_t)(2 * i), 0.1);
        shake(adapter, adapter->modules[i].b, (uint64_t)(2 * i + 1), 0.1);
    }
    for (int64_t i = 0; i < adapter->trained_count; i++)
        shake(adapter, adapter->trained[i].value, (uint64_t)i, 0.01);
    return adapter;
}

static inline float *download(balora_adapter *adapter, matrix_view factor) {
    float *host = calloc((size_t)(factor.rows * factor.cols), sizeof *host);
    assert_non_null(host);
    expect_ok(adapter_download(adapter, factor, host));
    return host;
}

static inline void add_product(balora_adapter *adapter, matrix_view a, matrix_view b, double scale,
                               double *delta) {
    float *host_a = download(adapter, a), *host_b = download(adapter, b);
    for (int64_t i = 0; i < b.rows; i++)
        for (int64_t j = 0; j < a.cols; j++)
            for (int64_t k = 0; k < a.rows; k++)
                delta[i * a.cols + j] +=
                    scale * (double)host_b[i * b.cols + k] * (double)host_a[k * a.cols + j];
    free(host_a);
    free(host_b);
}

/* s (B A - B0 A0) [out, in] in double precision; free() it. */
static inline double *module_delta(balora_adapter *adapter, const adapter_module *module) {
    double *delta = calloc((size_t)(module->b.rows * module->a.cols), sizeof *delta);
    assert_non_null(delta);
    add_product(adapter, module->a, module->b, module->scale, delta);
    if (module->has_initial)
        add_product(adapter, module->a0, module->b0, -module->scale, delta);
    return delta;
}

static inline double relative_distance(const double *found, const double *expected, int64_t count) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += (found[i] - expected[i]) * (found[i] - expected[i]);
        norm += expected[i] * expected[i];
    }
    return sqrt(difference / norm);
}

#endif
