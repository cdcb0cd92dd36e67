/* Spaces written as U+2581, as SentencePiece's vocabularies have them, and tokens of single bytes. */
#ifndef TEXT_SPACES_H
#define TEXT_SPACES_H

#include <stdbool.h>

#include "text/buffer.h"

#define SPACE_MARK       "\xE2\x96\x81" /* U+2581 */
#define SPACE_MARK_BYTES 3

/* Append the text with each space as a mark, and one more before it all if asked. */
balora_status spaces_mark(text_buffer *out, const char *text, size_t bytes, bool mark_first);

/* Does it begin with a mark or a space? */
bool spaces_begin(const char *text, size_t bytes);

/* Append what a token's name says: "<0x0A>" is the byte, a mark is a space, anything else itself. */
balora_status spaces_append_token(text_buffer *out, const char *name, size_t bytes);

#endif
