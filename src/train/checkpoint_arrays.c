#include <string.h>

#include "base/arith.h"
#include "base/status.h"
#include "train/checkpoint_files.h"

#define PIECE_BYTES ((int64_t)8 << 20)

static void describe(const checkpoint_arrays *self, safetensors_tensor *tensors) {
    for (int32_t i = 0; i < self->count; i++) {
        matrix_view view = self->views[i].view;
        tensors[i] = (safetensors_tensor){
            .name = self->views[i].name, .dtype = view.dtype, .rank = 1, .shape = {view.rows * view.cols}};
    }
}

static balora_status write_array(const checkpoint_arrays *self, safetensors_writer *writer, matrix_view view,
                                 void *piece) {
    const backend_ops *ops = self->device->ops;
    int64_t bytes = view_bytes(view);
    for (int64_t at = 0, count; at < bytes; at += count) {
        count = arith_min(bytes - at, PIECE_BYTES);
        if (self->heed_cancel)
            STATUS_TRY(context_poll(self->context));
        STATUS_TRY(ops->download(self->queue, piece, view.buffer, view.offset + at, count));
        STATUS_TRY(ops->synchronize(self->queue));
        STATUS_TRY(safetensors_write(writer, piece, (uint64_t)count));
    }
    return BALORA_OK;
}

balora_status checkpoint_arrays_write(const checkpoint_arrays *self, const char *path,
                                      checkpoint_file *written) {
    allocator *memory = &self->context->memory;
    safetensors_tensor tensors[sizeof self->views / sizeof self->views[0]];
    safetensors_writer writer = {0};
    void *piece = NULL;
    balora_status status;
    describe(self, tensors);
    STATUS_GOTO(memory_new(memory, &piece, (size_t)PIECE_BYTES, 1, "a piece of a checkpoint"));
    STATUS_GOTO(safetensors_create(&writer, memory, path, tensors, self->count, NULL));
    for (int64_t i; (i = safetensors_next(&writer)) >= 0;)
        STATUS_GOTO(write_array(self, &writer, self->views[i].view, piece));
    *written = (checkpoint_file){writer.file.written, writer.file.checksum};
    status = safetensors_publish(&writer);
fail:
    safetensors_abandon(&writer);
    memory_free(memory, piece);
    return status;
}

static balora_status check_array(const safetensors_file *file, const safetensors_tensor *tensor) {
    const safetensors_entry *entry = safetensors_find(file, tensor->name);
    if (entry == NULL)
        return status_fail(BALORA_ERROR_FORMAT, "%s: the array \"%s\" is missing", file->file.path,
                           tensor->name);
    if (entry->dtype != tensor->dtype || entry->rank != 1 || entry->shape[0] != tensor->shape[0]) {
        char shape[SAFETENSORS_SHAPE_TEXT];
        return status_fail(BALORA_ERROR_FORMAT, "%s: the array \"%s\" is %s %s; expected %s [%lld]",
                           file->file.path, tensor->name, entry->type_name,
                           safetensors_shape_text(shape, entry->rank, entry->shape),
                           dtype_name(tensor->dtype), (long long)tensor->shape[0]);
    }
    return BALORA_OK;
}

balora_status checkpoint_arrays_open(const checkpoint_arrays *self, safetensors_file *out, const char *path) {
    safetensors_tensor tensors[sizeof self->views / sizeof self->views[0]];
    describe(self, tensors);
    STATUS_TRY(safetensors_open(out, &self->context->memory, path));
    balora_status status = BALORA_OK;
    if (out->count != self->count)
        status = status_fail(BALORA_ERROR_FORMAT, "%s: holds %lld arrays; expected %d", path,
                             (long long)out->count, self->count);
    for (int32_t i = 0; i < self->count && status == BALORA_OK; i++)
        status = check_array(out, &tensors[i]);
    if (status != BALORA_OK)
        safetensors_close(out);
    return status;
}

static balora_status read_array(const checkpoint_arrays *self, const safetensors_file *file,
                                const named_view *array, void *piece) {
    const backend_ops *ops = self->device->ops;
    const safetensors_entry *entry = safetensors_find(file, array->name);
    int64_t bytes = view_bytes(array->view);
    for (int64_t at = 0, count; at < bytes; at += count) {
        count = arith_min(bytes - at, PIECE_BYTES);
        STATUS_TRY(safetensors_read_part(file, entry, (uint64_t)at, (uint64_t)count, piece));
        STATUS_TRY(ops->upload(self->queue, array->view.buffer, array->view.offset + at, piece, count));
        STATUS_TRY(ops->synchronize(self->queue));
    }
    return BALORA_OK;
}

balora_status checkpoint_arrays_read(const checkpoint_arrays *self, const safetensors_file *file) {
    allocator *memory = &self->context->memory;
    void *piece;
    STATUS_TRY(memory_new(memory, &piece, (size_t)PIECE_BYTES, 1, "a piece of a checkpoint"));
    balora_status status = BALORA_OK;
    for (int32_t i = 0; i < self->count && status == BALORA_OK; i++)
        status = read_array(self, file, &self->views[i], piece);
    memory_free(memory, piece);
    return status;
}
