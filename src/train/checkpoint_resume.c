/* Going on from the newest checkpoint that is whole. */
#include <string.h>

#include "base/status.h"
#include "train/checkpoint.h"
#include "train/checkpoint_files.h"
#include "train/checkpoint_parts.h"
#include "train/checkpoint_state.h"

enum { WARNING_BYTES = 1024 };

/* A checkpoint's folder being read. */
typedef struct candidate {
    balora_trainer *trainer;
    const checkpoint_request *request;
    allocator *memory;
    char *path;
    int64_t step;
    safetensors_file adapter, optimizer;
    trainer_numbers numbers;
    char warning[WARNING_BYTES];
} candidate;

static balora_status open_arrays(const candidate *self, safetensors_file *out, int kind) {
    checkpoint_arrays arrays = kind == CHECKPOINT_ADAPTER ? checkpoint_adapter_arrays(self->trainer, false)
                                                          : checkpoint_optimizer_arrays(self->trainer, false);
    char *path;
    STATUS_TRY(file_join(self->memory, &path, self->path, checkpoint_file_names[kind]));
    balora_status status = checkpoint_arrays_open(&arrays, out, path);
    memory_free(self->memory, path);
    return status;
}

static void candidate_close(candidate *self) {
    safetensors_close(&self->adapter);
    safetensors_close(&self->optimizer);
    memory_free(self->memory, self->path);
    self->path = NULL;
}

/* Everything that can be known before the trainer's state is touched. */
static balora_status candidate_open(candidate *self) {
    char *state = NULL;
    balora_status status;
    STATUS_TRY(checkpoint_path(self->memory, &self->path, self->request->folder, self->step));
    STATUS_GOTO(manifest_verify(self->memory, self->path, self->step));
    STATUS_GOTO(file_join(self->memory, &state, self->path, checkpoint_file_names[CHECKPOINT_TRAINER]));
    STATUS_GOTO(trainer_state_read(&self->numbers, self->trainer, self->request, state, self->step,
                                   self->warning, sizeof self->warning));
    STATUS_GOTO(open_arrays(self, &self->adapter, CHECKPOINT_ADAPTER));
    status = open_arrays(self, &self->optimizer, CHECKPOINT_OPTIMIZER);
fail:
    memory_free(self->memory, state);
    return status;
}

/* The adapter's arrays into the device, and what is made of them. */
static balora_status take_adapter(balora_trainer *trainer, const safetensors_file *file) {
    balora_adapter *adapter = trainer->adapter;
    checkpoint_arrays arrays = checkpoint_adapter_arrays(trainer, false);
    int64_t element;
    char place[160];
    STATUS_TRY(checkpoint_arrays_read(&arrays, file));
    STATUS_TRY(adapter_find_non_finite(adapter, adapter->queue, adapter_parameters(adapter), &element));
    if (element >= 0) {
        adapter_locate(adapter, element, place, sizeof place);
        return status_fail(BALORA_ERROR_NUMERIC, "%s: %s is not finite", file->file.path, place);
    }
    STATUS_TRY(adapter_refresh(adapter, adapter->queue));
    return adapter->model->device.ops->synchronize(adapter->queue);
}

static balora_status candidate_take(candidate *self) {
    balora_trainer *trainer = self->trainer;
    checkpoint_arrays arrays = checkpoint_optimizer_arrays(trainer, false);
    STATUS_TRY(trainer->pass.decoder.ops->synchronize(trainer->pass.queue));
    trainer->torn = true;
    STATUS_TRY(take_adapter(trainer, &self->adapter));
    STATUS_TRY(checkpoint_arrays_read(&arrays, &self->optimizer));
    trainer_numbers_take(trainer, &self->numbers);
    trainer->torn = trainer->ended = false;
    return BALORA_OK;
}

/* Failures that speak of this file alone: an older checkpoint may do. */
static bool is_damage(balora_status status) {
    return status == BALORA_ERROR_FORMAT || status == BALORA_ERROR_IO || status == BALORA_ERROR_NOT_FOUND ||
           status == BALORA_ERROR_NUMERIC;
}

/* Keep the thread's message as a line of the trainer's list, and tell it. */
static balora_status note_skipped(candidate *self) {
    resume_texts *texts = &self->trainer->resumed;
    const char *message = balora_error_message();
    size_t used = strlen(texts->skipped), length = strlen(message);
    STATUS_TRY(
        memory_grow(self->memory, &texts->skipped, used + 1, used + length + 2, 1, "skipped checkpoints"));
    memcpy(texts->skipped + used, message, length);
    memcpy(texts->skipped + used + length, "\n", 2);
    return context_log(self->trainer->adapter->model->context, BALORA_LOG_WARNING,
                       "a checkpoint is damaged and was skipped: %s", message);
}

static balora_status try_one(candidate *self, bool *taken) {
    balora_status status = candidate_open(self);
    if (status == BALORA_OK)
        status = candidate_take(self);
    *taken = status == BALORA_OK;
    return is_damage(status) ? note_skipped(self) : status;
}

static balora_status start_texts(balora_trainer *trainer) {
    allocator *memory = &trainer->adapter->model->context->memory;
    memory_free(memory, trainer->resumed.path);
    memory_free(memory, trainer->resumed.skipped);
    trainer->resumed = (resume_texts){NULL, NULL};
    return memory_string(memory, &trainer->resumed.skipped, "");
}

static balora_status tell_warning(const candidate *self) {
    if (self->warning[0] == '\0')
        return BALORA_OK;
    return context_log(self->trainer->adapter->model->context, BALORA_LOG_WARNING,
                       "%s was made elsewhere (%s): the result may differ in roundings", self->path,
                       self->warning);
}

static balora_status take_newest(candidate *self, const checkpoint_list *list,
                                 balora_resume_information *out) {
    bool taken = false;
    int64_t place = 0;
    for (; place < list->count && !taken; place++) {
        self->step = list->steps[place];
        balora_status status = try_one(self, &taken);
        if (status == BALORA_OK && taken)
            status = memory_string(self->memory, &self->trainer->resumed.path, self->path);
        if (status == BALORA_OK && taken)
            status = tell_warning(self);
        candidate_close(self);
        STATUS_TRY(status);
    }
    if (!taken)
        return status_fail(
            BALORA_ERROR_FORMAT,
            "%s: none of its %lld checkpoints is whole; remove the folder to start anew. The newest: "
            "%.*s",
            self->request->folder, (long long)list->count, (int)strcspn(self->trainer->resumed.skipped, "\n"),
            self->trainer->resumed.skipped);
    out->step = self->step;
    out->skipped_checkpoints = place - 1;
    out->path = self->trainer->resumed.path;
    out->skipped = self->trainer->resumed.skipped;
    return BALORA_OK;
}

balora_status checkpoint_resume(balora_trainer *trainer, const checkpoint_request *request,
                                balora_resume_information *out) {
    allocator *memory = &trainer->adapter->model->context->memory;
    candidate self = {.trainer = trainer, .request = request, .memory = memory};
    checkpoint_list list;
    STATUS_TRY(start_texts(trainer));
    STATUS_TRY(checkpoint_list_read(&list, memory, request->folder, true));
    balora_status status =
        list.count > 0 ? take_newest(&self, &list, out)
                       : status_fail(BALORA_ERROR_NOT_FOUND, "%s: holds no checkpoint", request->folder);
    checkpoint_list_free(&list);
    return status;
}

balora_status checkpoint_load_adapter(balora_trainer *trainer, const char *folder, int64_t step) {
    checkpoint_request request = {.folder = folder};
    candidate self = {.trainer = trainer,
                      .request = &request,
                      .memory = &trainer->adapter->model->context->memory,
                      .step = step};
    balora_status status;
    STATUS_GOTO(checkpoint_path(self.memory, &self.path, folder, step));
    STATUS_GOTO(manifest_verify(self.memory, self.path, step));
    STATUS_GOTO(open_arrays(&self, &self.adapter, CHECKPOINT_ADAPTER));
    trainer->torn = true; /* until the caller says what the trainer's state is now */
    STATUS_GOTO(take_adapter(trainer, &self.adapter));
    trainer->torn = false;
    trainer->ended = true;
fail:
    candidate_close(&self);
    return status;
}
