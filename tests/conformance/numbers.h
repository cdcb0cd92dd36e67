/* Storage types seen from double: rounding to nearest even, encoding and decoding, written apart from the
 * library. */
#ifndef CONFORMANCE_NUMBERS_H
#define CONFORMANCE_NUMBERS_H

#include <stdint.h>

/* `value` as the dtype holds it: rounded once, to nearest even, overflowing to infinity. */
double number_round(int32_t dtype, double value);

/* Store the rounded value at `out`, or read one back. Integers are exact. */
void number_encode(int32_t dtype, double value, void *out);
double number_decode(int32_t dtype, const void *bytes);

#endif
