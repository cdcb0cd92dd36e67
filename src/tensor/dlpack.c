#include "tensor/dlpack.h"

#include "base/status.h"
#include "tensor/host_tensor.h"

typedef struct type_pair {
    int32_t dtype;
    uint8_t code, bits;
} type_pair;

/* Export takes the first entry of a type of ours. */
static const type_pair types[] = {
    {BALORA_F32, DLPACK_FLOAT, 32}, {BALORA_F16, DLPACK_FLOAT, 16}, {BALORA_BF16, DLPACK_BFLOAT, 16},
    {BALORA_F64, DLPACK_FLOAT, 64}, {BALORA_I32, DLPACK_INT, 32},   {BALORA_I64, DLPACK_INT, 64},
    {BALORA_U8, DLPACK_UINT, 8},    {BALORA_U8, DLPACK_BOOL, 8},
};

enum { TYPE_COUNT = sizeof types / sizeof types[0] };

/* --- in --- */

static balora_status import_type(int32_t *out, struct DLDataType type) {
    for (int i = 0; i < TYPE_COUNT; i++)
        if (types[i].code == type.code && types[i].bits == type.bits && type.lanes == 1) {
            *out = types[i].dtype;
            return BALORA_OK;
        }
    return status_fail(BALORA_ERROR_UNSUPPORTED,
                       "DLPack tensor: type code %u with %u bits and %u lanes; expected float16, bfloat16, "
                       "float32, float64, int32, int64, uint8 or bool, with one lane",
                       type.code, type.bits, type.lanes);
}

static balora_status import_device(balora_tensor *out, struct DLDevice device) {
    bool cuda = device.device_type == DLPACK_CUDA || device.device_type == DLPACK_CUDA_MANAGED;
    if (!cuda && device.device_type != DLPACK_CPU && device.device_type != DLPACK_CUDA_HOST)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "DLPack tensor: device type %d; expected cpu (1), cuda (2), pinned (3) or managed "
                           "(13) memory; copy it to the CPU first",
                           device.device_type);
    out->device = cuda ? BALORA_DEVICE_CUDA : BALORA_DEVICE_CPU;
    out->device_index = cuda ? device.device_id : 0;
    return BALORA_OK;
}

balora_status dlpack_import(balora_tensor *out, const struct DLTensor *from, bool read_only) {
    balora_tensor made = BALORA_TENSOR_INIT;
    if (from->ndim < 0 || from->ndim > BALORA_TENSOR_RANK)
        return status_fail(BALORA_ERROR_ARGUMENT, "DLPack tensor: ndim is %d; expected 0 to %d", from->ndim,
                           BALORA_TENSOR_RANK);
    if (from->ndim > 0 && from->shape == NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "DLPack tensor: shape is NULL; ndim is %d", from->ndim);
    STATUS_TRY(import_type(&made.dtype, from->dtype));
    STATUS_TRY(import_device(&made, from->device));
    made.rank = from->ndim;
    made.read_only = read_only;
    for (int32_t i = 0; i < made.rank; i++)
        made.shape[i] = from->shape[i];
    STATUS_TRY(host_tensor_compact_strides(&made, "DLPack tensor"));
    for (int32_t i = 0; i < made.rank && from->strides != NULL; i++)
        made.strides[i] = from->strides[i];
    if (from->data != NULL)
        made.data = (unsigned char *)from->data + from->byte_offset;
    STATUS_TRY(host_tensor_check(&made, "DLPack tensor"));
    *out = made;
    return BALORA_OK;
}

balora_status dlpack_check_version(const struct DLManagedTensorVersioned *managed) {
    if (managed->version.major != DLPACK_MAJOR)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "DLPack tensor: version %u.%u; this library reads version %d",
                           managed->version.major, managed->version.minor, DLPACK_MAJOR);
    return BALORA_OK;
}

/* --- out --- */

/* What an exported tensor points to, and what its end calls. */
typedef struct export_parts {
    balora_context *context;
    balora_tensor_release_callback release;
    void *user;
    int64_t shape[BALORA_TENSOR_RANK], strides[BALORA_TENSOR_RANK];
} export_parts;

typedef struct plain_export {
    struct DLManagedTensor managed; /* first: the deleter gets its address */
    export_parts parts;
} plain_export;

typedef struct versioned_export {
    struct DLManagedTensorVersioned managed; /* first, as above */
    export_parts parts;
} versioned_export;

static void fill(struct DLTensor *out, export_parts *parts, const balora_tensor *tensor) {
    *out = (struct DLTensor){.data = tensor->data, .ndim = tensor->rank};
    bool cuda = tensor->device == BALORA_DEVICE_CUDA;
    out->device = (struct DLDevice){cuda ? DLPACK_CUDA : DLPACK_CPU, cuda ? tensor->device_index : 0};
    int type = 0;
    while (types[type].dtype != tensor->dtype)
        type++;
    out->dtype = (struct DLDataType){types[type].code, types[type].bits, 1};
    for (int i = 0; i < BALORA_TENSOR_RANK; i++) {
        parts->shape[i] = tensor->shape[i];
        parts->strides[i] = tensor->strides[i];
    }
    out->shape = parts->shape;
    out->strides = parts->strides;
}

static void end(export_parts *parts, void *block) {
    balora_context *context = parts->context;
    if (parts->release != NULL)
        parts->release(parts->user);
    memory_free(&context->memory, block);
    context_release(context);
}

static void end_plain(struct DLManagedTensor *self) {
    plain_export *block = (plain_export *)(void *)self;
    end(&block->parts, block);
}

static void end_versioned(struct DLManagedTensorVersioned *self) {
    versioned_export *block = (versioned_export *)(void *)self;
    end(&block->parts, block);
}

balora_status dlpack_export(struct DLManagedTensor **out, balora_context *context,
                            const balora_tensor *tensor, balora_tensor_release_callback release, void *user) {
    plain_export *block;
    if (tensor->read_only)
        return status_fail(BALORA_ERROR_UNSUPPORTED,
                           "a read-only tensor cannot be told from another in DLPack's older form; use "
                           "balora_tensor_to_dlpack_versioned");
    STATUS_TRY(memory_zeroed(&context->memory, &block, 1, sizeof *block, "a DLPack tensor"));
    block->parts = (export_parts){.context = context_retain(context), .release = release, .user = user};
    fill(&block->managed.dl_tensor, &block->parts, tensor);
    block->managed.deleter = end_plain;
    *out = &block->managed;
    return BALORA_OK;
}

balora_status dlpack_export_versioned(struct DLManagedTensorVersioned **out, balora_context *context,
                                      const balora_tensor *tensor, balora_tensor_release_callback release,
                                      void *user) {
    versioned_export *block;
    STATUS_TRY(memory_zeroed(&context->memory, &block, 1, sizeof *block, "a DLPack tensor"));
    block->parts = (export_parts){.context = context_retain(context), .release = release, .user = user};
    fill(&block->managed.dl_tensor, &block->parts, tensor);
    block->managed.version.major = DLPACK_MAJOR;
    block->managed.flags = tensor->read_only ? DLPACK_READ_ONLY : 0;
    block->managed.deleter = end_versioned;
    *out = &block->managed;
    return BALORA_OK;
}
