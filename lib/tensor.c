#include "tensor.h"

#include "facade.h"
#include "options.h"
#include "tensor/dlpack.h"
#include "tensor/host_tensor.h"

balora_status facade_tensor(balora_tensor *complete, const balora_tensor *caller, const char *name) {
    balora_tensor made, defaults = BALORA_TENSOR_INIT;
    STATUS_TRY(options_import_plain(&made, &defaults, sizeof defaults, caller, name));
    if (caller->struct_size < sizeof made)
        return status_fail(BALORA_ERROR_ABI,
                           "%s: struct_size is %llu; expected %zu or more: start from BALORA_TENSOR_INIT",
                           name, (unsigned long long)caller->struct_size, sizeof made);
    STATUS_TRY(host_tensor_check(&made, name));
    *complete = made;
    return BALORA_OK;
}

/* The caller's struct may be larger than ours, never smaller. */
static balora_status check_out(const balora_tensor *out) {
    STATUS_TRY(options_check_size(out, "balora_tensor"));
    if (out->struct_size < sizeof *out)
        return status_fail(BALORA_ERROR_ABI,
                           "balora_tensor: struct_size is %llu; expected %zu or more: start from "
                           "BALORA_TENSOR_INIT",
                           (unsigned long long)out->struct_size, sizeof *out);
    return BALORA_OK;
}

balora_status balora_tensor_contiguous(balora_tensor *out, void *data, int32_t dtype, int32_t rank,
                                       const int64_t *shape) {
    const char *name = "balora_tensor_contiguous";
    balora_tensor made = BALORA_TENSOR_INIT;
    FACADE_REQUIRE(out);
    STATUS_TRY(check_out(out));
    if (rank < 0 || rank > BALORA_TENSOR_RANK)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: rank is %d; expected 0 to %d", name, rank,
                           BALORA_TENSOR_RANK);
    if (rank > 0)
        FACADE_REQUIRE(shape);
    made.data = data;
    made.dtype = dtype;
    made.rank = rank;
    for (int32_t i = 0; i < rank; i++)
        made.shape[i] = shape[i];
    STATUS_TRY(host_tensor_compact_strides(&made, name));
    STATUS_TRY(host_tensor_check(&made, name));
    options_export(out, &made, sizeof made);
    return BALORA_OK;
}

static balora_status import(balora_tensor *out, const struct DLTensor *from, bool read_only) {
    balora_tensor made;
    STATUS_TRY(check_out(out));
    STATUS_TRY(dlpack_import(&made, from, read_only));
    options_export(out, &made, sizeof made);
    return BALORA_OK;
}

balora_status balora_tensor_from_dlpack(balora_tensor *out, const struct DLManagedTensor *managed) {
    FACADE_REQUIRE(out);
    FACADE_REQUIRE(managed);
    return import(out, &managed->dl_tensor, false);
}

balora_status balora_tensor_from_dlpack_versioned(balora_tensor *out,
                                                  const struct DLManagedTensorVersioned *managed) {
    FACADE_REQUIRE(out);
    FACADE_REQUIRE(managed);
    STATUS_TRY(dlpack_check_version(managed));
    return import(out, &managed->dl_tensor, (managed->flags & DLPACK_READ_ONLY) != 0);
}

balora_status balora_tensor_to_dlpack(struct DLManagedTensor **out, balora_context *context,
                                      const balora_tensor *tensor, balora_tensor_release_callback release,
                                      void *user) {
    balora_tensor complete;
    FACADE_OUT(out);
    FACADE_REQUIRE(context);
    FACADE_REQUIRE(tensor);
    STATUS_TRY(facade_tensor(&complete, tensor, "balora_tensor_to_dlpack: tensor"));
    return dlpack_export(out, context, &complete, release, user);
}

balora_status balora_tensor_to_dlpack_versioned(struct DLManagedTensorVersioned **out,
                                                balora_context *context, const balora_tensor *tensor,
                                                balora_tensor_release_callback release, void *user) {
    balora_tensor complete;
    FACADE_OUT(out);
    FACADE_REQUIRE(context);
    FACADE_REQUIRE(tensor);
    STATUS_TRY(facade_tensor(&complete, tensor, "balora_tensor_to_dlpack_versioned: tensor"));
    return dlpack_export_versioned(out, context, &complete, release, user);
}
