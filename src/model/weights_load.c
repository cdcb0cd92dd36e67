/* Reading a model folder's tensors into device memory, piece by piece. */
#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "format/tensor_files.h"
#include "model/weights.h"

#define PIECE_BYTES ((int64_t)8 << 20)

/* A host block and a device block of one piece, for storage that is converted on the way. */
typedef struct staging {
    allocator *memory;
    const backend *device;
    backend_queue *queue;
    void *host;
    backend_buffer *buffer;
} staging;

static balora_status staging_create(staging *out, allocator *memory, const backend *device, backend_queue *queue) {
    *out = (staging){memory, device, queue, NULL, NULL};
    STATUS_TRY(memory_new(memory, &out->host, (size_t)PIECE_BYTES, 1, "a staging block"));
    return device->ops->buffer_allocate(&out->buffer, device->device, PIECE_BYTES);
}

static void staging_free(staging *self) {
    memory_free(self->memory, self->host);
    if (self->buffer != NULL)
        self->device->ops->buffer_free(self->device->device, self->buffer);
}

/* Rows longer than a piece are cut into parts of a row. */
static balora_status read_tensor(staging *self, const tensor_place *source, matrix_view target) {
    int64_t size = dtype_size(source->entry->dtype);
    int64_t columns = arith_min(target.cols, PIECE_BYTES / size);
    int64_t rows = columns < target.cols ? 1 : arith_max(1, PIECE_BYTES / (columns * size));
    for (int64_t row = 0; row < target.rows; row += rows)
        for (int64_t column = 0; column < target.cols; column += columns) {
            int64_t height = arith_min(rows, target.rows - row), width = arith_min(columns, target.cols - column);
            uint64_t offset = (uint64_t)((row * target.cols + column) * size);
            uint64_t bytes = (uint64_t)(height * width * size);
            matrix_view piece = view_make(self->buffer, 0, source->entry->dtype, height, width);
            STATUS_TRY(safetensors_read_part(source->file, source->entry, offset, bytes, self->host));
            STATUS_TRY(self->device->ops->upload(self->queue, self->buffer, 0, self->host, (int64_t)bytes));
            STATUS_TRY(self->device->ops->copy(self->queue, view_rows(view_columns(target, column, width), row, height),
                                               piece));
        }
    return BALORA_OK;
}

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
            status = read_tensor(&stage, &place, self->tensors[i].view);
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
    if (dtype == BALORA_DTYPE_AUTO)
        STATUS_GOTO(find_dtype(&files, &plan, &dtype));
    STATUS_GOTO(weights_create(out, memory, device, config, dtype));
    STATUS_GOTO(read_all(out, &files, queue));
fail:
    if (status != BALORA_OK)
        weights_free(out);
    weights_free(&plan);
    tensor_files_close(&files);
    return status;
}
