/* Between gguf_header.c and gguf.c: the part of gguf_open that reads forward. */
#ifndef FORMAT_GGUF_HEADER_H
#define FORMAT_GGUF_HEADER_H

#include "format/gguf.h"

/*
 * Fill values and tensors of a file that is open; *bytes: where the header ends. Tensors have no type, elements and
 * bytes yet, and their offsets are the file's, from the beginning of the tensors' bytes. What was allocated is in
 * `self` in any case.
 */
balora_status gguf_header_read(gguf_file *self, uint64_t *bytes);

#endif
