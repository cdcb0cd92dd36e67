#include "base/checksum.h"

#include <zlib.h>

uint32_t checksum_add(uint32_t previous, const void *data, uint64_t bytes) {
    /* zlib takes NULL for a wish to start anew. */
    return bytes > 0 ? (uint32_t)crc32_z(previous, data, bytes) : previous;
}
