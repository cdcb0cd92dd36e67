/* Reading a model folder's tensors into device memory. */
#include <string.h>

#include "base/status.h"
#include "model/staging.h"
#include "model/weights.h"

static balora_status find_tensor(const tensor_files *files, const named_tensor *tensor, tensor_place *out) {
    int64_t shape[2] = {tensor->view.rows, tensor->view.cols};
    return tensor_files_expect(files, tensor->name, tensor->rank, tensor->rank == 1 ? shape + 1 : shape, out);
}

/* The common storage type of all large matrices, or F32, which holds each of them exactly. */
static balora_status find_dtype(const tensor_files *files, const weights *plan, int32_t *out) {
    int32_t common = BALORA_DTYPE_AUTO;
    for (int64_t i = 0; i < plan->tensor_count; i++) {
        tensor_place place;
        STATUS_TRY(find_tensor(files, &plan->tensors[i], &place));
        if (plan->tensors[i].wide)
            continue;
        if (common == BALORA_DTYPE_AUTO)
            common = place.entry->dtype;
        else if (common != place.entry->dtype)
            common = BALORA_F32;
    }
    *out = common;
    return BALORA_OK;
}

static balora_status read_all(weights *self, const tensor_files *files, backend_queue *queue) {
    staging stage;
    balora_status status = staging_create(&stage, self->memory, self->device, queue);
    for (int64_t i = 0; i < self->tensor_count && status == BALORA_OK; i++) {
        tensor_place place;
        status = find_tensor(files, &self->tensors[i], &place);
        if (status == BALORA_OK)
            status = staging_read(&stage, &place, 0, self->tensors[i].view, false);
    }
    staging_free(&stage);
    return status;
}

balora_status weights_load(weights *out, allocator *memory, const backend *device, backend_queue *queue,
                           const model_config *config, const char *folder, int32_t dtype) {
    memset(out, 0, sizeof *out);
    tensor_files files = {0};
    weights plan = {0};
    balora_status status;
    STATUS_GOTO(tensor_files_open(&files, memory, folder, "model"));
    STATUS_GOTO(weights_plan(&plan, memory, device, config, BALORA_F32));
    int32_t common;
    STATUS_GOTO(find_dtype(&files, &plan, &common)); /* every tensor is there before memory is taken */
    if (dtype == BALORA_DTYPE_AUTO)
        dtype = common;
    STATUS_GOTO(weights_create(out, memory, device, config, dtype));
    STATUS_GOTO(read_all(out, &files, queue));
fail:
    if (status != BALORA_OK)
        weights_free(out);
    weights_free(&plan);
    tensor_files_close(&files);
    return status;
}
