/* CRC-32 by zlib: tells damaged files from whole ones, and changed inputs from the same. */
#ifndef BASE_CHECKSUM_H
#define BASE_CHECKSUM_H

#include <stdint.h>

/* Of `bytes` bytes behind those that gave `previous`; 0 starts. */
uint32_t checksum_add(uint32_t previous, const void *data, uint64_t bytes);

#endif
