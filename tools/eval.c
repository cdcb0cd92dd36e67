#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "logits_file.h"
#include "metrics.h"
#include "tool.h"

static void print_table(const balora_evaluation *found) {
    printf("loss               %.6f\n", found->loss);
    printf("perplexity         %.6g\n", found->perplexity);
    printf("token accuracy     %.6f\n", found->token_accuracy);
    printf("sequence accuracy  %.6f\n", found->sequence_accuracy);
    printf("drift              %.6g\n", found->drift);
    printf("entropy            %.6f\n", found->entropy);
    printf("tokens             %" PRId64 ", %" PRId64 " of them predicted, in %" PRId64 " sequences\n",
           found->tokens, found->supervised_tokens, found->sequences);
    printf("seconds            %.3f\n", found->seconds);
}

static int print_json(const balora_evaluation *found) {
    json_t *object = metrics_evaluation(found, "");
    int printed = object != NULL && json_dumpf(object, stdout, METRICS_JSON) == 0 && puts("") != EOF;
    json_decref(object);
    return printed ? EXIT_DONE : tool_fail(EXIT_FAILED, "cannot write to the standard output");
}

static int begin_logits(logits_file *logits, const command_settings *settings,
                        const command_session *session) {
    balora_model_information model = BALORA_MODEL_INFORMATION_INIT;
    balora_data_information data = BALORA_DATA_INFORMATION_INIT;
    balora_model_describe(session->model, &model);
    balora_data_describe(session->data, &data);
    return logits_file_create(logits, settings->logits_path, data.tokens, model.vocabulary_size);
}

static int evaluate(const command_settings *settings, command_session *session, logits_file *logits) {
    int code = session_open(session, settings);
    if (code == EXIT_DONE && settings->logits_path != NULL)
        code = begin_logits(logits, settings, session);
    if (code != EXIT_DONE)
        return code;
    balora_evaluation found = BALORA_EVALUATION_INIT;
    balora_status status = balora_evaluate(&found, session->model, session->adapter, session->data,
                                           logits->stream != NULL ? logits_file_append : NULL, logits);
    if (logits->stream != NULL && ferror(logits->stream))
        return tool_fail(EXIT_FAILED, "cannot write %s: %s", settings->logits_path, strerror(errno));
    if (status != BALORA_OK)
        return tool_fail_library(status);
    if (logits->stream != NULL)
        code = logits_file_publish(logits);
    if (code == EXIT_DONE && settings->json)
        return print_json(&found);
    if (code == EXIT_DONE)
        print_table(&found);
    return code;
}

int command_eval(const command_settings *settings) {
    command_session session;
    logits_file logits = {0};
    int code = session_start(&session, settings);
    if (code == EXIT_DONE)
        code = evaluate(settings, &session, &logits);
    logits_file_close(&logits);
    session_end(&session);
    return code;
}
