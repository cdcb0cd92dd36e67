#include <math.h>
#include <stdio.h>
#include <string.h>

#include "settings.h"

enum { SCREEN = 79, INDENT = 13, ITEM = 160 };

static const struct {
    int command;
    const char *usage, *purpose;
} pages[] = {
    {COMMAND_TRAIN, "balora train --model DIR --data FILE --out DIR [options]",
     "Fine-tune a model; OUT gets adapter/ (method full: model/) and metrics.jsonl."},
    {COMMAND_EVAL, "balora eval --model DIR [--adapter DIR] --data FILE [options]",
     "Loss, accuracy, drift from the base model and entropy on a data set."},
    {COMMAND_MERGE, "balora merge --model DIR --adapter DIR --out DIR [options]",
     "Write a model folder with the adapter merged into the weights."},
    {COMMAND_CONVERT, "balora convert --adapter DIR --to peft|pissa|gguf --out PATH [options]",
     "Write an adapter for PEFT, PiSSA's programs or llama.cpp; --model: its base."},
    {COMMAND_INFO, "balora info [--model DIR] [--adapter DIR] [options]",
     "This build and machine; a model, an adapter and the memory that training takes."},
};

static const struct {
    int group;
    const char *title;
} groups[] = {
    {0, "files"},
    {BALORA_OPTIONS_TRAIN, "run"},
    {BALORA_OPTIONS_RUN, "surviving"},
    {BALORA_OPTIONS_DATA, "data"},
    {BALORA_OPTIONS_ADAPTER, "adapter"},
    {BALORA_OPTIONS_EXPORT, "form"},
    {BALORA_OPTIONS_REGULARIZER, "regularize"},
    {BALORA_OPTIONS_OPTIMIZER, "optimizer"},
    {BALORA_OPTIONS_MODEL, "machine"},
    {BALORA_OPTIONS_CONTEXT, "machine"},
};

/* What few runs change: told by --help=all only, so that --help fits a screen. */
static const char *const rare[] = {
    "adaptive_maximum",
    "adaptive_minimum",
    "alpha_pattern",
    "beta1",
    "beta2",
    "bias",
    "checkpoint_folder",
    "consistency_form",
    "device_graph",
    "diversity_form",
    "exclude_modules",
    "focus_ramp_ratio",
    "focus_warmup_ratio",
    "init",
    "layers_to_transform",
    "lion_beta2",
    "log_level",
    "logit_chunk",
    "loss_reduction",
    "max_skipped_steps",
    "modules_to_save",
    "parameter_groups",
    "pissa_modules",
    "plugin_path",
    "rank_pattern",
    "task",
};

static int is_rare(const char *key) {
    for (size_t i = 0; i < sizeof rare / sizeof rare[0]; i++)
        if (strcmp(key, rare[i]) == 0)
            return 1;
    return 0;
}

/* "rank" or "no-shuffle": the word that changes something. */
static void print_word(const option *self, char word[ITEM]) {
    int negated =
        self->description.type == BALORA_OPTION_FLAG && strcmp(self->description.default_value, "true") == 0;
    snprintf(word, ITEM, "--%s%s", negated ? "no-" : "", self->key);
    for (char *c = word; *c != '\0'; c++)
        if (*c == '_')
            *c = '-';
}

/* The choices with the default in front. */
static void print_choices(const balora_option_description *description, char *text, size_t capacity) {
    const char *first = description->default_value;
    int used = snprintf(text, capacity, "%s", first);
    for (const char *choice = description->choices; used > 0 && (size_t)used < capacity;) {
        size_t length = strcspn(choice, "|");
        if (length != strlen(first) || strncmp(choice, first, length) != 0)
            used += snprintf(text + used, capacity - (size_t)used, "|%.*s", (int)length, choice);
        if (choice[length] == '\0')
            break;
        choice += length + 1;
    }
}

/* "--rank 16", "--svd-norm frobenius|nuclear", "--model DIR". */
static void print_item(const option *self, char item[ITEM]) {
    char word[ITEM], value[ITEM];
    const balora_option_description *description = &self->description;
    print_word(self, word);
    if (description->type == BALORA_OPTION_FLAG)
        value[0] = '\0';
    else if (self->placeholder != NULL)
        snprintf(value, sizeof value, " %s", self->placeholder);
    else if (description->type == BALORA_OPTION_CHOICE) {
        value[0] = ' ';
        print_choices(description, value + 1, sizeof value - 1);
    } else
        snprintf(value, sizeof value, " %s",
                 description->default_value[0] != '\0' ? description->default_value : "TEXT");
    snprintf(item, ITEM, "%.90s%.69s", word, value);
}

static void print_group(const option_list *list, int group, const char *title, size_t *column) {
    char item[ITEM];
    for (size_t i = 0; i < list->count; i++) {
        if (list->options[i].group != group || is_rare(list->options[i].key))
            continue;
        print_item(&list->options[i], item);
        if (*column == 0) {
            printf("%-*s", INDENT, title);
            *column = INDENT;
        } else if (*column + 2 + strlen(item) > SCREEN) {
            printf("\n%*s", INDENT, "");
            *column = INDENT;
        } else {
            printf("  ");
            *column += 2;
        }
        printf("%s", item);
        *column += strlen(item);
    }
}

static void print_screen(const option_list *list) {
    size_t column = 0;
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        /* Two groups with one title share its lines. */
        if (i > 0 && strcmp(groups[i].title, groups[i - 1].title) != 0 && column > 0) {
            printf("\n");
            column = 0;
        }
        print_group(list, groups[i].group, groups[i].title, &column);
    }
    printf("\nValues shown are the defaults; of choices, the first. --help=all explains all.\n");
}

static void print_bounds(const balora_option_description *description) {
    if (description->type != BALORA_OPTION_INTEGER && description->type != BALORA_OPTION_NUMBER)
        return;
    if (isfinite(description->minimum) && isfinite(description->maximum) && description->maximum <= 1e12)
        printf(" [%.10g to %.10g]", description->minimum, description->maximum);
    else if (isfinite(description->minimum) && description->minimum > 0 && description->minimum < 1e-300)
        printf(" [above 0]");
    else if (isfinite(description->minimum))
        printf(" [%.10g or more]", description->minimum);
}

static void print_lines(const option_list *list) {
    char item[ITEM];
    for (size_t i = 0; i < list->count; i++) {
        const option *self = &list->options[i];
        print_item(self, item);
        printf("  %s\n      %s", item, self->description.help);
        print_bounds(&self->description);
        printf("\n");
    }
}

void help_command(option_list *list, int all) {
    for (size_t i = 0; i < sizeof pages / sizeof pages[0]; i++)
        if (pages[i].command == list->command)
            printf("usage: %s\n%s\n\n", pages[i].usage, pages[i].purpose);
    if (all)
        print_lines(list);
    else
        print_screen(list);
}
