/*
 * The register tile of a matrix product: up to TILE_ROWS x TILE_COLUMNS sums held in registers.
 *
 * The right operand is packed in panels of TILE_COLUMNS columns, [depth, TILE_COLUMNS]; the left one is read
 * in place with any two strides, so that its transpose needs no packing.
 */
#ifndef CPU_SIMD_TILE_H
#define CPU_SIMD_TILE_H

#include "cpu/kernels.h"
#include "cpu/simd/vector.h"

#if SIMD_WIDTH == 16
#define TILE_ROWS 12
#else
#define TILE_ROWS 6
#endif
#define TILE_COLUMNS (2 * SIMD_WIDTH)

_Static_assert(TILE_MULTIPLE % TILE_ROWS == 0 && TILE_MULTIPLE % TILE_COLUMNS == 0,
               "tiles must fill a block");

SIMD_INLINE int64_t round_up(int64_t value, int64_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

/* Sums of a [rows, depth] panel [depth, TILE_COLUMNS]; `rows` is a constant of the caller. */
SIMD_INLINE void tile_sum(int rows, int64_t depth, const float *a, int64_t row_stride, int64_t depth_stride,
                          const float *panel, vector *left, vector *right) {
    for (int r = 0; r < rows; r++) {
        left[r] = (vector){0};
        right[r] = (vector){0};
    }
    for (int64_t k = 0; k < depth; k++) {
        vector p = vector_load(panel), q = vector_load(panel + SIMD_WIDTH);
        for (int r = 0; r < rows; r++) {
            float x = a[r * row_stride];
            left[r] += x * p;
            right[r] += x * q;
        }
        panel += TILE_COLUMNS;
        a += depth_stride;
    }
}

/* c [TILE_ROWS, TILE_COLUMNS] (+)= a [TILE_ROWS, depth] panel [depth, TILE_COLUMNS] */
SIMD_INLINE void tile_multiply(int64_t depth, const float *a, int64_t row_stride, int64_t depth_stride,
                               const float *panel, float *c, int64_t c_stride, int accumulate) {
    vector left[TILE_ROWS], right[TILE_ROWS];
    tile_sum(TILE_ROWS, depth, a, row_stride, depth_stride, panel, left, right);
    for (int r = 0; r < TILE_ROWS; r++) {
        float *row = c + r * c_stride;
        if (accumulate) {
            left[r] += vector_load(row);
            right[r] += vector_load(row + SIMD_WIDTH);
        }
        vector_store(row, left[r]);
        vector_store(row + SIMD_WIDTH, right[r]);
    }
}

/* Panels of x^T: out[panel][column of x][TILE_COLUMNS rows of x]; rows from `rows` to `padded` are 0. */
SIMD_INLINE void tile_pack_transposed(float *out, const float *x, int64_t stride, int64_t rows,
                                      int64_t padded, int64_t columns) {
    for (int64_t row = 0; row < padded; row++) {
        float *to = out + row / TILE_COLUMNS * TILE_COLUMNS * columns + row % TILE_COLUMNS;
        const float *from = x + row * stride;
        for (int64_t k = 0; k < columns; k++)
            to[k * TILE_COLUMNS] = row < rows ? from[k] : 0;
    }
}

/* Panels of x: out[panel of columns][row][TILE_COLUMNS]; rows and columns beyond x are 0. */
SIMD_INLINE void tile_pack(float *out, const float *x, int64_t stride, int64_t rows, int64_t padded,
                           int64_t columns) {
    for (int64_t start = 0; start < columns; start += TILE_COLUMNS) {
        int64_t width = columns - start < TILE_COLUMNS ? columns - start : TILE_COLUMNS;
        for (int64_t row = 0; row < padded; row++, out += TILE_COLUMNS) {
            int64_t filled = row < rows ? width : 0;
            if (filled > 0)
                memcpy(out, x + row * stride + start, (size_t)filled * sizeof *out);
            if (filled < TILE_COLUMNS)
                memset(out + filled, 0, (size_t)(TILE_COLUMNS - filled) * sizeof *out);
        }
    }
}

#endif
