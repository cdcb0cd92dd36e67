/*
 * A host's tensor, as the library sees it: where its numbers lie, of what type, in what shape. Nothing is owned.
 *
 * A balora_tensor is filled by hand, by balora_tensor_contiguous, or from a DLPack tensor, the form in which PyTorch,
 * NumPy, JAX, CuPy and others hand out their memory without copying.
 */
#ifndef BALORA_TENSOR_H
#define BALORA_TENSOR_H

#include "balora/types.h"

BALORA_BEGIN_DECLS

/* Where a tensor's memory is. */
enum {
    BALORA_DEVICE_CPU = 0,  /* memory of this process */
    BALORA_DEVICE_CUDA = 10 /* memory of CUDA device device_index */
};

#define BALORA_TENSOR_RANK 8 /* dimensions at most */

/* Element (i0, i1, ...) lies (i0 strides[0] + i1 strides[1] + ...) elements behind `data`. */
typedef struct balora_tensor {
    uint64_t struct_size;
    void *data;           /* of element (0, 0, ...), on an address fit for its type; NULL: no elements */
    int32_t dtype;        /* BALORA_F32, ... */
    int32_t rank;         /* dimensions that count, 0 to 8 */
    int32_t device;       /* BALORA_DEVICE_... */
    int32_t device_index; /* 0 on the CPU */
    int32_t read_only;    /* 1: refused wherever the library would write */
    int32_t reserved;
    int64_t shape[BALORA_TENSOR_RANK];   /* 0 or more each */
    int64_t strides[BALORA_TENSOR_RANK]; /* in elements; 0 and negative ones are fine */
} balora_tensor;

#define BALORA_TENSOR_INIT                                                                                   \
    {                                                                                                        \
        sizeof(balora_tensor), NULL, BALORA_F32, 0, BALORA_DEVICE_CPU, 0, 0, 0, {0, 0, 0, 0, 0, 0, 0, 0}, {  \
            0, 0, 0, 0, 0, 0, 0, 0                                                                           \
        }                                                                                                    \
    }

/*
 * A row-major tensor without gaps in memory of this process. `data` is borrowed: it must stay as long as *out is used;
 * NULL is allowed where the shape has no elements. `shape` has `rank` lengths (NULL for rank 0). out->struct_size is set
 * by the caller (BALORA_TENSOR_INIT); *out is untouched after a failure, here and below.
 * Errors: ARGUMENT (dtype, rank, a shape whose size overflows, `data` not on an address fit for the type). Since 0.1.
 */
BALORA_API balora_status balora_tensor_contiguous(balora_tensor *out, void *data, int32_t dtype, int32_t rank,
                                                  const int64_t *shape);

/* Of dlpack.h (https://dmlc.github.io/dlpack), which these functions' callers include where they need it. */
struct DLManagedTensor;
struct DLManagedTensorVersioned;

/*
 * See a DLPack tensor as a balora_tensor, without copying. `managed` stays the caller's: *out borrows its memory, so
 * call its deleter only after the last use of *out. _versioned takes the form of DLPack 1.0 and later, whose read-only
 * flag is kept; in Python the capsules are named "dltensor" and "dltensor_versioned".
 *
 * Types: float16, bfloat16, float32, float64, int32, int64, uint8, and bool as U8; one lane. Devices: cpu and pinned
 * memory (CPU), cuda and managed memory (CUDA).
 * Errors: ARGUMENT (rank, shape or strides that no memory can have), UNSUPPORTED (type, device, or a major version other
 * than 1). Since 0.1.
 */
BALORA_API balora_status balora_tensor_from_dlpack(balora_tensor *out, const struct DLManagedTensor *managed);
BALORA_API balora_status balora_tensor_from_dlpack_versioned(balora_tensor *out,
                                                             const struct DLManagedTensorVersioned *managed);

/* The consumer of an exported tensor is done with the memory; may be called from any thread. */
typedef void (*balora_tensor_release_callback)(void *user);

/*
 * Hand a tensor's memory out as a DLPack tensor, without copying. *out is owned by the caller, who passes it on; whoever
 * ends up with it calls its deleter, which calls `release` (NULL is allowed) with `user` and frees *out through the
 * context's allocator. The context is kept alive until then. _versioned is DLPack 1.0 and keeps `read_only`; the older
 * form cannot say it and refuses such a tensor. After a failure *out is NULL and `release` is not called.
 * Errors: ARGUMENT (the tensor), UNSUPPORTED (read-only in the older form), MEMORY. Since 0.1.
 */
BALORA_API balora_status balora_tensor_to_dlpack(struct DLManagedTensor **out, balora_context *context,
                                                 const balora_tensor *tensor,
                                                 balora_tensor_release_callback release, void *user);
BALORA_API balora_status balora_tensor_to_dlpack_versioned(struct DLManagedTensorVersioned **out,
                                                           balora_context *context,
                                                           const balora_tensor *tensor,
                                                           balora_tensor_release_callback release,
                                                           void *user);

BALORA_END_DECLS

#endif
