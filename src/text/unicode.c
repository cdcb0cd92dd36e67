#include "text/unicode.h"

#include <string.h>

#define HIGH_BITS UINT64_C(0x8080808080808080)

size_t utf8_write(char *out, uint32_t code) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xC0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3F));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xE0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3F));
        out[2] = (char)(0x80 | (code & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3F));
    out[2] = (char)(0x80 | (code >> 6 & 0x3F));
    out[3] = (char)(0x80 | (code & 0x3F));
    return 4;
}

/* Bytes of the well-formed character at `byte` (The Unicode Standard, table 3-7); 0 when there is none. */
static size_t character_bytes(const unsigned char *byte, size_t left) {
    unsigned char lead = byte[0];
    unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte */
    size_t bytes;
    if (lead < 0x80)
        return 1;
    if (lead >= 0xC2 && lead <= 0xDF) {
        bytes = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        bytes = 3;
        low = lead == 0xE0 ? 0xA0 : low;
        high = lead == 0xED ? 0x9F : high;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        bytes = 4;
        low = lead == 0xF0 ? 0x90 : low;
        high = lead == 0xF4 ? 0x8F : high;
    } else {
        return 0;
    }
    if (left < bytes || byte[1] < low || byte[1] > high)
        return 0;
    for (size_t i = 2; i < bytes; i++)
        if ((byte[i] & 0xC0) != 0x80)
            return 0;
    return bytes;
}

size_t utf8_check(const char *text, size_t bytes) {
    const unsigned char *start = (const unsigned char *)text;
    size_t at = 0;
    while (at < bytes) {
        uint64_t eight;
        if (bytes - at >= sizeof eight) {
            memcpy(&eight, start + at, sizeof eight);
            if ((eight & HIGH_BITS) == 0) {
                at += sizeof eight;
                continue;
            }
        }
        size_t step = character_bytes(start + at, bytes - at);
        if (step == 0)
            return at;
        at += step;
    }
    return bytes;
}
