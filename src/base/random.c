#include "base/random.h"

#include <math.h>

random_words random_block(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (random_words){{c0, c1, c2, c3}};
}

uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t index) {
    random_words block = random_block(seed, stream, index);
    return (uint64_t)block.word[1] << 32 | block.word[0];
}

static double unit(uint64_t bits) {
    return (double)(bits >> 11) * 0x1p-53;
}

double random_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return unit(random_bits(seed, stream, index));
}

double random_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    random_words block = random_block(seed, stream, index);
    double u = unit((uint64_t)block.word[1] << 32 | block.word[0]);
    double v = unit((uint64_t)block.word[3] << 32 | block.word[2]);
    return sqrt(-2.0 * log1p(-u)) * cos(6.283185307179586477 * v);
}

int64_t random_permuted(uint64_t seed, uint64_t epoch, int64_t index, int64_t count) {
    unsigned half = 1;
    while (((uint64_t)1 << (2 * half)) < (uint64_t)count)
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t value = (uint64_t)index;
    do {
        uint64_t left = value >> half, right = value & mask;
        for (uint64_t round = 0; round < 4; round++) {
            uint64_t mixed = random_bits(seed, RANDOM_STREAM_SHUFFLE | epoch << 8, right | round << 40);
            uint64_t next = left ^ (mixed & mask);
            left = right;
            right = next;
        }
        value = left << half | right;
    } while (value >= (uint64_t)count);
    return (int64_t)value;
}
