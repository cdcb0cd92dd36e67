/* How far from the reference a slot may be: the one table of the suite. */
#ifndef CONFORMANCE_TOLERANCE_H
#define CONFORMANCE_TOLERANCE_H

#include "bench.h"

/* |got - want| <= relative * magnitude + rounding * |want| + absolute, `magnitude` being what a test says the rounding
 * errors scale with (the sum of absolute products of a dot product, for one). */
typedef struct tolerance {
    double relative, absolute, rounding;
} tolerance;

/* For a result of this dtype; exact where the table names none. */
tolerance tolerance_of(slot_number slot, int32_t dtype);

#endif
