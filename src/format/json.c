#include "format/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checksum.h"
#include "base/file.h"
#include "base/status.h"

#define LARGEST_EXACT_INTEGER 9007199254740992.0 /* 2^53: every integer up to here is a double */

typedef struct text_place {
    size_t line, column; /* from 1 */
} text_place;

static text_place find_place(const char *text, size_t offset) {
    text_place place = {1, 1};
    for (size_t i = 0; i < offset; i++) {
        place.column++;
        if (text[i] == '\n')
            place = (text_place){place.line + 1, 1};
    }
    return place;
}

/*
 * jansson parses, and later frees, by recursion: the nesting is bounded before it sees the text. Up to the
 * first syntax error both agree on where strings end, and behind it jansson does not read.
 */
static balora_status check_depth(const char *text, size_t bytes, const char *origin) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < bytes; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_LIMIT) {
                text_place place = find_place(text, i);
                return status_fail_native(
                    BALORA_ERROR_FORMAT, BALORA_ORIGIN_JSON, (int64_t)i,
                    "%s: line %zu, column %zu: objects and arrays are nested deeper than %d", origin,
                    place.line, place.column, JSON_DEPTH_LIMIT);
            }
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return BALORA_OK;
}

balora_status json_parse(json_t **out, const char *text, size_t bytes, const char *origin) {
    *out = NULL;
    STATUS_TRY(check_depth(text, bytes, origin));
    json_error_t error = {0};
    *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    /* tokenizer_config.json usually has the integer 1e30: no 64-bit integer, so all of that file are read as
     * reals. */
    if (*out == NULL && json_error_code(&error) == json_error_numeric_overflow)
        *out = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &error);
    if (*out != NULL)
        return BALORA_OK;
    /* jansson is silent where an allocation was refused. */
    if (error.text[0] == '\0' || json_error_code(&error) == json_error_out_of_memory)
        return status_fail(BALORA_ERROR_MEMORY, "%s: out of memory for its JSON value", origin);
    return status_fail_native(BALORA_ERROR_FORMAT, BALORA_ORIGIN_JSON, error.position,
                              "%s: line %d, column %d: not valid JSON: %s", origin, error.line, error.column,
                              error.text);
}

balora_status json_read_object(json_t **out, allocator *memory, const char *path, uint64_t limit) {
    *out = NULL;
    char *text;
    uint64_t bytes;
    STATUS_TRY(file_read_all(&text, &bytes, memory, path, limit));
    json_t *value;
    balora_status status = json_parse(&value, text, bytes, path);
    memory_free(memory, text);
    STATUS_TRY(status);
    if (!json_is_object(value)) {
        status = status_fail(BALORA_ERROR_FORMAT, "%s: expected a JSON object at the top, found %s", path,
                             json_type_name(value));
        json_decref(value);
        return status;
    }
    *out = value;
    return BALORA_OK;
}

const char *json_type_name(const json_t *value) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    default:
        return "null";
    }
}

/* *value is NULL when the key is absent or null and need not be there. */
static balora_status find_member(const json_t *object, const char *key, const char *origin, bool required,
                                 const json_t **value) {
    *value = json_object_get(object, key);
    if (*value != NULL && json_is_null(*value))
        *value = NULL;
    if (*value == NULL && required)
        return status_fail(BALORA_ERROR_FORMAT, "%s: the key \"%s\" is missing", origin, key);
    return BALORA_OK;
}

static balora_status wrong_type(const json_t *value, const char *key, const char *origin,
                                const char *expected) {
    return status_fail(BALORA_ERROR_FORMAT, "%s: \"%s\": expected %s, found %s", origin, key, expected,
                       json_type_name(value));
}

balora_status json_member_integer(const json_t *object, const char *key, const char *origin, bool required,
                                  int64_t low, int64_t high, int64_t *out) {
    const json_t *value;
    STATUS_TRY(find_member(object, key, origin, required, &value));
    if (value == NULL)
        return BALORA_OK;
    int64_t number;
    if (json_is_integer(value)) {
        number = json_integer_value(value);
    } else {
        double real = json_real_value(value);
        /* Some writers put "8192.0" where an integer is meant. */
        if (!json_is_real(value) || trunc(real) != real || fabs(real) > LARGEST_EXACT_INTEGER)
            return wrong_type(value, key, origin, "an integer");
        number = (int64_t)real;
    }
    if (number < low || number > high)
        return status_fail(BALORA_ERROR_FORMAT, "%s: \"%s\" is %lld; expected %lld to %lld", origin, key,
                           (long long)number, (long long)low, (long long)high);
    *out = number;
    return BALORA_OK;
}

balora_status json_member_number(const json_t *object, const char *key, const char *origin, bool required,
                                 double *out) {
    const json_t *value;
    STATUS_TRY(find_member(object, key, origin, required, &value));
    if (value == NULL)
        return BALORA_OK;
    if (!json_is_number(value))
        return wrong_type(value, key, origin, "a number");
    *out = json_number_value(value);
    return BALORA_OK;
}

balora_status json_member_boolean(const json_t *object, const char *key, const char *origin, bool *out) {
    const json_t *value;
    STATUS_TRY(find_member(object, key, origin, false, &value));
    if (value == NULL)
        return BALORA_OK;
    if (!json_is_boolean(value))
        return wrong_type(value, key, origin, "true or false");
    *out = json_is_true(value);
    return BALORA_OK;
}

balora_status json_member_string(const json_t *object, const char *key, const char *origin, bool required,
                                 const char **out) {
    const json_t *value;
    STATUS_TRY(find_member(object, key, origin, required, &value));
    if (value == NULL)
        return BALORA_OK;
    if (!json_is_string(value))
        return wrong_type(value, key, origin, "a string");
    *out = json_string_value(value);
    return BALORA_OK;
}

void json_free_text(char *text) {
    json_malloc_t allocate;
    json_free_t release;
    json_get_alloc_funcs(&allocate, &release);
    release(text);
}

/* As few digits as give the same value again: 1e-05 rather than 1.0000000000000001e-05. NULL: out of memory.
 */
static char *dump_value(const json_t *value, size_t flags) {
    char *text = json_dumps(value, flags | JSON_REAL_PRECISION(15));
    json_error_t error = {0};
    json_t *again = text != NULL ? json_loads(text, 0, &error) : NULL;
    bool exact = again != NULL && json_equal(again, value);
    /* Rounded to 15 digits the largest numbers are too large to be read. */
    bool refused = again == NULL && json_error_code(&error) != json_error_numeric_overflow;
    json_decref(again);
    if (exact)
        return text;
    json_free_text(text);
    if (refused)
        return NULL;
    return json_dumps(value, flags | JSON_REAL_PRECISION(17));
}

balora_status json_checksum(uint32_t *out, const json_t *value) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    if (text == NULL)
        return status_fail_native(BALORA_ERROR_MEMORY, BALORA_ORIGIN_JSON, 0,
                                  "a JSON value cannot be summed up: out of memory");
    *out = checksum_add(0, text, strlen(text));
    json_free_text(text);
    return BALORA_OK;
}

balora_status json_write_file(allocator *memory, const char *path, const json_t *value, bool sort_keys) {
    char *text = dump_value(value, JSON_INDENT(2) | (sort_keys ? JSON_SORT_KEYS : 0u));
    if (text == NULL)
        return status_fail_native(BALORA_ERROR_MEMORY, BALORA_ORIGIN_JSON, 0,
                                  "%s: the value cannot be written as JSON: out of memory", path);
    size_t length = strlen(text);
    text[length] = '\n'; /* in the place of the NUL: the bytes are written by count */
    balora_status status = file_write_all(memory, path, text, length + 1);
    json_free_text(text);
    return status;
}
