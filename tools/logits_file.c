#include "logits_file.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

/* The header is padded with blanks so that the numbers are aligned. */
enum { HEADER_BYTES = 248 };

static int fail_write(const logits_file *self) {
    return tool_fail(EXIT_FAILED, "cannot write %s: %s", self->path, strerror(errno));
}

static int write_header(logits_file *self) {
    char header[HEADER_BYTES + 1];
    unsigned char length[8] = {HEADER_BYTES};
    memset(header, ' ', sizeof header);
    int bytes =
        snprintf(header, sizeof header,
                 "{\"logits\":{\"dtype\":\"F32\",\"shape\":[%" PRId64 ",%" PRId64
                 "],\"data_offsets\":[0,%" PRId64 "]}}",
                 self->tokens, self->vocabulary, self->tokens * self->vocabulary * (int64_t)sizeof(float));
    header[bytes] = ' ';
    return fwrite(length, sizeof length, 1, self->stream) == 1 &&
           fwrite(header, HEADER_BYTES, 1, self->stream) == 1;
}

int logits_file_create(logits_file *self, const char *path, int64_t tokens, int64_t vocabulary) {
    size_t bytes = strlen(path) + 32;
    *self = (logits_file){.path = path, .tokens = tokens, .vocabulary = vocabulary};
    self->temporary_path = malloc(bytes);
    if (self->temporary_path == NULL)
        return tool_fail(EXIT_FAILED, "no memory");
    snprintf(self->temporary_path, bytes, "%s.tmp-%ld", path, (long)getpid());
    self->stream = fopen(self->temporary_path, "wb");
    return self->stream != NULL && write_header(self) ? EXIT_DONE : fail_write(self);
}

int logits_file_append(const float *logits, int64_t rows, int64_t vocabulary, void *user) {
    logits_file *self = user;
    size_t count = (size_t)(rows * vocabulary);
    self->rows += rows;
    return fwrite(logits, sizeof(float), count, self->stream) == count ? 0 : 1;
}

int logits_file_publish(logits_file *self) {
    if (ferror(self->stream) || fflush(self->stream) != 0 || fsync(fileno(self->stream)) != 0)
        return fail_write(self);
    if (self->rows != self->tokens)
        return tool_fail(EXIT_FAILED, "%s: %" PRId64 " rows of logits came for %" PRId64 " tokens",
                         self->path, self->rows, self->tokens);
    int closed = fclose(self->stream);
    self->stream = NULL;
    if (closed != 0 || rename(self->temporary_path, self->path) != 0)
        return fail_write(self);
    free(self->temporary_path);
    self->temporary_path = NULL;
    return EXIT_DONE;
}

void logits_file_close(logits_file *self) {
    if (self->stream != NULL)
        fclose(self->stream);
    if (self->temporary_path != NULL)
        remove(self->temporary_path);
    free(self->temporary_path);
    *self = (logits_file){0};
}
