/* Growing arrays of bytes and of token ids. Zero one and give it its allocator; free it when done. */
#ifndef TEXT_BUFFER_H
#define TEXT_BUFFER_H

#include "base/memory.h"

typedef struct text_buffer {
    allocator *memory;
    char *bytes;
    size_t count, capacity;
} text_buffer;

typedef struct token_buffer {
    allocator *memory;
    int32_t *ids;
    size_t count, capacity;
} token_buffer;

/* Make room for `more` elements behind the last. */
balora_status text_buffer_reserve(text_buffer *buffer, size_t more);
balora_status token_buffer_reserve(token_buffer *buffer, size_t more);

balora_status text_buffer_append(text_buffer *buffer, const char *bytes, size_t count);
balora_status token_buffer_append(token_buffer *buffer, int32_t id);
balora_status token_buffer_append_all(token_buffer *buffer, const int32_t *ids, size_t count);

/* Give the elements back; the buffer is empty and may be used again. */
void text_buffer_free(text_buffer *buffer);
void token_buffer_free(token_buffer *buffer);

#endif
