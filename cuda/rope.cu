/* Rotary position embedding. */
#include <math.h>

#include "internal.h"
#include "slots.h"
#include "spans.cuh"

/* A thread has COUNT neighbouring pairs of one head in one row; grid.cols counts such parts of a row, `parts`
 * those of a head. */
template <typename T, int COUNT>
static __global__ void rotate(span_grid grid, T *x, int64_t ld, uint32_t parts, const int32_t *positions,
                              const float *table, int64_t table_rows, int64_t table_ld, float sign) {
    int64_t place = span_column(grid, 1);
    if (place >= grid.cols)
        return;
    uint32_t head = (uint32_t)place / parts, part = (uint32_t)place % parts;
    int64_t half = (int64_t)parts * COUNT, first = 2 * half * head + (int64_t)part * COUNT;
    for (int64_t row = span_row(grid); row < grid.rows; row += span_row_step(grid)) {
        int64_t position = positions[row];
        float cosines[COUNT], sines[COUNT], low[COUNT], high[COUNT];
        if (position >= 0 && position < table_rows) {
            const float *entry = table + position * table_ld + (int64_t)part * COUNT;
            load_span(cosines, entry, COUNT);
            load_span(sines, entry + half, COUNT);
        } else {
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                cosines[i] = sines[i] = NAN;
        }
        T *pairs = x + row * ld + first;
        load_span(low, pairs, COUNT);
        load_span(high, pairs + half, COUNT);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            float a = low[i], b = high[i], sine = sign * sines[i];
            low[i] = a * cosines[i] - b * sine;
            high[i] = b * cosines[i] + a * sine;
        }
        store_span(pairs, low, COUNT);
        store_span(pairs + half, high, COUNT);
    }
}

balora_status cuda_rope(backend_queue *queue, matrix_view x, int64_t head_dim, matrix_view positions,
                        matrix_view table, int inverse) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("rope", "x", x, ANY_SIZE, ANY_SIZE, IN_ACTIVATION));
    CUDA_TRY(operand_check("rope", "positions", positions, 1, x.rows, IN_I32));
    CUDA_TRY(operand_check("rope", "table", table, ANY_SIZE, head_dim, IN_F32));
    if (head_dim < 2 || head_dim % 2 != 0 || x.cols % head_dim != 0 || x.cols > INT32_MAX)
        return CUDA_INTERNAL("cuda rope: head_dim %lld must be even and divide %lld columns, fewer than 2^31",
                             (long long)head_dim, (long long)x.cols);
    if (is_empty(x))
        return BALORA_OK;
    DISPATCH_ACTIVATION(x.dtype, T, {
        constexpr int MOST = SPAN_COUNT<T>;
        bool aligned = head_dim / 2 % MOST == 0 && are_aligned(MOST, x, table);
        DISPATCH_COUNT(aligned, MOST, COUNT, {
            span_grid grid = span_grid_of(x.rows, x.cols / 2 / COUNT, 1);
            return launch(queue, "rope", rotate<T, COUNT>, span_blocks(grid, 1), SPAN_THREADS, 0, grid,
                          view_data<T>(x), x.ld, head_dim / 2 / COUNT, view_data<int32_t>(positions),
                          view_data<float>(table), table.rows, table.ld, inverse ? -1.0f : 1.0f);
        });
    });
}
