#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commands.h"
#include "tool.h"

static int is_folder(const char *path) {
    struct stat information;
    return stat(path, &information) == 0 && S_ISDIR(information.st_mode);
}

/* The model that the adapter's configuration names as its base, as a path; owned. */
static int find_base(char **out, const char *adapter) {
    json_error_t error;
    char *path = tool_join(adapter, "adapter_config.json");
    if (path == NULL)
        return EXIT_FAILED;
    int code = EXIT_DONE;
    json_t *document = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    const char *base = json_string_value(json_object_get(document, "base_model_name_or_path"));
    *out = NULL;
    if (document == NULL)
        code = tool_fail(EXIT_FAILED, "%s: %s", path, error.text);
    else if (base == NULL)
        code = tool_fail(EXIT_USAGE, "%s names no base model; give --model DIR", path);
    else if (!is_folder(base))
        code = tool_fail(EXIT_USAGE, "%s names %s as base, which is no folder here; give --model DIR", path,
                         base);
    else if ((*out = strdup(base)) == NULL)
        code = tool_fail(EXIT_FAILED, "no memory");
    json_decref(document);
    free(path);
    return code;
}

static balora_status export_adapter(balora_adapter *adapter, const command_settings *settings) {
    return balora_adapter_export(adapter, settings->out_path, &settings->export);
}

int command_convert(option_list *list, command_settings *settings) {
    char *base = NULL;
    if (!options_given(list, "to"))
        return tool_fail(EXIT_USAGE, "--to is missing; --help shows how");
    int code = settings->model_path == NULL ? find_base(&base, settings->adapter_path) : EXIT_DONE;
    if (base != NULL)
        settings->model_path = base;
    if (code == EXIT_DONE)
        code = session_write(settings, export_adapter);
    free(base);
    return code;
}
