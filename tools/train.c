#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "metrics.h"
#include "progress.h"
#include "report.h"
#include "tool.h"

/* One run of `balora train`. */
typedef struct training {
    const command_settings *settings;
    command_session session;
    balora_data *eval_data;
    balora_regularizers *regularizers;
    balora_optimizer *optimizer;
    balora_trainer *trainer;
    balora_trainer_information plan;
    progress progress;
    FILE *metrics, *evaluations;
    char *metrics_path, *evaluations_path, *report_path, *result_path;
    int64_t steps, skipped; /* done so far; of them without effect */
    double seconds, last_loss;
    balora_evaluation last_evaluation;
} training;

/* Words that only make sense when the adapter is made here. */
static int check_adapter_words(option_list *list) {
    static const char *const words[] = {"rank", "alpha", "use_rslora", "target_modules", "full_svd"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (options_given(list, words[i]))
            return tool_fail(EXIT_USAGE, "%s does not go with --adapter: the adapter's folder decides it",
                             words[i]);
    return EXIT_DONE;
}

static int check_words(option_list *list, const command_settings *settings) {
    if (settings->task != NULL && strcmp(settings->task, "nlu") == 0)
        return tool_fail(EXIT_FAILED, "--task nlu is not supported by this version yet");
    if (settings->task != NULL && strcmp(settings->task, "nlg") != 0)
        return tool_fail(EXIT_USAGE, "--task is \"%s\"; expected nlg", settings->task);
    if (settings->adapter_path != NULL && settings->adapter.method == BALORA_METHOD_FULL)
        return tool_fail(EXIT_USAGE, "--method full does not go with --adapter: merge the adapter first");
    if (settings->eval_steps > 0 && settings->eval_data_path == NULL)
        return tool_fail(EXIT_USAGE, "--eval-steps needs --eval-data FILE");
    return settings->adapter_path != NULL ? check_adapter_words(list) : EXIT_DONE;
}

/* The paper's weights belong to ba-lora; other methods get the terms that are asked for by name. */
static void choose_weights(option_list *list, command_settings *settings) {
    if (settings->adapter.method == BALORA_METHOD_BA_LORA)
        return;
    if (!options_given(list, "lambda_consistency"))
        settings->regularizer.lambda_consistency = 0;
    if (!options_given(list, "lambda_diversity"))
        settings->regularizer.lambda_diversity = 0;
    if (!options_given(list, "lambda_svd"))
        settings->regularizer.lambda_svd = 0;
}

static int is_there(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

static int open_lines(FILE **out, const char *path) {
    *out = fopen(path, "w");
    return *out != NULL ? EXIT_DONE : tool_fail(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
}

/* Before the heavy work: a folder that cannot be written is told at once. */
static int prepare_folder(training *self) {
    const char *out = self->settings->out_path;
    int full = self->settings->adapter.method == BALORA_METHOD_FULL;
    int code = tool_make_folder(out);
    if (code != EXIT_DONE)
        return code;
    self->metrics_path = tool_join(out, "metrics.jsonl");
    self->evaluations_path = tool_join(out, "eval.jsonl");
    self->report_path = tool_join(out, "report.html");
    self->result_path = tool_join(out, full ? "model" : "adapter");
    if (self->report_path == NULL || self->metrics_path == NULL || self->evaluations_path == NULL ||
        self->result_path == NULL)
        return EXIT_FAILED;
    if (is_there(self->metrics_path))
        printf("note     %s holds a run already: its files are replaced\n", out);
    code = open_lines(&self->metrics, self->metrics_path);
    if (code == EXIT_DONE && self->settings->eval_data_path != NULL)
        code = open_lines(&self->evaluations, self->evaluations_path);
    else
        remove(self->evaluations_path); /* of an earlier run */
    return code;
}

static int make_handles(training *self) {
    const command_settings *settings = self->settings;
    command_session *session = &self->session;
    balora_status status = BALORA_OK;
    if (settings->eval_data_path != NULL)
        status =
            balora_data_open(&self->eval_data, session->model, settings->eval_data_path, &settings->data);
    if (status == BALORA_OK && session->adapter == NULL)
        status = balora_adapter_create(&session->adapter, session->model, &settings->adapter);
    if (status == BALORA_OK)
        status = balora_regularizers_create(&self->regularizers, session->context, &settings->regularizer);
    if (status == BALORA_OK)
        status = balora_optimizer_create(&self->optimizer, session->adapter, &settings->optimizer);
    balora_train_options options = settings->train;
    options.regularizers = self->regularizers;
    options.optimizer = self->optimizer;
    if (status == BALORA_OK)
        status = balora_trainer_create(&self->trainer, session->adapter, session->data, &options);
    self->plan = (balora_trainer_information)BALORA_TRAINER_INFORMATION_INIT;
    if (status == BALORA_OK)
        status = balora_trainer_describe(self->trainer, &self->plan);
    return status == BALORA_OK ? EXIT_DONE : tool_fail_library(status);
}

static void print_model(const training *self) {
    char count[HUMAN_TEXT], bytes[HUMAN_TEXT];
    balora_model_information model = BALORA_MODEL_INFORMATION_INIT;
    balora_model_describe(self->session.model, &model);
    printf("model    %s: %s, %s parameters, %s, %s\n", self->settings->model_path, model.family,
           human_count(count, model.parameters), human_dtype(model.dtype),
           human_bytes(bytes, model.weight_bytes));
}

static void print_data(const training *self) {
    char tokens[HUMAN_TEXT];
    balora_data_information data = BALORA_DATA_INFORMATION_INIT;
    balora_data_describe(self->session.data, &data);
    printf("data     %s: %" PRId64 " sequences, %s tokens, %.0f %% supervised", self->settings->data_path,
           data.sequences, human_count(tokens, data.tokens),
           100.0 * (double)data.supervised_tokens / (double)(data.tokens > 0 ? data.tokens : 1));
    if (data.truncated_rows > 0)
        printf(", %" PRId64 " truncated", data.truncated_rows);
    if (data.skipped_rows > 0)
        printf(", %" PRId64 " skipped", data.skipped_rows);
    printf("\n");
}

static void print_adapter(const training *self, const char *method) {
    char trained[HUMAN_TEXT];
    balora_adapter_information adapter = BALORA_ADAPTER_INFORMATION_INIT;
    balora_adapter_describe(self->session.adapter, &adapter);
    printf("method   %s", method);
    if (adapter.method != BALORA_METHOD_FULL)
        printf(", rank %" PRId64 ", alpha %g, %" PRId64 " layers", adapter.rank, adapter.alpha,
               adapter.modules);
    printf(", %s trainable, ready in %.1f s\n", human_count(trained, adapter.trainable_parameters),
           adapter.creation_seconds);
}

static void print_header(const training *self) {
    char weights[HUMAN_TEXT], adapter[HUMAN_TEXT], optimizer[HUMAN_TEXT], step[HUMAN_TEXT], head[HUMAN_TEXT];
    char method[32] = "";
    const balora_trainer_information *plan = &self->plan;
    balora_options_get(BALORA_OPTIONS_ADAPTER, &self->settings->adapter, "method", method, sizeof method);
    print_model(self);
    print_data(self);
    print_adapter(self, method);
    printf("memory   weights %s, adapter %s, optimizer %s, step %s (head %s)\n",
           human_bytes(weights, plan->weight_bytes), human_bytes(adapter, plan->adapter_bytes),
           human_bytes(optimizer, plan->optimizer_bytes), human_bytes(step, plan->activation_bytes),
           human_bytes(head, plan->head_bytes));
    printf("run      %" PRId64 " steps of %" PRId64 " x %" PRId64 " sequences\n", plan->total_steps,
           self->settings->train.gradient_accumulation, self->settings->train.batch_size);
    fflush(stdout);
}

static int evaluate(training *self) {
    self->last_evaluation = (balora_evaluation)BALORA_EVALUATION_INIT;
    balora_status status = balora_evaluate(&self->last_evaluation, self->session.model, self->session.adapter,
                                           self->eval_data, NULL, NULL);
    progress_pause(&self->progress);
    if (status != BALORA_OK)
        return tool_fail_library(status);
    const balora_evaluation *found = &self->last_evaluation;
    printf("eval     step %" PRId64 ": loss %.4f, token accuracy %.2f %%, drift %.5f, entropy %.4f\n",
           self->steps, found->loss, 100 * found->token_accuracy, found->drift, found->entropy);
    fflush(stdout);
    return metrics_write_evaluation(self->evaluations, self->evaluations_path, self->steps, found);
}

static int after_step(training *self, const balora_step_metrics *metrics) {
    self->steps = metrics->step;
    self->seconds += metrics->seconds;
    self->last_loss = metrics->loss;
    self->skipped += metrics->skipped;
    int code = metrics_write_step(self->metrics, self->metrics_path, metrics);
    if (metrics->skipped != 0) {
        progress_pause(&self->progress);
        printf("warning  step %" PRId64 ": the gradient is not finite; nothing was changed\n", metrics->step);
    }
    progress_update(&self->progress, metrics);
    int64_t every = self->settings->eval_steps;
    if (code == EXIT_DONE && every > 0 && metrics->step % every == 0 &&
        metrics->step < self->plan.total_steps)
        code = evaluate(self);
    return code;
}

/* The steps. Whatever ends them, what was trained so far is in the adapter. */
static int run_steps(training *self) {
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    balora_status status;
    int code = EXIT_DONE;
    progress_start(&self->progress, self->plan.total_steps);
    while (code == EXIT_DONE && (status = balora_trainer_step(self->trainer, &metrics)) != BALORA_DONE) {
        if (status == BALORA_OK) {
            code = after_step(self, &metrics);
        } else {
            progress_pause(&self->progress);
            code = tool_fail_library(status);
        }
    }
    progress_pause(&self->progress);
    if (code == EXIT_DONE && self->eval_data != NULL)
        code = evaluate(self);
    return code;
}

static int save(training *self) {
    /* A cancelled context would refuse; asking once more now kills the process. */
    balora_context_resume(self->session.context);
    balora_status status = self->settings->adapter.method == BALORA_METHOD_FULL
                               ? balora_adapter_merge(self->session.adapter, self->result_path)
                               : balora_adapter_save(self->session.adapter, self->result_path, NULL);
    return status == BALORA_OK ? EXIT_DONE : tool_fail_library(status);
}

static void print_summary(const training *self) {
    char duration[HUMAN_TEXT];
    printf("done     %" PRId64 " steps in %s", self->steps, human_duration(duration, self->seconds));
    if (self->seconds > 0)
        printf(", %.0f tokens/s", (double)self->progress.tokens / self->seconds);
    printf(", last loss %.4f", self->last_loss);
    if (self->skipped > 0)
        printf(", %" PRId64 " steps skipped", self->skipped);
    printf("\nwritten  %s, %s and %s\n", self->result_path, self->metrics_path, self->report_path);
}

static int train(training *self) {
    int code = session_open(&self->session, self->settings);
    if (code == EXIT_DONE)
        code = prepare_folder(self);
    if (code == EXIT_DONE)
        code = make_handles(self);
    if (code != EXIT_DONE)
        return code;
    print_header(self);
    code = run_steps(self);
    if (self->steps == 0)
        return code;
    int saved = save(self);
    if (saved == EXIT_DONE)
        saved = report_write(self->metrics_path, self->report_path, self->settings->model_path,
                             self->settings->data_path);
    if (code == EXIT_DONE && saved == EXIT_DONE)
        print_summary(self);
    else if (saved == EXIT_DONE)
        fprintf(stderr, "balora: stopped after step %" PRId64 " of %" PRId64 "; what was trained is in %s\n",
                self->steps, self->plan.total_steps, self->result_path);
    return code != EXIT_DONE ? code : saved;
}

static int close_lines(FILE *file, const char *path) {
    return file == NULL || fclose(file) == 0
               ? EXIT_DONE
               : tool_fail(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
}

int command_train(option_list *list, command_settings *settings) {
    training self = {.settings = settings};
    int code = check_words(list, settings);
    if (code != EXIT_DONE)
        return code;
    choose_weights(list, settings);
    code = session_start(&self.session, settings);
    if (code == EXIT_DONE)
        code = train(&self);
    int closed = close_lines(self.metrics, self.metrics_path);
    int closed_evaluations = close_lines(self.evaluations, self.evaluations_path);
    balora_trainer_free(self.trainer);
    balora_optimizer_free(self.optimizer);
    balora_regularizers_free(self.regularizers);
    balora_data_free(self.eval_data);
    session_end(&self.session);
    free(self.metrics_path);
    free(self.evaluations_path);
    free(self.report_path);
    free(self.result_path);
    return code != EXIT_DONE ? code : closed != EXIT_DONE ? closed : closed_evaluations;
}
