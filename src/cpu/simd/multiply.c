/*
 * A single-precision matrix product of one thread: blocks of the right operand are packed into panels that
 * stay in the second cache, the left operand is read in place, register tiles run over both.
 */
#include "cpu/simd/symbols.h"
#include "cpu/simd/tile.h"

#define DEPTH_BLOCK  INT64_C(256)
#define COLUMN_BLOCK INT64_C(256)

int64_t SIMD_SYMBOL(multiply_scratch)(void) {
    return DEPTH_BLOCK * COLUMN_BLOCK;
}

SIMD_INLINE int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* c [rows, TILE_COLUMNS] = alpha a panel + beta c; `rows` is a constant of the caller. */
SIMD_INLINE void finish_rows(int rows, const vector *left, const vector *right, float *c, int64_t c_stride,
                             float alpha, float beta) {
    if (beta == 0) {
        for (int r = 0; r < rows; r++) {
            vector_store(c + r * c_stride, alpha * left[r]);
            vector_store(c + r * c_stride + SIMD_WIDTH, alpha * right[r]);
        }
        return;
    }
    for (int r = 0; r < rows; r++) {
        float *row = c + r * c_stride;
        vector_store(row, alpha * left[r] + beta * vector_load(row));
        vector_store(row + SIMD_WIDTH, alpha * right[r] + beta * vector_load(row + SIMD_WIDTH));
    }
}

/* The same for a tile of which only `columns` columns are the caller's. */
SIMD_INLINE void finish_part(int rows, const vector *left, const vector *right, float *c, int64_t c_stride,
                             int64_t columns, float alpha, float beta) {
    for (int r = 0; r < rows; r++) {
        float sums[TILE_COLUMNS];
        vector_store(sums, left[r]);
        vector_store(sums + SIMD_WIDTH, right[r]);
        float *row = c + r * c_stride;
        for (int64_t j = 0; j < columns; j++)
            row[j] = alpha * sums[j] + (beta == 0 ? 0 : beta * row[j]);
    }
}

/* The rows of the left operand at `a` against every panel of a block. */
SIMD_INLINE void multiply_rows(int rows, const multiply_call *call, const float *a, const float *panels,
                               int64_t depth, float *c, int64_t columns, float beta) {
    for (int64_t j = 0; j < columns; j += TILE_COLUMNS) {
        vector left[TILE_ROWS], right[TILE_ROWS];
        for (int r = 0; r < rows; r++)
            __builtin_prefetch(c + r * call->c_stride + j, 1);
        tile_sum(rows, depth, a, call->left_row_stride, call->left_depth_stride, panels + j * depth, left,
                 right);
        if (columns - j >= TILE_COLUMNS)
            finish_rows(rows, left, right, c + j, call->c_stride, call->alpha, beta);
        else
            finish_part(rows, left, right, c + j, call->c_stride, columns - j, call->alpha, beta);
    }
}

static void multiply_block(const multiply_call *call, const float *a, const float *panels, int64_t depth,
                           float *c, int64_t columns, float beta) {
    int64_t i = 0;
    for (; i + TILE_ROWS <= call->rows; i += TILE_ROWS)
        multiply_rows(TILE_ROWS, call, a + i * call->left_row_stride, panels, depth, c + i * call->c_stride,
                      columns, beta);
    for (; i + 4 <= call->rows; i += 4)
        multiply_rows(4, call, a + i * call->left_row_stride, panels, depth, c + i * call->c_stride, columns,
                      beta);
    for (; i < call->rows; i++)
        multiply_rows(1, call, a + i * call->left_row_stride, panels, depth, c + i * call->c_stride, columns,
                      beta);
}

void SIMD_SYMBOL(multiply)(const multiply_call *call) {
    for (int64_t column = 0; column < call->columns; column += COLUMN_BLOCK) {
        int64_t columns = smaller(COLUMN_BLOCK, call->columns - column);
        for (int64_t k = 0; k == 0 || k < call->depth; k += DEPTH_BLOCK) {
            int64_t depth = smaller(DEPTH_BLOCK, call->depth - k);
            if (call->right_transposed)
                tile_pack_transposed(call->scratch, call->right + column * call->right_stride + k,
                                     call->right_stride, columns, round_up(columns, TILE_COLUMNS), depth);
            else
                tile_pack(call->scratch, call->right + k * call->right_stride + column, call->right_stride,
                          depth, depth, columns);
            multiply_block(call, call->left + k * call->left_depth_stride, call->scratch, depth,
                           call->c + column, columns, k == 0 ? call->beta : 1);
        }
    }
}
