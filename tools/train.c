#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "metrics.h"
#include "progress.h"
#include "report.h"
#include "run_files.h"
#include "train_header.h"

/* One run of `balora train`. */
typedef struct training {
    const command_settings *settings;
    command_session session;
    balora_data *eval_data;
    balora_regularizers *regularizers;
    balora_optimizer *optimizer;
    balora_trainer *trainer;
    balora_trainer_information plan;
    balora_run_result result;
    progress progress;
    run_files files;
    int code;       /* of the last event */
    double seconds; /* inside steps of this process */
    double last_loss;
} training;

/* Words that only make sense when the adapter is made here. */
static int check_adapter_words(option_list *list) {
    static const char *const words[] = {
        "rank",          "alpha",           "use_rslora",          "target_modules",
        "full_svd",      "exclude_modules", "layers_to_transform", "rank_pattern",
        "alpha_pattern", "modules_to_save", "pissa_modules",       "bias",
        "init",          "use_dora",        "lora_dropout"};
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
    const balora_run_options *run = &settings->run;
    if ((run->eval_steps > 0 || run->patience > 0 || run->load_best) && settings->eval_data_path == NULL)
        return tool_fail(EXIT_USAGE, "%s needs --eval-data FILE",
                         run->eval_steps > 0 ? "--eval-steps"
                         : run->patience > 0 ? "--patience"
                                             : "--load-best");
    if (run->patience > 0 && run->eval_steps == 0)
        return tool_fail(EXIT_USAGE, "--patience needs --eval-steps N");
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

/* DoRA goes on from an adapter that has magnitudes. */
static int check_magnitudes(const training *self) {
    balora_adapter_information adapter = BALORA_ADAPTER_INFORMATION_INIT;
    if (self->session.adapter == NULL || self->settings->adapter.method != BALORA_METHOD_DORA)
        return EXIT_DONE;
    balora_adapter_describe(self->session.adapter, &adapter);
    return adapter.use_dora ? EXIT_DONE
                            : tool_fail(EXIT_USAGE, "--method dora: the adapter %s has no magnitudes",
                                        self->settings->adapter_path);
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

static int evaluated(training *self, const balora_run_event *event) {
    const balora_evaluation *found = event->evaluation;
    progress_pause(&self->progress);
    printf("eval     step %" PRId64 ": loss %.4f, token accuracy %.2f %%, drift %.5f, entropy %.4f%s\n",
           event->step, found->loss, 100 * found->token_accuracy, found->drift, found->entropy,
           event->best_step == event->step ? ", the best so far" : "");
    fflush(stdout);
    return metrics_write_evaluation(self->files.evaluations, self->files.evaluations_path, event->step,
                                    found);
}

static int stepped(training *self, const balora_step_metrics *metrics) {
    self->seconds += metrics->seconds;
    self->last_loss = metrics->loss;
    int code = metrics_write_step(self->files.metrics, self->files.metrics_path, metrics);
    progress_update(&self->progress, metrics);
    return code;
}

static int started(training *self, const balora_run_event *event) {
    if (event->path != NULL)
        printf("resumed  %s\n", event->path);
    progress_start(&self->progress, event->step, self->plan.total_steps);
    return run_files_start(&self->files, event->step, event->evaluated_step);
}

static int saved(training *self, const balora_run_event *event) {
    progress_pause(&self->progress);
    printf("saved    %s\n", event->path);
    fflush(stdout);
    return run_files_sync(&self->files);
}

/* Non-zero stops the run: a file of the command could not be written. */
static int on_event(const balora_run_event *event, void *user) {
    training *self = user;
    switch (event->kind) {
    case BALORA_RUN_START:
        self->code = started(self, event);
        break;
    case BALORA_RUN_STEP:
        self->code = stepped(self, event->metrics);
        break;
    case BALORA_RUN_EVALUATION:
        self->code = evaluated(self, event);
        break;
    case BALORA_RUN_CHECKPOINT:
        self->code = saved(self, event);
        break;
    default:
        break;
    }
    return self->code != EXIT_DONE;
}

/* Whatever ends it, what was trained so far is in the adapter. */
static int run(training *self) {
    balora_run_options options = self->settings->run;
    options.checkpoint_folder = self->files.checkpoint_path;
    options.eval_data = self->eval_data;
    options.callback = on_event;
    options.user = self;
    balora_status status = balora_trainer_run(self->trainer, &options, &self->result);
    progress_pause(&self->progress);
    if (self->code != EXIT_DONE) /* told already */
        return self->code;
    return status == BALORA_OK ? EXIT_DONE : tool_fail_library(status);
}

static int save(training *self) {
    /* A cancelled context would refuse; asking once more now kills the process. */
    balora_context_resume(self->session.context);
    balora_status status = self->settings->adapter.method == BALORA_METHOD_FULL
                               ? balora_adapter_merge(self->session.adapter, self->files.result_path)
                               : balora_adapter_save(self->session.adapter, self->files.result_path, NULL);
    return status == BALORA_OK ? EXIT_DONE : tool_fail_library(status);
}

static void print_summary(const training *self) {
    char duration[HUMAN_TEXT];
    const balora_run_result *result = &self->result;
    if (result->stop == BALORA_STOP_PATIENCE)
        printf("stopped  after step %" PRId64 " of %" PRId64 ": no lower evaluation loss since step %" PRId64
               "\n",
               result->step, self->plan.total_steps, result->best_step);
    if (result->loaded_best)
        printf("best     the adapter of step %" PRId64 " is taken: evaluation loss %.4f\n", result->best_step,
               result->best_loss);
    printf("done     %" PRId64 " steps in %s", result->step - result->resumed_step,
           human_duration(duration, self->seconds));
    if (self->seconds > 0)
        printf(", %.0f tokens/s", (double)self->progress.tokens / self->seconds);
    if (result->step > result->resumed_step)
        printf(", last loss %.4f", self->last_loss);
    if (result->skipped_steps > 0)
        printf(", %" PRId64 " steps skipped", result->skipped_steps);
    printf("\nwritten  %s, %s and %s\n", self->files.result_path, self->files.metrics_path,
           self->files.report_path);
}

static void print_stopped(const training *self) {
    const balora_run_result *result = &self->result;
    fprintf(stderr, "balora: stopped after step %" PRId64 " of %" PRId64 "; what was trained is in %s\n",
            result->step, self->plan.total_steps, self->files.result_path);
    if (result->saved_step > 0)
        fprintf(stderr, "balora: the same command with --resume goes on from step %" PRId64 " in %s\n",
                result->saved_step, self->files.checkpoint_path);
}

static int prepare(training *self) {
    int code = session_open(&self->session, self->settings);
    if (code == EXIT_DONE)
        code = check_magnitudes(self);
    if (code == EXIT_DONE)
        code = run_files_open(&self->files, self->settings);
    if (code == EXIT_DONE)
        code = make_handles(self);
    if (code == EXIT_DONE && !self->settings->run.resume)
        code = run_files_make_room(&self->files);
    return code;
}

static int train(training *self) {
    int code = prepare(self);
    if (code != EXIT_DONE)
        return code;
    train_header_print(&self->session, self->settings, &self->plan);
    code = run(self);
    if (self->result.step == 0)
        return code;
    int written = save(self);
    if (written == EXIT_DONE)
        written = report_write(self->files.metrics_path, self->files.report_path, self->settings->model_path,
                               self->settings->data_path);
    if (code == EXIT_DONE && written == EXIT_DONE)
        print_summary(self);
    else if (written == EXIT_DONE)
        print_stopped(self);
    return code != EXIT_DONE ? code : written;
}

int command_train(option_list *list, command_settings *settings) {
    training self = {.settings = settings, .result = BALORA_RUN_RESULT_INIT};
    int code = check_words(list, settings);
    if (code != EXIT_DONE)
        return code;
    choose_weights(list, settings);
    code = session_start(&self.session, settings);
    if (code == EXIT_DONE)
        code = train(&self);
    int closed = run_files_close(&self.files);
    balora_trainer_free(self.trainer);
    balora_optimizer_free(self.optimizer);
    balora_regularizers_free(self.regularizers);
    balora_data_free(self.eval_data);
    session_end(&self.session);
    return code != EXIT_DONE ? code : closed;
}
