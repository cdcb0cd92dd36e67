/* Pre-tokenized data: a safetensors file with input_ids, labels and offsets. */
#ifndef DATA_TOKEN_FILE_H
#define DATA_TOKEN_FILE_H

#include "data/dataset.h"

/*
 * input_ids I32 or I64 [N], labels the same (absent: everything is supervised), offsets I64 or I32 [sequences
 * + 1]. max_length 0: sequences keep their length. Errors: NOT_FOUND, IO, FORMAT, MISMATCH (a token outside
 * the vocabulary).
 */
balora_status token_file_read(dataset *out, allocator *memory, const char *path, int64_t vocabulary,
                              int64_t max_length);

#endif
