/* What the optimizers do to neighbouring numbers. */
#include "cpu/simd/symbols.h"

#include <math.h>

/* The order of operations is torch.optim.AdamW's. */
SIMD_INLINE void adamw_vector(const adamw_factors *f, vector *parameter, vector gradient, vector *first,
                              vector *second) {
    vector g = gradient * f->scale;
    *first += (g - *first) * f->first;
    *second = *second * f->beta2 + f->second * g * g;
    vector root;
    for (int i = 0; i < SIMD_WIDTH; i++)
        root[i] = sqrtf((*second)[i]);
    vector denominator = root / f->root_correction + f->epsilon;
    *parameter = *parameter * f->keep - f->step_size * *first / denominator;
}

void SIMD_SYMBOL(adamw)(const adamw_factors *factors, float *parameter, const float *gradient,
                        float *first_moment, float *second_moment, int64_t count) {
    for (int64_t i = 0; i < count; i += SIMD_WIDTH) {
        int64_t rest = count - i;
        if (rest >= SIMD_WIDTH) {
            vector p = vector_load(parameter + i), m = vector_load(first_moment + i),
                   v = vector_load(second_moment + i);
            adamw_vector(factors, &p, vector_load(gradient + i), &m, &v);
            vector_store(parameter + i, p);
            vector_store(first_moment + i, m);
            vector_store(second_moment + i, v);
        } else {
            vector p = vector_load_part(parameter + i, rest), m = vector_load_part(first_moment + i, rest);
            vector v = vector_load_part(second_moment + i, rest);
            adamw_vector(factors, &p, vector_load_part(gradient + i, rest), &m, &v);
            vector_store_part(parameter + i, p, rest);
            vector_store_part(first_moment + i, m, rest);
            vector_store_part(second_moment + i, v, rest);
        }
    }
}

/* 1, -1 or 0 times `size`. */
SIMD_INLINE vector signed_size(vector x, float size) {
    return (vector)(((ivector)vector_all(size) & (x > 0)) | ((ivector)vector_all(-size) & (x < 0)));
}

SIMD_INLINE void lion_vector(const lion_factors *f, vector *parameter, vector gradient, vector *moment) {
    vector change = gradient * f->scale - *moment;
    *parameter = *parameter * f->keep - signed_size(*moment + change * f->now, f->learning_rate);
    *moment += change * f->past;
}

void SIMD_SYMBOL(lion)(const lion_factors *factors, float *parameter, const float *gradient, float *moment,
                       int64_t count) {
    for (int64_t i = 0; i < count; i += SIMD_WIDTH) {
        int64_t rest = count - i;
        if (rest >= SIMD_WIDTH) {
            vector p = vector_load(parameter + i), m = vector_load(moment + i);
            lion_vector(factors, &p, vector_load(gradient + i), &m);
            vector_store(parameter + i, p);
            vector_store(moment + i, m);
        } else {
            vector p = vector_load_part(parameter + i, rest), m = vector_load_part(moment + i, rest);
            lion_vector(factors, &p, vector_load_part(gradient + i, rest), &m);
            vector_store_part(parameter + i, p, rest);
            vector_store_part(moment + i, m, rest);
        }
    }
}

/* --- moments in 8 bits --- */

enum { LARGEST_STEP = MOMENT_CODES / 2 };

static void read_codes(float *out, const moment_map *map, const unsigned char *codes, float scale,
                       int64_t count) {
    for (int64_t i = 0; i < count; i++)
        out[i] = map->values[codes[i]] * scale;
}

/* Bisection: the number of borders below x. */
SIMD_INLINE ivector nearest_codes(const moment_map *map, vector x) {
    ivector code = {0};
    for (int32_t step = LARGEST_STEP; step > 0; step /= 2)
        code += (x > vector_gather(map->borders + step - 1, code)) & step;
    return code;
}

/* The largest |x| of `whole` numbers, which is a multiple of SIMD_WIDTH. */
SIMD_INLINE float largest_size(const float *x, int64_t whole) {
    vector largest = {0};
    for (int64_t i = 0; i < whole; i += SIMD_WIDTH)
        largest = vector_max(largest, (vector)((uvector)vector_load(x + i) & 0x7fffffffu));
    return vector_highest(largest);
}

/* Codes and scale of x, of which `whole` >= count numbers may be read. Codes of numbers above 0 are at least
 * `positive`. */
static void write_codes(const float *x, int64_t count, int64_t whole, const moment_map *map, int32_t positive,
                        unsigned char *codes, float *scale) {
    int32_t found[SIMD_WIDTH];
    float largest = largest_size(x, whole);
    *scale = largest;
    if (!(largest > 0 && isfinite(largest))) {
        memset(codes, (unsigned char)map->zero, (size_t)count);
        return;
    }
    for (int64_t i = 0; i < whole; i += SIMD_WIDTH) {
        vector value = vector_load(x + i);
        ivector code = nearest_codes(map, value / largest);
        ivector lifted = (value > 0) & (code < positive);
        code = (lifted & positive) | (~lifted & code);
        memcpy(found, &code, sizeof found);
        for (int64_t lane = 0; lane < SIMD_WIDTH && i + lane < count; lane++)
            codes[i + lane] = (unsigned char)found[lane];
    }
}

void SIMD_SYMBOL(adamw_8bit)(const adamw_factors *factors, const moment_map *first, const moment_map *second,
                             const quantised_block *block) {
    float m[MOMENT_CODES], v[MOMENT_CODES];
    int64_t count = block->count, whole = (count + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH;
    read_codes(m, first, block->first, *block->first_scale, count);
    read_codes(v, second, block->second, *block->second_scale, count);
    SIMD_SYMBOL(adamw)(factors, block->parameter, block->gradient, m, v, count);
    for (int64_t i = count; i < whole; i++)
        m[i] = v[i] = 0;
    write_codes(m, count, whole, first, 0, block->first, block->first_scale);
    write_codes(v, count, whole, second, 1, block->second, block->second_scale);
}
