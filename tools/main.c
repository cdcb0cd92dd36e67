#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "commands.h"
#include "tool.h"
#include "waiting.h"

static const char *const commands[] = {"train", "eval", "merge", "convert", "info"};
static const char *const announced[] = {"generate", "quantize", "bench"};

static void print_usage(FILE *stream) {
    fputs("usage: balora COMMAND [options]\n\n"
          "  train    fine-tune a model: --model DIR --data FILE --out DIR\n"
          "  eval     loss, accuracy, drift and entropy on a data set\n"
          "  merge    write a model folder with an adapter merged in\n"
          "  convert  write an adapter for PEFT, PiSSA's programs or llama.cpp\n"
          "  info     this build and machine, a model, an adapter\n\n"
          "balora COMMAND --help shows the options of a command; balora --version the version.\n"
          "Exit codes: 0 done, 1 failed, 2 usage, 3 cancelled (what was trained is saved).\n",
          stream);
}

static int fail_unknown_command(const char *word) {
    for (size_t i = 0; i < sizeof announced / sizeof announced[0]; i++)
        if (strcmp(word, announced[i]) == 0)
            return tool_fail(EXIT_FAILED, "%s is not supported by this version yet", word);
    nearest_word nearest;
    nearest_start(&nearest, word);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        nearest_consider(&nearest, commands[i]);
    if (nearest.best != NULL)
        return tool_fail(EXIT_USAGE, "unknown command \"%s\"; did you mean %s?", word, nearest.best);
    return tool_fail(EXIT_USAGE, "unknown command \"%s\"; balora --help lists those there are", word);
}

static int command_of(const char *word) {
    static const int numbers[] = {COMMAND_TRAIN, COMMAND_EVAL, COMMAND_MERGE, COMMAND_CONVERT, COMMAND_INFO};
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(word, commands[i]) == 0)
            return numbers[i];
    return 0;
}

static int run(int command, int count, char **words) {
    static option_list list;
    command_settings settings;
    settings_init(&settings);
    options_list(&list, command);
    int code = arguments_read(&list, &settings, count, words);
    if (code == EXIT_DONE && command == COMMAND_TRAIN)
        code = command_train(&list, &settings);
    else if (code == EXIT_DONE && command == COMMAND_EVAL)
        code = command_eval(&settings);
    else if (code == EXIT_DONE && command == COMMAND_MERGE)
        code = command_merge(&settings);
    else if (code == EXIT_DONE && command == COMMAND_CONVERT)
        code = command_convert(&list, &settings);
    else if (code == EXIT_DONE)
        code = command_info(&settings);
    settings_free(&settings);
    return code < 0 ? EXIT_DONE : code;
}

int main(int count, char **words) {
    const char *word = count > 1 ? words[1] : "";
    if (word[0] == '\0') {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_usage(stdout);
        return EXIT_DONE;
    }
    if (strcmp(word, "--version") == 0) {
        printf("balora %s\n", balora_version());
        return EXIT_DONE;
    }
    int command = command_of(word);
    if (command == 0)
        return fail_unknown_command(word);
    waiting_settle(words);
    return run(command, count - 2, words + 2);
}
