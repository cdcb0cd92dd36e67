/*
 * Time of a training step, split by part, beside the GEMM ceiling of the same run.
 *
 *     bench_step MODEL DATA.safetensors [--method ba-lora|pissa|lora] [--rank 16] [--batch 4] [--steps 10]
 *                [--warmup 3] [--threads 0] [--bfloat16] [--parts]
 *
 * Sequences are taken in file order, without shuffling. One JSON line on stdout. --parts times every slot of the
 * dispatch table, which costs about 1 %, and prints a table on stderr. --bfloat16 keeps the weights in 16 bits.
 */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/adapter.h"
#include "balora/balora.h"
#include "base/clock.h"
#include "timed_ops.h"

#define CEILING_SIZE 1536
#define STEP_LIMIT   1000

typedef struct settings {
    const char *model, *data, *method;
    int64_t rank, batch, steps, warmup, threads, dtype;
    int parts;
} settings;

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile(double *sorted, int64_t count, double q) {
    return sorted[(int64_t)(q * (double)(count - 1) + 0.5)];
}

/* Best of five square products, GFLOP/s. */
static double gemm_ceiling(void) {
    size_t n = CEILING_SIZE;
    float *a = malloc(3 * n * n * sizeof *a);
    double best = 0;
    if (a == NULL)
        return 0;
    for (size_t i = 0; i < 3 * n * n; i++)
        a[i] = (float)(rand() % 2001 - 1000) * 1e-3f;
    for (int run = 0; run < 6; run++) {
        double begin = clock_seconds();
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, CEILING_SIZE, CEILING_SIZE, CEILING_SIZE, 1, a,
                    CEILING_SIZE, a + n * n, CEILING_SIZE, 0, a + 2 * n * n, CEILING_SIZE);
        double rate = 2.0 * (double)n * (double)n * (double)n / (clock_seconds() - begin) * 1e-9;
        if (run > 0 && rate > best)
            best = rate;
    }
    free(a);
    return best;
}

/* The arithmetic that a step cannot do without; see docs/benchmarks. */
static double useful_flops(const balora_model *model, const balora_adapter *adapter, const balora_data *data,
                           const settings *s, double tokens, double supervised) {
    balora_model_information m = BALORA_MODEL_INFORMATION_INIT;
    balora_adapter_information a = BALORA_ADAPTER_INFORMATION_INIT;
    balora_data_information d = BALORA_DATA_INFORMATION_INIT;
    balora_model_describe(model, &m);
    balora_adapter_describe(adapter, &a);
    balora_data_describe(data, &d);
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

static int parse(settings *s, int count, char **words) {
    if (count < 3)
        return 0;
    s->model = words[1];
    s->data = words[2];
    struct {
        const char *flag;
        int64_t *value;
    } numbers[] = {{"--rank", &s->rank},     {"--batch", &s->batch},     {"--steps", &s->steps},
                   {"--warmup", &s->warmup}, {"--threads", &s->threads}, {"--dtype", &s->dtype}};
    for (int i = 3; i < count; i++) {
        int known = 0;
        if (strcmp(words[i], "--parts") == 0)
            known = s->parts = 1;
        else if (strcmp(words[i], "--method") == 0 && i + 1 < count)
            known = (s->method = words[++i]) != NULL;
        else if (strcmp(words[i], "--bfloat16") == 0) {
            s->dtype = BALORA_BF16;
            known = 1;
        } else
            for (size_t n = 0; n < sizeof numbers / sizeof numbers[0] && !known; n++)
                if (strcmp(words[i], numbers[n].flag) == 0 && i + 1 < count) {
                    *numbers[n].value = atoll(words[++i]);
                    known = 1;
                }
        if (!known)
            return 0;
    }
    return s->steps >= 1 && s->steps <= STEP_LIMIT;
}

static void print_parts(const balora_model *model, double total, double ceiling) {
    const part_time *parts = timed_parts();
    double sum = 0;
    (void)model;
    fprintf(stderr, "%-16s %9s %7s %9s %9s\n", "part", "seconds", "share", "GFLOP/s", "of peak");
    for (int i = 0; i < PART_COUNT; i++) {
        sum += parts[i].seconds;
        fprintf(stderr, "%-16s %9.3f %6.1f%%", parts[i].name, parts[i].seconds,
                100 * parts[i].seconds / total);
        if (parts[i].flops > 0)
            fprintf(stderr, " %9.1f %8.1f%%", parts[i].flops / parts[i].seconds * 1e-9,
                    100 * parts[i].flops / parts[i].seconds * 1e-9 / ceiling);
        fputc('\n', stderr);
    }
    fprintf(stderr, "%-16s %9.3f %6.1f%%\n", "other", total - sum, 100 * (total - sum) / total);
}

/* A term of the first step as JSON: null where it is off. */
static const char *term(char text[32], double value) {
    snprintf(text, 32, isnan(value) ? "null" : "%.9g", value);
    return text;
}

static int run(const settings *s) {
    balora_context *context = NULL;
    balora_model *model = NULL;
    balora_adapter *adapter = NULL;
    balora_data *data = NULL;
    balora_trainer *trainer = NULL;
    balora_context_options context_options = BALORA_CONTEXT_OPTIONS_INIT;
    balora_model_options model_options = BALORA_MODEL_OPTIONS_INIT;
    balora_adapter_options adapter_options = BALORA_ADAPTER_OPTIONS_INIT;
    balora_train_options train_options = BALORA_TRAIN_OPTIONS_INIT;
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT, first = BALORA_STEP_METRICS_INIT;
    balora_memory_statistics before = BALORA_MEMORY_STATISTICS_INIT, after = BALORA_MEMORY_STATISTICS_INIT;
    static double times[STEP_LIMIT];
    char text[5][32];
    double tokens = 0, supervised = 0, total = 0;
    context_options.threads = (int32_t)s->threads;
    model_options.dtype = (int32_t)s->dtype;
    adapter_options.rank = s->rank;
    adapter_options.alpha = (double)s->rank;
    train_options.batch_size = s->batch;
    train_options.max_steps = s->warmup + s->steps;
    train_options.shuffle = 0;
    train_options.lr_schedule = BALORA_LR_CONSTANT;
    if (balora_options_set(BALORA_OPTIONS_ADAPTER, &adapter_options, "method", s->method) ||
        balora_context_create(&context, &context_options) ||
        balora_model_open(&model, context, s->model, &model_options) ||
        balora_adapter_create(&adapter, model, &adapter_options) ||
        balora_data_open(&data, model, s->data, NULL))
        return fprintf(stderr, "%s\n", balora_error_message()), 1;
    balora_model_information facts = BALORA_MODEL_INFORMATION_INIT;
    balora_model_describe(model, &facts);
    if (s->parts)
        model->device.ops = timed_ops(model->device.ops, facts.vocabulary_size, 6 * s->rank);
    double ceiling_before = gemm_ceiling();
    if (balora_trainer_create(&trainer, adapter, data, &train_options))
        return fprintf(stderr, "%s\n", balora_error_message()), 1;
    for (int64_t i = 0; i < s->warmup + s->steps; i++) {
        if (i == s->warmup) {
            timed_reset();
            balora_context_memory(context, &before);
        }
        if (balora_trainer_step(trainer, &metrics))
            return fprintf(stderr, "%s\n", balora_error_message()), 1;
        if (i == 0)
            first = metrics;
        if (i < s->warmup)
            continue;
        times[i - s->warmup] = metrics.seconds;
        total += metrics.seconds;
        tokens += (double)metrics.tokens;
        supervised += (double)metrics.supervised_tokens;
    }
    balora_context_memory(context, &after);
    double ceiling_after = gemm_ceiling(), ceiling = fmax(ceiling_before, ceiling_after);
    double rate = useful_flops(model, adapter, data, s, tokens, supervised) / total * 1e-9;
    balora_adapter_information adapter_facts = BALORA_ADAPTER_INFORMATION_INIT;
    balora_adapter_describe(adapter, &adapter_facts);
    if (s->parts)
        print_parts(model, total, ceiling);
    qsort(times, (size_t)s->steps, sizeof *times, compare);
    printf("{\"library\": \"balora\", \"method\": \"%s\", \"tokens_per_s\": %.2f, \"step_s_median\": %.4f, "
           "\"step_s_quartiles\": [%.4f, %.4f], \"init_s\": %.3f, \"peak_rss_gib\": %.3f, \"useful_gflops\": "
           "%.1f, "
           "\"gemm_ceiling_gflops\": [%.1f, %.1f], \"of_ceiling\": %.3f, \"allocations_in_steps\": %llu, "
           "\"first\": [%s, %s, %s, %s, %s]}\n",
           s->method, tokens / total, quantile(times, s->steps, 0.5), quantile(times, s->steps, 0.25),
           quantile(times, s->steps, 0.75), adapter_facts.creation_seconds,
           (double)metrics.peak_memory_bytes / (double)(1 << 30), rate, ceiling_before, ceiling_after,
           rate / ceiling, (unsigned long long)(after.allocations - before.allocations),
           term(text[0], first.task), term(text[1], first.consistency), term(text[2], first.diversity),
           term(text[3], first.svd), term(text[4], first.grad_norm));
    balora_trainer_free(trainer);
    balora_data_free(data);
    balora_adapter_free(adapter);
    balora_model_free(model);
    balora_context_free(context);
    return 0;
}

int main(int count, char **words) {
    settings s = {.method = "ba-lora", .rank = 16, .batch = 4, .steps = 10, .warmup = 3};
    if (!parse(&s, count, words)) {
        fprintf(
            stderr,
            "usage: bench_step MODEL DATA.safetensors [--method ba-lora|pissa|lora] [--rank N] [--batch N] "
            "[--steps N] [--warmup N] [--threads N] [--bfloat16] [--parts]\n");
        return 2;
    }
    return run(&s);
}
