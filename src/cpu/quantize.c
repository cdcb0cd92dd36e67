/* Numbers as codes of 4 bits with a scale for each block, or of 8 bits with a scale for each row, and back. */
#include <math.h>

#include "cpu/internal.h"

#define CODES 16 /* of the 4-bit map */

typedef struct quantize_call {
    const cpu_kernels *kernels;
    const quantized_matrix *args;
} quantize_call;

static balora_status check(const char *slot, const quantized_matrix *args) {
    matrix_view values = args->values;
    STATUS_TRY(operand_check(slot, "values", values, ANY_SIZE, ANY_SIZE, IN_FLOAT));
    if (args->kind == QUANTIZED_INT8_ROWS) {
        STATUS_TRY(operand_check(slot, "codes", args->codes, values.rows, values.cols, IN_U8));
        return operand_check(slot, "scales", args->scales, 1, values.rows, IN_F32);
    }
    if (args->kind != QUANTIZED_4BIT)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: unknown kind %d", slot, args->kind);
    int64_t count = values.rows * values.cols;
    STATUS_TRY(operand_check(slot, "codes", args->codes, 1, arith_divide_up(count, 2), IN_U8));
    STATUS_TRY(
        operand_check(slot, "scales", args->scales, 1, arith_divide_up(count, QUANTIZED_BLOCK), IN_F32));
    return operand_check(slot, "map", args->map, 1, CODES, IN_F32);
}

/* --- 4 bits: blocks of QUANTIZED_BLOCK numbers of the flat matrix, which may cross its rows --- */

/* Run `convert` on each piece of a block that lies in one row of the values: `at` is its place in the block. */
static void for_pieces(const quantize_call *call, int64_t block, float *chunk,
                       void (*convert)(const quantize_call *, void *, float *, int64_t)) {
    matrix_view values = call->args->values;
    int64_t first = block * QUANTIZED_BLOCK,
            end = arith_min(first + QUANTIZED_BLOCK, values.rows * values.cols);
    for (int64_t i = first; i < end;) {
        int64_t column = i % values.cols, count = arith_min(end - i, values.cols - column);
        unsigned char *place =
            (unsigned char *)view_row(values, i / values.cols) + column * element_size(values.dtype);
        convert(call, place, chunk + (i - first), count);
        i += count;
    }
}

static void read_piece(const quantize_call *call, void *place, float *chunk, int64_t count) {
    call->kernels->widen(chunk, place, call->args->values.dtype, count);
}

static void write_piece(const quantize_call *call, void *place, float *chunk, int64_t count) {
    call->kernels->narrow(place, call->args->values.dtype, chunk, count);
}

static int64_t block_size(const quantized_matrix *args, int64_t block) {
    return arith_min(QUANTIZED_BLOCK, args->values.rows * args->values.cols - block * QUANTIZED_BLOCK);
}

static void dequantize_blocks(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const quantize_call *call = user;
    const float *map = view_data(call->args->map), *scales = view_data(call->args->scales);
    const unsigned char *codes = view_data(call->args->codes);
    float chunk[QUANTIZED_BLOCK];
    for (int64_t block = begin; block < end; block++) {
        const unsigned char *pairs = codes + block * (QUANTIZED_BLOCK / 2);
        for (int64_t i = 0; i < block_size(call->args, block); i++)
            chunk[i] = map[i % 2 == 0 ? pairs[i / 2] >> 4 : pairs[i / 2] & 15] * scales[block];
        for_pieces(call, block, chunk, write_piece);
    }
}

static unsigned nearest_code(const float *map, float x) {
    unsigned best = 0;
    for (unsigned code = 1; code < CODES; code++)
        if (fabsf(map[code] - x) < fabsf(map[best] - x))
            best = code;
    return best;
}

/* The larger of two magnitudes; a NaN stays. */
static float larger(float a, float b) {
    return a >= b || isnan(a) ? a : b;
}

static float largest_of(const float *x, int64_t count) {
    float largest = 0;
    for (int64_t i = 0; i < count; i++)
        largest = larger(largest, fabsf(x[i]));
    return largest;
}

static int is_usable(float scale) {
    return scale > 0 && isfinite(scale);
}

static void quantize_blocks(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const quantize_call *call = user;
    const float *map = view_data(call->args->map);
    float *scales = view_data(call->args->scales), chunk[QUANTIZED_BLOCK + 1];
    unsigned char *codes = view_data(call->args->codes);
    for (int64_t block = begin; block < end; block++) {
        int64_t count = block_size(call->args, block);
        for_pieces(call, block, chunk, read_piece);
        chunk[count] = 0; /* the low half of an odd matrix's last byte */
        float scale = scales[block] = largest_of(chunk, count);
        int usable = is_usable(scale);
        unsigned char *pairs = codes + block * (QUANTIZED_BLOCK / 2);
        for (int64_t i = 0; i < count; i += 2) {
            unsigned high = nearest_code(map, usable ? chunk[i] / scale : 0);
            unsigned low = nearest_code(map, usable ? chunk[i + 1] / scale : 0);
            pairs[i / 2] = (unsigned char)(high << 4 | low);
        }
    }
}

/* --- 8 bits: rows --- */

#define CHUNK INT64_C(256) /* numbers held as floats at a time */

static void dequantize_int8_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const quantize_call *call = user;
    matrix_view values = call->args->values;
    float chunk[CHUNK];
    for (int64_t row = begin; row < end; row++) {
        const signed char *codes = view_row(call->args->codes, row);
        float scale = view_f32(call->args->scales)[row] / 127;
        for (int64_t start = 0; start < values.cols; start += CHUNK) {
            int64_t count = arith_min(CHUNK, values.cols - start);
            for (int64_t i = 0; i < count; i++)
                chunk[i] = (float)codes[start + i] * scale;
            write_piece(call, (unsigned char *)view_row(values, row) + start * element_size(values.dtype),
                        chunk, count);
        }
    }
}

static void quantize_int8_rows(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const quantize_call *call = user;
    matrix_view values = call->args->values;
    float chunk[CHUNK];
    for (int64_t row = begin; row < end; row++) {
        unsigned char *from = view_row(values, row);
        signed char *codes = view_row(call->args->codes, row);
        float scale = 0;
        for (int pass = 0; pass < 2; pass++)
            for (int64_t start = 0; start < values.cols; start += CHUNK) {
                int64_t count = arith_min(CHUNK, values.cols - start);
                read_piece(call, from + start * element_size(values.dtype), chunk, count);
                if (pass == 0) {
                    scale = larger(scale, largest_of(chunk, count));
                    continue;
                }
                for (int64_t i = 0; i < count; i++)
                    codes[start + i] =
                        (signed char)(is_usable(scale) ? lrint((double)chunk[i] * 127 / (double)scale) : 0);
            }
        view_f32(call->args->scales)[row] = scale;
    }
}

/* --- slots --- */

balora_status cpu_dequantize(backend_queue *queue, const quantized_matrix *args) {
    STATUS_TRY(check("dequantize", args));
    quantize_call call = {queue->kernels, args};
    if (args->kind == QUANTIZED_4BIT)
        parallel_for(args->scales.cols, 128, dequantize_blocks, &call);
    else
        parallel_for(args->values.rows, row_grain(args->values.cols), dequantize_int8_rows, &call);
    return BALORA_OK;
}

balora_status cpu_quantize(backend_queue *queue, const quantized_matrix *args) {
    STATUS_TRY(check("quantize", args));
    quantize_call call = {queue->kernels, args};
    if (args->kind == QUANTIZED_4BIT)
        parallel_for(args->scales.cols, 128, quantize_blocks, &call);
    else
        parallel_for(args->values.rows, row_grain(args->values.cols), quantize_int8_rows, &call);
    return BALORA_OK;
}
