/*
 * Everything settable, by key: command lines, bindings and forms are made from this list.
 *
 * Keys are the fields' names, such as "lambda_svd"; values are text, such as "0.005" or "two_phase".
 */
#ifndef BALORA_OPTIONS_H
#define BALORA_OPTIONS_H

#include "balora/types.h"

BALORA_BEGIN_DECLS

/* The option structs. */
enum {
    BALORA_OPTIONS_CONTEXT = 10,
    BALORA_OPTIONS_MODEL = 20,
    BALORA_OPTIONS_ADAPTER = 30,
    BALORA_OPTIONS_REGULARIZER = 40,
    BALORA_OPTIONS_OPTIMIZER = 50,
    BALORA_OPTIONS_DATA = 60,
    BALORA_OPTIONS_TRAIN = 70,
    BALORA_OPTIONS_RUN = 80,
    BALORA_OPTIONS_EXPORT = 90,
    BALORA_OPTIONS_PISSA = 100
};

/* Types of a value. */
enum {
    BALORA_OPTION_INTEGER = 10,
    BALORA_OPTION_NUMBER = 20,
    BALORA_OPTION_FLAG = 30,   /* "0" or "1", "false" or "true" */
    BALORA_OPTION_CHOICE = 40, /* one of `choices` */
    BALORA_OPTION_TEXT = 50
};

typedef struct balora_option_description {
    uint64_t struct_size;
    const char *key;
    int32_t type;
    int32_t reserved;
    const char *default_value; /* as text */
    const char *choices;       /* "cosine|linear|constant" for a choice, else NULL */
    double minimum, maximum;   /* bounds of an integer or number, both included; infinite: none */
    const char *help;          /* one line, English */
} balora_option_description;

#define BALORA_OPTION_DESCRIPTION_INIT                                                                       \
    { sizeof(balora_option_description), NULL, 0, 0, NULL, NULL, 0, 0, NULL }

/*
 * The index-th option of a struct (BALORA_OPTIONS_...), from 0; BALORA_DONE behind the last. Strings have
 * static storage. Any thread. Errors: ARGUMENT, ABI. Since 0.1.
 */
BALORA_API balora_status balora_options_describe(int32_t options, int64_t index,
                                                 balora_option_description *out);

/*
 * Set a field of an option struct by key. `object` points to the struct that `options` names, with its
 * struct_size set. Text values are borrowed: they must live until the struct was used. Errors: NOT_FOUND (the
 * message names the nearest key), ARGUMENT (what was expected), ABI. Since 0.1.
 */
BALORA_API balora_status balora_options_set(int32_t options, void *object, const char *key,
                                            const char *value);

/* The field's value as text into `buffer` (always closed with NUL; BALORA_ERROR_ARGUMENT when it does not
 * fit). Since 0.1. */
BALORA_API balora_status balora_options_get(int32_t options, const void *object, const char *key,
                                            char *buffer, uint64_t capacity);

BALORA_END_DECLS

#endif
