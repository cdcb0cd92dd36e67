#include "data/row.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

typedef struct row_keys {
    row_form form;
    const char *source, *target;
} row_keys;

/* The first whose keys a row has. */
static const row_keys known_forms[] = {
    {ROW_MESSAGES, NULL, "messages"},
    {ROW_INSTRUCTION, "instruction", "response"},
    {ROW_INSTRUCTION, "question", "answer"},
    {ROW_COMPLETION, "prompt", "completion"},
    {ROW_TEXT, NULL, "text"},
};

#define FORM_COUNT (sizeof known_forms / sizeof known_forms[0])

balora_status row_fields_parse(row_fields *out, allocator *memory, const char *text) {
    *out = (row_fields){0};
    if (text == NULL)
        return BALORA_OK;
    const char *comma = strchr(text, ',');
    if (text[0] == '\0' || comma == text ||
        (comma != NULL && (comma[1] == '\0' || strchr(comma + 1, ',') != NULL)))
        return status_fail(
            BALORA_ERROR_ARGUMENT,
            "fields is \"%.200s\"; expected two keys, \"instruction,answer\", or one, \"text\"", text);
    STATUS_TRY(memory_string(memory, &out->names, text));
    out->target = out->names;
    if (comma != NULL) {
        out->names[comma - text] = '\0';
        out->source = out->names;
        out->target = out->names + (comma - text) + 1;
    }
    return BALORA_OK;
}

static bool has_keys(const json_t *value, const row_keys *keys) {
    return json_object_get(value, keys->target) != NULL &&
           (keys->source == NULL || json_object_get(value, keys->source) != NULL);
}

static balora_status no_known_form(const json_t *value, const char *origin) {
    char found[512] = "none";
    size_t used = 0;
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)value, key, member) {
        int written = snprintf(found + used, sizeof found - used, "%s\"%.60s\"", used > 0 ? ", " : "", key);
        used += (size_t)written;
        if (used >= sizeof found - 1)
            break;
    }
    return status_fail(
        BALORA_ERROR_FORMAT,
        "%s: the row's keys are %s; expected instruction and response, question and answer, prompt and "
        "completion, text, or messages; name others with fields",
        origin, found);
}

balora_status row_read(data_row *out, const json_t *value, const row_fields *fields, const char *origin) {
    *out = (data_row){0};
    if (!json_is_object(value))
        return status_fail(BALORA_ERROR_FORMAT, "%s: expected a JSON object, found %s", origin,
                           json_type_name(value));
    row_keys keys = {fields->source != NULL ? ROW_INSTRUCTION : ROW_TEXT, fields->source, fields->target};
    if (fields->names == NULL) {
        size_t form = 0;
        while (form < FORM_COUNT && !has_keys(value, &known_forms[form]))
            form++;
        if (form == FORM_COUNT)
            return no_known_form(value, origin);
        keys = known_forms[form];
    }
    out->form = keys.form;
    if (keys.form == ROW_MESSAGES) {
        out->messages = json_object_get(value, keys.target);
        return BALORA_OK;
    }
    if (keys.source != NULL)
        STATUS_TRY(json_member_string(value, keys.source, origin, true, &out->source));
    return json_member_string(value, keys.target, origin, true, &out->target);
}
