#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "tool.h"

/* Three digits or more of value / unit. */
static void print_scaled(char text[HUMAN_TEXT], double value, const char *unit) {
    snprintf(text, HUMAN_TEXT, "%.*f%s", value < 9.95 ? 2 : value < 99.5 ? 1 : 0, value, unit);
}

const char *human_bytes(char text[HUMAN_TEXT], int64_t bytes) {
    if (bytes >= INT64_C(1) << 30)
        print_scaled(text, (double)bytes / 1073741824.0, " GiB");
    else if (bytes >= 1 << 20)
        print_scaled(text, (double)bytes / 1048576.0, " MiB");
    else
        print_scaled(text, (double)bytes / 1024.0, " KiB");
    return text;
}

const char *human_count(char text[HUMAN_TEXT], int64_t count) {
    if (count >= 1000000000)
        print_scaled(text, (double)count / 1e9, " G");
    else if (count >= 1000000)
        print_scaled(text, (double)count / 1e6, " M");
    else if (count >= 100000)
        print_scaled(text, (double)count / 1e3, " k");
    else
        snprintf(text, HUMAN_TEXT, "%" PRId64, count);
    return text;
}

const char *human_duration(char text[HUMAN_TEXT], double seconds) {
    int64_t whole = seconds < 1e9 ? (int64_t)ceil(seconds) : 0;
    if (whole >= 3600)
        snprintf(text, HUMAN_TEXT, "%" PRId64 ":%02d:%02d", whole / 3600, (int)(whole / 60 % 60),
                 (int)(whole % 60));
    else
        snprintf(text, HUMAN_TEXT, "%d:%02d", (int)(whole / 60), (int)(whole % 60));
    return text;
}

const char *human_dtype(int32_t dtype) {
    switch (dtype) {
    case BALORA_F32:
        return "float32";
    case BALORA_F16:
        return "float16";
    case BALORA_BF16:
        return "bfloat16";
    default:
        return "other";
    }
}
