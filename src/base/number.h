/* Numbers from text, whatever the host's locale is. */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdbool.h>

/*
 * All of `text` as a decimal number such as "-1.5e-3", at most NUMBER_TEXT_LIMIT characters. Blanks, hexadecimal digits,
 * "inf" and "nan" are none; one too large for a double becomes infinite.
 */
#define NUMBER_TEXT_LIMIT 63
bool number_scan(const char *text, double *out);

#endif
