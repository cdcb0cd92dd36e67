/*
 * The structs of DLPack's C interface as its specification lays them out (dmlc.github.io/dlpack, version 1), declared
 * here so that neither the library nor its headers need the package. Tags are the specification's: they are the types
 * that balora/tensor.h names.
 */
#ifndef TENSOR_DLPACK_H
#define TENSOR_DLPACK_H

#include <stdbool.h>

#include "balora/tensor.h"
#include "base/context.h"

enum { DLPACK_CPU = 1, DLPACK_CUDA = 2, DLPACK_CUDA_HOST = 3, DLPACK_CUDA_MANAGED = 13 }; /* device types */
enum {
    DLPACK_INT = 0,
    DLPACK_UINT = 1,
    DLPACK_FLOAT = 2,
    DLPACK_BFLOAT = 4,
    DLPACK_BOOL = 6
}; /* type codes */

#define DLPACK_MAJOR     1
#define DLPACK_READ_ONLY UINT64_C(1) /* bit of `flags` */

struct DLDevice {
    int32_t device_type, device_id;
};

struct DLDataType {
    uint8_t code, bits;
    uint16_t lanes;
};

struct DLTensor {
    void *data;
    struct DLDevice device;
    int32_t ndim;
    struct DLDataType dtype;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: row-major without gaps */
    uint64_t byte_offset;
};

struct DLManagedTensor {
    struct DLTensor dl_tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self);
};

struct DLManagedTensorVersioned {
    struct {
        uint32_t major, minor;
    } version;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    struct DLTensor dl_tensor;
};

/* The tensor as ours, checked; `read_only` as the caller knows it. */
balora_status dlpack_import(balora_tensor *out, const struct DLTensor *from, bool read_only);
balora_status dlpack_check_version(const struct DLManagedTensorVersioned *managed);

/* As the public functions; `tensor` is complete and checked. */
balora_status dlpack_export(struct DLManagedTensor **out, balora_context *context,
                            const balora_tensor *tensor, balora_tensor_release_callback release, void *user);
balora_status dlpack_export_versioned(struct DLManagedTensorVersioned **out, balora_context *context,
                                      const balora_tensor *tensor, balora_tensor_release_callback release,
                                      void *user);

#endif
