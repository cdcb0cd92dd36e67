/* What the files of the CPU backend share: its objects, operand checks, scratch, and loops over elements. */
#ifndef CPU_INTERNAL_H
#define CPU_INTERNAL_H

#include "backend/operand.h"
#include "backend/slots.h"
#include "base/arith.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/status.h"
#include "cpu/kernels.h"

struct backend_device {
    allocator *memory;
    const cpu_kernels *kernels;
    int32_t threads;
    _Atomic int64_t current_bytes, peak_bytes; /* of buffers and scratch */
};

struct backend_queue {
    backend_device *device;
    const cpu_kernels *kernels;
    unsigned char *scratch;
    int64_t scratch_bytes;
};

struct backend_buffer {
    unsigned char *data;
    int64_t bytes;
    bool wrapped; /* the memory is somebody else's */
};

/* --- operands --- */

/* BALORA_ERROR_INTERNAL naming slot and operand unless the view lies in its buffer and has this shape and a
 * dtype of the set. */
balora_status operand_check(const char *slot, const char *name, matrix_view view, int64_t rows, int64_t cols,
                            int dtypes);

/* Every entry of an I32 row is in [lowest, limit). */
balora_status indices_check(const char *slot, const char *name, matrix_view view, int64_t lowest,
                            int64_t limit);

static inline int is_none(matrix_view view) {
    return view.buffer == NULL;
}

static inline void *view_data(matrix_view view) {
    return view.buffer->data + view.offset;
}

static inline float *view_f32(matrix_view view) {
    return view_data(view);
}

static inline double *view_f64(matrix_view view) {
    return view_data(view);
}

static inline const int32_t *view_i32(matrix_view view) {
    return view_data(view);
}

static inline void *view_row(matrix_view view, int64_t row) {
    return view.buffer->data + view.offset + row * view.ld * element_size(view.dtype);
}

/* --- memory --- */

/* Blocks for buffers and scratch, counted by the device; what was given back may be NULL. */
balora_status device_take(backend_device *device, int64_t bytes, const char *what, unsigned char **out);
void device_give(backend_device *device, unsigned char *block, int64_t bytes);

/* --- scratch --- */

/* At least `bytes` bytes aligned to 64, the same block for every call of the queue. */
balora_status scratch_reserve(backend_queue *queue, int64_t bytes, void *out);

/* A part of scratch for each thread of a loop: `floats` floats, starting on a cache line. */
balora_status scratch_threads(backend_queue *queue, int64_t floats, float **out, int64_t *stride);

/* --- loops --- */

/* Works on `count` neighbouring elements of one row, from column `column`. */
typedef void (*span_body)(int64_t row, int64_t column, int64_t count, int thread, void *user);

/* Every element of a [rows, cols] matrix in spans, over the threads; `joined` says that rows follow each
 * other without a gap in all operands, so that they may be seen as one. */
void parallel_spans(int64_t rows, int64_t cols, int joined, span_body body, void *user);

/* Rows that make a thread's share of a row-wise slot worth its start. */
static inline int64_t row_grain(int64_t cols) {
    return arith_max(1, 8192 / arith_max(1, cols));
}

static inline int is_joined(matrix_view view) {
    return view.ld == view.cols || view.rows == 1;
}

/* --- slots --- */

/* cpu_copy and its like, one for every slot of the table but the optional ones. */
#define CPU_DECLARE_SLOT(name) BACKEND_SLOT_TYPE(name) cpu_##name;
BACKEND_SLOTS(CPU_DECLARE_SLOT, BACKEND_SLOT_NONE)
#undef CPU_DECLARE_SLOT

/* --- what `prepare` asks of them --- */

int64_t gemm_scratch(const cpu_kernels *kernels, int64_t columns); /* floats a thread */
int64_t eigh_scratch_bytes(int64_t n);

#endif
