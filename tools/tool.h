/* What the command's parts share: exit codes, messages, the chain of handles, figures for people. */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <stdint.h>

#include <balora/balora.h>

/* Exit codes of the command. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_CANCELLED = 3 };

/* Write "balora: ..." to stderr and return `code`, so that `return tool_fail(...)` is one line. */
int tool_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for a failed library call: its detail, and the exit code that its status stands for. */
int tool_fail_library(balora_status status);

struct command_settings;

/* The handles of one run of the command; what was not needed is NULL. */
typedef struct command_session {
    balora_context *context;
    balora_model *model;
    balora_adapter *adapter;
    balora_data *data;
} command_session;

/* Make the context, and let SIGINT and SIGTERM cancel it (a second one kills). Returns an exit code. */
int session_start(command_session *self, const struct command_settings *settings);

/* Open --model, --adapter and --data as far as they are given. */
int session_open(command_session *self, const struct command_settings *settings);

void session_end(command_session *self);

/* A whole command: open everything, let `write` make settings->out_path of the adapter, say so. Returns an exit code. */
int session_write(const struct command_settings *settings,
                  balora_status (*write)(balora_adapter *adapter, const struct command_settings *settings));

/* Make the folder and its missing parents. */
int tool_make_folder(const char *path);

/* folder + "/" + name, owned: free. NULL after a message. */
char *tool_join(const char *folder, const char *name);

/* Short texts for people: "513 MiB", "135.1 M", "1:02:03". */
enum { HUMAN_TEXT = 32 };
const char *human_bytes(char text[HUMAN_TEXT], int64_t bytes);
const char *human_count(char text[HUMAN_TEXT], int64_t count);
const char *human_duration(char text[HUMAN_TEXT], double seconds);
const char *human_dtype(int32_t dtype);

#endif
