/* Sums and scalings of elements, rows and columns, and random numbers. */
#include <string.h>

#include "base/random.h"
#include "cpu/internal.h"

typedef struct scaled_add {
    const cpu_kernels *kernels;
    double alpha, beta;
    matrix_view x, y;
} scaled_add;

static void scale_add_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const scaled_add *add = user;
    if (add->x.dtype == BALORA_F32) {
        add->kernels->scale_add((float)add->alpha, (const float *)view_row(add->x, row) + column,
                                (float)add->beta, (float *)view_row(add->y, row) + column, count);
        return;
    }
    const double *x = (const double *)view_row(add->x, row) + column;
    double *y = (double *)view_row(add->y, row) + column;
    for (int64_t i = 0; i < count; i++)
        y[i] = add->alpha * x[i] + (add->beta == 0 ? 0 : add->beta * y[i]);
}

balora_status cpu_scale_add(backend_queue *queue, double alpha, matrix_view x, double beta, matrix_view y) {
    STATUS_TRY(operand_check("scale_add", "x", x, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    STATUS_TRY(operand_check("scale_add", "y", y, x.rows, x.cols, x.dtype == BALORA_F32 ? IN_F32 : IN_F64));
    scaled_add add = {queue->kernels, alpha, beta, x, y};
    parallel_spans(x.rows, x.cols, is_joined(x) && is_joined(y), scale_add_span, &add);
    return BALORA_OK;
}

static void add_row_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const scaled_add *add = user;
    float values[256];
    const unsigned char *from =
        (const unsigned char *)view_data(add->x) + column * element_size(add->x.dtype);
    float *to = (float *)view_row(add->y, row) + column;
    for (int64_t start = 0; start < count; start += 256) {
        int64_t filled = arith_min(256, count - start);
        add->kernels->widen(values, from + start * element_size(add->x.dtype), add->x.dtype, filled);
        add->kernels->scale_add(1, values, 1, to + start, filled);
    }
}

balora_status cpu_add_row(backend_queue *queue, matrix_view y, matrix_view row) {
    STATUS_TRY(operand_check("add_row", "y", y, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("add_row", "row", row, 1, y.cols, IN_FLOAT));
    scaled_add add = {queue->kernels, 1, 1, row, y};
    parallel_spans(y.rows, y.cols, 0, add_row_span, &add);
    return BALORA_OK;
}

static void scale_rows_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const scaled_add *add = user;
    double weight = view_f64(add->x)[row];
    double *y = (double *)view_row(add->y, row) + column;
    for (int64_t i = 0; i < count; i++)
        y[i] *= weight;
}

balora_status cpu_scale_rows(backend_queue *queue, matrix_view x, matrix_view weights) {
    STATUS_TRY(operand_check("scale_rows", "x", x, ANY_SIZE, ANY_SIZE, IN_F64));
    STATUS_TRY(operand_check("scale_rows", "weights", weights, 1, x.rows, IN_F64));
    scaled_add add = {queue->kernels, 1, 0, weights, x};
    parallel_spans(x.rows, x.cols, 0, scale_rows_span, &add);
    return BALORA_OK;
}

typedef struct column_sums {
    const cpu_kernels *kernels;
    double beta;
    matrix_view x, out;
} column_sums;

static void sum_columns(const column_sums *sums, int64_t column, int64_t count) {
    double total[256] = {0};
    for (int64_t row = 0; row < sums->x.rows; row++) {
        if (sums->x.dtype == BALORA_F32) {
            sums->kernels->add_to_double(total, (const float *)view_row(sums->x, row) + column, count);
        } else {
            const double *x = (const double *)view_row(sums->x, row) + column;
            for (int64_t i = 0; i < count; i++)
                total[i] += x[i];
        }
    }
    for (int64_t i = 0; i < count; i++) {
        if (sums->out.dtype == BALORA_F64) {
            double *out = view_f64(sums->out) + column + i;
            *out = total[i] + (sums->beta == 0 ? 0 : sums->beta * *out);
        } else {
            float *out = view_f32(sums->out) + column + i;
            *out = (float)(total[i] + (sums->beta == 0 ? 0 : sums->beta * (double)*out));
        }
    }
}

static void sum_column_part(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    for (int64_t column = begin; column < end; column += 256)
        sum_columns(user, column, arith_min(256, end - column));
}

balora_status cpu_sum_rows(backend_queue *queue, matrix_view x, double beta, matrix_view out) {
    STATUS_TRY(operand_check("sum_rows", "x", x, ANY_SIZE, ANY_SIZE, IN_F32 | IN_F64));
    STATUS_TRY(operand_check("sum_rows", "out", out, 1, x.cols, x.dtype == BALORA_F32 ? IN_F32 : IN_F64));
    column_sums sums = {queue->kernels, beta, x, out};
    parallel_for(x.cols, arith_max(16, row_grain(x.rows)), sum_column_part, &sums);
    return BALORA_OK;
}

#define PARTIAL_STRIDE 8 /* doubles: a cache line for each thread's sum */

typedef struct square_sum {
    const cpu_kernels *kernels;
    matrix_view x;
    double *partial;
} square_sum;

static void sum_squares_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    const square_sum *sum = user;
    sum->partial[thread * PARTIAL_STRIDE] +=
        sum->kernels->sum_squares((const float *)view_row(sum->x, row) + column, count);
}

balora_status cpu_sum_squares(backend_queue *queue, matrix_view x, double beta, matrix_view out) {
    STATUS_TRY(operand_check("sum_squares", "x", x, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("sum_squares", "out", out, 1, 1, IN_F64));
    square_sum sum = {queue->kernels, x, NULL};
    int threads = parallel_threads();
    size_t bytes = (size_t)threads * PARTIAL_STRIDE * sizeof(double);
    STATUS_TRY(scratch_reserve(queue, (int64_t)bytes, &sum.partial));
    memset(sum.partial, 0, bytes);
    parallel_spans(x.rows, x.cols, is_joined(x), sum_squares_span, &sum);
    double total = 0;
    for (int thread = 0; thread < threads; thread++)
        total += sum.partial[thread * PARTIAL_STRIDE];
    double *to = view_f64(out);
    *to = total + (beta == 0 ? 0 : beta * *to);
    return BALORA_OK;
}

balora_status cpu_trace(backend_queue *queue, matrix_view a, matrix_view out) {
    (void)queue;
    STATUS_TRY(operand_check("trace", "a", a, ANY_SIZE, a.rows, IN_F64));
    STATUS_TRY(operand_check("trace", "out", out, 1, 1, IN_F64));
    double total = 0;
    for (int64_t i = 0; i < a.rows; i++)
        total += view_f64(a)[i * a.ld + i];
    *view_f64(out) = total;
    return BALORA_OK;
}

typedef struct normal_fill {
    const cpu_kernels *kernels;
    matrix_view x;
    uint64_t seed, stream;
    double deviation;
} normal_fill;

static void fill_span(int64_t row, int64_t column, int64_t count, int thread, void *user) {
    (void)thread;
    const normal_fill *fill = user;
    float values[256];
    unsigned char *to = (unsigned char *)view_row(fill->x, row) + column * element_size(fill->x.dtype);
    uint64_t first = (uint64_t)(row * fill->x.cols + column);
    for (int64_t start = 0; start < count; start += 256) {
        int64_t filled = arith_min(256, count - start);
        for (int64_t i = 0; i < filled; i++)
            values[i] = (float)(fill->deviation *
                                random_normal(fill->seed, fill->stream, first + (uint64_t)(start + i)));
        fill->kernels->narrow(to + start * element_size(fill->x.dtype), fill->x.dtype, values, filled);
    }
}

balora_status cpu_fill_normal(backend_queue *queue, matrix_view x, uint64_t seed, uint64_t stream,
                              double deviation) {
    STATUS_TRY(operand_check("fill_normal", "x", x, ANY_SIZE, ANY_SIZE, IN_FLOAT));
    normal_fill fill = {queue->kernels, x, seed, stream, deviation};
    parallel_spans(x.rows, x.cols, is_joined(x), fill_span, &fill);
    return BALORA_OK;
}
