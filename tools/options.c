#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/nearest.h"
#include "settings.h"
#include "tool.h"

/* An option of the command itself. */
typedef struct own_option {
    int commands; /* that take it */
    int required; /* by which */
    const char *key, *placeholder;
    int32_t type;
    size_t offset;
    const char *help;
} own_option;

#define TEXT_OPTION(commands, required, key, placeholder, field, help)                                       \
    { commands, required, key, placeholder, BALORA_OPTION_TEXT, offsetof(command_settings, field), help }

static const own_option own_options[] = {
    TEXT_OPTION(COMMAND_ALL, COMMAND_TRAIN | COMMAND_EVAL | COMMAND_MERGE, "model", "DIR", model_path,
                "Hugging Face model folder"),
    TEXT_OPTION(COMMAND_TRAIN | COMMAND_EVAL, COMMAND_TRAIN | COMMAND_EVAL, "data", "FILE", data_path,
                "rows (FILE.jsonl) or tokens (FILE.safetensors)"),
    TEXT_OPTION(COMMAND_TRAIN | COMMAND_MERGE, COMMAND_TRAIN | COMMAND_MERGE, "out", "DIR", out_path,
                "folder that receives the result"),
    TEXT_OPTION(COMMAND_CONVERT, COMMAND_CONVERT, "out", "PATH", out_path,
                "folder that receives the result; of gguf, the file"),
    TEXT_OPTION(COMMAND_ALL, COMMAND_MERGE | COMMAND_CONVERT, "adapter", "DIR", adapter_path,
                "PEFT adapter folder to start from, evaluate, merge or convert"),
    TEXT_OPTION(COMMAND_TRAIN, 0, "task", "nlg", task,
                "generation; understanding (nlu) is not supported yet"),
    TEXT_OPTION(COMMAND_TRAIN, 0, "eval_data", "FILE", eval_data_path,
                "evaluate on this data, at the end and every eval_steps"),
    TEXT_OPTION(COMMAND_EVAL, 0, "logits", "FILE", logits_path, "write all logits to FILE.safetensors"),
    {COMMAND_EVAL | COMMAND_INFO, 0, "json", NULL, BALORA_OPTION_FLAG, offsetof(command_settings, json),
     "print one JSON object"},
    TEXT_OPTION(COMMAND_ALL, 0, "config", "FILE", config_path,
                "JSON file with the same keys; the command line wins"),
};

/* The library's structs and the commands that fill them, in the order of the help. */
static const struct {
    int32_t options;
    int commands;
} library_groups[] = {
    {BALORA_OPTIONS_TRAIN, COMMAND_TRAIN},
    {BALORA_OPTIONS_RUN, COMMAND_TRAIN},
    {BALORA_OPTIONS_DATA, COMMAND_TRAIN | COMMAND_EVAL},
    {BALORA_OPTIONS_ADAPTER, COMMAND_TRAIN},
    {BALORA_OPTIONS_REGULARIZER, COMMAND_TRAIN},
    {BALORA_OPTIONS_OPTIMIZER, COMMAND_TRAIN},
    {BALORA_OPTIONS_EXPORT, COMMAND_CONVERT},
    {BALORA_OPTIONS_MODEL, COMMAND_ALL},
    {BALORA_OPTIONS_CONTEXT, COMMAND_ALL},
};

void settings_init(command_settings *self) {
    *self = (command_settings){
        .context = BALORA_CONTEXT_OPTIONS_INIT,
        .model = BALORA_MODEL_OPTIONS_INIT,
        .adapter = BALORA_ADAPTER_OPTIONS_INIT,
        .regularizer = BALORA_REGULARIZER_OPTIONS_INIT,
        .optimizer = BALORA_OPTIMIZER_OPTIONS_INIT,
        .data = BALORA_DATA_OPTIONS_INIT,
        .train = BALORA_TRAIN_OPTIONS_INIT,
        .run = BALORA_RUN_OPTIONS_INIT,
        .export = BALORA_EXPORT_OPTIONS_INIT,
    };
}

void settings_free(command_settings *self) {
    for (size_t i = 0; i < self->text_count; i++)
        free(self->texts[i]);
    self->text_count = 0;
}

static void *struct_of(command_settings *self, int32_t options) {
    switch (options) {
    case BALORA_OPTIONS_CONTEXT:
        return &self->context;
    case BALORA_OPTIONS_MODEL:
        return &self->model;
    case BALORA_OPTIONS_ADAPTER:
        return &self->adapter;
    case BALORA_OPTIONS_REGULARIZER:
        return &self->regularizer;
    case BALORA_OPTIONS_OPTIMIZER:
        return &self->optimizer;
    case BALORA_OPTIONS_DATA:
        return &self->data;
    case BALORA_OPTIONS_RUN:
        return &self->run;
    case BALORA_OPTIONS_EXPORT:
        return &self->export;
    default:
        return &self->train;
    }
}

static void add_own(option_list *list) {
    for (size_t i = 0; i < sizeof own_options / sizeof own_options[0]; i++) {
        const own_option *own = &own_options[i];
        if ((own->commands & list->command) == 0)
            continue;
        balora_option_description description = BALORA_OPTION_DESCRIPTION_INIT;
        description.key = own->key;
        description.type = own->type;
        description.help = own->help;
        description.default_value = own->type == BALORA_OPTION_INTEGER ? "0" : "";
        description.maximum = 1e12;
        list->options[list->count++] = (option){.key = own->key,
                                                .placeholder = own->placeholder,
                                                .offset = own->offset,
                                                .required = (own->required & list->command) != 0,
                                                .description = description};
    }
}

static void add_group(option_list *list, int32_t group) {
    balora_option_description description = BALORA_OPTION_DESCRIPTION_INIT;
    for (int64_t i = 0; balora_options_describe(group, i, &description) == BALORA_OK; i++) {
        option *known = options_find(list, description.key);
        if (known != NULL)
            known->also = group; /* one word for both, as "seed" */
        else if (list->count < OPTIONS_LIMIT)
            list->options[list->count++] =
                (option){.key = description.key, .group = group, .description = description};
    }
}

void options_list(option_list *list, int command) {
    *list = (option_list){.command = command};
    add_own(list);
    for (size_t i = 0; i < sizeof library_groups / sizeof library_groups[0]; i++)
        if ((library_groups[i].commands & command) != 0)
            add_group(list, library_groups[i].options);
}

static int same_key(const char *a, const char *b) {
    for (; *a != '\0' && *b != '\0'; a++, b++)
        if (*a != *b && !(*a == '-' && *b == '_') && !(*a == '_' && *b == '-'))
            return 0;
    return *a == *b;
}

option *options_find(option_list *list, const char *key) {
    for (size_t i = 0; i < list->count; i++)
        if (same_key(key, list->options[i].key))
            return &list->options[i];
    return NULL;
}

int options_given(option_list *list, const char *key) {
    const option *found = options_find(list, key);
    return found != NULL && found->given;
}

/* An unknown word: the nearest known one. */
static int fail_unknown(const option_list *list, const char *origin, const char *key) {
    nearest_word nearest;
    nearest_start(&nearest, strncmp(key, "no-", 3) == 0 ? key + 3 : key);
    for (size_t i = 0; i < list->count; i++)
        nearest_consider(&nearest, list->options[i].key);
    if (nearest.best == NULL)
        return tool_fail(EXIT_USAGE, "unknown option %s%s; --help lists those there are", origin, key);
    char word[64] = {0};
    strncpy(word, nearest.best, sizeof word - 1);
    for (char *c = word; origin[0] == '-' && *c != '\0'; c++)
        if (*c == '_')
            *c = '-';
    return tool_fail(EXIT_USAGE, "unknown option %s%s; did you mean %s%s%s?", origin, key, origin,
                     key + 3 == nearest.word ? "no-" : "", word);
}

static int set_own(option *self, command_settings *settings, const char *origin, const char *value) {
    char *place = (char *)settings + self->offset;
    if (self->description.type == BALORA_OPTION_TEXT) {
        if (value[0] == '\0')
            return tool_fail(EXIT_USAGE, "%s%s is empty; expected a path", origin, self->key);
        memcpy(place, &value, sizeof value);
        return EXIT_DONE;
    }
    if (self->description.type == BALORA_OPTION_FLAG) {
        int32_t flag = strcmp(value, "1") == 0 || strcmp(value, "true") == 0;
        if (!flag && strcmp(value, "0") != 0 && strcmp(value, "false") != 0)
            return tool_fail(EXIT_USAGE, "%s%s is \"%s\"; expected true or false", origin, self->key, value);
        memcpy(place, &flag, sizeof flag);
        return EXIT_DONE;
    }
    char *end;
    errno = 0;
    int64_t integer = strtoll(value, &end, 10);
    if (!isdigit((unsigned char)value[0]) || *end != '\0' || errno != 0)
        return tool_fail(EXIT_USAGE, "%s%s is \"%s\"; expected an integer of at least 0", origin, self->key,
                         value);
    memcpy(place, &integer, sizeof integer);
    return EXIT_DONE;
}

int options_set(option_list *list, command_settings *settings, const char *origin, const char *key,
                const char *value) {
    option *found = options_find(list, key);
    if (found == NULL && (strncmp(key, "no-", 3) == 0 || strncmp(key, "no_", 3) == 0)) {
        found = options_find(list, key + 3);
        if (found != NULL && found->description.type != BALORA_OPTION_FLAG)
            found = NULL;
        if (found != NULL) {
            int on = strcmp(value, "true") == 0 || strcmp(value, "1") == 0;
            if (!on && strcmp(value, "false") != 0 && strcmp(value, "0") != 0)
                return tool_fail(EXIT_USAGE, "%s%s is \"%s\"; expected true or false", origin, key, value);
            value = on ? "false" : "true";
        }
    }
    if (found == NULL)
        return fail_unknown(list, origin, key);
    found->given = 1;
    if (found->group == 0)
        return set_own(found, settings, origin, value);
    balora_status status =
        balora_options_set(found->group, struct_of(settings, found->group), found->key, value);
    if (status == BALORA_OK && found->also != 0)
        status = balora_options_set(found->also, struct_of(settings, found->also), found->key, value);
    return status == BALORA_OK ? EXIT_DONE : tool_fail(EXIT_USAGE, "%s", balora_error_message());
}
