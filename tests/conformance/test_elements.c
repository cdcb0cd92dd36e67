/* Rows and elements: fill_zero to trace. */
#include <math.h>

#include "base/random.h"
#include "numbers.h"
#include "tests.h"

static const int64_t sizes[] = {1, 2, 3, 5, 7, 17, 31, 33, 64, 65, 100, 257};
static const int32_t float_types[] = {BALORA_F32, BALORA_BF16, BALORA_F16};
static const int32_t all_types[] = {BALORA_F32, BALORA_BF16, BALORA_F16, BALORA_F64};

/* Shapes that every slot of this file sees: each size as a number of columns, few and many rows, and none. */
static const struct {
    int64_t rows, cols;
} shapes[] = {{1, 1},     {1, 257},  {2, 3},   {3, 2},  {5, 7},    {7, 5},    {17, 31},
              {31, 17},   {33, 64},  {64, 33}, {65, 1}, {1, 65},   {100, 65}, {3, 1000},
              {257, 100}, {600, 65}, {0, 5},   {0, 0},  {1300, 3}, {2, 4097}};

void test_elements_fill_zero(bench *b) {
    static const int32_t types[] = {BALORA_F32, BALORA_BF16, BALORA_F16, BALORA_F64, BALORA_I32};
    for (int64_t t = 0; t < COUNT_OF(types); t++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
            int64_t rows = shapes[s].rows, cols = shapes[s].cols;
            case_begin(b, SLOT_fill_zero, "%s [%lld, %lld]", dtype_name(types[t]), (long long)rows,
                       (long long)cols);
            operand *x = operand_filled(b, "x", types[t], rows, cols, 3.0);
            CALL_OK(b, fill_zero, b->queue, x->view);
            expect_close(b, x, case_array(b, rows * cols), NULL);
            case_end(b);
        }
}

/* --- copy --- */

static void copy_case(bench *b, int32_t to, int32_t from, int64_t rows, int64_t cols, const double *values) {
    case_begin(b, SLOT_copy, "%s from %s [%lld, %lld]", dtype_name(to), dtype_name(from), (long long)rows,
               (long long)cols);
    double *want = case_array(b, rows * cols);
    operand *src = values != NULL ? operand_of(b, "src", from, rows, cols, values)
                                  : operand_random(b, "src", from, rows, cols, 3.0);
    operand *dst = operand_filled(b, "dst", to, rows, cols, (double)NAN);
    for (int64_t i = 0; i < rows * cols; i++)
        want[i] = number_round(to, src->value[i]);
    CALL_OK(b, copy, b->queue, dst->view, src->view);
    expect_close(b, dst, want, NULL);
    for (int64_t i = 0; i < rows * cols; i++)
        if (want[i] == 0.0 && signbit(want[i]) != signbit(dst->result[i])) {
            bench_report(b, "%g became a zero of the wrong sign", src->value[i]);
            break;
        }
    case_end(b);
}

void test_elements_copy(bench *b) {
    for (int64_t to = 0; to < COUNT_OF(all_types); to++)
        for (int64_t from = 0; from < COUNT_OF(all_types); from++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                copy_case(b, all_types[to], all_types[from], shapes[s].rows, shapes[s].cols, NULL);
}

/*
 * Values where rounding shows: ties to even and their neighbours at every mantissa length, the largest and
 * the smallest numbers, denormals, signed zeros, infinities and NaN; and doubles a hair beside a tie, which
 * rounding by way of F32 gets wrong.
 */
static int64_t rounding_values(double *out) {
    static const int mantissa_bits[] = {7, 10, 23};
    static const double special[] = {
        0.0,        (double)INFINITY, (double)NAN, 65504.0,        65519.0,          65519.998,
        65520.0,    65536.0,          0x1.FEp127,  0x1.FEFFFEp127, 0x1.FFp127,       0x1.FFFFFEp127,
        0x1p-14,    0x1.FFCp-15,      0x1p-24,     0x1p-25,        0x1.000002p-25,   0x1.8p-24,
        0x1.8p-25,  0x1p-126,         0x1.FCp-127, 0x1p-133,       0x1p-134,         0x1.000002p-134,
        0x1.8p-133, 0x1p-149,         0x1.8p-149,  0x1p-150,       0x1.0000001p-150, 1e39,
        1e300,      1e-300,           3.0e-39};
    int64_t count = 0;
    for (int64_t m = 0; m < COUNT_OF(mantissa_bits); m++)
        for (int even = 0; even < 2; even++)
            for (int scale = -20; scale <= 14; scale += 17) {
                double unit = ldexp(1.0, scale - mantissa_bits[m]);
                double tie = ldexp(1.0, scale) + unit * (even + 0.5);
                double near[] = {tie,
                                 nextafterf((float)tie, INFINITY),
                                 nextafterf((float)tie, 0.0F),
                                 nextafter(tie, (double)INFINITY),
                                 nextafter(tie, 0.0),
                                 tie + unit * 0x1p-20,
                                 tie - unit * 0x1p-20};
                for (int64_t i = 0; i < COUNT_OF(near); i++)
                    out[count++] = near[i];
            }
    for (int64_t i = 0; i < COUNT_OF(special); i++)
        out[count++] = special[i];
    for (int64_t i = 0, positive = count; i < positive; i++)
        out[count++] = -out[i];
    return count;
}

void test_elements_copy_rounding(bench *b) {
    double values[512];
    int64_t count = rounding_values(values);
    for (int64_t to = 0; to < COUNT_OF(all_types); to++)
        for (int64_t from = 0; from < COUNT_OF(all_types); from++) {
            copy_case(b, all_types[to], all_types[from], 1, count, values);
            copy_case(b, all_types[to], all_types[from], count, 1, values);
        }
}

/* --- gather and scatter --- */

static operand *operand_indices(bench *b, int64_t count, int64_t bound) {
    double *indices = case_array(b, count);
    for (int64_t i = 0; i < count; i++)
        indices[i] = (double)draw_below(b, bound);
    return operand_of(b, "indices", BALORA_I32, 1, count, indices);
}

static void gather_case(bench *b, int32_t to, int32_t from, int64_t rows, int64_t cols) {
    enum { SOURCE_ROWS = 29 };
    case_begin(b, SLOT_gather_rows, "%lld rows of %s [%d, %lld] as %s", (long long)rows, dtype_name(from),
               SOURCE_ROWS, (long long)cols, dtype_name(to));
    double *want = case_array(b, rows * cols);
    operand *src = operand_random(b, "src", from, SOURCE_ROWS, cols, 1.0);
    operand *dst = operand_filled(b, "dst", to, rows, cols, (double)NAN);
    operand *indices = operand_indices(b, rows, SOURCE_ROWS);
    CALL_OK(b, gather_rows, b->queue, dst->view, src->view, indices->view);
    for (int64_t i = 0; i < rows * cols; i++)
        want[i] = number_round(to, src->value[(int64_t)indices->value[i / cols] * cols + i % cols]);
    expect_close(b, dst, want, NULL);
    case_end(b);
}

/* Numbers of rows beside the sizes of columns: the largest with the smallest, and none. */
static int64_t rows_beside(int64_t s) {
    return s % 4 == 3 ? 0 : sizes[COUNT_OF(sizes) - 1 - s];
}

void test_elements_gather(bench *b) {
    for (int to = 0; to < b->activation_count; to++)
        for (int64_t from = 0; from < COUNT_OF(float_types); from++)
            for (int64_t s = 0; s < COUNT_OF(sizes); s++)
                gather_case(b, activation_types[to], float_types[from], rows_beside(s), sizes[s]);
}

static void shuffle(bench *b, double *values, int64_t count) {
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = draw_below(b, i + 1);
        double kept = values[i];
        values[i] = values[j];
        values[j] = kept;
    }
}

/* A 16-bit target is rounded once for each call, so that its rows must be distinct to have one right answer. */
static void scatter_case(bench *b, int32_t to, int32_t from, int64_t rows, int64_t target_rows, int64_t cols,
                         bool distinct) {
    case_begin(b, SLOT_scatter_add_rows, "%lld rows of %s onto %s [%lld, %lld]%s", (long long)rows,
               dtype_name(from), dtype_name(to), (long long)target_rows, (long long)cols,
               distinct ? ", distinct" : "");
    double *want = case_array(b, target_rows * cols), *order = case_array(b, target_rows);
    operand *src = operand_random(b, "src", from, rows, cols, 1.0);
    operand *dst = operand_random(b, "dst", to, target_rows, cols, 1.0);
    for (int64_t i = 0; i < target_rows; i++)
        order[i] = (double)i;
    shuffle(b, order, target_rows);
    operand *indices = distinct ? operand_of(b, "indices", BALORA_I32, 1, rows, order)
                                : operand_indices(b, rows, target_rows);
    CALL_OK(b, scatter_add_rows, b->queue, dst->view, src->view, indices->view);
    for (int64_t i = 0; i < target_rows * cols; i++)
        want[i] = dst->value[i];
    for (int64_t i = 0; i < rows; i++) /* in the order of i, each sum rounded to F32 */
        for (int64_t j = 0; j < cols; j++) {
            double *sum = &want[(int64_t)indices->value[i] * cols + j];
            *sum = number_round(BALORA_F32, *sum + src->value[i * cols + j]);
        }
    for (int64_t i = 0; i < target_rows * cols; i++)
        want[i] = number_round(to, want[i]);
    expect_close(b, dst, want, NULL);
    case_end(b);
}

void test_elements_scatter(bench *b) {
    for (int64_t s = 0; s < COUNT_OF(sizes); s++) {
        for (int from = 0; from < b->activation_count; from++)
            for (int64_t target_rows = 1; target_rows <= 40; target_rows += 13)
                scatter_case(b, BALORA_F32, activation_types[from], rows_beside(s), target_rows, sizes[s],
                             false);
        for (int type = 0; type < b->activation_count; type++)
            scatter_case(b, activation_types[type], activation_types[type], rows_beside(s),
                         rows_beside(s) + 5, sizes[s], true);
    }
}

/* --- sums --- */

/* Shapes that are worth another dtype. */
static bool is_small(int64_t rows, int64_t cols) {
    return rows * cols <= 10000;
}

static void scale_add_case(bench *b, int32_t from, int32_t to, int64_t rows, int64_t cols, double alpha,
                           double beta) {
    case_begin(b, SLOT_scale_add, "%s to %s [%lld, %lld] alpha %g beta %g", dtype_name(from), dtype_name(to),
               (long long)rows, (long long)cols, alpha, beta);
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *x = operand_random(b, "x", from, rows, cols, 1.0);
    operand *y = beta == 0.0 ? operand_filled(b, "y", to, rows, cols, (double)NAN)
                             : operand_random(b, "y", to, rows, cols, 1.0);
    CALL_OK(b, scale_add, b->queue, alpha, x->view, beta, y->view);
    for (int64_t i = 0; i < rows * cols; i++) {
        double kept = beta == 0.0 ? 0.0 : beta * y->value[i];
        want[i] = alpha * x->value[i] + kept;
        magnitude[i] = fabs(alpha * x->value[i]) + fabs(kept);
    }
    expect_close(b, y, want, magnitude);
    case_end(b);
}

void test_elements_scale_add(bench *b) {
    static const double factors[][2] = {{1.0, 0.0}, {1.0, 1.0}, {-0.75, 0.5},
                                        {0.1, 1.0}, {2.0, 0.0}, {0.0, 0.9}};
    static const int32_t types[][2] = {{BALORA_F32, BALORA_F32},
                                       {BALORA_F64, BALORA_F64},
                                       {BALORA_F32, BALORA_BF16},
                                       {BALORA_BF16, BALORA_F32},
                                       {BALORA_BF16, BALORA_BF16}};
    for (int64_t t = 0; t < (takes_bf16(b) ? COUNT_OF(types) : 2); t++)
        for (int64_t f = 0; f < COUNT_OF(factors); f++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                if (t < 2 || is_small(shapes[s].rows, shapes[s].cols))
                    scale_add_case(b, types[t][0], types[t][1], shapes[s].rows, shapes[s].cols, factors[f][0],
                                   factors[f][1]);
}

static void add_row_case(bench *b, int32_t type, int32_t row_type, int64_t rows, int64_t cols) {
    case_begin(b, SLOT_add_row, "%s row to %s [%lld, %lld]", dtype_name(row_type), dtype_name(type),
               (long long)rows, (long long)cols);
    double *want = case_array(b, rows * cols);
    operand *y = operand_random(b, "y", type, rows, cols, 1.0);
    operand *row = operand_random(b, "row", row_type, 1, cols, 1.0);
    CALL_OK(b, add_row, b->queue, y->view, row->view);
    for (int64_t i = 0; i < rows * cols; i++)
        want[i] = y->value[i] + row->value[i % cols];
    expect_close(b, y, want, NULL);
    case_end(b);
}

void test_elements_add_row(bench *b) {
    for (int type = 0; type < b->activation_count; type++)
        for (int64_t t = 0; t < COUNT_OF(float_types); t++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                if (type == 0 || is_small(shapes[s].rows, shapes[s].cols))
                    add_row_case(b, activation_types[type], float_types[t], shapes[s].rows, shapes[s].cols);
}

void test_elements_scale_rows(bench *b) {
    for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
        int64_t rows = shapes[s].rows, cols = shapes[s].cols;
        case_begin(b, SLOT_scale_rows, "[%lld, %lld]", (long long)rows, (long long)cols);
        double *want = case_array(b, rows * cols);
        operand *x = operand_random(b, "x", BALORA_F64, rows, cols, 1.0);
        operand *weights = operand_random(b, "weights", BALORA_F64, 1, rows, 1.0);
        CALL_OK(b, scale_rows, b->queue, x->view, weights->view);
        for (int64_t i = 0; i < rows * cols; i++)
            want[i] = x->value[i] * weights->value[i / cols];
        expect_close(b, x, want, NULL);
        case_end(b);
    }
}

static void sum_rows_case(bench *b, int32_t type, int64_t rows, int64_t cols, double beta) {
    int32_t out_type = type == BALORA_F64 ? BALORA_F64 : BALORA_F32;
    case_begin(b, SLOT_sum_rows, "%s [%lld, %lld] beta %g", dtype_name(type), (long long)rows,
               (long long)cols, beta);
    double *want = case_array(b, cols), *magnitude = case_array(b, cols);
    operand *x = operand_random(b, "x", type, rows, cols, 1.0);
    operand *out = beta == 0.0 ? operand_filled(b, "out", out_type, 1, cols, (double)NAN)
                               : operand_random(b, "out", out_type, 1, cols, 1.0);
    CALL_OK(b, sum_rows, b->queue, x->view, beta, out->view);
    for (int64_t j = 0; j < cols; j++) {
        want[j] = beta == 0.0 ? 0.0 : beta * out->value[j];
        magnitude[j] = fabs(want[j]);
    }
    for (int64_t i = 0; i < rows * cols; i++) {
        want[i % cols] += x->value[i];
        magnitude[i % cols] += fabs(x->value[i]);
    }
    expect_close(b, out, want, magnitude);
    case_end(b);
}

void test_elements_sum_rows(bench *b) {
    static const double betas[] = {0.0, 1.0, -0.5};
    static const int32_t types[] = {BALORA_F32, BALORA_F64, BALORA_BF16};
    for (int64_t t = 0; t < (takes_bf16(b) ? 3 : 2); t++)
        for (int64_t beta = 0; beta < COUNT_OF(betas); beta++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                if (t < 2 || is_small(shapes[s].rows, shapes[s].cols))
                    sum_rows_case(b, types[t], shapes[s].rows, shapes[s].cols, betas[beta]);
}

static void sum_squares_case(bench *b, int64_t rows, int64_t cols, double deviation, double beta) {
    case_begin(b, SLOT_sum_squares, "[%lld, %lld] of size %g, beta %g", (long long)rows, (long long)cols,
               deviation, beta);
    operand *x = operand_random(b, "x", BALORA_F32, rows, cols, deviation);
    operand *out = operand_filled(b, "out", BALORA_F64, 1, 1, beta == 0.0 ? (double)NAN : 7.25);
    CALL_OK(b, sum_squares, b->queue, x->view, beta, out->view);
    /* Compensated: the reference of 1e6 terms must be better than the tolerance. */
    double want = beta == 0.0 ? 0.0 : beta * 7.25, lost = 0.0;
    for (int64_t i = 0; i < rows * cols; i++) {
        double term = x->value[i] * x->value[i] - lost, sum = want + term;
        lost = (sum - want) - term;
        want = sum;
    }
    expect_close(b, out, &want, NULL);
    case_end(b);
}

void test_elements_sum_squares(bench *b) {
    for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
        sum_squares_case(b, shapes[s].rows, shapes[s].cols, 1.0, 0.0);
        sum_squares_case(b, shapes[s].rows, shapes[s].cols, 1.0, 1.0);
        sum_squares_case(b, shapes[s].rows, shapes[s].cols, 1.0, 0.5);
    }
    sum_squares_case(b, 1, 1000003, 1.0, 0.0);
    sum_squares_case(b, 1003, 997, 1e-3, 0.0);
    sum_squares_case(b, 33, 65, 1e25, 0.0);  /* squares that F32 cannot hold */
    sum_squares_case(b, 33, 65, 1e-25, 0.0); /* above and below */

    static const double broken[] = {(double)NAN, (double)INFINITY};
    for (int64_t i = 0; i < COUNT_OF(broken); i++) {
        case_begin(b, SLOT_sum_squares, "with one %g", broken[i]);
        operand *x = operand_random(b, "x", BALORA_F32, 3, 77, 1.0);
        x->result[100] = broken[i];
        operand_set(b, x, x->result);
        operand *out = operand_filled(b, "out", BALORA_F64, 1, 1, 0.0);
        CALL_OK(b, sum_squares, b->queue, x->view, 0.0, out->view);
        expect_close(b, out, &broken[i], NULL);
        case_end(b);
    }
}

void test_elements_trace(bench *b) {
    for (int64_t s = 0; s < COUNT_OF(sizes); s++) {
        int64_t n = sizes[s];
        case_begin(b, SLOT_trace, "n = %lld", (long long)n);
        operand *a = operand_random(b, "a", BALORA_F64, n, n, 1.0);
        operand *out = operand_filled(b, "out", BALORA_F64, 1, 1, (double)NAN);
        CALL_OK(b, trace, b->queue, a->view, out->view);
        double want = 0.0, magnitude = 0.0;
        for (int64_t i = 0; i < n; i++) {
            want += a->value[i * n + i];
            magnitude += fabs(a->value[i * n + i]);
        }
        expect_close(b, out, &want, &magnitude);
        case_end(b);
    }
}

/* --- random numbers --- */

static void fill_normal_case(bench *b, int32_t type, int64_t rows, int64_t cols, uint64_t seed,
                             uint64_t stream, double deviation) {
    case_begin(b, SLOT_fill_normal, "%s [%lld, %lld], seed %llx, stream %llx, deviation %g", dtype_name(type),
               (long long)rows, (long long)cols, (unsigned long long)seed, (unsigned long long)stream,
               deviation);
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *x = operand_filled(b, "x", type, rows, cols, (double)NAN);
    CALL_OK(b, fill_normal, b->queue, x->view, seed, stream, deviation);
    for (int64_t i = 0; i < rows * cols; i++) {
        double drawn = random_normal(seed, stream, (uint64_t)i);
        want[i] = deviation * drawn;
        magnitude[i] = deviation * (1.0 + fabs(drawn));
    }
    expect_close(b, x, want, magnitude);
    case_end(b);
}

/* Seeds, streams and their halves must all count. */
void test_elements_fill_normal(bench *b) {
    static const uint64_t keys[][2] = {{0, 0},
                                       {1, 3},
                                       {UINT64_C(0x0123456789ABCDEF), 7},
                                       {42, UINT64_C(0xFEDCBA9876543210)},
                                       {UINT64_MAX, UINT64_MAX}};
    for (int64_t t = 0; t < COUNT_OF(float_types); t++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
            const uint64_t *key = keys[(s + t) % COUNT_OF(keys)];
            fill_normal_case(b, float_types[t], shapes[s].rows, shapes[s].cols, key[0], key[1],
                             s % 2 ? 0.02 : 1.0);
        }
}
