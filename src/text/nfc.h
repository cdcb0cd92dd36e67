/* Unicode normalization form C (UAX #15). */
#ifndef TEXT_NFC_H
#define TEXT_NFC_H

#include <stdbool.h>

#include "text/buffer.h"

/* True when NFC leaves the text (valid UTF-8) as it is for certain. */
bool nfc_is_normal(const char *text, size_t bytes);

/* Append the normalized text. */
balora_status nfc_normalize(text_buffer *out, const char *text, size_t bytes);

#endif
