/* Writing checkpoints, and removing those that are no longer needed. */
#include "train/checkpoint.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/status.h"
#include "train/checkpoint_files.h"
#include "train/checkpoint_parts.h"
#include "train/checkpoint_state.h"

_Static_assert(sizeof((checkpoint_arrays *)0)->views / sizeof(named_view) >= OPTIMIZER_STATE_LIMIT &&
                   OPTIMIZER_STATE_LIMIT >= ADAPTER_STATE_LIMIT,
               "every array has a place");

checkpoint_arrays checkpoint_adapter_arrays(const balora_trainer *trainer, bool heed_cancel) {
    const balora_adapter *adapter = trainer->adapter;
    checkpoint_arrays arrays = {.context = adapter->model->context,
                                .device = &adapter->model->device,
                                .queue = adapter->queue,
                                .heed_cancel = heed_cancel};
    arrays.count = adapter_state(adapter, arrays.views);
    return arrays;
}

checkpoint_arrays checkpoint_optimizer_arrays(const balora_trainer *trainer, bool heed_cancel) {
    checkpoint_arrays arrays = checkpoint_adapter_arrays(trainer, heed_cancel);
    arrays.count = optimizer_state(trainer->optimizer, arrays.views);
    return arrays;
}

static balora_status check_finite(const balora_trainer *trainer) {
    const balora_adapter *adapter = trainer->adapter;
    int64_t element;
    char place[160];
    STATUS_TRY(adapter_find_non_finite(adapter, adapter->queue, adapter_parameters(adapter), &element));
    if (element < 0)
        return BALORA_OK;
    adapter_locate(adapter, element, place, sizeof place);
    return status_fail(BALORA_ERROR_NUMERIC, "%s is not finite; no checkpoint is written", place);
}

/* One file of the folder under construction. */
static balora_status write_file(balora_trainer *trainer, const checkpoint_request *request, const char *path,
                                int kind, checkpoint_file *written) {
    checkpoint_arrays arrays = kind == CHECKPOINT_ADAPTER
                                   ? checkpoint_adapter_arrays(trainer, request->heed_cancel)
                                   : checkpoint_optimizer_arrays(trainer, request->heed_cancel);
    if (request->heed_cancel)
        STATUS_TRY(context_poll(arrays.context));
    if (kind != CHECKPOINT_TRAINER)
        return checkpoint_arrays_write(&arrays, path, written);
    STATUS_TRY(trainer_state_write(trainer, request, path));
    return file_checksum(&arrays.context->memory, path, &written->bytes, &written->checksum);
}

static balora_status write_files(balora_trainer *trainer, const checkpoint_request *request,
                                 const char *folder) {
    allocator *memory = &trainer->adapter->model->context->memory;
    checkpoint_file files[CHECKPOINT_FILES];
    for (int kind = 0; kind < CHECKPOINT_FILES; kind++) {
        char *path;
        STATUS_TRY(file_join(memory, &path, folder, checkpoint_file_names[kind]));
        balora_status status = write_file(trainer, request, path, kind, &files[kind]);
        memory_free(memory, path);
        STATUS_TRY(status);
    }
    return manifest_write(memory, folder, trainer->step, files);
}

/* Of this process, beside `path`. */
static balora_status temporary_path(allocator *memory, char **out, const char *path) {
    size_t length = strlen(path) + 32;
    STATUS_TRY(memory_new(memory, out, length, 1, "a checkpoint's name"));
    snprintf(*out, length, "%s.tmp-%ld", path, (long)getpid());
    return BALORA_OK;
}

/* Out of the way first: a removal that is cut short leaves no half checkpoint. */
static balora_status remove_one(allocator *memory, const char *folder, int64_t step) {
    char *path, *moved = NULL;
    balora_status status;
    STATUS_TRY(checkpoint_path(memory, &path, folder, step));
    STATUS_GOTO(temporary_path(memory, &moved, path));
    STATUS_GOTO(folder_rename(path, moved));
    status = folder_remove(moved);
fail:
    memory_free(memory, path);
    memory_free(memory, moved);
    return status;
}

/* A checkpoint too many is no reason to stop a run: it is told. */
balora_status checkpoint_prune(balora_trainer *trainer, const checkpoint_request *request) {
    balora_context *context = trainer->adapter->model->context;
    checkpoint_list list;
    status_detail before;
    STATUS_TRY(checkpoint_list_read(&list, &context->memory, request->folder, false));
    balora_status status = BALORA_OK;
    status_keep(&before);
    for (int64_t i = request->keep; i < list.count && status == BALORA_OK; i++) {
        if (list.steps[i] == trainer->run.best_step || list.steps[i] == trainer->step)
            continue;
        if (remove_one(&context->memory, request->folder, list.steps[i]) != BALORA_OK)
            status = context_log(context, BALORA_LOG_WARNING, "an old checkpoint stays: %s",
                                 balora_error_message());
    }
    if (status == BALORA_OK)
        status_put_back(&before);
    checkpoint_list_free(&list);
    return status;
}

/* Read back before it takes the place of one that may be good. */
static balora_status publish(balora_trainer *trainer, const char *temporary, const char *path) {
    allocator *memory = &trainer->adapter->model->context->memory;
    balora_status status = manifest_verify(memory, temporary, trainer->step);
    if (status != BALORA_OK)
        return status_prefix(status, "the new checkpoint does not read back as it was written");
    return folder_publish(memory, temporary, path);
}

balora_status checkpoint_save(balora_trainer *trainer, const checkpoint_request *request) {
    allocator *memory = &trainer->adapter->model->context->memory;
    char *path = NULL, *temporary = NULL;
    balora_status status;
    STATUS_TRY(trainer_check_state(trainer));
    if (trainer->step == 0)
        return status_fail(BALORA_ERROR_STATE,
                           "no step is done yet: there is nothing to write a checkpoint of");
    STATUS_TRY(
        trainer->pass.decoder.ops->synchronize(trainer->pass.queue)); /* after a step that was cancelled */
    STATUS_TRY(check_finite(trainer));
    STATUS_TRY(file_make_folder(request->folder));
    STATUS_GOTO(checkpoint_path(memory, &path, request->folder, trainer->step));
    STATUS_GOTO(temporary_path(memory, &temporary, path));
    STATUS_GOTO(folder_remove(temporary));
    STATUS_GOTO(folder_create(temporary));
    STATUS_GOTO(write_files(trainer, request, temporary));
    STATUS_GOTO(publish(trainer, temporary, path));
    trainer->saved_step = trainer->step;
    status = checkpoint_prune(trainer, request);
fail:
    if (status != BALORA_OK && temporary != NULL)
        folder_discard(temporary);
    memory_free(memory, path);
    memory_free(memory, temporary);
    return status;
}
