#include "tool.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "settings.h"

int tool_fail(int code, const char *format, ...) {
    va_list arguments;
    fflush(stdout);
    fputs("balora: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return code;
}

int tool_fail_library(balora_status status) {
    return tool_fail(status == BALORA_ERROR_CANCELLED ? EXIT_CANCELLED : EXIT_FAILED, "%s",
                     balora_error_message());
}

/* The context that a signal cancels. */
static balora_context *volatile running;

static void cancel_running(int number) {
    (void)number;
    balora_context_cancel(running);
}

/* SA_RESETHAND: whoever asks twice is not made to wait. */
static void watch_signals(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = cancel_running;
    action.sa_flags = (int)(SA_RESETHAND | SA_RESTART);
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static int print_message(int32_t level, const char *message, void *user) {
    (void)user;
    const char *kind = level <= BALORA_LOG_ERROR ? "error: " : level <= BALORA_LOG_WARNING ? "warning: " : "";
    fprintf(stderr, "%s%s\n", kind, message);
    return 0;
}

int session_start(command_session *self, const command_settings *settings) {
    memset(self, 0, sizeof *self);
    balora_context_options options = settings->context;
    options.log = print_message;
    balora_status status = balora_context_create(&self->context, &options);
    if (status != BALORA_OK)
        return tool_fail_library(status);
    running = self->context;
    watch_signals();
    return EXIT_DONE;
}

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

int session_open(command_session *self, const command_settings *settings) {
    balora_status status = BALORA_OK;
    if (settings->model_path != NULL && ends_with(settings->model_path, ".gguf"))
        return tool_fail(EXIT_FAILED,
                         "%s: GGUF models are not supported by this version yet; give a Hugging Face folder",
                         settings->model_path);
    if (settings->model_path != NULL)
        status = balora_model_open(&self->model, self->context, settings->model_path, &settings->model);
    if (status == BALORA_OK && settings->data_path != NULL)
        status = balora_data_open(&self->data, self->model, settings->data_path, &settings->data);
    if (status == BALORA_OK && settings->adapter_path != NULL)
        status = balora_adapter_open(&self->adapter, self->model, settings->adapter_path);
    return status == BALORA_OK ? EXIT_DONE : tool_fail_library(status);
}

void session_end(command_session *self) {
    running = NULL;
    balora_data_free(self->data);
    balora_adapter_free(self->adapter);
    balora_model_free(self->model);
    balora_context_free(self->context);
}

int session_write(const command_settings *settings,
                  balora_status (*write)(balora_adapter *adapter, const command_settings *settings)) {
    command_session session;
    int code = session_start(&session, settings);
    if (code == EXIT_DONE)
        code = session_open(&session, settings);
    if (code == EXIT_DONE) {
        balora_status status = write(session.adapter, settings);
        if (status != BALORA_OK)
            code = tool_fail_library(status);
        else
            printf("written  %s\n", settings->out_path);
    }
    session_end(&session);
    return code;
}

char *tool_join(const char *folder, const char *name) {
    size_t bytes = strlen(folder) + strlen(name) + 2;
    char *path = malloc(bytes);
    if (path == NULL)
        tool_fail(EXIT_FAILED, "no memory");
    else
        snprintf(path, bytes, "%s/%s", folder, name);
    return path;
}

int tool_make_folder(const char *path) {
    char *part = strdup(path);
    int made = part != NULL;
    for (char *c = part; made && *c != '\0'; c++) {
        if (*c != '/' || c == part)
            continue;
        *c = '\0';
        made = mkdir(part, 0777) == 0 || errno == EEXIST;
        *c = '/';
    }
    made = made && (mkdir(path, 0777) == 0 || errno == EEXIST);
    free(part);
    return made ? EXIT_DONE : tool_fail(EXIT_FAILED, "cannot make the folder %s: %s", path, strerror(errno));
}
