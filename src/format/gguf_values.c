/* Values of a GGUF file by key, and what is in them. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/status.h"
#include "format/gguf.h"

const gguf_value *gguf_find_value(const gguf_file *self, const char *key) {
    int64_t low = 0, high = self->value_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(key, self->values[middle].key);
        if (order == 0)
            return &self->values[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf_file *self, const char *name) {
    int64_t low = 0, high = self->tensor_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        int order = strcmp(name, self->by_name[middle]->name);
        if (order == 0)
            return self->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* *value is NULL when the key is absent and need not be there. */
static balora_status find(const gguf_file *self, const char *key, bool required, const gguf_value **value) {
    *value = gguf_find_value(self, key);
    if (*value == NULL && required)
        return status_fail(BALORA_ERROR_FORMAT, "%s: the key \"%s\" is missing", self->file.path, key);
    return BALORA_OK;
}

static balora_status wrong_type(const gguf_file *self, const gguf_value *value, const char *expected) {
    return status_fail(BALORA_ERROR_FORMAT, "%s: offset %" PRIu64 ": \"%s\": expected %s, found %s",
                       self->file.path, value->offset, value->key, expected, gguf_value_name(value->type));
}

/* False when the value is none, or beyond 63 bits. */
static bool to_integer(const gguf_value *value, int64_t *out) {
    uint32_t bytes = gguf_value_bytes(value->type);
    uint64_t number = gguf_load(value->data, bytes);
    switch (value->type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: {
        uint64_t sign = UINT64_C(1) << (8 * bytes - 1);
        /* widened, then subtracted as unsigned numbers: defined for every pattern */
        number = (number ^ sign) - sign;
        memcpy(out, &number, sizeof *out);
        return true;
    }
    case GGUF_U8:
    case GGUF_U16:
    case GGUF_U32:
    case GGUF_U64:
        *out = (int64_t)number;
        return number <= INT64_MAX;
    default:
        return false;
    }
}

balora_status gguf_integer(const gguf_file *self, const char *key, bool required, int64_t low, int64_t high,
                           int64_t *out) {
    const gguf_value *value;
    int64_t number;
    STATUS_TRY(find(self, key, required, &value));
    if (value == NULL)
        return BALORA_OK;
    if (!to_integer(value, &number))
        return wrong_type(self, value, "an integer of at most 63 bits");
    if (number < low || number > high)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": \"%s\" is %" PRId64 "; expected %" PRId64 " to %" PRId64,
                           self->file.path, value->offset, key, number, low, high);
    *out = number;
    return BALORA_OK;
}

balora_status gguf_number(const gguf_file *self, const char *key, bool required, double *out) {
    const gguf_value *value;
    int64_t integer;
    double number;
    STATUS_TRY(find(self, key, required, &value));
    if (value == NULL)
        return BALORA_OK;
    uint64_t bits = gguf_load(value->data, gguf_value_bytes(value->type));
    if (value->type == GGUF_F32) {
        uint32_t half = (uint32_t)bits;
        float narrow;
        memcpy(&narrow, &half, sizeof narrow);
        number = (double)narrow;
    } else if (value->type == GGUF_F64) {
        memcpy(&number, &bits, sizeof number);
    } else if (to_integer(value, &integer)) {
        number = (double)integer;
    } else {
        return wrong_type(self, value, "a number");
    }
    if (!isfinite(number))
        return wrong_type(self, value, "a finite number");
    *out = number;
    return BALORA_OK;
}

balora_status gguf_flag(const gguf_file *self, const char *key, bool required, bool *out) {
    const gguf_value *value;
    STATUS_TRY(find(self, key, required, &value));
    if (value == NULL)
        return BALORA_OK;
    if (value->type != GGUF_BOOL)
        return wrong_type(self, value, "a bool");
    if (value->data[0] > 1)
        return status_fail(BALORA_ERROR_FORMAT, "%s: offset %" PRIu64 ": \"%s\" is %d; a bool is 0 or 1",
                           self->file.path, value->offset, key, value->data[0]);
    *out = value->data[0] == 1;
    return BALORA_OK;
}

balora_status gguf_text(const gguf_file *self, const char *key, bool required, const char **out) {
    const gguf_value *value;
    STATUS_TRY(find(self, key, required, &value));
    if (value == NULL)
        return BALORA_OK;
    if (value->type != GGUF_TEXT)
        return wrong_type(self, value, "a text");
    if (memchr(value->data, '\0', value->count) != NULL)
        return status_fail(BALORA_ERROR_FORMAT, "%s: offset %" PRIu64 ": \"%s\": a text with a NUL in it",
                           self->file.path, value->offset, key);
    *out = (const char *)value->data;
    return BALORA_OK;
}

balora_status gguf_array(const gguf_file *self, const char *key, bool required, uint32_t element_type,
                         const gguf_value **out) {
    const gguf_value *value;
    *out = NULL;
    STATUS_TRY(find(self, key, required, &value));
    if (value == NULL)
        return BALORA_OK;
    if (value->type != GGUF_ARRAY)
        return wrong_type(self, value, "an array");
    if (value->element_type != element_type)
        return status_fail(BALORA_ERROR_FORMAT,
                           "%s: offset %" PRIu64 ": \"%s\": expected an array of %s, found one of %s",
                           self->file.path, value->offset, key, gguf_value_name(element_type),
                           gguf_value_name(value->element_type));
    *out = value;
    return BALORA_OK;
}

const char *gguf_next_text(const unsigned char **at, uint64_t *length) {
    const unsigned char *text = *at + 8;
    *length = gguf_load(*at, 8);
    *at = text + *length;
    return (const char *)text;
}
