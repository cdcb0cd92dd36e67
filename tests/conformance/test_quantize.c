/* dequantize and quantize. */
#include <math.h>

#include "numbers.h"
#include "tests.h"

enum { CODES = 16 };

/* The quantiles of a normal distribution, and a float of one sign, two exponent and one mantissa bits, whose two zeros
 * are equally near to everything (bitsandbytes). */
static const double maps[][CODES] = {
    {-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
     -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
     0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023,
     1.0},
    {0.0, 0.0052083333, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25, -0.0, -0.0052083333, -0.66666667,
     -1.0, -0.33333333, -0.5, -0.16666667, -0.25}};

static const int32_t types[] = {BALORA_F32, BALORA_BF16, BALORA_F16};

static const int64_t shapes[][2] = {{1, 1},  {1, 2},   {1, 63},  {1, 64},  {1, 65},   {3, 5},  {8, 8},
                                    {7, 33}, {33, 64}, {64, 33}, {5, 200}, {100, 65}, {0, 64}, {3, 1000}};

typedef struct quantized_case {
    int32_t kind, type;
    int64_t rows, cols, map;
} quantized_case;

typedef struct quantized_operands {
    int64_t count, scale_count, code_rows, code_cols;
    operand *values, *codes, *scales, *map;
    quantized_matrix arguments;
} quantized_operands;

static void quantized_begin(bench *b, slot_number slot, const quantized_case *c, const char *remark,
                            quantized_operands *o) {
    bool rows = c->kind == QUANTIZED_INT8_ROWS;
    case_begin(b, slot, "%s %s [%lld, %lld], map %lld%s", rows ? "8-bit rows" : "4-bit blocks",
               dtype_name(c->type), (long long)c->rows, (long long)c->cols, (long long)c->map, remark);
    o->count = c->rows * c->cols;
    o->scale_count = rows ? c->rows : (o->count + QUANTIZED_BLOCK - 1) / QUANTIZED_BLOCK;
    o->code_rows = rows ? c->rows : 1;
    o->code_cols = rows ? c->cols : (o->count + 1) / 2;
    o->map = operand_of(b, "map", BALORA_F32, 1, CODES, maps[c->map]);
}

static void quantized_ready(const quantized_case *c, quantized_operands *o) {
    o->arguments =
        (quantized_matrix){o->values->view, o->codes->view,
                           o->scales->view, c->kind == QUANTIZED_INT8_ROWS ? view_none() : o->map->view,
                           c->kind,         0};
}

/* The number that code i of the flat matrix stands for, and the scale that it is multiplied by. */
static double unscaled(const quantized_case *c, const quantized_operands *o, const double *codes, int64_t i) {
    if (c->kind == QUANTIZED_INT8_ROWS) {
        int code = (int)codes[i];
        return (double)(code < 128 ? code : code - 256) / 127.0;
    }
    int pair = (int)codes[i / 2];
    return o->map->value[i % 2 == 0 ? pair >> 4 : pair & 15];
}

static int64_t scale_of(const quantized_case *c, int64_t i) {
    return c->kind == QUANTIZED_INT8_ROWS ? i / c->cols : i / QUANTIZED_BLOCK;
}

static void dequantize_case(bench *b, const quantized_case *c) {
    quantized_operands o;
    quantized_begin(b, SLOT_dequantize, c, "", &o);
    double *codes = case_array(b, o.code_rows * o.code_cols), *want = case_array(b, o.count);
    for (int64_t i = 0; i < o.code_rows * o.code_cols; i++)
        codes[i] = (double)draw_below(b, 256);
    o.codes = operand_of(b, "codes", BALORA_U8, o.code_rows, o.code_cols, codes);
    o.scales = operand_random(b, "scales", BALORA_F32, 1, o.scale_count, 0.5);
    for (int64_t i = 0; i < o.scale_count; i++)
        o.scales->result[i] = i % 7 == 6 ? 0.0 : fabs(o.scales->value[i]);
    operand_set(b, o.scales, o.scales->result);
    o.values = operand_filled(b, "values", c->type, c->rows, c->cols, (double)NAN);
    quantized_ready(c, &o);
    CALL_OK(b, dequantize, b->queue, &o.arguments);
    for (int64_t i = 0; i < o.count; i++)
        want[i] = unscaled(c, &o, codes, i) * o.scales->value[scale_of(c, i)];
    expect_close(b, o.values, want, NULL);
    case_end(b);
}

/* The distance from w to what its code gives, against the least of all codes: a backend may multiply by 1 / scale where
 * another divides, so that of codes almost equally near either is right. */
static void expect_nearest(bench *b, const quantized_case *c, const quantized_operands *o) {
    for (int64_t i = 0; i < o->count; i++) {
        double scale = o->scales->result[scale_of(c, i)], w = o->values->value[i];
        double got = fabs(unscaled(c, o, o->codes->result, i) * scale - w), best = (double)INFINITY;
        if (c->kind == QUANTIZED_INT8_ROWS)
            best = scale > 0.0 ? fabs(nearbyint(w / scale * 127.0) / 127.0 * scale - w) : 0.0;
        else
            for (int code = 0; code < CODES; code++)
                best = fmin(best, fabs(o->map->value[code] * scale - w));
        if (!(got <= best + 3e-7 * scale)) {
            bench_report(
                b, "element %lld, %.9g at scale %.9g, is %.3g from its code's number; the nearest is %.3g",
                (long long)i, w, scale, got, best);
            return;
        }
    }
}

static void quantize_case(bench *b, const quantized_case *c) {
    quantized_operands o;
    quantized_begin(b, SLOT_quantize, c, "", &o);
    o.values = operand_random(b, "values", c->type, c->rows, c->cols, 0.02);
    for (int64_t i = 0; i < o.count; i++)
        o.values->result[i] = scale_of(c, i) % 5 == 4 ? 0.0 : o.values->value[i]; /* some blocks of zeros */
    operand_set(b, o.values, o.values->result);
    o.codes = operand_filled(b, "codes", BALORA_U8, o.code_rows, o.code_cols, 85.0);
    o.scales = operand_filled(b, "scales", BALORA_F32, 1, o.scale_count, (double)NAN);
    quantized_ready(c, &o);
    CALL_OK(b, quantize, b->queue, &o.arguments);
    double *want = case_array(b, o.scale_count);
    for (int64_t i = 0; i < o.count; i++)
        want[scale_of(c, i)] = fmax(want[scale_of(c, i)], fabs(o.values->value[i]));
    expect_close(b, o.scales, want, NULL);
    operand_fetch(b, o.codes);
    expect_nearest(b, c, &o);
    case_end(b);
}

void test_quantize_dequantize(bench *b) {
    for (int64_t t = 0; t < COUNT_OF(types); t++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
            dequantize_case(b, &(quantized_case){QUANTIZED_4BIT, types[t], shapes[s][0], shapes[s][1], 0});
            dequantize_case(b, &(quantized_case){QUANTIZED_4BIT, types[t], shapes[s][0], shapes[s][1], 1});
            dequantize_case(b,
                            &(quantized_case){QUANTIZED_INT8_ROWS, types[t], shapes[s][0], shapes[s][1], 0});
        }
}

void test_quantize_quantize(bench *b) {
    for (int64_t t = 0; t < COUNT_OF(types); t++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
            quantize_case(b, &(quantized_case){QUANTIZED_4BIT, types[t], shapes[s][0], shapes[s][1], 0});
            quantize_case(b, &(quantized_case){QUANTIZED_4BIT, types[t], shapes[s][0], shapes[s][1], 1});
            quantize_case(b, &(quantized_case){QUANTIZED_INT8_ROWS, types[t], shapes[s][0], shapes[s][1], 0});
        }
}

/* Numbers exactly between two codes, at scales that divide exactly: the first code for 4 bits (of the map below, with
 * steps of 1/8 in an order of its own), the even one for 8. */
void test_quantize_ties(bench *b) {
    static const double steps[CODES] = {1.0, 0.125, -0.125, 0.25,  0.0,    -0.25, 0.375, -0.375,
                                        0.5, -0.5,  0.75,   0.625, -0.625, 0.875, -0.75, -1.0};
    quantized_case four = {QUANTIZED_4BIT, BALORA_F32, 1, 62, 0};
    quantized_operands o;
    quantized_begin(b, SLOT_quantize, &four, ", ties", &o);
    operand_set(b, o.map, steps);
    double *values = case_array(b, o.count), *codes = case_array(b, o.code_cols);
    for (int64_t i = 0; i < o.count; i++)
        values[i] = i == 0 ? 4.0 : 4.0 * (double)(draw_below(b, 33) - 16) / 16.0;
    o.values = operand_of(b, "values", BALORA_F32, 1, o.count, values);
    o.codes = operand_filled(b, "codes", BALORA_U8, 1, o.code_cols, 85.0);
    o.scales = operand_filled(b, "scales", BALORA_F32, 1, 1, (double)NAN);
    quantized_ready(&four, &o);
    CALL_OK(b, quantize, b->queue, &o.arguments);
    for (int64_t i = 0; i < o.count; i++) {
        int best = 0;
        for (int code = 1; code < CODES; code++)
            if (fabs(steps[code] - values[i] / 4.0) < fabs(steps[best] - values[i] / 4.0))
                best = code;
        codes[i / 2] += i % 2 == 0 ? 16.0 * best : best;
    }
    expect_close(b, o.codes, codes, NULL);
    operand_fetch(b, o.scales);
    case_end(b);

    quantized_case eight = {QUANTIZED_INT8_ROWS, BALORA_F32, 2, 129, 0};
    quantized_begin(b, SLOT_quantize, &eight, ", ties", &o);
    values = case_array(b, o.count);
    codes = case_array(b, o.count);
    for (int64_t i = 0; i < o.count; i++) {
        int64_t j = i % eight.cols; /* from -63.5 in halves, between 127 and -127 */
        values[i] = j == 0 ? 127.0 : j == 128 ? -127.0 : (double)(j - 128 + i / eight.cols * 128) / 2.0;
        double code = nearbyint(values[i]);
        codes[i] = code < 0.0 ? code + 256.0 : code;
    }
    o.values = operand_of(b, "values", BALORA_F32, eight.rows, eight.cols, values);
    o.codes = operand_filled(b, "codes", BALORA_U8, eight.rows, eight.cols, 85.0);
    o.scales = operand_filled(b, "scales", BALORA_F32, 1, 2, (double)NAN);
    quantized_ready(&eight, &o);
    CALL_OK(b, quantize, b->queue, &o.arguments);
    expect_close(b, o.codes, codes, NULL);
    operand_fetch(b, o.scales);
    case_end(b);
}
