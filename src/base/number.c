#include "base/number.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

bool number_scan(const char *text, double *out) {
    size_t length = strlen(text);
    if (length == 0 || length > NUMBER_TEXT_LIMIT || strspn(text, "0123456789+-.eE") != length)
        return false;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (plain == (locale_t)0)
        return false;
    char *end;
    *out = strtod_l(text, &end, plain);
    freelocale(plain);
    return *end == '\0';
}
