#include <string.h>

#include "settings.h"
#include "tool.h"

enum { WORD_LIMIT = 256 };

/* One argument taken apart: --key, --key=value, or --key and the next word. */
typedef struct argument {
    char key[WORD_LIMIT];
    const char *value;
    int words; /* of argv that it takes */
} argument;

static int is_flag(option_list *list, const char *key) {
    const option *found = options_find(list, key);
    if (found == NULL && strncmp(key, "no-", 3) == 0)
        found = options_find(list, key + 3);
    return found != NULL && found->description.type == BALORA_OPTION_FLAG;
}

static int take_apart(argument *out, option_list *list, int count, char **words) {
    const char *word = words[0];
    if (strncmp(word, "--", 2) != 0 || word[2] == '\0')
        return tool_fail(EXIT_USAGE, "unexpected word \"%s\"; options begin with --", word);
    const char *equals = strchr(word, '=');
    size_t length = equals != NULL ? (size_t)(equals - word) - 2 : strlen(word) - 2;
    if (length >= WORD_LIMIT)
        return tool_fail(EXIT_USAGE, "unknown option %.40s...", word);
    memcpy(out->key, word + 2, length);
    out->key[length] = '\0';
    out->words = 1;
    if (equals != NULL)
        out->value = equals + 1;
    else if (is_flag(list, out->key))
        out->value = "true";
    else if (count > 1 && strncmp(words[1], "--", 2) != 0) {
        out->value = words[1];
        out->words = 2;
    } else
        out->value = NULL;
    return EXIT_DONE;
}

static int asks_for_help(option_list *list, int count, char **words) {
    for (int i = 0; i < count; i++) {
        int all = strcmp(words[i], "--help=all") == 0;
        if (all || strcmp(words[i], "--help") == 0 || strcmp(words[i], "-h") == 0) {
            help_command(list, all);
            return 1;
        }
    }
    return 0;
}

static int read_words(option_list *list, command_settings *settings, int count, char **words,
                      int config_only) {
    argument one;
    for (int i = 0; i < count; i += one.words) {
        int code = take_apart(&one, list, count - i, words + i);
        if (code != EXIT_DONE)
            return code;
        if ((strcmp(one.key, "config") == 0) != config_only)
            continue;
        /* A word that is not known is told so even where its value is missing. */
        if (one.value == NULL && options_find(list, one.key) != NULL)
            return tool_fail(EXIT_USAGE, "--%s needs a value", one.key);
        code = options_set(list, settings, "--", one.key, one.value != NULL ? one.value : "");
        if (code != EXIT_DONE)
            return code;
    }
    return EXIT_DONE;
}

int arguments_read(option_list *list, command_settings *settings, int count, char **words) {
    if (asks_for_help(list, count, words))
        return -1;
    int code = read_words(list, settings, count, words, 1);
    if (code == EXIT_DONE && settings->config_path != NULL)
        code = config_file_read(list, settings, settings->config_path);
    if (code == EXIT_DONE)
        code = read_words(list, settings, count, words, 0);
    for (size_t i = 0; code == EXIT_DONE && i < list->count; i++)
        if (list->options[i].required && !list->options[i].given)
            code = tool_fail(EXIT_USAGE, "--%s is missing; --help shows how", list->options[i].key);
    return code;
}
