/* Dropout by a mask of counter-based random numbers. */
#include "internal.h"
#include "philox.cuh"
#include "slots.h"
#include "spans.cuh"

enum { BLOCK_COLUMNS = 4 }; /* of a Philox block: what a thread has of a row */

/* What of the call does not depend on types. */
struct mask_rule {
    const int32_t *keys;
    int64_t keys_ld;
    uint64_t seed;
    uint32_t site, threshold;
    float scale, beta;
};

template <typename X, typename Y>
static __global__ void drop_out(span_grid grid, mask_rule rule, const X *x, int64_t x_ld, Y *y,
                                int64_t y_ld) {
    int64_t column = span_column(grid, BLOCK_COLUMNS), left = grid.cols - column;
    if (left <= 0)
        return;
    uint64_t index = (uint64_t)rule.site << 32 | (uint64_t)(column / BLOCK_COLUMNS);
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        uint64_t stream = (uint64_t)(uint32_t)rule.keys[row] << 32 | (uint32_t)rule.keys[rule.keys_ld + row];
        uint4 block = philox(rule.seed, stream, index);
        uint32_t words[BLOCK_COLUMNS] = {block.x, block.y, block.z, block.w};
        float values[BLOCK_COLUMNS], sums[BLOCK_COLUMNS] = {};
        load_loose(values, x + row * x_ld + column, left);
        if (rule.beta != 0)
            load_loose(sums, y + row * y_ld + column, left);
#pragma unroll
        for (int i = 0; i < BLOCK_COLUMNS; i++)
            sums[i] = rule.beta * sums[i] + (words[i] >= rule.threshold ? rule.scale * values[i] : 0.0f);
#pragma unroll
        for (int i = 0; i < BLOCK_COLUMNS; i++)
            if (i < left)
                y[row * y_ld + column + i] = converted<Y>(sums[i]);
    }
}

balora_status cuda_dropout(backend_queue *queue, const dropout_rows *args) {
    matrix_view x = args->x, y = args->y;
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("dropout", "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("dropout", "y", y, x.rows, x.cols, IN_ACTIVATION));
    CUDA_TRY(operand_check("dropout", "keys", args->keys, 2, x.rows, IN_I32));
    if (!(args->probability >= 0 && args->probability < 1))
        return CUDA_INTERNAL("cuda dropout: probability is %g; expected 0 to below 1", args->probability);
    if (is_empty(x))
        return BALORA_OK;
    mask_rule rule = {view_data<int32_t>(args->keys),
                      args->keys.ld,
                      args->seed,
                      args->site,
                      dropout_threshold(args->probability),
                      (float)(1 / (1 - args->probability)),
                      args->beta};
    span_grid grid = span_grid_of(x.rows, x.cols, BLOCK_COLUMNS);
    DISPATCH_ACTIVATION(x.dtype, X, {
        DISPATCH_ACTIVATION(y.dtype, Y, {
            return launch(queue, "dropout", drop_out<X, Y>, span_blocks(grid, BLOCK_COLUMNS), SPAN_THREADS, 0,
                          grid, rule, view_data<X>(x), x.ld, view_data<Y>(y), y.ld);
        });
    });
}
