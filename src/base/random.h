/*
 * Counter-based random numbers (Philox 4x32-10; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * 2011).
 *
 * A value depends on (seed, stream, index) only: nothing is stored, so any run can be resumed at any place.
 */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stdint.h>

/* Streams keep the uses of one seed apart. */
enum {
    RANDOM_STREAM_SHUFFLE = 1,
    RANDOM_STREAM_FACTORS = 2,
    RANDOM_STREAM_SUBSPACE = 3,
    RANDOM_STREAM_DROPOUT = 4
};

/* The whole block of the index-th draw, of which the functions below take parts. */
typedef struct random_words {
    uint32_t word[4];
} random_words;

random_words random_block(uint64_t seed, uint64_t stream, uint64_t index);

/* 64 random bits for the index-th draw: the block's first two words. */
uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t index);

/* Uniform in [0, 1), 53 bits. */
double random_uniform(uint64_t seed, uint64_t stream, uint64_t index);

/* Standard normal. */
double random_normal(uint64_t seed, uint64_t stream, uint64_t index);

/*
 * The place of `index` in a permutation of [0, count) chosen by (seed, epoch): a Feistel network with cycle
 * walking, so that the order of an epoch needs no stored state. 0 <= index < count.
 */
int64_t random_permuted(uint64_t seed, uint64_t epoch, int64_t index, int64_t count);

#endif
