/* Matrix views: making, slicing, and a planned arena of device memory. */
#ifndef TENSOR_VIEW_H
#define TENSOR_VIEW_H

#include "backend/registry.h"
#include "tensor/dtype.h"

/* Contiguous [rows, cols] from `offset` bytes. */
static inline matrix_view view_make(backend_buffer *buffer, int64_t offset, int32_t dtype, int64_t rows,
                                    int64_t cols) {
    return (matrix_view){buffer, offset, rows, cols, cols, dtype, 0};
}

static inline matrix_view view_none(void) {
    return (matrix_view){0};
}

static inline int view_is_none(matrix_view view) {
    return view.buffer == NULL;
}

/* The same numbers in the same place? */
static inline int view_same(matrix_view a, matrix_view b) {
    return a.buffer == b.buffer && a.offset == b.offset && a.rows == b.rows && a.cols == b.cols &&
           a.ld == b.ld && a.dtype == b.dtype;
}

/* A matrix with a name, for whoever keeps or lists several. */
typedef struct named_view {
    const char *name; /* static */
    matrix_view view;
} named_view;

/* Rows [first, first + count). */
static inline matrix_view view_rows(matrix_view view, int64_t first, int64_t count) {
    view.offset += first * view.ld * dtype_size(view.dtype);
    view.rows = count;
    return view;
}

/* Columns [first, first + count). */
static inline matrix_view view_columns(matrix_view view, int64_t first, int64_t count) {
    view.offset += first * dtype_size(view.dtype);
    view.cols = count;
    return view;
}

/* A contiguous view seen with another shape of as many elements. */
static inline matrix_view view_reshape(matrix_view view, int64_t rows, int64_t cols) {
    view.rows = rows;
    view.cols = view.ld = cols;
    return view;
}

/* From the first element to behind the last one. */
static inline int64_t view_bytes(matrix_view view) {
    return view.rows == 0 ? 0 : ((view.rows - 1) * view.ld + view.cols) * dtype_size(view.dtype);
}

#endif
