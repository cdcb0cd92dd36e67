/*
 * Tensors between files and device memory in bounded pieces: one host block and one device block, with the
 * conversion from or to the file's storage done on the device.
 */
#ifndef MODEL_STAGING_H
#define MODEL_STAGING_H

#include "format/tensor_files.h"
#include "tensor/view.h"

#define STAGING_BYTES ((int64_t)8 << 20)

typedef struct staging {
    allocator *memory;
    const backend *device;
    backend_queue *queue;
    void *host;
    backend_buffer *buffer;
} staging;

balora_status staging_create(staging *out, allocator *memory, const backend *device, backend_queue *queue);
void staging_free(staging *self); /* also after a creation that failed, and twice */

/*
 * Read elements [first, first + target.rows * target.cols) of a tensor in F32, F16 or BF16 into `target`, any
 * float type. `finite`: a value that is not finite is NUMERIC, naming file and tensor.
 */
balora_status staging_read(staging *self, const tensor_place *source, int64_t first, matrix_view target,
                           bool finite);

/* Write a view's rows as `dtype` to the tensor that is due. NUMERIC, naming it, when a written value is not
 * finite. */
balora_status staging_write(staging *self, safetensors_writer *writer, const char *name, matrix_view source,
                            int32_t dtype);

/* The same failure without writing. */
balora_status staging_check(staging *self, const char *name, matrix_view source, int32_t dtype);

#endif
