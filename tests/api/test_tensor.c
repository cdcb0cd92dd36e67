/* Tensors: made, refused, and carried through DLPack in both its forms and both directions. */
#include "api.h"

/* As dlpack.h has them, written here a second time so that a slip in the library's own declaration shows. */
typedef struct DLDevice {
    int32_t device_type, device_id;
} DLDevice;
typedef struct DLDataType {
    uint8_t code, bits;
    uint16_t lanes;
} DLDataType;
typedef struct DLTensor {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} DLTensor;
typedef struct DLManagedTensor {
    DLTensor dl_tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;
typedef struct DLPackVersion {
    uint32_t major, minor;
} DLPackVersion;
typedef struct DLManagedTensorVersioned {
    DLPackVersion version;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    DLTensor dl_tensor;
} DLManagedTensorVersioned;

enum { CPU = 1, CUDA = 2, PINNED = 3, METAL = 8, MANAGED = 13 };
enum { INT = 0, UINT = 1, FLOAT = 2, BFLOAT = 4, COMPLEX = 5, BOOLEAN = 6 };

static double storage[64];

static DLTensor matrix(int64_t *shape) {
    return (DLTensor){.data = storage,
                      .device = {CPU, 0},
                      .ndim = 2,
                      .dtype = {FLOAT, 32, 1},
                      .shape = shape,
                      .strides = NULL,
                      .byte_offset = 0};
}

static void contiguous_tensors_have_row_major_strides(void **state) {
    (void)state;
    balora_tensor tensor = BALORA_TENSOR_INIT;
    const int64_t shape[] = {2, 3, 4}, empty[] = {5, 0}, wide[] = {1, 0, INT64_MAX};
    expect_done(balora_tensor_contiguous(&tensor, storage, BALORA_BF16, 3, shape));
    assert_ptr_equal(tensor.data, storage);
    assert_true(tensor.dtype == BALORA_BF16 && tensor.rank == 3 && tensor.device == BALORA_DEVICE_CPU);
    assert_true(tensor.shape[0] == 2 && tensor.shape[1] == 3 && tensor.shape[2] == 4);
    assert_true(tensor.strides[0] == 12 && tensor.strides[1] == 4 && tensor.strides[2] == 1);
    expect_done(balora_tensor_contiguous(&tensor, storage, BALORA_F64, 0, NULL));
    assert_int_equal(tensor.rank, 0);
    expect_done(balora_tensor_contiguous(&tensor, NULL, BALORA_F32, 2, empty));
    expect_done(balora_tensor_contiguous(&tensor, NULL, BALORA_F32, 3, wide));
}

static void impossible_tensors_are_refused(void **state) {
    (void)state;
    balora_tensor tensor = BALORA_TENSOR_INIT, before = tensor;
    const int64_t shape[] = {2, 3}, negative[] = {2, -3}, huge[] = {INT64_C(1) << 40, INT64_C(1) << 40},
                  long_bytes[] = {INT64_C(1) << 61};
#define REFUSED(call, part) expect_failure(call, BALORA_ERROR_ARGUMENT, part)
    REFUSED(balora_tensor_contiguous(&tensor, storage, 99, 2, shape), "dtype is 99");
    REFUSED(balora_tensor_contiguous(&tensor, storage, BALORA_F32, 9, shape), "rank is 9; expected 0 to 8");
    REFUSED(balora_tensor_contiguous(&tensor, storage, BALORA_F32, -1, shape), "rank is -1");
    REFUSED(balora_tensor_contiguous(&tensor, storage, BALORA_F32, 2, negative), "shape[1] is -3");
    REFUSED(balora_tensor_contiguous(&tensor, storage, BALORA_F32, 2, huge), "63 bits");
    REFUSED(balora_tensor_contiguous(&tensor, storage, BALORA_F64, 1, long_bytes), "63 bits");
    REFUSED(balora_tensor_contiguous(&tensor, NULL, BALORA_F32, 2, shape),
            "data is NULL; expected 6 elements");
    REFUSED(balora_tensor_contiguous(&tensor, (char *)storage + 2, BALORA_F32, 2, shape),
            "a multiple of the 4");
    assert_memory_equal(&tensor, &before, sizeof tensor);
    tensor.struct_size = 24;
    expect_failure(balora_tensor_contiguous(&tensor, storage, BALORA_F32, 2, shape), BALORA_ERROR_ABI,
                   "BALORA_TENSOR_INIT");
}

static void dlpack_tensors_are_seen_in_place(void **state) {
    (void)state;
    int64_t shape[] = {3, 4}, strides[] = {-8, 2};
    DLManagedTensor managed = {.dl_tensor = matrix(shape)};
    balora_tensor tensor = BALORA_TENSOR_INIT;
    expect_done(balora_tensor_from_dlpack(&tensor, &managed));
    assert_true(tensor.strides[0] == 4 && tensor.strides[1] == 1 && tensor.read_only == 0);
    managed.dl_tensor.strides = strides;
    managed.dl_tensor.byte_offset = 80;
    expect_done(balora_tensor_from_dlpack(&tensor, &managed));
    assert_ptr_equal(tensor.data, (char *)storage + 80);
    assert_true(tensor.strides[0] == -8 && tensor.strides[1] == 2);
    assert_true(tensor.shape[0] == 3 && tensor.shape[1] == 4);
    DLManagedTensorVersioned versioned = {.version = {1, 7}, .flags = 1, .dl_tensor = managed.dl_tensor};
    expect_done(balora_tensor_from_dlpack_versioned(&tensor, &versioned));
    assert_int_equal(tensor.read_only, 1);
    versioned.flags = 2; /* copied: nothing to us */
    expect_done(balora_tensor_from_dlpack_versioned(&tensor, &versioned));
    assert_int_equal(tensor.read_only, 0);
}

static void types_and_devices_are_translated(void **state) {
    (void)state;
    static const struct {
        DLDataType type;
        int32_t dtype;
    } types[] = {{{FLOAT, 16, 1}, BALORA_F16}, {{FLOAT, 32, 1}, BALORA_F32},
                 {{FLOAT, 64, 1}, BALORA_F64}, {{BFLOAT, 16, 1}, BALORA_BF16},
                 {{INT, 32, 1}, BALORA_I32},   {{INT, 64, 1}, BALORA_I64},
                 {{UINT, 8, 1}, BALORA_U8},    {{BOOLEAN, 8, 1}, BALORA_U8},
                 {{FLOAT, 32, 4}, 0},          {{FLOAT, 8, 1}, 0},
                 {{COMPLEX, 64, 1}, 0},        {{INT, 8, 1}, 0}};
    static const struct {
        int32_t type, device;
    } devices[] = {{CPU, BALORA_DEVICE_CPU},
                   {PINNED, BALORA_DEVICE_CPU},
                   {CUDA, BALORA_DEVICE_CUDA},
                   {MANAGED, BALORA_DEVICE_CUDA},
                   {METAL, -1}};
    int64_t shape[] = {2, 2};
    balora_tensor tensor = BALORA_TENSOR_INIT;
    DLManagedTensor managed = {.dl_tensor = matrix(shape)};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        managed.dl_tensor.dtype = types[i].type;
        if (types[i].dtype == 0)
            expect_failure(balora_tensor_from_dlpack(&tensor, &managed), BALORA_ERROR_UNSUPPORTED,
                           "type code");
        else {
            expect_done(balora_tensor_from_dlpack(&tensor, &managed));
            assert_int_equal(tensor.dtype, types[i].dtype);
        }
    }
    managed.dl_tensor = matrix(shape);
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        managed.dl_tensor.device = (DLDevice){devices[i].type, 3};
        if (devices[i].device < 0) {
            expect_failure(balora_tensor_from_dlpack(&tensor, &managed), BALORA_ERROR_UNSUPPORTED,
                           "device type 8");
            continue;
        }
        expect_done(balora_tensor_from_dlpack(&tensor, &managed));
        assert_int_equal(tensor.device, devices[i].device);
        assert_int_equal(tensor.device_index, devices[i].device == BALORA_DEVICE_CUDA ? 3 : 0);
    }
}

static void impossible_dlpack_tensors_are_refused(void **state) {
    (void)state;
    int64_t shape[] = {3, 4}, negative[] = {3, -4}, far[] = {INT64_MAX / 2, 1}, farther[] = {INT64_MIN, 1};
    balora_tensor tensor = BALORA_TENSOR_INIT, before = tensor;
    DLManagedTensor managed = {.dl_tensor = matrix(shape)};
#define WITH(field, value, part)                                                                             \
    managed.dl_tensor = matrix(shape);                                                                       \
    managed.dl_tensor.field = value;                                                                         \
    REFUSED(balora_tensor_from_dlpack(&tensor, &managed), part)
    WITH(ndim, 9, "ndim is 9");
    WITH(ndim, -1, "ndim is -1");
    WITH(shape, NULL, "shape is NULL");
    WITH(shape, negative, "shape[1] is -4");
    WITH(strides, far, "63 bits");
    WITH(strides, farther, "63 bits");
    WITH(byte_offset, 2, "a multiple of the 4");
    WITH(data, NULL, "data is NULL");
    DLManagedTensorVersioned versioned = {.version = {2, 0}, .dl_tensor = matrix(shape)};
    expect_failure(balora_tensor_from_dlpack_versioned(&tensor, &versioned), BALORA_ERROR_UNSUPPORTED,
                   "version 2.0");
    assert_memory_equal(&tensor, &before, sizeof tensor);
}

static void count_release(void *user) {
    ++*(int *)user;
}

static balora_tensor strided(void) {
    balora_tensor tensor = BALORA_TENSOR_INIT;
    tensor.data = storage;
    tensor.dtype = BALORA_BF16;
    tensor.rank = 2;
    tensor.shape[0] = 3, tensor.shape[1] = 4;
    tensor.strides[0] = 1, tensor.strides[1] = 3;
    return tensor;
}

static void exported_tensors_live_until_their_deleter(void **state) {
    (void)state;
    int released = 0;
    balora_context *context;
    DLManagedTensor *plain;
    DLManagedTensorVersioned *versioned;
    balora_tensor tensor = strided(), back = BALORA_TENSOR_INIT;
    expect_done(balora_context_create(&context, NULL));
    expect_done(balora_tensor_to_dlpack(&plain, context, &tensor, count_release, &released));
    tensor.read_only = 1;
    expect_done(balora_tensor_to_dlpack_versioned(&versioned, context, &tensor, count_release, &released));
    balora_context_free(context); /* the exports keep it alive */
    assert_true(plain->dl_tensor.dtype.code == BFLOAT && plain->dl_tensor.dtype.bits == 16 &&
                plain->dl_tensor.dtype.lanes == 1 && plain->dl_tensor.device.device_type == CPU);
    assert_true(versioned->version.major == 1 && versioned->flags == 1);
    expect_done(balora_tensor_from_dlpack_versioned(&back, versioned));
    assert_memory_equal(&back, &tensor, sizeof tensor);
    tensor.read_only = 0;
    expect_done(balora_tensor_from_dlpack(&back, plain));
    assert_memory_equal(&back, &tensor, sizeof tensor);
    assert_int_equal(released, 0);
    plain->deleter(plain);
    assert_int_equal(released, 1);
    versioned->deleter(versioned);
    assert_int_equal(released, 2);
}

static void refused_exports_release_nothing(void **state) {
    (void)state;
    int released = 0;
    balora_context *context;
    DLManagedTensor *plain = (DLManagedTensor *)&context;
    balora_tensor tensor = strided();
    expect_done(balora_context_create(&context, NULL));
    tensor.read_only = 1;
    expect_failure(balora_tensor_to_dlpack(&plain, context, &tensor, count_release, &released),
                   BALORA_ERROR_UNSUPPORTED, "balora_tensor_to_dlpack_versioned");
    assert_null(plain);
    tensor = strided();
    tensor.strides[0] = INT64_MAX;
    REFUSED(balora_tensor_to_dlpack(&plain, context, &tensor, count_release, &released), "63 bits");
    tensor = strided();
    tensor.device = 5;
    REFUSED(balora_tensor_to_dlpack(&plain, context, &tensor, count_release, &released), "device is 5");
    tensor = strided();
    tensor.device_index = 1;
    REFUSED(balora_tensor_to_dlpack(&plain, context, &tensor, count_release, &released), "0 on the CPU");
    tensor = strided();
    tensor.read_only = 2;
    REFUSED(balora_tensor_to_dlpack(&plain, context, &tensor, count_release, &released), "read_only is 2");
    tensor = strided();
    tensor.reserved = 7;
    expect_failure(balora_tensor_to_dlpack(&plain, context, &tensor, count_release, &released),
                   BALORA_ERROR_ABI, "reserved is 7");
    assert_int_equal(released, 0);
    balora_context_free(context);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contiguous_tensors_have_row_major_strides),
        cmocka_unit_test(impossible_tensors_are_refused),
        cmocka_unit_test(dlpack_tensors_are_seen_in_place),
        cmocka_unit_test(types_and_devices_are_translated),
        cmocka_unit_test(impossible_dlpack_tensors_are_refused),
        cmocka_unit_test(exported_tensors_live_until_their_deleter),
        cmocka_unit_test(refused_exports_release_nothing),
    };
    return cmocka_run_group_tests_name("tensor", tests, NULL, NULL);
}
