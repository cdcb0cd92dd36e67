/*
 * Time of a training step, split by part, beside the GEMM ceiling of the same run.
 *
 *     bench_step MODEL DATA.safetensors [OPTION...]
 *     bench_step --shape 8b|1b|gemma2-2b|tiny [--layers N] [--length 2048] [--supervised 1.0] [OPTION...]
 *
 *     --device cpu|cuda|cuda:N   --method ba-lora|pissa|lora   --rank 16   --batch 4   --accumulation 1
 *     --steps 10   --warmup 3   --threads 0   --bfloat16   --tf32   --graph   --parts   --ceiling SIZE
 *
 * Sequences are taken in file order, without shuffling. One JSON line on stdout. --parts times every slot of the
 * dispatch table, waiting for the device after each, and prints a table on stderr: it costs about 1 % on the CPU and
 * more on a GPU; --process-seconds does it in the processor time of all threads, for a busy machine. --bfloat16 keeps the weights in 16 bits. --shape makes random weights and rows (shaped_model.h).
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "adapter/adapter.h"
#include "balora/balora.h"
#include "base/parallel.h"
#include "bench.h"
#include "shaped_model.h"
#include "timed_ops.h"

#define STEP_LIMIT 1000
#define GIB        ((double)(1 << 30))

typedef struct settings {
    const char *model, *data, *shape, *device, *method;
    int64_t rank, batch, accumulation, steps, warmup, threads, dtype;
    int64_t layers, length, ceiling; /* 0: the shape's, and what suits the device */
    double supervised;
    int parts, tf32, graph;
} settings;

/* The handles of a run. */
typedef struct session {
    balora_context *context;
    balora_model *model;
    balora_adapter *adapter;
    balora_data *data;
    balora_trainer *trainer;
} session;

/* What the measured steps gave. */
typedef struct figures {
    double times[STEP_LIMIT]; /* seconds, sorted at the end */
    double total, tokens, supervised;
    double ceilings[2]; /* FLOP/s before and after */
    int64_t allocations, skipped, host_peak;
    backend_memory memory;
    balora_step_metrics first;
} figures;

/* --- the command line --- */

static int take_word(settings *s, const char *flag, const char *value) {
    const struct {
        const char *flag;
        const char **value;
    } words[] = {{"--method", &s->method}, {"--device", &s->device}, {"--shape", &s->shape}};
    const struct {
        const char *flag;
        int64_t *value;
    } numbers[] = {{"--rank", &s->rank},       {"--batch", &s->batch},   {"--accumulation", &s->accumulation},
                   {"--steps", &s->steps},     {"--warmup", &s->warmup}, {"--threads", &s->threads},
                   {"--ceiling", &s->ceiling}, {"--layers", &s->layers}, {"--length", &s->length}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(flag, words[i].flag) == 0)
            return (*words[i].value = value) != NULL;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(flag, numbers[i].flag) == 0)
            return (*numbers[i].value = atoll(value)) >= 0;
    if (strcmp(flag, "--supervised") != 0)
        return 0;
    s->supervised = atof(value);
    return s->supervised > 0 && s->supervised <= 1;
}

static int take_switch(settings *s, const char *flag) {
    if (strcmp(flag, "--parts") == 0)
        return s->parts = 1;
    if (strcmp(flag, "--process-seconds") == 0) {
        timed_use_process_seconds();
        return s->parts = 1;
    }
    if (strcmp(flag, "--tf32") == 0)
        return s->tf32 = 1;
    if (strcmp(flag, "--graph") == 0)
        return s->graph = 1;
    if (strcmp(flag, "--bfloat16") != 0)
        return 0;
    s->dtype = BALORA_BF16;
    return 1;
}

static int parse(settings *s, int count, char **words) {
    for (int i = 1; i < count; i++) {
        if (strncmp(words[i], "--", 2) != 0) {
            const char **place = s->model == NULL ? &s->model : &s->data;
            if (*place != NULL)
                return 0;
            *place = words[i];
        } else if (!take_switch(s, words[i])) {
            if (i + 1 >= count || !take_word(s, words[i], words[i + 1]))
                return 0;
            i++;
        }
    }
    if (s->shape != NULL ? s->model != NULL || model_shape_find(s->shape) == NULL : s->data == NULL)
        return 0;
    if (s->parts && s->graph) {
        fprintf(stderr,
                "bench_step: --parts waits after every slot, which no graph can hold; leave --graph out\n");
        return 0;
    }
    return s->steps >= 1 && s->steps <= STEP_LIMIT && s->batch >= 1 && s->accumulation >= 1 && s->length >= 2;
}

/* --- the run --- */

/* On a device handle of its own, so that its memory is not counted. */
static double measure_ceiling(const settings *s, int32_t dtype) {
    int64_t size = s->ceiling > 0 ? s->ceiling : bench_product_size(s->device);
    if (bench_is_cpu(s->device))
        return bench_openblas_rate(size);
    bench probe;
    bench_open(&probe, s->device, s->threads > 0 ? (int)s->threads : parallel_available());
    expect(probe.device.ops->allow_tf32(probe.queue, s->tf32));
    double rate = bench_product_rate(&probe, dtype, size);
    bench_close(&probe);
    return rate;
}

static void open_model(const settings *s, session *run) {
    balora_context_options context = BALORA_CONTEXT_OPTIONS_INIT;
    balora_model_options model = BALORA_MODEL_OPTIONS_INIT;
    context.threads = (int32_t)s->threads;
    model.device = s->device;
    model.dtype = (int32_t)s->dtype;
    model.tf32 = s->tf32;
    expect(balora_context_create(&run->context, &context));
    if (s->shape == NULL) {
        expect(balora_model_open(&run->model, run->context, s->model, &model));
        expect(balora_data_open(&run->data, run->model, s->data, NULL));
        return;
    }
    model_shape shape = *model_shape_find(s->shape);
    shape.layers = s->layers > 0 ? s->layers : shape.layers;
    expect(shaped_model_open(&run->model, run->context, &shape, &model));
    expect(
        shaped_rows_open(&run->data, run->model, 4 * s->batch * s->accumulation, s->length, s->supervised));
}

static void open_trainer(const settings *s, session *run) {
    balora_train_options options = BALORA_TRAIN_OPTIONS_INIT;
    options.batch_size = s->batch;
    options.gradient_accumulation = s->accumulation;
    options.max_steps = s->warmup + s->steps;
    options.shuffle = 0;
    options.lr_schedule = BALORA_LR_CONSTANT;
    options.device_graph = s->graph;
    expect(balora_trainer_create(&run->trainer, run->adapter, run->data, &options));
}

static void open_all(const settings *s, session *run) {
    balora_adapter_options adapter = BALORA_ADAPTER_OPTIONS_INIT;
    adapter.rank = s->rank;
    adapter.alpha = (double)s->rank;
    expect(balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter, "method", s->method));
    open_model(s, run);
    expect(balora_adapter_create(&run->adapter, run->model, &adapter));
    if (s->parts)
        run->model->device.ops =
            timed_ops(run->model->device.ops, run->model->config.vocabulary, 6 * s->rank);
    open_trainer(s, run);
}

static void close_all(session *run) {
    balora_trainer_free(run->trainer);
    balora_data_free(run->data);
    balora_adapter_free(run->adapter);
    balora_model_free(run->model);
    balora_context_free(run->context);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void take_steps(const settings *s, session *run, figures *out) {
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    balora_memory_statistics before = BALORA_MEMORY_STATISTICS_INIT, after = BALORA_MEMORY_STATISTICS_INIT;
    for (int64_t i = 0; i < s->warmup + s->steps; i++) {
        if (i == s->warmup) {
            timed_reset();
            expect(balora_context_memory(run->context, &before));
        }
        expect(balora_trainer_step(run->trainer, &metrics));
        if (i == 0)
            out->first = metrics;
        out->skipped += metrics.skipped;
        if (i < s->warmup)
            continue;
        out->times[i - s->warmup] = metrics.seconds;
        out->total += metrics.seconds;
        out->tokens += (double)metrics.tokens;
        out->supervised += (double)metrics.supervised_tokens;
    }
    expect(balora_context_memory(run->context, &after));
    out->allocations = (int64_t)(after.allocations - before.allocations);
    qsort(out->times, (size_t)s->steps, sizeof *out->times, compare);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    out->host_peak = usage.ru_maxrss * 1024;
    expect(run->model->device.ops->memory_usage(run->model->device.device, &out->memory));
}

/* --- the report --- */

static double quantile(const double *sorted, int64_t count, double q) {
    return sorted[(int64_t)(q * (double)(count - 1) + 0.5)];
}

/* The arithmetic that a step cannot do without; see docs/benchmarks. */
static double useful_flops(const session *run, const settings *s, double tokens, double supervised) {
    balora_model_information m = BALORA_MODEL_INFORMATION_INIT;
    balora_adapter_information a = BALORA_ADAPTER_INFORMATION_INIT;
    balora_data_information d = BALORA_DATA_INFORMATION_INIT;
    balora_model_describe(run->model, &m);
    balora_adapter_describe(run->adapter, &a);
    balora_data_describe(run->data, &d);
    double width = (double)(m.heads * m.head_dim), narrow = (double)(m.key_value_heads * m.head_dim);
    double hidden = (double)m.hidden_size, layers = (double)m.layers;
    double body = layers * hidden * (2 * width + 2 * narrow + 3 * (double)m.intermediate_size);
    double head = hidden * (double)m.vocabulary_size;
    double attention = 2 * width * layers * (double)d.tokens / (double)d.sequences;
    int regularized = strcmp(s->method, "ba-lora") == 0;
    double passes = regularized ? 6 : 4;
    return tokens *
               (passes * body + (regularized ? 4.5 : 3.5) * attention + 6 * (double)a.trainable_parameters) +
           supervised * passes * head;
}

static void print_parts(double total, double ceiling) {
    const part_time *parts = timed_parts();
    double sum = 0;
    fprintf(stderr, "%-16s %9s %7s %9s %9s\n", "part", "seconds", "share", "GFLOP/s", "of peak");
    for (int i = 0; i < PART_COUNT; i++) {
        sum += parts[i].seconds;
        fprintf(stderr, "%-16s %9.3f %6.1f%%", parts[i].name, parts[i].seconds,
                100 * parts[i].seconds / total);
        if (parts[i].flops > 0)
            fprintf(stderr, " %9.1f %8.1f%%", parts[i].flops / parts[i].seconds * 1e-9,
                    100 * parts[i].flops / parts[i].seconds / ceiling);
        fputc('\n', stderr);
    }
    fprintf(stderr, "%-16s %9.3f %6.1f%%\n", "other", total - sum, 100 * (total - sum) / total);
}

/* A term of the first step as JSON: null where it is off. */
static const char *term(char text[32], double value) {
    snprintf(text, 32, isnan(value) ? "null" : "%.9g", value);
    return text;
}

static void print_machine(const settings *s, const session *run) {
    backend_properties properties;
    const balora_model *model = run->model;
    expect(model->device.ops->device_properties(model->device.device, &properties));
    printf("\"device\": \"%s\", \"device_name\": \"%s\", \"features\": \"%s\", \"dtype\": \"%s\", "
           "\"activation_dtype\": \"%s\", \"tf32\": %s, \"graph\": %s, ",
           s->device != NULL ? s->device : "cpu", properties.name, properties.features,
           dtype_name(model->weights.dtype), dtype_name(model->activation_dtype), s->tf32 ? "true" : "false",
           s->graph ? "true" : "false");
}

static void print_memory(const session *run, const figures *f) {
    balora_trainer_information plan = BALORA_TRAINER_INFORMATION_INIT;
    expect(balora_trainer_describe(run->trainer, &plan));
    printf("\"micro_batch_tokens\": %lld, \"peak_rss_gib\": %.3f, \"device_peak_gib\": %.3f, "
           "\"weight_bytes\": %lld, \"activation_bytes\": %lld, \"head_bytes\": %lld, "
           "\"allocations_in_steps\": %lld, ",
           (long long)plan.micro_batch_tokens, (double)f->host_peak / GIB, (double)f->memory.peak / GIB,
           (long long)plan.weight_bytes, (long long)plan.activation_bytes, (long long)plan.head_bytes,
           (long long)f->allocations);
}

static void print_shares(double total) {
    const part_time *parts = timed_parts();
    printf("\"parts\": {");
    for (int i = 0; i < PART_COUNT; i++)
        printf("%s\"%s\": %.4f", i > 0 ? ", " : "", parts[i].name, parts[i].seconds / total);
    printf("}, ");
}

static void print_figures(const settings *s, const session *run, const figures *f) {
    char text[5][32];
    balora_adapter_information adapter = BALORA_ADAPTER_INFORMATION_INIT;
    expect(balora_adapter_describe(run->adapter, &adapter));
    double ceiling = fmax(f->ceilings[0], f->ceilings[1]);
    double rate = useful_flops(run, s, f->tokens, f->supervised) / f->total;
    if (s->parts)
        print_parts(f->total, ceiling);
    printf("{\"library\": \"balora\", \"method\": \"%s\", \"rank\": %lld, ", s->method, (long long)s->rank);
    print_machine(s, run);
    printf("\"tokens_per_s\": %.2f, \"step_s_median\": %.4f, \"step_s_quartiles\": [%.4f, %.4f], "
           "\"init_s\": %.3f, ",
           f->tokens / f->total, quantile(f->times, s->steps, 0.5), quantile(f->times, s->steps, 0.25),
           quantile(f->times, s->steps, 0.75), adapter.creation_seconds);
    print_memory(run, f);
    if (s->parts)
        print_shares(f->total);
    printf("\"useful_gflops\": %.1f, \"gemm_ceiling_gflops\": [%.1f, %.1f], \"of_ceiling\": %.3f, "
           "\"supervised_share\": %.4f, \"skipped_steps\": %lld, \"first\": [%s, %s, %s, %s, %s]}\n",
           rate * 1e-9, f->ceilings[0] * 1e-9, f->ceilings[1] * 1e-9, rate / ceiling,
           f->supervised / f->tokens, (long long)f->skipped, term(text[0], f->first.task),
           term(text[1], f->first.consistency), term(text[2], f->first.diversity),
           term(text[3], f->first.svd), term(text[4], f->first.grad_norm));
}

int main(int count, char **words) {
    settings s = {.method = "ba-lora",
                  .rank = 16,
                  .batch = 4,
                  .accumulation = 1,
                  .steps = 10,
                  .warmup = 3,
                  .length = 2048,
                  .supervised = 1};
    if (!parse(&s, count, words)) {
        fprintf(stderr,
                "usage: bench_step MODEL DATA.safetensors | --shape " MODEL_SHAPE_NAMES
                " [--layers N] [--length N] [--supervised SHARE]\n"
                "  [--device NAME] [--method ba-lora|pissa|lora] [--rank N] [--batch N] [--accumulation N]\n"
                "  [--steps N] [--warmup N] [--threads N] [--bfloat16] [--tf32] [--graph] [--parts] "
                "[--process-seconds] [--ceiling SIZE]\n");
        return 2;
    }
    static figures found;
    session run = {0};
    open_all(&s, &run);
    int32_t dtype = run.model->activation_dtype;
    found.ceilings[0] = measure_ceiling(&s, dtype);
    take_steps(&s, &run, &found);
    found.ceilings[1] = measure_ceiling(&s, dtype);
    print_figures(&s, &run, &found);
    close_all(&run);
    return 0;
}
