#include "options.h"

#include <string.h>

#include "base/nearest.h"
#include "base/status.h"
#include "option_table.h"
#include "option_value.h"

/* No struct of ours will ever be larger: a larger size is a forgotten _INIT. */
enum { STRUCT_LIMIT = 65536 };

static uint64_t struct_size(const void *object) {
    uint64_t size;
    memcpy(&size, object, sizeof size);
    return size;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

balora_status options_check_size(const void *caller, const char *name) {
    uint64_t size = struct_size(caller);
    /* Every version's size is a multiple of the widest field, so that no field is ever half known. */
    if (size < 2 * sizeof size || size % sizeof size != 0 || size > STRUCT_LIMIT)
        return status_fail(
            BALORA_ERROR_ABI,
            "%s: struct_size is %llu, which no version of the struct has; start from its _INIT macro", name,
            (unsigned long long)size);
    return BALORA_OK;
}

/* What a newer caller knows beyond our struct must be zero. */
static balora_status check_tail(const char *name, uint64_t known, const void *caller) {
    const unsigned char *bytes = caller;
    uint64_t size = struct_size(caller);
    for (uint64_t i = known; i < size; i++)
        if (bytes[i] != 0)
            return status_fail(
                BALORA_ERROR_ABI,
                "%s: the caller was built against a newer header and sets an option at byte %llu that "
                "this library (%llu bytes) does not know; update the library",
                name, (unsigned long long)i, (unsigned long long)known);
    return BALORA_OK;
}

static balora_status check_reserved(const option_table *table, const void *caller) {
    int32_t reserved;
    if (table->reserved == 0 || struct_size(caller) < table->reserved + sizeof reserved)
        return BALORA_OK;
    memcpy(&reserved, (const unsigned char *)caller + table->reserved, sizeof reserved);
    if (reserved != 0)
        return status_fail(BALORA_ERROR_ABI, "%s: reserved is %d; it must be 0", table->name, reserved);
    return BALORA_OK;
}

balora_status options_import_plain(void *complete, const void *defaults, uint64_t bytes, const void *caller,
                                   const char *name) {
    memcpy(complete, defaults, bytes);
    if (caller == NULL)
        return BALORA_OK;
    STATUS_TRY(options_check_size(caller, name));
    STATUS_TRY(check_tail(name, bytes, caller));
    memcpy(complete, caller, smaller(struct_size(caller), bytes));
    memcpy(complete, &bytes, sizeof bytes);
    return BALORA_OK;
}

balora_status options_import(int32_t options, void *complete, const void *caller) {
    const option_table *table = option_table_find(options);
    STATUS_TRY(options_import_plain(complete, table->defaults, table->bytes, caller, table->name));
    if (caller == NULL)
        return BALORA_OK;
    STATUS_TRY(check_reserved(table, caller));
    for (size_t i = 0; i < table->count; i++) {
        balora_status status = option_value_check(&table->fields[i], complete);
        if (status != BALORA_OK)
            return status_prefix(status, "%s", table->name);
    }
    return BALORA_OK;
}

void options_export(void *caller, const void *complete, uint64_t bytes) {
    uint64_t size = struct_size(caller);
    uint64_t known = smaller(size, bytes);
    memset(caller, 0, size);
    memcpy(caller, complete, known);
    memcpy(caller, &size, sizeof size);
}

static balora_status find_table(const option_table **out, int32_t options) {
    *out = option_table_find(options);
    if (*out == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "options is %d; expected one of BALORA_OPTIONS_...",
                           options);
    return BALORA_OK;
}

static balora_status find_field(const option_field **out, const option_table *table, const void *object,
                                const char *key) {
    nearest_word nearest;
    nearest_start(&nearest, key);
    for (size_t i = 0; i < table->count; i++) {
        const option_field *field = &table->fields[i];
        if (strcmp(field->key, key) != 0) {
            nearest_consider(&nearest, field->key);
            continue;
        }
        STATUS_TRY(options_check_size(object, table->name));
        /* 8: the widest field; sizes are multiples of it. */
        if (struct_size(object) < field->offset / 8 * 8 + 8)
            return status_fail(BALORA_ERROR_ABI, "%s: the caller's struct is older than the option %s",
                               table->name, key);
        *out = field;
        return BALORA_OK;
    }
    if (nearest.best != NULL)
        return status_fail(BALORA_ERROR_NOT_FOUND, "%s has no option \"%s\"; did you mean \"%s\"?",
                           table->name, key, nearest.best);
    return status_fail(BALORA_ERROR_NOT_FOUND, "%s has no option \"%s\"", table->name, key);
}

balora_status balora_options_describe(int32_t options, int64_t index, balora_option_description *out) {
    const option_table *table;
    if (out == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "balora_options_describe: out is NULL");
    STATUS_TRY(options_check_size(out, "balora_option_description"));
    STATUS_TRY(find_table(&table, options));
    if (index < 0)
        return status_fail(BALORA_ERROR_ARGUMENT,
                           "balora_options_describe: index is %lld; expected 0 or more", (long long)index);
    if ((uint64_t)index >= table->count)
        return BALORA_DONE;
    const option_field *field = &table->fields[index];
    balora_option_description description = {
        sizeof description, field->key,     field->type,    0,          field->default_value,
        field->choices,     field->minimum, field->maximum, field->help};
    options_export(out, &description, sizeof description);
    return BALORA_OK;
}

balora_status balora_options_set(int32_t options, void *object, const char *key, const char *value) {
    const option_table *table;
    const option_field *field;
    if (object == NULL || key == NULL || value == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "balora_options_set: %s is NULL",
                           object == NULL ? "object"
                           : key == NULL  ? "key"
                                          : "value");
    STATUS_TRY(find_table(&table, options));
    STATUS_TRY(find_field(&field, table, object, key));
    return option_value_parse(field, object, value);
}

balora_status balora_options_get(int32_t options, const void *object, const char *key, char *buffer,
                                 uint64_t capacity) {
    const option_table *table;
    const option_field *field;
    if (object == NULL || key == NULL || buffer == NULL || capacity == 0)
        return status_fail(BALORA_ERROR_ARGUMENT, "balora_options_get: %s",
                           object == NULL   ? "object is NULL"
                           : key == NULL    ? "key is NULL"
                           : buffer == NULL ? "buffer is NULL"
                                            : "capacity is 0");
    buffer[0] = '\0';
    STATUS_TRY(find_table(&table, options));
    STATUS_TRY(find_field(&field, table, object, key));
    return option_value_print(field, object, buffer, capacity);
}
