/* Checked arithmetic for every size that a file or a caller names. */
#ifndef BASE_ARITH_H
#define BASE_ARITH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each returns false, leaving *out alone, when the exact result does not fit. */
static inline bool arith_add(size_t a, size_t b, size_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

static inline bool arith_multiply(size_t a, size_t b, size_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool arith_add_i64(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

static inline bool arith_multiply_i64(int64_t a, int64_t b, int64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}

static inline int64_t arith_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static inline int64_t arith_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static inline int64_t arith_divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

#endif
