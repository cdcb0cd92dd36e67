#include "numbers.h"

#include <math.h>
#include <string.h>

#include "balora/types.h"

/* Of a 16-bit floating-point type: stored mantissa bits, and the exponent of its smallest normal number. */
typedef struct number_format {
    int mantissa_bits;
    int smallest_exponent;
    double largest;
} number_format;

static number_format format_of(int32_t dtype) {
    return dtype == BALORA_F16 ? (number_format){10, -14, 65504.0} : (number_format){7, -126, 0x1.FEp127};
}

double number_round(int32_t dtype, double value) {
    if (dtype == BALORA_F32)
        return (double)(float)value;
    if (dtype == BALORA_F64 || dtype == BALORA_I32 || dtype == BALORA_I64 || dtype == BALORA_U8 ||
        !isfinite(value) || value == 0.0)
        return value;
    number_format format = format_of(dtype);
    int exponent;
    frexp(value, &exponent); /* |value| in [2^(exponent-1), 2^exponent) */
    int normal = exponent - 1 > format.smallest_exponent ? exponent - 1 : format.smallest_exponent;
    double rounded =
        ldexp(nearbyint(ldexp(value, format.mantissa_bits - normal)), normal - format.mantissa_bits);
    return fabs(rounded) > format.largest ? copysign(INFINITY, value) : copysign(rounded, value);
}

/* Bits of a 16-bit type of `mantissa_bits` and 15 - mantissa_bits exponent bits, from an exact value. */
static uint16_t encode_16(number_format format, double value) {
    unsigned sign = signbit(value) ? 0x8000u : 0u;
    unsigned ones = (0x7FFFu >> format.mantissa_bits) << format.mantissa_bits;
    if (isnan(value))
        return (uint16_t)(sign | ones | 1u << (format.mantissa_bits - 1));
    if (isinf(value))
        return (uint16_t)(sign | ones);
    int exponent;
    frexp(value, &exponent);
    int subnormal = value == 0.0 || exponent - 1 < format.smallest_exponent;
    int quantum = (subnormal ? format.smallest_exponent : exponent - 1) - format.mantissa_bits;
    unsigned integer = (unsigned)ldexp(fabs(value), -quantum);
    if (subnormal)
        return (uint16_t)(sign | integer);
    unsigned biased = (unsigned)(exponent - format.smallest_exponent);
    return (uint16_t)(sign | biased << format.mantissa_bits |
                      (integer & ((1u << format.mantissa_bits) - 1u)));
}

static double decode_16(number_format format, uint16_t bits) {
    double sign = bits & 0x8000u ? -1.0 : 1.0;
    int biased = (bits & 0x7FFF) >> format.mantissa_bits;
    int mantissa = bits & ((1 << format.mantissa_bits) - 1);
    if (biased == 0x7FFF >> format.mantissa_bits)
        return mantissa != 0 ? (double)NAN : sign * (double)INFINITY;
    if (biased == 0)
        return sign * ldexp(mantissa, format.smallest_exponent - format.mantissa_bits);
    return sign * ldexp(mantissa + (1 << format.mantissa_bits),
                        biased - 1 + format.smallest_exponent - format.mantissa_bits);
}

void number_encode(int32_t dtype, double value, void *out) {
    if (dtype == BALORA_F64) {
        memcpy(out, &value, sizeof value);
    } else if (dtype == BALORA_F32) {
        float single = (float)value;
        memcpy(out, &single, sizeof single);
    } else if (dtype == BALORA_I32) {
        int32_t integer = (int32_t)value;
        memcpy(out, &integer, sizeof integer);
    } else if (dtype == BALORA_I64) {
        int64_t integer = (int64_t)value;
        memcpy(out, &integer, sizeof integer);
    } else if (dtype == BALORA_U8) {
        *(unsigned char *)out = (unsigned char)value;
    } else {
        uint16_t bits = encode_16(format_of(dtype), number_round(dtype, value));
        memcpy(out, &bits, sizeof bits);
    }
}

double number_decode(int32_t dtype, const void *bytes) {
    if (dtype == BALORA_F64) {
        double value;
        memcpy(&value, bytes, sizeof value);
        return value;
    }
    if (dtype == BALORA_F32) {
        float single;
        memcpy(&single, bytes, sizeof single);
        return (double)single;
    }
    if (dtype == BALORA_I32) {
        int32_t integer;
        memcpy(&integer, bytes, sizeof integer);
        return (double)integer;
    }
    if (dtype == BALORA_I64) {
        int64_t integer;
        memcpy(&integer, bytes, sizeof integer);
        return (double)integer;
    }
    if (dtype == BALORA_U8)
        return (double)*(const unsigned char *)bytes;
    uint16_t word;
    memcpy(&word, bytes, sizeof word);
    return decode_16(format_of(dtype), word);
}
