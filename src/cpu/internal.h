/* What the files of the CPU backend share: its objects, operand checks, scratch, and loops over elements. */
#ifndef CPU_INTERNAL_H
#define CPU_INTERNAL_H

#include "backend/ops.h"
#include "base/arith.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "base/status.h"
#include "cpu/kernels.h"

struct backend_device {
    allocator *memory;
    const cpu_kernels *kernels;
    int32_t threads;
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
};

/* --- operands --- */

/* Sets of dtypes that an operand may have. */
enum { IN_F32 = 1, IN_BF16 = 2, IN_F16 = 4, IN_F64 = 8, IN_I32 = 16, IN_FLOAT = IN_F32 | IN_BF16 | IN_F16 };

#define ANY_SIZE INT64_C(-1)

/* BALORA_ERROR_INTERNAL naming slot and operand unless the view lies in its buffer and has this shape and a
 * dtype of the set. */
balora_status operand_check(const char *slot, const char *name, matrix_view view, int64_t rows, int64_t cols,
                            int dtypes);

/* Every entry of an I32 row is in [lowest, limit). */
balora_status indices_check(const char *slot, const char *name, matrix_view view, int64_t lowest,
                            int64_t limit);

int64_t element_size(int32_t dtype);

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

/* --- slots, by file --- */

/* device.c */
balora_status cpu_device_count(int32_t *count);
balora_status cpu_device_open(backend_device **out, allocator *memory, int32_t index, int32_t threads);
void cpu_device_close(backend_device *device);
balora_status cpu_device_properties(backend_device *device, backend_properties *out);
balora_status cpu_queue_open(backend_queue **out, backend_device *device);
void cpu_queue_close(backend_queue *queue);
balora_status cpu_prepare(backend_queue *queue, const backend_limits *limits);
balora_status cpu_synchronize(backend_queue *queue);

/* buffer.c */
balora_status cpu_buffer_allocate(backend_buffer **out, backend_device *device, int64_t bytes);
void cpu_buffer_free(backend_device *device, backend_buffer *buffer);
balora_status cpu_upload(backend_queue *queue, backend_buffer *buffer, int64_t offset, const void *host,
                         int64_t bytes);
balora_status cpu_download(backend_queue *queue, void *host, backend_buffer *buffer, int64_t offset,
                           int64_t bytes);
balora_status cpu_fill_zero(backend_queue *queue, matrix_view x);

/* convert.c */
balora_status cpu_copy(backend_queue *queue, matrix_view dst, matrix_view src);
balora_status cpu_gather_rows(backend_queue *queue, matrix_view dst, matrix_view src, matrix_view indices);
balora_status cpu_scatter_add_rows(backend_queue *queue, matrix_view dst, matrix_view src,
                                   matrix_view indices);

/* elements.c */
balora_status cpu_scale_add(backend_queue *queue, double alpha, matrix_view x, double beta, matrix_view y);
balora_status cpu_add_row(backend_queue *queue, matrix_view y, matrix_view row);
balora_status cpu_scale_rows(backend_queue *queue, matrix_view x, matrix_view weights);
balora_status cpu_sum_rows(backend_queue *queue, matrix_view x, double beta, matrix_view out);
balora_status cpu_sum_squares(backend_queue *queue, matrix_view x, double beta, matrix_view out);
balora_status cpu_trace(backend_queue *queue, matrix_view a, matrix_view out);

/* blas.c */
balora_status cpu_gemm(backend_queue *queue, int transpose_a, int transpose_b, double alpha, matrix_view a,
                       matrix_view b, double beta, matrix_view c);
balora_status cpu_gram(backend_queue *queue, int transpose, matrix_view a, matrix_view c);
int64_t gemm_scratch(const cpu_kernels *kernels, int64_t columns); /* floats a thread */

/* factor.c */
balora_status cpu_eigh_top(backend_queue *queue, matrix_view a, matrix_view values, matrix_view vectors);
balora_status cpu_orthonormalize_rows(backend_queue *queue, matrix_view x);
balora_status cpu_svd(backend_queue *queue, matrix_view a, matrix_view u, matrix_view s, matrix_view vt);
int64_t eigh_scratch_bytes(int64_t n);

/* norm.c, rope.c, activation.c, attention.c */
balora_status cpu_rms_norm(backend_queue *queue, matrix_view x, matrix_view weight, float weight_offset,
                           float epsilon, matrix_view y);
balora_status cpu_rms_norm_backward(backend_queue *queue, matrix_view x, matrix_view weight,
                                    float weight_offset, float epsilon, matrix_view dy, matrix_view dx,
                                    matrix_view dweight);
balora_status cpu_rope(backend_queue *queue, matrix_view x, int64_t head_dim, matrix_view positions,
                       matrix_view table, int inverse);
balora_status cpu_gated_activation(backend_queue *queue, int32_t activation, matrix_view gate, matrix_view up,
                                   matrix_view out);
balora_status cpu_gated_activation_backward(backend_queue *queue, int32_t activation, matrix_view gate,
                                            matrix_view up, matrix_view dout, matrix_view dgate,
                                            matrix_view dup);
balora_status cpu_attention(backend_queue *queue, const attention_forward *args);
balora_status cpu_attention_backward(backend_queue *queue, const attention_backward *args);

/* loss.c */
balora_status cpu_loss_head(backend_queue *queue, const loss_head_rows *args);
balora_status cpu_entropy_rows(backend_queue *queue, matrix_view logits, float temperature, matrix_view out);
balora_status cpu_spectral_coefficients(backend_queue *queue, const spectral_coefficients *args);

/* optimizer.c */
balora_status cpu_clip_scale(backend_queue *queue, matrix_view sum_squares, double max_norm,
                             matrix_view scale);
balora_status cpu_adamw(backend_queue *queue, const adamw_update *args);

#endif
