/* The numbers of tests/fixtures/parts/make.py. */
#ifndef TESTS_PARTS_NOISE_H
#define TESTS_PARTS_NOISE_H

#include <stdint.h>

/* A multiple of 2^-24 in [-0.5, 0.5). */
static inline double parts_noise(uint64_t seed, int64_t place) {
    uint32_t x = (uint32_t)((uint64_t)place + seed * 1000003);
    x = (x ^ x >> 16) * UINT32_C(0x85EBCA6B);
    x = (x ^ x >> 13) * UINT32_C(0xC2B2AE35);
    x ^= x >> 16;
    return (double)(x >> 8) / 16777216.0 - 0.5;
}

#endif
