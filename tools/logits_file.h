/* A safetensors file with one tensor `logits` F32 [tokens, vocabulary], written row by row and published at
 * the end. */
#ifndef TOOLS_LOGITS_FILE_H
#define TOOLS_LOGITS_FILE_H

#include <stdint.h>
#include <stdio.h>

typedef struct logits_file {
    FILE *stream;
    char *temporary_path;
    const char *path; /* borrowed */
    int64_t tokens, vocabulary;
    int64_t rows; /* written so far */
} logits_file;

/* Begin beside the file's place. Exit code. */
int logits_file_create(logits_file *self, const char *path, int64_t tokens, int64_t vocabulary);

/* A balora_logits_callback; `user` is the file. */
int logits_file_append(const float *logits, int64_t rows, int64_t vocabulary, void *user);

/* All rows are there: sync and rename into place. Exit code. */
int logits_file_publish(logits_file *self);

/* Close, and remove what was not published; also on a zeroed one, and twice. */
void logits_file_close(logits_file *self);

#endif
