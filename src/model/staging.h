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

/* Takes bytes that are to be written. */
typedef balora_status (*staging_sink)(void *user, const void *data, uint64_t bytes);

/* Give a view's rows as `dtype` to `sink`. NUMERIC, naming the tensor, when a value is not finite as that type. */
balora_status staging_emit(staging *self, const char *name, matrix_view source, int32_t dtype,
                           staging_sink sink, void *user);

/* A sink: the tensor that is due in `user`, a safetensors_writer. */
balora_status staging_to_safetensors(void *user, const void *data, uint64_t bytes);

/* staging_emit to it. */
balora_status staging_write(staging *self, safetensors_writer *writer, const char *name, matrix_view source,
                            int32_t dtype);

/* The same failure without writing. */
balora_status staging_check(staging *self, const char *name, matrix_view source, int32_t dtype);

#endif
