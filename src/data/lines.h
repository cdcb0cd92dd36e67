/* A text file, line by line, in memory that grows with the longest line only. */
#ifndef DATA_LINES_H
#define DATA_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "base/file.h"

#define LINES_LIMIT ((size_t)64 << 20) /* bytes of a line */

typedef struct line_reader {
    file_reader file;
    uint64_t position; /* of the next byte to read from the file */
    char *buffer;
    size_t capacity, begin, end; /* unread text is buffer[begin, end) */
    int64_t number;              /* of the line that was given last, from 1 */
} line_reader;

balora_status lines_open(line_reader *out, allocator *memory, const char *path);
void lines_close(line_reader *self); /* also on a zeroed value, and twice */

/*
 * The next line without its end (LF or CR LF), and without a byte order mark on the first one; BALORA_DONE
 * behind the last. *text is borrowed until the next call. A line beyond LINES_LIMIT: FORMAT.
 */
balora_status lines_next(line_reader *self, const char **text, size_t *bytes);

#endif
