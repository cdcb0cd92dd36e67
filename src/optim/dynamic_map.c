#include "optim/dynamic_map.h"

enum { DECADES = 7, HALF = DYNAMIC_MAP_CODES / 2 };

void dynamic_map(bool is_signed, float out[DYNAMIC_MAP_CODES]) {
    int zero = is_signed ? HALF - 1 : 0, place = zero;
    double decade = 1e-6;
    out[place++] = 0;
    for (int i = 0; i < DECADES; i++, decade *= 10) {
        int parts = (is_signed ? 1 : 2) << i;
        for (int part = 0; part < parts; part++)
            out[place++] = (float)(decade * (0.1 + 0.9 * (part + 0.5) / parts));
    }
    out[place] = 1;
    for (int i = 0; i < zero; i++)
        out[i] = -out[2 * zero - i];
}
