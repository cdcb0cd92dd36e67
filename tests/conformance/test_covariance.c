/* Means and covariances of the columns of a batch. */
#include <math.h>

#include "tests.h"

static void covariance_case(bench *b, int64_t rows, int64_t cols, double offset) {
    case_begin(b, SLOT_covariance, "[%lld, %lld] around %g", (long long)rows, (long long)cols, offset);
    operand *z = operand_random(b, "z", BALORA_F32, rows, cols, 1.0);
    for (int64_t i = 0; i < rows * cols; i++)
        z->result[i] = z->value[i] + offset;
    operand_set(b, z, z->result);
    operand *mean = operand_filled(b, "mean", BALORA_F64, 1, cols, (double)NAN);
    operand *c = operand_filled(b, "c", BALORA_F64, cols, cols, (double)NAN);
    CALL_OK(b, covariance, b->queue, z->view, mean->view, c->view);
    double *want_mean = case_array(b, cols), *mean_magnitude = case_array(b, cols);
    double *want = case_array(b, cols * cols), *magnitude = case_array(b, cols * cols);
    for (int64_t i = 0; i < rows * cols; i++) {
        want_mean[i % cols] += z->value[i] / (double)rows;
        mean_magnitude[i % cols] += fabs(z->value[i]) / (double)rows;
    }
    for (int64_t i = 0; i < cols * cols; i++)
        for (int64_t n = 0; n < rows; n++) {
            double left = z->value[n * cols + i / cols] - want_mean[i / cols];
            double right = z->value[n * cols + i % cols] - want_mean[i % cols];
            want[i] += left * right / (double)(rows - 1);
            magnitude[i] += (fabs(left) + fabs(offset)) * (fabs(right) + fabs(offset)) / (double)(rows - 1);
        }
    expect_close(b, mean, want_mean, mean_magnitude);
    expect_close(b, c, want, magnitude);
    for (int64_t i = 0; i < cols * cols; i++)
        if (c->result[i] != c->result[i % cols * cols + i / cols]) {
            bench_report(b, "not symmetric at [%lld, %lld]", (long long)(i / cols), (long long)(i % cols));
            break;
        }
    case_end(b);
}

void test_covariance(bench *b) {
    static const int64_t shapes[][2] = {{2, 1},  {2, 7},   {3, 5},    {17, 31}, {33, 64},
                                        {64, 2}, {31, 65}, {100, 33}, {7, 130}, {1000, 3}};
    for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
        covariance_case(b, shapes[s][0], shapes[s][1], 0.0);
        covariance_case(b, shapes[s][0], shapes[s][1], 50.0);
    }
}
