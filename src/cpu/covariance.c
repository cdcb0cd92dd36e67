/* The covariance of the columns of a batch, in double, block by block of the result. */
#include <string.h>

#include "cpu/internal.h"

#define BLOCK INT64_C(64) /* rows and columns of a block of the result: 32 KiB of sums */

typedef struct covariance_call {
    matrix_view z, mean, c;
    int64_t blocks; /* along a side */
} covariance_call;

static void mean_columns(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const covariance_call *call = user;
    double *mean = view_f64(call->mean);
    memset(mean + begin, 0, (size_t)(end - begin) * sizeof *mean);
    for (int64_t i = 0; i < call->z.rows; i++) {
        const float *row = view_row(call->z, i);
        for (int64_t j = begin; j < end; j++)
            mean[j] += (double)row[j];
    }
    for (int64_t j = begin; j < end; j++)
        mean[j] /= (double)call->z.rows;
}

static void centre(double *out, const covariance_call *call, int64_t row, int64_t first, int64_t count) {
    const float *z = (const float *)view_row(call->z, row) + first;
    const double *mean = view_f64(call->mean) + first;
    for (int64_t j = 0; j < count; j++)
        out[j] = (double)z[j] - mean[j];
}

/* The block whose first row and column are given, and its mirror image. */
static void sum_block(const covariance_call *call, int64_t row, int64_t column) {
    int64_t size = call->z.cols, rows = arith_min(BLOCK, size - row),
            columns = arith_min(BLOCK, size - column);
    double sums[BLOCK][BLOCK] = {{0}}, left[BLOCK], right[BLOCK];
    for (int64_t n = 0; n < call->z.rows; n++) {
        centre(left, call, n, row, rows);
        centre(right, call, n, column, columns);
        for (int64_t i = 0; i < rows; i++)
            for (int64_t j = 0; j < columns; j++)
                sums[i][j] += left[i] * right[j];
    }
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            double value = sums[i][j] / (double)(call->z.rows - 1);
            view_f64(call->c)[(row + i) * call->c.ld + column + j] = value;
            view_f64(call->c)[(column + j) * call->c.ld + row + i] = value;
        }
}

static void sum_blocks(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const covariance_call *call = user;
    for (int64_t block = begin; block < end; block++)
        for (int64_t other = block; other < call->blocks; other++)
            sum_block(call, block * BLOCK, other * BLOCK);
}

balora_status cpu_covariance(backend_queue *queue, matrix_view z, matrix_view mean, matrix_view c) {
    (void)queue;
    STATUS_TRY(operand_check("covariance", "z", z, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("covariance", "mean", mean, 1, z.cols, IN_F64));
    STATUS_TRY(operand_check("covariance", "c", c, z.cols, z.cols, IN_F64));
    if (z.rows < 2)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu covariance: of %lld rows; two are needed",
                           (long long)z.rows);
    covariance_call call = {z, mean, c, arith_divide_up(z.cols, BLOCK)};
    parallel_for(z.cols, arith_max(16, row_grain(z.rows)), mean_columns, &call);
    parallel_for_dynamic(call.blocks, 1, sum_blocks, &call);
    return BALORA_OK;
}
