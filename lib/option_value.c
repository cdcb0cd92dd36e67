#include "option_value.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "balora/options.h"
#include "base/number.h"
#include "base/status.h"

enum { NUMBER_TEXT = 64 };

/* A value out of its struct, in the widest type of its kind. */
typedef struct option_value {
    int64_t integer;
    uint64_t seed;
    double number;
    const char *text;
} option_value;

static option_value load(const option_field *field, const void *object) {
    const char *place = (const char *)object + field->offset;
    option_value value = {0, 0, 0.0, NULL};
    int32_t narrow = 0;
    switch (field->storage) {
    case STORED_INT32:
        memcpy(&narrow, place, sizeof narrow);
        value.integer = narrow;
        break;
    case STORED_INT64:
        memcpy(&value.integer, place, sizeof value.integer);
        break;
    case STORED_UINT64:
        memcpy(&value.seed, place, sizeof value.seed);
        break;
    case STORED_DOUBLE:
        memcpy(&value.number, place, sizeof value.number);
        break;
    case STORED_TEXT:
        memcpy(&value.text, place, sizeof value.text);
        break;
    }
    return value;
}

static void store(const option_field *field, void *object, const option_value *value) {
    char *place = (char *)object + field->offset;
    int32_t narrow = (int32_t)value->integer;
    switch (field->storage) {
    case STORED_INT32:
        memcpy(place, &narrow, sizeof narrow);
        break;
    case STORED_INT64:
        memcpy(place, &value->integer, sizeof value->integer);
        break;
    case STORED_UINT64:
        memcpy(place, &value->seed, sizeof value->seed);
        break;
    case STORED_DOUBLE:
        memcpy(place, &value->number, sizeof value->number);
        break;
    case STORED_TEXT:
        memcpy(place, &value->text, sizeof value->text);
        break;
    }
}

/* printf with the C locale's decimal point; the thread's own locale comes back afterwards. */
static void print_number(char *text, size_t capacity, int digits, double value) {
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = uselocale(plain);
    snprintf(text, capacity, "%.*g", digits, value);
    uselocale(before);
    freelocale(plain);
}

/* The shortest text that reads back as the same number. */
static void shortest_number(char *text, size_t capacity, double value) {
    for (int digits = 15; digits <= 17; digits++) {
        print_number(text, capacity, digits, value);
        double back;
        if (number_scan(text, &back) && back == value)
            return;
    }
}

/* "a number greater than 0 and at most 1": what the bounds allow. */
static void describe_bounds(const option_field *field, char *text, size_t capacity) {
    char low[NUMBER_TEXT + 16] = "", high[NUMBER_TEXT + 16] = "", number[NUMBER_TEXT];
    if (field->minimum == DBL_MIN)
        snprintf(low, sizeof low, " greater than 0");
    else if (isfinite(field->minimum)) {
        shortest_number(number, sizeof number, field->minimum);
        snprintf(low, sizeof low, " of at least %s", number);
    }
    if (field->maximum < 1.0 && field->maximum > 0.999)
        snprintf(high, sizeof high, " below 1");
    else if (field->storage == STORED_UINT64)
        snprintf(high, sizeof high, " at most %" PRIu64, UINT64_MAX);
    else if (isfinite(field->maximum)) {
        shortest_number(number, sizeof number, field->maximum);
        snprintf(high, sizeof high, " at most %s", number);
    }
    snprintf(text, capacity, "%s%s%s%s",
             field->type == BALORA_OPTION_INTEGER ? "an integer" : "a finite number", low,
             low[0] != '\0' && high[0] != '\0' ? " and" : "", high);
}

static balora_status out_of_bounds(const option_field *field, const char *found) {
    char expected[256];
    if (field->type == BALORA_OPTION_CHOICE)
        snprintf(expected, sizeof expected, "one of %s", field->choices);
    else if (field->type == BALORA_OPTION_FLAG)
        snprintf(expected, sizeof expected, "0 or 1, false or true");
    else
        describe_bounds(field, expected, sizeof expected);
    return status_fail(BALORA_ERROR_ARGUMENT, "%s is %s; expected %s", field->key, found, expected);
}

/* Length of the choice at `text`, which '|' or the end closes. */
static size_t choice_length(const char *text) {
    return strcspn(text, "|");
}

static bool is_choice(const option_field *field, int64_t value, const char **name) {
    const char *text = field->choices;
    for (size_t i = 0;; i++) {
        if (field->values[i] == value) {
            *name = text;
            return true;
        }
        text += choice_length(text);
        if (*text++ == '\0')
            return false;
    }
}

static bool in_bounds(const option_field *field, const option_value *value) {
    const char *name;
    switch (field->type) {
    case BALORA_OPTION_CHOICE:
        return is_choice(field, value->integer, &name);
    case BALORA_OPTION_FLAG:
        return value->integer == 0 || value->integer == 1;
    case BALORA_OPTION_INTEGER:
        if (field->storage == STORED_UINT64)
            return true;
        return (double)value->integer >= field->minimum && (double)value->integer <= field->maximum;
    case BALORA_OPTION_NUMBER:
        return isfinite(value->number) && value->number >= field->minimum && value->number <= field->maximum;
    default:
        return true;
    }
}

/* The value as text, for messages and for balora_options_get; choices and flags out of range print as
 * numbers. */
static void print_value(const option_field *field, const option_value *value, char *text, size_t capacity) {
    const char *name;
    if (field->storage == STORED_DOUBLE)
        shortest_number(text, capacity, value->number);
    else if (field->storage == STORED_UINT64)
        snprintf(text, capacity, "%" PRIu64, value->seed);
    else if (field->type == BALORA_OPTION_CHOICE && is_choice(field, value->integer, &name))
        snprintf(text, capacity, "%.*s", (int)choice_length(name), name);
    else if (field->type == BALORA_OPTION_FLAG && (value->integer == 0 || value->integer == 1))
        snprintf(text, capacity, "%s", value->integer == 1 ? "true" : "false");
    else
        snprintf(text, capacity, "%" PRId64, value->integer);
}

balora_status option_value_check(const option_field *field, const void *object) {
    option_value value = load(field, object);
    if (in_bounds(field, &value))
        return BALORA_OK;
    char found[NUMBER_TEXT];
    print_value(field, &value, found, sizeof found);
    return out_of_bounds(field, found);
}

static bool parse_integer(const option_field *field, const char *text, option_value *value) {
    if (!isdigit((unsigned char)text[text[0] == '-']))
        return false;
    char *end;
    errno = 0;
    if (field->storage == STORED_UINT64) {
        value->seed = strtoull(text, &end, 10);
        return errno == 0 && *end == '\0' && text[0] != '-';
    }
    value->integer = strtoll(text, &end, 10);
    return errno == 0 && *end == '\0';
}

static bool parse_flag(const char *text, option_value *value) {
    value->integer = strcmp(text, "1") == 0 || strcmp(text, "true") == 0;
    return value->integer == 1 || strcmp(text, "0") == 0 || strcmp(text, "false") == 0;
}

static bool parse_choice(const option_field *field, const char *text, option_value *value) {
    const char *choice = field->choices;
    for (size_t i = 0;; i++) {
        size_t length = choice_length(choice);
        if (strlen(text) == length && strncmp(text, choice, length) == 0) {
            value->integer = field->values[i];
            return true;
        }
        choice += length;
        if (*choice++ == '\0')
            return false;
    }
}

balora_status option_value_parse(const option_field *field, void *object, const char *text) {
    option_value value = {0, 0, 0.0, NULL};
    bool parsed = true;
    switch (field->type) {
    case BALORA_OPTION_INTEGER:
        parsed = parse_integer(field, text, &value);
        break;
    case BALORA_OPTION_NUMBER:
        parsed = number_scan(text, &value.number);
        break;
    case BALORA_OPTION_FLAG:
        parsed = parse_flag(text, &value);
        break;
    case BALORA_OPTION_CHOICE:
        parsed = parse_choice(field, text, &value);
        break;
    default:
        value.text = text[0] == '\0' ? NULL : text;
    }
    if (!parsed || !in_bounds(field, &value)) {
        char found[NUMBER_TEXT + 2];
        snprintf(found, sizeof found, "\"%.*s\"", NUMBER_TEXT - 1, text);
        return out_of_bounds(field, found);
    }
    store(field, object, &value);
    return BALORA_OK;
}

balora_status option_value_print(const option_field *field, const void *object, char *buffer,
                                 size_t capacity) {
    option_value value = load(field, object);
    char number[NUMBER_TEXT];
    const char *text = number;
    if (field->storage == STORED_TEXT)
        text = value.text != NULL ? value.text : field->default_value;
    else
        print_value(field, &value, number, sizeof number);
    size_t length = strlen(text);
    if (length >= capacity) {
        buffer[0] = '\0';
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "the value of %s needs a buffer of %zu bytes; %zu were given", field->key,
                           length + 1, capacity);
    }
    memcpy(buffer, text, length + 1);
    return BALORA_OK;
}
