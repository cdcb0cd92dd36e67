#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "tool.h"

/* The sequences that the memory plan is made for: `balora train` with its defaults on JSONL. */
enum { PLAN_LENGTH = 512, PLAN_SEQUENCES = 4 };

static json_t *describe_model(balora_model *model) {
    balora_model_information found = BALORA_MODEL_INFORMATION_INIT;
    if (balora_model_describe(model, &found) != BALORA_OK)
        return NULL;
    return json_pack(
        "{ss sI sI sI sI sI sI sI sI sI sI ss sb}", "family", found.family, "parameters",
        (json_int_t)found.parameters, "weight_bytes", (json_int_t)found.weight_bytes, "layers",
        (json_int_t)found.layers, "hidden_size", (json_int_t)found.hidden_size, "intermediate_size",
        (json_int_t)found.intermediate_size, "heads", (json_int_t)found.heads, "key_value_heads",
        (json_int_t)found.key_value_heads, "head_dim", (json_int_t)found.head_dim, "vocabulary_size",
        (json_int_t)found.vocabulary_size, "maximum_positions", (json_int_t)found.maximum_positions, "dtype",
        human_dtype(found.dtype), "tied_embeddings", found.tied_embeddings);
}

static json_t *describe_adapter(balora_adapter *adapter) {
    balora_adapter_information found = BALORA_ADAPTER_INFORMATION_INIT;
    if (balora_adapter_describe(adapter, &found) != BALORA_OK)
        return NULL;
    return json_pack("{sI sf sb sb sf sI sI sI}", "rank", (json_int_t)found.rank, "alpha", found.alpha,
                     "use_rslora", found.use_rslora, "use_dora", found.use_dora, "lora_dropout",
                     found.lora_dropout, "modules", (json_int_t)found.modules, "trainable_parameters",
                     (json_int_t)found.trainable_parameters, "device_bytes", (json_int_t)found.device_bytes);
}

/* Rows of token 0, all supervised: as many tokens and rows of logits as such a step can have. */
static balora_status plan_data(balora_data **out, balora_model *model) {
    static const int32_t tokens[PLAN_LENGTH * PLAN_SEQUENCES];
    int64_t offsets[PLAN_SEQUENCES + 1];
    for (int i = 0; i <= PLAN_SEQUENCES; i++)
        offsets[i] = (int64_t)i * PLAN_LENGTH;
    return balora_data_from_tokens(out, model, tokens, NULL, offsets, PLAN_SEQUENCES);
}

/* What a step would take with the defaults. */
static json_t *describe_plan(const command_session *session) {
    balora_regularizer_options weights = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    balora_trainer_information plan = BALORA_TRAINER_INFORMATION_INIT;
    balora_adapter *adapter = NULL;
    balora_data *data = NULL;
    balora_trainer *trainer = NULL;
    balora_status status = plan_data(&data, session->model);
    if (status == BALORA_OK && session->adapter == NULL)
        status = balora_adapter_create(&adapter, session->model, NULL);
    if (status == BALORA_OK)
        status = balora_regularizers_create(&train.regularizers, session->context, &weights);
    if (status == BALORA_OK)
        status = balora_trainer_create(&trainer, adapter != NULL ? adapter : session->adapter, data, &train);
    if (status == BALORA_OK)
        status = balora_trainer_describe(trainer, &plan);
    balora_trainer_free(trainer);
    balora_regularizers_free(train.regularizers);
    balora_adapter_free(adapter);
    balora_data_free(data);
    if (status != BALORA_OK)
        return NULL;
    return json_pack("{sI sI sI sI sI sI sI}", "micro_batch_tokens", (json_int_t)plan.micro_batch_tokens,
                     "micro_batch_rows", (json_int_t)plan.micro_batch_rows, "weight_bytes",
                     (json_int_t)plan.weight_bytes, "adapter_bytes", (json_int_t)plan.adapter_bytes,
                     "optimizer_bytes", (json_int_t)plan.optimizer_bytes, "activation_bytes",
                     (json_int_t)plan.activation_bytes, "head_bytes", (json_int_t)plan.head_bytes);
}

static json_t *describe_build(balora_context *context) {
    char *text;
    if (balora_context_describe(&text, context) != BALORA_OK)
        return NULL;
    json_t *build = json_loads(text, 0, NULL);
    balora_string_free(context, text);
    return build;
}

static void print_value(const char *key, const json_t *value) {
    char bytes[HUMAN_TEXT];
    size_t length = 0;
    while (key[length] != '\0')
        length++;
    int is_bytes = length > 6 && key[length - 6] == '_' && key[length - 5] == 'b';
    if (json_is_integer(value) && is_bytes)
        printf("  %-20.*s %s\n", (int)length - 6, key, human_bytes(bytes, json_integer_value(value)));
    else if (json_is_integer(value))
        printf("  %-20s %" JSON_INTEGER_FORMAT "\n", key, json_integer_value(value));
    else if (json_is_string(value))
        printf("  %-20s %s\n", key, json_string_value(value));
    else if (json_is_real(value))
        printf("  %-20s %g\n", key, json_real_value(value));
    else if (json_is_boolean(value))
        printf("  %-20s %s\n", key, json_is_true(value) ? "yes" : "no");
}

static void print_list(const char *key, const json_t *list) {
    size_t index;
    json_t *item;
    printf("  %-20s ", key);
    json_array_foreach(list, index, item) printf("%s%s", index > 0 ? ", " : "", json_string_value(item));
    printf("\n");
}

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* A line each: where it was loaded from, or why it was not. */
static void print_plugins(const json_t *plugins) {
    size_t index;
    json_t *plugin;
    json_array_foreach(plugins, index, plugin) {
        const char *state = text_of(plugin, "state"), *error = text_of(plugin, "error");
        printf("  %-20s ", text_of(plugin, "backend"));
        if (strcmp(state, "loaded") == 0)
            printf("%s, ABI %s, %" JSON_INTEGER_FORMAT " devices%s%s\n", text_of(plugin, "path"),
                   text_of(plugin, "abi"), json_integer_value(json_object_get(plugin, "devices")),
                   error[0] != '\0' ? ": " : "", error);
        else if (strcmp(state, "refused") == 0)
            printf("refused: %s\n", error);
        else
            printf("%s (searched: %s)\n", state, text_of(plugin, "searched"));
    }
}

static void print_section(const char *title, json_t *section) {
    const char *key;
    json_t *value;
    printf("%s\n", title);
    json_object_foreach(section, key, value) {
        const char *name;
        json_t *part;
        if (strcmp(key, "plugins") == 0)
            print_plugins(value);
        else if (json_is_array(value) && json_is_string(json_array_get(value, 0)))
            print_list(key, value);
        else if (json_is_object(value))
            json_object_foreach(value, name, part) print_value(name, part);
        else
            print_value(key, value);
    }
}

static void print_tables(const json_t *report) {
    json_t *build = json_object_get(report, "build");
    size_t index;
    json_t *device;
    print_section("build", build);
    json_array_foreach(json_object_get(build, "devices"), index, device) print_section("device", device);
    if (json_object_get(report, "model") != NULL)
        print_section("model", json_object_get(report, "model"));
    if (json_object_get(report, "adapter") != NULL)
        print_section("adapter", json_object_get(report, "adapter"));
    if (json_object_get(report, "plan") != NULL)
        print_section("memory of a training step (4 sequences of 512 tokens, defaults)",
                      json_object_get(report, "plan"));
}

/* Takes `section` over; a missing one is a failure of the library call that should have made it. */
static int add(json_t *report, const char *key, json_t *section) {
    if (section == NULL)
        return tool_fail_library(balora_error_status());
    json_object_set_new(report, key, section);
    return EXIT_DONE;
}

static int fill(json_t *report, command_session *session, const command_settings *settings) {
    int code = session_open(session, settings);
    if (code == EXIT_DONE)
        code = add(report, "build", describe_build(session->context));
    if (code == EXIT_DONE && session->model != NULL)
        code = add(report, "model", describe_model(session->model));
    if (code == EXIT_DONE && session->adapter != NULL)
        code = add(report, "adapter", describe_adapter(session->adapter));
    if (code == EXIT_DONE && session->model != NULL)
        code = add(report, "plan", describe_plan(session));
    return code;
}

int command_info(const command_settings *settings) {
    command_session session;
    if (settings->adapter_path != NULL && settings->model_path == NULL)
        return tool_fail(EXIT_USAGE, "--adapter needs --model DIR, the model that it belongs to");
    json_t *report = json_object();
    int code = session_start(&session, settings);
    if (code == EXIT_DONE)
        code = fill(report, &session, settings);
    if (code == EXIT_DONE && settings->json) {
        json_dumpf(report, stdout, 0);
        printf("\n");
    } else if (code == EXIT_DONE)
        print_tables(report);
    json_decref(report);
    session_end(&session);
    return code;
}
