/* Everything that the command's options set, and the options themselves. */
#ifndef TOOLS_SETTINGS_H
#define TOOLS_SETTINGS_H

#include <stddef.h>

#include <balora/balora.h>

enum { OPTIONS_LIMIT = 96 };

typedef struct command_settings {
    balora_context_options context;
    balora_model_options model;
    balora_adapter_options adapter;
    balora_regularizer_options regularizer;
    balora_optimizer_options optimizer;
    balora_data_options data;
    balora_train_options train;
    balora_run_options run;
    balora_export_options export;

    const char *model_path, *data_path, *adapter_path, *out_path, *config_path, *eval_data_path, *logits_path;
    const char *task;
    int32_t json;

    char *texts[OPTIONS_LIMIT]; /* that came from a configuration file, owned */
    size_t text_count;
} command_settings;

/* The commands that take options; bits, so that an option can belong to several. */
enum {
    COMMAND_TRAIN = 1,
    COMMAND_EVAL = 2,
    COMMAND_MERGE = 4,
    COMMAND_INFO = 8,
    COMMAND_CONVERT = 16,
    COMMAND_ALL = 31
};

typedef struct option {
    const char *key;         /* with underscores: "lambda_svd" */
    const char *placeholder; /* of a text: "DIR" */
    int group;               /* BALORA_OPTIONS_... of the library's struct; 0: the command's own */
    int also;                /* a second struct with the same key, or 0 */
    size_t offset;           /* of an own option in settings */
    int required;            /* the command cannot run without it */
    int given;               /* set by the command line or the configuration file */
    balora_option_description description;
} option;

typedef struct option_list {
    int command; /* COMMAND_... */
    size_t count;
    option options[OPTIONS_LIMIT];
} option_list;

/* Defaults into every struct; and what was taken up on the way back. */
void settings_init(command_settings *self);
void settings_free(command_settings *self);

/* All options of a command: its own, then those of the library's structs that it uses. */
void options_list(option_list *list, int command);

/* The option of that key, with '-' or '_'; NULL: none. */
option *options_find(option_list *list, const char *key);

/* Set by key; "no_KEY" turns a flag off. Messages name `origin` ("--" or the configuration file). Exit code.
 */
int options_set(option_list *list, command_settings *settings, const char *origin, const char *key,
                const char *value);

/* Whether the option of that key was set by the user. */
int options_given(option_list *list, const char *key);

/* Read argv (after the command's name), --config FILE first. Exit code; -1: help was asked for and given. */
int arguments_read(option_list *list, command_settings *settings, int count, char **words);

/* Set what a JSON object in `path` holds. Exit code. */
int config_file_read(option_list *list, command_settings *settings, const char *path);

/* "  --rank 16  --alpha 16 ...": one screen; with `all`, a line an option with help and bounds. */
void help_command(option_list *list, int all);

#endif
