#include "oracle.h"

#include <math.h>
#include <unistd.h>

#include "../device.h"
#include "base/memory.h"
#include "base/status.h"

/* The readers' allocator: the context's is reached through the public interface only. */
static allocator *host_memory(void) {
    static allocator memory;
    if (memory.allocate == NULL)
        memory_init(&memory, NULL, NULL, NULL);
    return &memory;
}

const char *oracle_path(const oracle_run *run, const char *name) {
    static char paths[8][1024];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", run->folder, name);
    return path;
}

const char *oracle_scratch_path(const oracle_run *run, const char *name) {
    static char paths[8][256];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", run->scratch, name);
    return path;
}

bool oracle_is_full(const oracle_run *run) {
    return strcmp(json_string_value(json_object_get(run->options, "method")), "full") == 0;
}

double oracle_option(const oracle_run *run, const char *key) {
    return json_number_value(json_object_get(run->options, key));
}

/* --- options --- */

typedef struct oracle_options {
    balora_adapter_options adapter;
    balora_regularizer_options regularizer;
    balora_optimizer_options optimizer;
    balora_train_options train;
} oracle_options;

/* Every key of a case belongs to one of the four structs: a misspelt or forgotten one is a failure. */
static balora_status set_option(oracle_options *options, const char *key, const char *value) {
    const struct {
        int32_t kind;
        void *object;
    } structs[] = {{BALORA_OPTIONS_ADAPTER, &options->adapter},
                   {BALORA_OPTIONS_REGULARIZER, &options->regularizer},
                   {BALORA_OPTIONS_OPTIMIZER, &options->optimizer},
                   {BALORA_OPTIONS_TRAIN, &options->train}};
    balora_status status = BALORA_ERROR_NOT_FOUND;
    for (size_t i = 0; i < sizeof structs / sizeof structs[0] && status == BALORA_ERROR_NOT_FOUND; i++)
        status = balora_options_set(structs[i].kind, structs[i].object, key, value);
    return status;
}

static balora_status set_json_option(oracle_options *options, const char *key, const json_t *value) {
    char text[64];
    if (json_is_string(value))
        return set_option(options, key, json_string_value(value));
    if (json_is_boolean(value))
        snprintf(text, sizeof text, "%s", json_is_true(value) ? "true" : "false");
    else if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else
        snprintf(text, sizeof text, "%.17g", json_real_value(value));
    return set_option(options, key, text);
}

static balora_status read_options(oracle_options *out, const json_t *document,
                                  const oracle_changes *changes) {
    *out = (oracle_options){BALORA_ADAPTER_OPTIONS_INIT, BALORA_REGULARIZER_OPTIONS_INIT,
                            BALORA_OPTIMIZER_OPTIONS_INIT, BALORA_TRAIN_OPTIONS_INIT};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)document, key, value) {
        if (strcmp(key, "model") == 0 || strcmp(key, "data") == 0 || strcmp(key, "adapter") == 0)
            continue;
        if (strcmp(key, "no_shuffle") == 0)
            STATUS_TRY(set_option(out, "shuffle", json_is_true(value) ? "false" : "true"));
        else
            STATUS_TRY(set_json_option(out, key, value));
    }
    for (int i = 0; changes != NULL && i < 8 && changes->keys[i] != NULL; i++)
        STATUS_TRY(set_option(out, changes->keys[i], changes->values[i]));
    return BALORA_OK;
}

/* --- the run --- */

static balora_status open_handles(oracle_run *run, const oracle_changes *changes, oracle_options *options) {
    balora_context_options context = BALORA_CONTEXT_OPTIONS_INIT;
    balora_model_options model = test_model_options();
    context.threads = changes != NULL && changes->threads > 0 ? changes->threads : 1;
    model.dtype = changes != NULL ? changes->dtype : BALORA_DTYPE_AUTO;
    const char *adapter = json_string_value(json_object_get(run->options, "adapter"));
    STATUS_TRY(balora_context_create(&run->context, &context));
    STATUS_TRY(balora_model_open(&run->model, run->context,
                                 oracle_path(run, json_string_value(json_object_get(run->options, "model"))),
                                 &model));
    if (adapter != NULL)
        STATUS_TRY(balora_adapter_open(&run->adapter, run->model, oracle_path(run, adapter)));
    else
        STATUS_TRY(balora_adapter_create(&run->adapter, run->model, &options->adapter));
    STATUS_TRY(balora_data_open(&run->data, run->model,
                                oracle_path(run, json_string_value(json_object_get(run->options, "data"))),
                                NULL));
    STATUS_TRY(balora_regularizers_create(&run->regularizers, run->context, &options->regularizer));
    STATUS_TRY(balora_optimizer_create(&run->optimizer, run->adapter, &options->optimizer));
    options->train.regularizers = run->regularizers;
    options->train.optimizer = run->optimizer;
    return balora_trainer_create(&run->trainer, run->adapter, run->data, &options->train);
}

static balora_status run_steps(oracle_run *run) {
    balora_status status = BALORA_OK;
    while (status == BALORA_OK && run->step_count < ORACLE_STEPS_LIMIT) {
        run->steps[run->step_count] = (balora_step_metrics)BALORA_STEP_METRICS_INIT;
        status = balora_trainer_step(run->trainer, &run->steps[run->step_count]);
        run->step_count += status == BALORA_OK;
    }
    return status == BALORA_DONE ? BALORA_OK : status;
}

void oracle_start(oracle_run *out, const char *fixtures, const char *name, const oracle_changes *changes) {
    oracle_options options;
    *out = (oracle_run){0};
    snprintf(out->name, sizeof out->name, "%s", name);
    snprintf(out->folder, sizeof out->folder, "%s/%s", fixtures, name);
    strcpy(out->scratch, "oracle-XXXXXX");
    balora_status status = BALORA_ERROR_IO;
    if (mkdtemp(out->scratch) == NULL)
        status_fail(status, "no scratch folder can be made here");
    else
        status = json_read_object(&out->options, host_memory(), oracle_path(out, "case.json"), 1 << 20);
    if (status == BALORA_OK)
        status = read_options(&options, out->options, changes);
    if (status == BALORA_OK)
        status = open_handles(out, changes, &options);
    if (status == BALORA_OK)
        status = run_steps(out);
    out->status = status;
    if (status != BALORA_OK)
        snprintf(out->failure, sizeof out->failure, "%s: %s", balora_status_name(status),
                 balora_error_message());
}

void oracle_finish(oracle_run *run) {
    char command[128];
    balora_trainer_free(run->trainer);
    balora_optimizer_free(run->optimizer);
    balora_regularizers_free(run->regularizers);
    balora_data_free(run->data);
    balora_adapter_free(run->adapter);
    balora_model_free(run->model);
    balora_context_free(run->context);
    json_decref(run->options);
    snprintf(command, sizeof command, "rm -rf %s", run->scratch);
    if (run->scratch[0] != '\0' && system(command) != 0)
        print_error("%s is left behind\n", run->scratch);
    *run = (oracle_run){0};
}

balora_status oracle_save(oracle_run *run, const char *name) {
    const char *folder = oracle_scratch_path(run, name);
    return oracle_is_full(run) ? balora_adapter_merge(run->adapter, folder)
                               : balora_adapter_save(run->adapter, folder, NULL);
}

/* --- numbers --- */

static double widen(int32_t dtype, const unsigned char *raw) {
    float value;
    uint32_t bits = 0;
    if (dtype == BALORA_F32) {
        memcpy(&value, raw, sizeof value);
        return (double)value;
    }
    memcpy(&bits, raw, 2);
    if (dtype == BALORA_F16) {
        int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
        double size = exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25);
        return bits >> 15 != 0 ? -size : size;
    }
    bits <<= 16;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

double *oracle_tensor(const safetensors_file *file, const char *name, int64_t *count) {
    const safetensors_entry *entry = safetensors_find(file, name);
    if (entry == NULL)
        return NULL;
    int64_t size = entry->dtype == BALORA_F32 ? 4 : 2;
    unsigned char *raw = calloc(1, entry->bytes);
    double *out = calloc((size_t)entry->elements, sizeof *out);
    if (raw == NULL || out == NULL || safetensors_read(file, entry, raw) != BALORA_OK)
        fail_msg("%s cannot be read", name);
    for (int64_t i = 0; i < entry->elements; i++)
        out[i] = widen(entry->dtype, raw + i * size);
    free(raw);
    *count = entry->elements;
    return out;
}

static void expect_ok(balora_status status) {
    if (status != BALORA_OK)
        fail_msg("%s: %s", balora_status_name(status), balora_error_message());
}

/* The figure that a pattern of the configuration gives the module, else that of `key`: what is saved names modules by
 * their last name or as a whole. */
static double saved_figure(const json_t *config, const char *pattern, const char *key, const char *module) {
    const char *name, *last = strrchr(module, '.') + 1;
    const json_t *value;
    json_object_foreach(json_object_get(config, pattern), name,
                        value) if (strcmp(name, module) == 0 ||
                                   strcmp(name, last) == 0) return json_number_value(value);
    return json_number_value(json_object_get(config, key));
}

static double saved_scale(const oracle_run *run, const char *folder, const char *module, int64_t *rank) {
    char name[128];
    json_t *config;
    snprintf(name, sizeof name, "%s/adapter_config.json", folder);
    expect_ok(json_read_object(&config, host_memory(), oracle_scratch_path(run, name), 1 << 20));
    double alpha = saved_figure(config, "alpha_pattern", "lora_alpha", module);
    *rank = (int64_t)saved_figure(config, "rank_pattern", "r", module);
    double divisor =
        json_is_true(json_object_get(config, "use_rslora")) ? sqrt((double)*rank) : (double)*rank;
    json_decref(config);
    return alpha / divisor;
}

double *oracle_saved_delta(const oracle_run *run, const char *folder, const char *module, int64_t *count) {
    char name[256];
    int64_t rank, a_count = 0, b_count = 0;
    double scale = saved_scale(run, folder, module, &rank);
    safetensors_file file;
    snprintf(name, sizeof name, "%s/adapter_model.safetensors", folder);
    expect_ok(safetensors_open(&file, host_memory(), oracle_scratch_path(run, name)));
    snprintf(name, sizeof name, "base_model.model.%s.lora_A.weight", module);
    double *a = oracle_tensor(&file, name, &a_count);
    snprintf(name, sizeof name, "base_model.model.%s.lora_B.weight", module);
    double *b = oracle_tensor(&file, name, &b_count);
    safetensors_close(&file);
    if (a == NULL || b == NULL)
        fail_msg("%s was not saved", module);
    int64_t in = a_count / rank, out = b_count / rank;
    double *delta = calloc((size_t)(in * out), sizeof *delta);
    for (int64_t i = 0; i < out; i++)
        for (int64_t k = 0; k < rank; k++)
            for (int64_t j = 0; j < in; j++)
                delta[i * in + j] += scale * b[i * rank + k] * a[k * in + j];
    free(a);
    free(b);
    *count = in * out;
    return delta;
}

double oracle_norm(const double *values, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return sqrt(sum);
}

double oracle_distance(const double *a, const double *b, int64_t count) {
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sqrt(sum);
}

/* --- evaluation --- */

static int keep_logits(const float *logits, int64_t rows, int64_t vocabulary, void *user) {
    oracle_logits *self = user;
    int64_t count = rows * vocabulary;
    if (self->count + count > self->capacity) {
        self->capacity = 2 * (self->count + count);
        self->values = realloc(self->values, (size_t)self->capacity * sizeof *self->values);
        if (self->values == NULL)
            return 1;
    }
    memcpy(self->values + self->count, logits, (size_t)count * sizeof *logits);
    self->count += count;
    self->vocabulary = vocabulary;
    return 0;
}

balora_status oracle_evaluate(oracle_run *run, balora_model *model, balora_adapter *adapter,
                              balora_evaluation *out, oracle_logits *logits) {
    *out = (balora_evaluation)BALORA_EVALUATION_INIT;
    *logits = (oracle_logits){0};
    return balora_evaluate(out, model, adapter, run->data, keep_logits, logits);
}

double oracle_logits_distance(const oracle_logits *found, const double *expected, int64_t count) {
    double difference = 0, largest = 0;
    if (found->count < count)
        return INFINITY;
    for (int64_t i = 0; i < count; i++) {
        double distance = fabs((double)found->values[i] - expected[i]);
        if (!(distance < INFINITY))
            return INFINITY;
        difference = fmax(difference, distance);
        largest = fmax(largest, fabs(expected[i]));
    }
    return difference / largest;
}

double oracle_logits_difference(const oracle_logits *a, const oracle_logits *b) {
    if (a->count != b->count)
        return INFINITY;
    double *expected = calloc((size_t)b->count, sizeof *expected);
    for (int64_t i = 0; i < b->count; i++)
        expected[i] = (double)b->values[i];
    double distance = oracle_logits_distance(a, expected, b->count);
    free(expected);
    return distance;
}
