#include "data/lines.h"

#include <string.h>

#include "base/status.h"

#define FIRST_CAPACITY ((size_t)1 << 18)

balora_status lines_open(line_reader *out, allocator *memory, const char *path) {
    memset(out, 0, sizeof *out);
    STATUS_TRY(file_open(&out->file, memory, path));
    balora_status status = memory_new(memory, &out->buffer, FIRST_CAPACITY, 1, "a line buffer");
    if (status == BALORA_OK)
        out->capacity = FIRST_CAPACITY;
    else
        lines_close(out);
    return status;
}

void lines_close(line_reader *self) {
    if (self->file.memory == NULL)
        return;
    memory_free(self->file.memory, self->buffer);
    file_close(&self->file);
    memset(self, 0, sizeof *self);
}

/* Read more text behind what is there: at the buffer's end, after moving, or after growing. */
static balora_status refill(line_reader *self) {
    if (self->begin > 0) {
        memmove(self->buffer, self->buffer + self->begin, self->end - self->begin);
        self->end -= self->begin;
        self->begin = 0;
    }
    if (self->end == self->capacity) {
        if (self->capacity > LINES_LIMIT)
            return status_fail(BALORA_ERROR_FORMAT, "%s:%lld: the line has more than %zu bytes",
                               self->file.path, (long long)self->number, LINES_LIMIT);
        STATUS_TRY(memory_grow(self->file.memory, &self->buffer, self->capacity, 2 * self->capacity, 1,
                               "a line buffer"));
        self->capacity *= 2;
    }
    uint64_t bytes = self->capacity - self->end, left = self->file.bytes - self->position;
    if (bytes > left)
        bytes = left;
    STATUS_TRY(file_read_at(&self->file, self->position, self->buffer + self->end, bytes));
    self->position += bytes;
    self->end += bytes;
    return BALORA_OK;
}

balora_status lines_next(line_reader *self, const char **text, size_t *bytes) {
    size_t searched = 0;
    char *line_end = NULL;
    self->number++;
    for (;;) {
        size_t unread = self->end - self->begin;
        if (unread > searched)
            line_end = memchr(self->buffer + self->begin + searched, '\n', unread - searched);
        searched = unread;
        if (line_end != NULL || self->position == self->file.bytes)
            break;
        STATUS_TRY(refill(self));
    }
    size_t length = line_end != NULL ? (size_t)(line_end - (self->buffer + self->begin)) : searched;
    if (line_end == NULL && length == 0)
        return BALORA_DONE;
    *text = self->buffer + self->begin;
    self->begin += length + (line_end != NULL);
    if (length > LINES_LIMIT)
        return status_fail(BALORA_ERROR_FORMAT, "%s:%lld: the line has more than %zu bytes", self->file.path,
                           (long long)self->number, LINES_LIMIT);
    if (length > 0 && (*text)[length - 1] == '\r')
        length--;
    if (self->number == 1 && length >= 3 && memcmp(*text, "\xEF\xBB\xBF", 3) == 0) {
        *text += 3;
        length -= 3;
    }
    *bytes = length;
    return BALORA_OK;
}
