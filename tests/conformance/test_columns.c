/* Scalings, products and norms along rows and columns: scale_columns to divide. */
#include <math.h>

#include "tests.h"

static const struct {
    int64_t rows, cols;
} shapes[] = {{1, 1},  {1, 257},  {2, 3}, {5, 7},     {7, 5},    {17, 31},  {33, 64},  {64, 33},
              {65, 1}, {100, 65}, {0, 5}, {257, 100}, {1300, 3}, {2, 4097}, {19, 1000}};

/* --- scale_columns --- */

static void scale_columns_case(bench *b, int32_t from, int32_t to, int64_t rows, int64_t cols, double beta) {
    case_begin(b, SLOT_scale_columns, "%s to %s [%lld, %lld] beta %g", dtype_name(from), dtype_name(to),
               (long long)rows, (long long)cols, beta);
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *x = operand_random(b, "x", from, rows, cols, 1.0);
    operand *scale = operand_random(b, "scale", BALORA_F32, 1, cols, 1.0);
    operand *y = beta == 0.0 ? operand_filled(b, "y", to, rows, cols, (double)NAN)
                             : operand_random(b, "y", to, rows, cols, 1.0);
    CALL_OK(b, scale_columns, b->queue, x->view, scale->view, beta, y->view);
    for (int64_t i = 0; i < rows * cols; i++) {
        double kept = beta == 0.0 ? 0.0 : beta * y->value[i], added = scale->value[i % cols] * x->value[i];
        want[i] = added + kept;
        magnitude[i] = fabs(added) + fabs(kept);
    }
    expect_close(b, y, want, magnitude);
    case_end(b);
}

static void scale_columns_in_place(bench *b, int32_t type) {
    enum { ROWS = 9, COLS = 130 };
    case_begin(b, SLOT_scale_columns, "%s in place", dtype_name(type));
    double *want = case_array(b, ROWS * COLS);
    operand *x = operand_random(b, "x", type, ROWS, COLS, 1.0);
    operand *scale = operand_random(b, "scale", BALORA_F32, 1, COLS, 1.0);
    for (int64_t i = 0; i < ROWS * COLS; i++)
        want[i] = scale->value[i % COLS] * x->value[i];
    CALL_OK(b, scale_columns, b->queue, x->view, scale->view, 0.0, x->view);
    expect_close(b, x, want, NULL);
    case_end(b);
}

void test_columns_scale(bench *b) {
    static const double betas[] = {0.0, 1.0, -0.5};
    for (int from = 0; from < b->activation_count; from++) {
        scale_columns_in_place(b, activation_types[from]);
        for (int to = 0; to < b->activation_count; to++)
            for (int64_t beta = 0; beta < COUNT_OF(betas); beta++)
                for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                    scale_columns_case(b, activation_types[from], activation_types[to], shapes[s].rows,
                                       shapes[s].cols, betas[beta]);
    }
}

/* --- dot_columns --- */

/* Every third divisor is 0: what is there stays. */
static void dot_columns_case(bench *b, int32_t x_type, int32_t y_type, int64_t rows, int64_t cols) {
    case_begin(b, SLOT_dot_columns, "%s with %s [%lld, %lld]", dtype_name(x_type), dtype_name(y_type),
               (long long)rows, (long long)cols);
    double *want = case_array(b, cols), *magnitude = case_array(b, cols);
    operand *x = operand_random(b, "x", x_type, rows, cols, 1.0);
    operand *y = operand_random(b, "y", y_type, rows, cols, 1.0);
    operand *divisor = operand_random(b, "divisor", BALORA_F32, 1, cols, 2.0);
    for (int64_t j = 0; j < cols; j++)
        divisor->result[j] = j % 3 == 2 ? 0.0 : divisor->value[j];
    operand_set(b, divisor, divisor->result);
    operand *out = operand_random(b, "out", BALORA_F32, 1, cols, 1.0);
    CALL_OK(b, dot_columns, b->queue, x->view, y->view, divisor->view, out->view);
    for (int64_t j = 0; j < cols; j++) {
        want[j] = out->value[j];
        magnitude[j] = fabs(want[j]);
    }
    for (int64_t i = 0; i < rows * cols; i++) {
        double by = divisor->value[i % cols], term = by == 0.0 ? 0.0 : x->value[i] * y->value[i] / by;
        want[i % cols] += term;
        magnitude[i % cols] += fabs(term);
    }
    expect_close(b, out, want, magnitude);
    case_end(b);
}

void test_columns_dot(bench *b) {
    for (int x = 0; x < b->activation_count; x++)
        for (int y = 0; y < b->activation_count; y++)
            for (int64_t s = 0; s < COUNT_OF(shapes); s++)
                dot_columns_case(b, activation_types[x], activation_types[y], shapes[s].rows, shapes[s].cols);
}

/* --- row_norms --- */

static void row_norms_case(bench *b, int32_t type, int64_t rows, int64_t cols, double deviation) {
    case_begin(b, SLOT_row_norms, "%s [%lld, %lld] of size %g", dtype_name(type), (long long)rows,
               (long long)cols, deviation);
    double *want = case_array(b, rows);
    operand *x = operand_random(b, "x", type, rows, cols, deviation);
    for (int64_t j = 0; j < cols && rows > 1; j++)
        x->result[cols + j] = 0.0;
    if (rows > 1)
        operand_set(b, x, x->result);
    operand *out = operand_filled(b, "out", type, 1, rows, (double)NAN);
    CALL_OK(b, row_norms, b->queue, x->view, out->view);
    for (int64_t i = 0; i < rows; i++)
        want[i] = array_norm(x->value + i * cols, cols);
    expect_close(b, out, want, NULL);
    case_end(b);
}

void test_columns_row_norms(bench *b) {
    static const int32_t types[] = {BALORA_F32, BALORA_F64};
    for (int64_t t = 0; t < COUNT_OF(types); t++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
            row_norms_case(b, types[t], shapes[s].rows, shapes[s].cols, 1.0);
            row_norms_case(b, types[t], shapes[s].rows, shapes[s].cols,
                           1e25); /* squares that F32 cannot hold */
        }
}

/* --- divide --- */

static void divide_case(bench *b, int32_t type, int64_t rows, int64_t cols, bool in_place) {
    case_begin(b, SLOT_divide, "%s [%lld, %lld]%s", dtype_name(type), (long long)rows, (long long)cols,
               in_place ? " in place" : "");
    double *want = case_array(b, rows * cols);
    operand *x = operand_random(b, "x", type, rows, cols, 1.0);
    operand *y = operand_random(b, "y", type, rows, cols, 1.0);
    for (int64_t i = 0; i < rows * cols; i++)
        y->result[i] = i % 5 == 3 ? 0.0 : y->value[i];
    operand_set(b, y, y->result);
    operand *out = in_place ? y : operand_filled(b, "out", type, rows, cols, (double)NAN);
    for (int64_t i = 0; i < rows * cols; i++)
        want[i] = y->value[i] == 0.0 ? 0.0 : x->value[i] / y->value[i];
    CALL_OK(b, divide, b->queue, x->view, y->view, out->view);
    expect_close(b, out, want, NULL);
    case_end(b);
}

void test_columns_divide(bench *b) {
    static const int32_t types[] = {BALORA_F32, BALORA_F64};
    for (int64_t t = 0; t < COUNT_OF(types); t++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
            divide_case(b, types[t], shapes[s].rows, shapes[s].cols, false);
            divide_case(b, types[t], shapes[s].rows, shapes[s].cols, true);
        }
}
