#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "settings.h"
#include "tool.h"

/* "a,b,c" of an array of strings; NULL when something else is in it. */
static char *join_array(const json_t *array) {
    size_t bytes = 1, index;
    json_t *item;
    json_array_foreach(array, index, item) {
        if (!json_is_string(item))
            return NULL;
        bytes += json_string_length(item) + 1;
    }
    char *text = calloc(bytes, 1);
    json_array_foreach(array, index, item) {
        if (text != NULL && index > 0)
            strcat(text, ",");
        if (text != NULL)
            strcat(text, json_string_value(item));
    }
    return text;
}

/* The value as the command line would have it, owned; NULL for an object, null, or an array of other things.
 */
static char *text_of(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_STRING:
        return strdup(json_string_value(value));
    case JSON_INTEGER:
    case JSON_REAL:
    case JSON_TRUE:
    case JSON_FALSE:
        return json_dumps(value, JSON_ENCODE_ANY);
    case JSON_ARRAY:
        return join_array(value);
    default:
        return NULL;
    }
}

int config_file_read(option_list *list, command_settings *settings, const char *path) {
    json_error_t error;
    json_t *object = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (object == NULL)
        return tool_fail(EXIT_FAILED, "%s:%d: %s", path, error.line, error.text);
    if (!json_is_object(object)) {
        json_decref(object);
        return tool_fail(EXIT_FAILED, "%s: expected an object of options such as {\"rank\": 16}", path);
    }
    char *origin = malloc(strlen(path) + 3);
    int code = origin != NULL ? EXIT_DONE : tool_fail(EXIT_FAILED, "no memory");
    if (origin != NULL)
        strcat(strcpy(origin, path), ": ");
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        char *text = code == EXIT_DONE ? text_of(value) : NULL;
        if (code == EXIT_DONE && text == NULL)
            code = tool_fail(EXIT_USAGE, "%s%s: expected a string, a number, true or false", origin, key);
        if (code == EXIT_DONE)
            code = options_set(list, settings, origin, key, text);
        const option *set = code == EXIT_DONE ? options_find(list, key) : NULL;
        if (set != NULL && set->description.type == BALORA_OPTION_TEXT &&
            settings->text_count < OPTIONS_LIMIT)
            settings->texts[settings->text_count++] = text;
        else
            free(text);
    }
    free(origin);
    json_decref(object);
    return code;
}
