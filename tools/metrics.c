#include "metrics.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "tool.h"

static json_t *number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static int write_line(FILE *file, const char *path, json_t *line) {
    int written = line != NULL && json_dumpf(line, file, METRICS_JSON) == 0 && fputc('\n', file) != EOF &&
                  fflush(file) == 0;
    json_decref(line);
    return written ? EXIT_DONE : tool_fail(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
}

int metrics_write_step(FILE *file, const char *path, const balora_step_metrics *metrics) {
    json_t *line = json_object();
    json_object_set_new(line, "step", json_integer(metrics->step));
    json_object_set_new(line, "epoch", number(metrics->epoch));
    json_object_set_new(line, "loss", number(metrics->loss));
    json_object_set_new(line, "task", number(metrics->task));
    json_object_set_new(line, "consistency", number(metrics->consistency));
    json_object_set_new(line, "diversity", number(metrics->diversity));
    json_object_set_new(line, "svd", number(metrics->svd));
    json_object_set_new(line, "grad_norm", number(metrics->grad_norm));
    json_object_set_new(line, "lambda_consistency", number(metrics->lambda_consistency));
    json_object_set_new(line, "lambda_diversity", number(metrics->lambda_diversity));
    json_object_set_new(line, "lambda_svd", number(metrics->lambda_svd));
    json_object_set_new(line, "learning_rate", number(metrics->learning_rate));
    json_object_set_new(line, "tokens", json_integer(metrics->tokens));
    json_object_set_new(line, "supervised_tokens", json_integer(metrics->supervised_tokens));
    json_object_set_new(line, "seconds", number(metrics->seconds));
    json_object_set_new(line, "peak_memory_bytes", json_integer(metrics->peak_memory_bytes));
    return write_line(file, path, line);
}

static void set_prefixed(json_t *object, const char *prefix, const char *key, json_t *value) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", prefix, key);
    json_object_set_new(object, name, value);
}

json_t *metrics_evaluation(const balora_evaluation *evaluation, const char *prefix) {
    json_t *object = json_object();
    set_prefixed(object, prefix, "loss", number(evaluation->loss));
    set_prefixed(object, prefix, "perplexity", number(evaluation->perplexity));
    set_prefixed(object, prefix, "token_accuracy", number(evaluation->token_accuracy));
    set_prefixed(object, prefix, "sequence_accuracy", number(evaluation->sequence_accuracy));
    set_prefixed(object, prefix, "drift", number(evaluation->drift));
    set_prefixed(object, prefix, "entropy", number(evaluation->entropy));
    set_prefixed(object, prefix, "tokens", json_integer(evaluation->tokens));
    set_prefixed(object, prefix, "supervised_tokens", json_integer(evaluation->supervised_tokens));
    set_prefixed(object, prefix, "sequences", json_integer(evaluation->sequences));
    set_prefixed(object, prefix, "seconds", number(evaluation->seconds));
    return object;
}

int metrics_write_evaluation(FILE *file, const char *path, int64_t step,
                             const balora_evaluation *evaluation) {
    json_t *line = json_pack("{sI}", "step", (json_int_t)step);
    json_t *figures = metrics_evaluation(evaluation, "eval_");
    json_object_update(line, figures);
    json_decref(figures);
    return write_line(file, path, line);
}
