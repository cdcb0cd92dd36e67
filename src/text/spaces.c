#include "text/spaces.h"

#include <string.h>

#include "base/status.h"

balora_status spaces_mark(text_buffer *out, const char *text, size_t bytes, bool mark_first) {
    size_t spaces = mark_first;
    for (size_t i = 0; i < bytes; i++)
        spaces += text[i] == ' ';
    if (spaces > (SIZE_MAX - bytes) / SPACE_MARK_BYTES)
        return status_fail(BALORA_ERROR_UNSUPPORTED, "a text of %zu bytes is too long; split it", bytes);
    STATUS_TRY(text_buffer_reserve(out, bytes + spaces * SPACE_MARK_BYTES)); /* a little more than needed */
    if (mark_first)
        STATUS_TRY(text_buffer_append(out, SPACE_MARK, SPACE_MARK_BYTES));
    for (const char *end = text + bytes; text < end;) {
        const char *space = memchr(text, ' ', (size_t)(end - text));
        STATUS_TRY(text_buffer_append(out, text, (size_t)((space != NULL ? space : end) - text)));
        if (space == NULL)
            break;
        STATUS_TRY(text_buffer_append(out, SPACE_MARK, SPACE_MARK_BYTES));
        text = space + 1;
    }
    return BALORA_OK;
}

static bool is_mark(const char *text, size_t bytes) {
    return bytes >= SPACE_MARK_BYTES && memcmp(text, SPACE_MARK, SPACE_MARK_BYTES) == 0;
}

bool spaces_begin(const char *text, size_t bytes) {
    return bytes > 0 && (*text == ' ' || is_mark(text, bytes));
}

/* The value of a hexadecimal digit; -1: it is none. */
static int digit_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'A' && digit <= 'F')
        return digit - 'A' + 10;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

/* The byte that "<0xNN>" names; -1: the name is another. */
static int named_byte(const char *name, size_t bytes) {
    if (bytes != 6 || memcmp(name, "<0x", 3) != 0 || name[5] != '>')
        return -1;
    int high = digit_value(name[3]), low = digit_value(name[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

balora_status spaces_append_token(text_buffer *out, const char *name, size_t bytes) {
    int byte = named_byte(name, bytes);
    if (byte >= 0)
        return text_buffer_append(out, &(char){(char)byte}, 1);
    STATUS_TRY(text_buffer_reserve(out, bytes));
    for (const char *end = name + bytes; name < end;) {
        bool mark = is_mark(name, (size_t)(end - name));
        STATUS_TRY(text_buffer_append(out, mark ? " " : name, 1));
        name += mark ? SPACE_MARK_BYTES : 1;
    }
    return BALORA_OK;
}
