#include "train_header.h"

#include <inttypes.h>
#include <stdio.h>

static void print_model(const command_session *session, const command_settings *settings) {
    char count[HUMAN_TEXT], bytes[HUMAN_TEXT];
    balora_model_information model = BALORA_MODEL_INFORMATION_INIT;
    balora_model_describe(session->model, &model);
    printf("model    %s: %s, %s parameters, %s, %s\n", settings->model_path, model.family,
           human_count(count, model.parameters), human_dtype(model.dtype),
           human_bytes(bytes, model.weight_bytes));
}

static void print_data(const command_session *session, const command_settings *settings) {
    char tokens[HUMAN_TEXT];
    balora_data_information data = BALORA_DATA_INFORMATION_INIT;
    balora_data_describe(session->data, &data);
    printf("data     %s: %" PRId64 " sequences, %s tokens, %.0f %% supervised", settings->data_path,
           data.sequences, human_count(tokens, data.tokens),
           100.0 * (double)data.supervised_tokens / (double)(data.tokens > 0 ? data.tokens : 1));
    if (data.truncated_rows > 0)
        printf(", %" PRId64 " truncated", data.truncated_rows);
    if (data.skipped_rows > 0)
        printf(", %" PRId64 " skipped", data.skipped_rows);
    printf("\n");
}

static void print_adapter(const command_session *session, const char *method) {
    char trained[HUMAN_TEXT];
    balora_adapter_information adapter = BALORA_ADAPTER_INFORMATION_INIT;
    balora_adapter_describe(session->adapter, &adapter);
    printf("method   %s", method);
    if (adapter.method != BALORA_METHOD_FULL)
        printf(", rank %" PRId64 ", alpha %g, %" PRId64 " layers", adapter.rank, adapter.alpha,
               adapter.modules);
    printf(", %s trainable, ready in %.1f s\n", human_count(trained, adapter.trainable_parameters),
           adapter.creation_seconds);
}

void train_header_print(const command_session *session, const command_settings *settings,
                        const balora_trainer_information *plan) {
    char weights[HUMAN_TEXT], adapter[HUMAN_TEXT], optimizer[HUMAN_TEXT], step[HUMAN_TEXT], head[HUMAN_TEXT];
    char method[32] = "";
    balora_options_get(BALORA_OPTIONS_ADAPTER, &settings->adapter, "method", method, sizeof method);
    print_model(session, settings);
    print_data(session, settings);
    print_adapter(session, method);
    printf("memory   weights %s, adapter %s, optimizer %s, step %s (head %s)\n",
           human_bytes(weights, plan->weight_bytes), human_bytes(adapter, plan->adapter_bytes),
           human_bytes(optimizer, plan->optimizer_bytes), human_bytes(step, plan->activation_bytes),
           human_bytes(head, plan->head_bytes));
    printf("run      %" PRId64 " steps of %" PRId64 " x %" PRId64 " sequences\n", plan->total_steps,
           settings->train.gradient_accumulation, settings->train.batch_size);
    fflush(stdout);
}
