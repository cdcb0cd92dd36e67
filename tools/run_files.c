#include "run_files.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

enum { ASIDE_LIMIT = 10000 };

static int is_there(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

static int open_lines(FILE **out, const char *path) {
    *out = fopen(path, "a");
    return *out != NULL ? EXIT_DONE : tool_fail(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
}

int run_files_open(run_files *self, const command_settings *settings) {
    const char *out = settings->out_path;
    int full = settings->adapter.method == BALORA_METHOD_FULL;
    int code = tool_make_folder(out);
    if (code != EXIT_DONE)
        return code;
    self->metrics_path = tool_join(out, "metrics.jsonl");
    self->evaluations_path = tool_join(out, "eval.jsonl");
    self->report_path = tool_join(out, "report.html");
    self->result_path = tool_join(out, full ? "model" : "adapter");
    self->checkpoint_path = settings->run.checkpoint_folder != NULL ? strdup(settings->run.checkpoint_folder)
                                                                    : tool_join(out, "checkpoints");
    if (self->report_path == NULL || self->metrics_path == NULL || self->evaluations_path == NULL ||
        self->result_path == NULL || self->checkpoint_path == NULL)
        return EXIT_FAILED;
    if (is_there(self->metrics_path) && !settings->run.resume)
        printf("note     %s holds a run already: its files are replaced\n", out);
    code = open_lines(&self->metrics, self->metrics_path);
    if (code == EXIT_DONE && settings->eval_data_path != NULL)
        code = open_lines(&self->evaluations, self->evaluations_path);
    return code;
}

static int holds_checkpoints(const char *path) {
    DIR *folder = opendir(path);
    struct dirent *entry;
    int found = 0;
    while (folder != NULL && !found && (entry = readdir(folder)) != NULL)
        found = strncmp(entry->d_name, "step-", 5) == 0;
    if (folder != NULL)
        closedir(folder);
    return found;
}

int run_files_make_room(const run_files *self) {
    const char *path = self->checkpoint_path;
    size_t bytes = strlen(path) + 16;
    char *aside = malloc(bytes);
    int code = aside != NULL ? EXIT_DONE : tool_fail(EXIT_FAILED, "no memory");
    if (code == EXIT_DONE && holds_checkpoints(path)) {
        for (int number = 1; number < ASIDE_LIMIT; number++) {
            snprintf(aside, bytes, "%s.old-%d", path, number);
            if (!is_there(aside))
                break;
        }
        if (rename(path, aside) != 0)
            code = tool_fail(EXIT_FAILED, "cannot rename %s to %s: %s", path, aside, strerror(errno));
        else
            printf("note     the checkpoints of an earlier run were moved to %s (--resume goes on instead)\n",
                   aside);
    }
    free(aside);
    return code;
}

/* The step that a line of figures is of; 0: it is none, or was cut short. */
static int64_t step_of(const char *line, size_t length) {
    if (length == 0 || line[length - 1] != '\n')
        return 0;
    json_t *value = json_loadb(line, length, 0, NULL);
    int64_t step = json_integer_value(json_object_get(value, "step"));
    json_decref(value);
    return step;
}

/* Cut the file behind its last line of a step up to `step`. */
static int cut(const char *path, int64_t step) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    off_t end = 0;
    int64_t last = 0;
    while (file != NULL && step > 0 && (length = getline(&line, &capacity, file)) > 0) {
        int64_t found = step_of(line, (size_t)length);
        if (found <= last || found > step)
            break;
        end += length;
        last = found;
    }
    free(line);
    int failed = file == NULL || ferror(file) != 0;
    if (file != NULL)
        fclose(file);
    if (failed || truncate(path, end) != 0)
        return tool_fail(EXIT_FAILED, "cannot cut %s: %s", path, strerror(errno));
    if (last < step)
        printf("note     %s ends with step %" PRId64 "; steps up to %" PRId64 " are missing in it\n", path,
               last, step);
    return EXIT_DONE;
}

int run_files_start(run_files *self, int64_t step, int64_t evaluated_step) {
    int code = cut(self->metrics_path, step);
    if (code == EXIT_DONE && self->evaluations != NULL)
        code = cut(self->evaluations_path, evaluated_step);
    else if (step == 0)
        remove(self->evaluations_path); /* of an earlier run */
    return code;
}

int run_files_sync(const run_files *self) {
    int failed = fsync(fileno(self->metrics)) != 0;
    failed = failed || (self->evaluations != NULL && fsync(fileno(self->evaluations)) != 0);
    return failed ? tool_fail(EXIT_FAILED, "cannot write %s: %s", self->metrics_path, strerror(errno))
                  : EXIT_DONE;
}

static int close_lines(FILE *file, const char *path) {
    return file == NULL || fclose(file) == 0
               ? EXIT_DONE
               : tool_fail(EXIT_FAILED, "cannot write %s: %s", path, strerror(errno));
}

int run_files_close(run_files *self) {
    int code = close_lines(self->metrics, self->metrics_path);
    int other = close_lines(self->evaluations, self->evaluations_path);
    free(self->metrics_path);
    free(self->evaluations_path);
    free(self->report_path);
    free(self->result_path);
    free(self->checkpoint_path);
    return code != EXIT_DONE ? code : other;
}
