/*
 * The adapted model as a model folder: the base's files, tensor by tensor, with W + s (B A - B0 A0) in the
 * place of W, each row scaled to its magnitude where those are trained. Or the residual model W - s B0 A0, on which A and
 * B alone are the adapter: PiSSA's own form.
 *
 * Merged weights start from the files, not from the model in memory, which may hold them in another storage
 * type. They are computed in F64 and rounded once, to the type that the file has.
 */
#include <stdio.h>
#include <string.h>

#include "adapter/adapter.h"
#include "adapter/merge_folder.h"
#include "adapter/merge_untied.h"
#include "adapter/plain.h"
#include "base/arith.h"
#include "base/status.h"
#include "model/staging.h"

#define PISSA_FOLDER   "pissa_init" /* as PiSSA's own programs call it */
#define PIECE_ELEMENTS ((int64_t)1 << 20)

static const char weight_suffix[] = ".weight";
static const char head_name[] = "lm_head.weight";
static const char embedding_name[] = "model.embed_tokens.weight";

/* F64 device matrices for a piece of any module's rows. */
typedef struct merge_work {
    arena memory;
    matrix_view weight; /* PIECE_ELEMENTS, or one row */
    matrix_view a;      /* [rank, in] */
    matrix_view b;      /* [rows of the piece, rank] */
    matrix_view scale;  /* [1, rows of the piece] */
    matrix_view norms;  /* the same */
} merge_work;

typedef struct merge {
    balora_adapter *adapter;
    bool residual; /* take the initial factors away, and leave what was trained out */
    tensor_files base;
    tensor_place
        untied; /* the embedding, in whose file a head of its own is added; none where there is no need */
    staging stage;
    merge_work work;
} merge;

static int64_t piece_rows(const projection *part) {
    return arith_min(part->out, arith_max(1, PIECE_ELEMENTS / part->in));
}

static void place_work(merge_work *work, const balora_adapter *adapter) {
    int64_t weight = 0, a = 0, b = 0, rows = 0;
    for (int64_t i = 0; i < adapter->module_count; i++) {
        int64_t rank = adapter->modules[i].rank;
        const projection *part = adapter->modules[i].projection;
        weight = arith_max(weight, piece_rows(part) * part->in);
        a = arith_max(a, rank * part->in);
        b = arith_max(b, rank * piece_rows(part));
        rows = arith_max(rows, piece_rows(part));
    }
    work->weight = arena_place(&work->memory, BALORA_F64, 1, weight);
    work->a = arena_place(&work->memory, BALORA_F64, 1, a);
    work->b = arena_place(&work->memory, BALORA_F64, 1, b);
    work->scale = arena_place(&work->memory, BALORA_F64, 1, rows);
    work->norms = arena_place(&work->memory, BALORA_F64, 1, rows);
}

/* weight += scale b a, for rows [first, first + weight.rows) of b. */
static balora_status add_product(const merge *self, matrix_view weight, matrix_view a, matrix_view b,
                                 int64_t first, double scale) {
    const backend_ops *ops = self->adapter->model->device.ops;
    backend_queue *queue = self->adapter->queue;
    matrix_view wide_a = view_reshape(self->work.a, a.rows, a.cols);
    matrix_view wide_b = view_reshape(self->work.b, weight.rows, b.cols);
    STATUS_TRY(ops->copy(queue, wide_a, a));
    STATUS_TRY(ops->copy(queue, wide_b, view_rows(b, first, weight.rows)));
    return ops->gemm(queue, 0, 0, scale, wide_b, wide_a, 1, weight);
}

/* Rows [first, first + weight.rows) of the module: weight = m / n weight. */
static balora_status apply_magnitudes(const merge *self, matrix_view weight, matrix_view magnitude,
                                      int64_t first) {
    const backend_ops *ops = self->adapter->model->device.ops;
    backend_queue *queue = self->adapter->queue;
    matrix_view scale = view_columns(self->work.scale, 0, weight.rows);
    matrix_view norms = view_columns(self->work.norms, 0, weight.rows);
    STATUS_TRY(ops->row_norms(queue, weight, norms));
    STATUS_TRY(ops->copy(queue, scale, view_columns(magnitude, first, weight.rows)));
    STATUS_TRY(ops->divide(queue, scale, norms, scale));
    return ops->scale_rows(queue, weight, scale);
}

static balora_status write_adapted(merge *self, safetensors_writer *writer, const tensor_place *place,
                                   const adapter_module *module) {
    const projection *part = module->projection;
    initial_product initial = plain_initial(module);
    int64_t step = piece_rows(part);
    for (int64_t row = 0; row < part->out; row += step) {
        int64_t rows = arith_min(step, part->out - row);
        matrix_view weight = view_reshape(self->work.weight, rows, part->in);
        STATUS_TRY(staging_read(&self->stage, place, row * part->in, weight, false));
        if (!self->residual)
            STATUS_TRY(add_product(self, weight, module->a, module->b, row, module->scale));
        if (self->residual || module->has_initial)
            STATUS_TRY(add_product(self, weight, initial.a, initial.b, row, -initial.scale));
        if (self->adapter->use_dora && !self->residual)
            STATUS_TRY(apply_magnitudes(self, weight, module->magnitude, row));
        STATUS_TRY(staging_write(&self->stage, writer, place->entry->name, weight, place->entry->dtype));
    }
    return BALORA_OK;
}

static balora_status write_unchanged(merge *self, safetensors_writer *writer, const tensor_place *place) {
    for (uint64_t offset = 0, bytes; offset < place->entry->bytes; offset += bytes) {
        bytes = place->entry->bytes - offset;
        if (bytes > (uint64_t)STAGING_BYTES)
            bytes = (uint64_t)STAGING_BYTES;
        STATUS_TRY(safetensors_read_part(place->file, place->entry, offset, bytes, self->stage.host));
        STATUS_TRY(safetensors_write(writer, self->stage.host, bytes));
    }
    return BALORA_OK;
}

/* The module whose weight that is; NULL where it stays as it is. */
static const adapter_module *find_adapted(const merge *self, const char *name) {
    const balora_adapter *adapter = self->adapter;
    size_t length = strlen(name), suffix = sizeof weight_suffix - 1;
    if (length <= suffix || strcmp(name + length - suffix, weight_suffix) != 0)
        return NULL;
    length -= suffix;
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        if (strlen(module->name) == length && memcmp(module->name, name, length) == 0)
            return self->residual && plain_initial(module).scale == 0 ? NULL : module;
    }
    return NULL;
}

/* A file may hold the head beside the embedding that it is tied to. */
static const trained_tensor *find_trained(const merge *self, const char *name) {
    const balora_adapter *adapter = self->adapter;
    if (self->residual)
        return NULL;
    if (adapter_ties_head(adapter) && strcmp(name, head_name) == 0)
        name = embedding_name;
    for (int64_t i = 0; i < adapter->trained_count; i++)
        if (strcmp(adapter->trained[i].tensor->name, name) == 0)
            return &adapter->trained[i];
    return NULL;
}

static balora_status write_tensor(merge *self, safetensors_writer *writer, const tensor_place *place) {
    const char *name = place->entry->name;
    tensor_place named;
    /* A shard may hold tensors that the index does not send there; nobody reads them. */
    bool is_read = tensor_files_find(&self->base, name, &named) && named.entry == place->entry;
    const adapter_module *module = is_read ? find_adapted(self, name) : NULL;
    const trained_tensor *trained = is_read ? find_trained(self, name) : NULL;
    STATUS_TRY(context_poll(self->adapter->model->context));
    if (module == NULL && trained == NULL)
        return write_unchanged(self, writer, place);
    /* The files may have changed since the model was opened. */
    const projection *part = module != NULL ? module->projection : NULL;
    int64_t shape[2] = {part != NULL ? part->out : trained->value.rows,
                        part != NULL ? part->in : trained->value.cols};
    int32_t rank = part != NULL ? 2 : trained->tensor->rank;
    STATUS_TRY(tensor_files_expect(&self->base, name, rank, rank == 1 ? shape + 1 : shape, &named));
    if (module != NULL)
        return write_adapted(self, writer, place, module);
    return staging_write(&self->stage, writer, name, trained->value, place->entry->dtype);
}

/* The head that was the embedding: what was trained of it, or the embedding as it was. */
static balora_status write_untied_head(merge *self, safetensors_writer *writer) {
    const trained_tensor *trained = find_trained(self, head_name);
    if (trained == NULL)
        return write_unchanged(self, writer, &self->untied);
    return staging_write(&self->stage, writer, head_name, trained->value, self->untied.entry->dtype);
}

static balora_status list_tensors(const safetensors_file *file, safetensors_tensor *out) {
    for (int64_t i = 0; i < file->count; i++) {
        const safetensors_entry *entry = &file->entries[i];
        if (entry->dtype == BALORA_DTYPE_AUTO)
            return status_fail(BALORA_ERROR_UNSUPPORTED,
                               "%s: tensor \"%s\" holds %s numbers, which cannot be written", file->file.path,
                               entry->name, entry->type_name);
        out[i] = (safetensors_tensor){.name = entry->name, .dtype = entry->dtype, .rank = entry->rank};
        memcpy(out[i].shape, entry->shape, sizeof entry->shape);
    }
    return BALORA_OK;
}

static balora_status write_shard(merge *self, const safetensors_file *file, const char *path) {
    allocator *memory = self->base.memory;
    safetensors_tensor *tensors;
    safetensors_writer writer = {0};
    int64_t count = file->count + (self->untied.file == file);
    STATUS_TRY(memory_zeroed(memory, &tensors, (size_t)count, sizeof *tensors, "a list of tensors"));
    balora_status status;
    STATUS_GOTO(list_tensors(file, tensors));
    if (count > file->count) {
        tensors[file->count] = tensors[self->untied.entry - file->entries];
        tensors[file->count].name = head_name;
    }
    STATUS_GOTO(safetensors_create(&writer, memory, path, tensors, count, file->metadata));
    for (int64_t i; (i = safetensors_next(&writer)) >= 0;)
        STATUS_GOTO(i == file->count ? write_untied_head(self, &writer)
                                     : write_tensor(self, &writer, &(tensor_place){file, &file->entries[i]}));
    status = safetensors_publish(&writer);
fail:
    safetensors_abandon(&writer);
    memory_free(memory, tensors);
    return status;
}

static balora_status write_weights(merge *self, const merge_folder *folder) {
    for (int64_t i = 0; i < self->base.shard_count; i++) {
        char *path;
        STATUS_TRY(file_join(self->base.memory, &path, folder->staging, self->base.shard_names[i]));
        balora_status status = write_shard(self, &self->base.shards[i], path);
        memory_free(self->base.memory, path);
        STATUS_TRY(status);
    }
    return BALORA_OK;
}

static bool unties_head(const merge *self) {
    return !self->residual && adapter_unties_head(self->adapter);
}

/* A head of its own where the model had none: files that hold one already need nothing but the configuration. */
static balora_status prepare_head(merge *self) {
    const weights *student = adapter_student(self->adapter);
    tensor_place head;
    int64_t shape[2] = {student->embedding.rows, student->embedding.cols};
    if (!unties_head(self) || tensor_files_find(&self->base, head_name, &head))
        return BALORA_OK;
    return tensor_files_expect(&self->base, embedding_name, 2, shape, &self->untied);
}

static balora_status untie(const merge *self, const merge_folder *target) {
    if (!unties_head(self))
        return BALORA_OK;
    tensor_place held = self->untied;
    if (held.file == NULL)
        tensor_files_find(&self->base, head_name, &held);
    uint64_t added = self->untied.file != NULL ? self->untied.entry->bytes : 0;
    return merge_untie(target, self->base.shard_names[held.file - self->base.shards], head_name, added);
}

static balora_status prepare(merge *self, allocator *memory) {
    balora_model *model = self->adapter->model;
    STATUS_TRY(tensor_files_open(&self->base, memory, model->folder, "model"));
    STATUS_TRY(staging_create(&self->stage, memory, &model->device, self->adapter->queue));
    STATUS_TRY(prepare_head(self));
    if (self->adapter->module_count == 0)
        return BALORA_OK;
    place_work(&self->work, self->adapter);
    STATUS_TRY(arena_allocate(&self->work.memory, &model->device));
    place_work(&self->work, self->adapter);
    return BALORA_OK;
}

/* All but the folder's publication. */
static balora_status write_folder(merge *self, merge_folder *target, allocator *memory, const char *folder,
                                  const char *part) {
    STATUS_TRY(prepare(self, memory));
    STATUS_TRY(merge_folder_create(target, memory, folder, &self->base, part));
    STATUS_TRY(write_weights(self, target));
    STATUS_TRY(merge_folder_copy(target, self->stage.host, STAGING_BYTES));
    return untie(self, target);
}

static void finish(merge *self, merge_folder *target) {
    merge_folder_abandon(target);
    arena_free(&self->work.memory);
    staging_free(&self->stage);
    tensor_files_close(&self->base);
}

balora_status adapter_merge(balora_adapter *adapter, const char *folder) {
    merge self = {.adapter = adapter};
    merge_folder target = {0};
    balora_status status = write_folder(&self, &target, &adapter->model->context->memory, folder, NULL);
    if (status == BALORA_OK)
        status = merge_folder_publish(&target);
    finish(&self, &target);
    return status;
}

static balora_status check_initial(const balora_adapter *adapter) {
    for (int64_t i = 0; i < adapter->module_count; i++)
        if (plain_initial(&adapter->modules[i]).scale != 0)
            return BALORA_OK;
    return status_fail(
        adapter->module_count == 0 ? BALORA_ERROR_STATE : BALORA_ERROR_UNSUPPORTED,
        "the adapter has no initial factors that could be taken from the base's weights; only one "
        "that was made by PiSSA or BA-LoRA here, and not trained on or written anew since by another "
        "program, has: write it as plain LoRA (peft), or merge it");
}

balora_status adapter_write_pissa(balora_adapter *adapter, const char *folder, const char *base_model,
                                  int32_t dtype) {
    merge self = {.adapter = adapter, .residual = true};
    merge_folder target = {0};
    balora_status status;
    STATUS_TRY(check_initial(adapter));
    STATUS_GOTO(write_folder(&self, &target, &adapter->model->context->memory, folder, PISSA_FOLDER));
    STATUS_GOTO(adapter_save_as(adapter, target.part, base_model != NULL ? base_model : folder,
                                &(adapter_form){.trained_only = true, .dtype = dtype}));
    status = merge_folder_publish(&target);
fail:
    finish(&self, &target);
    return status;
}
