#include "adapter/plain.h"

#include <math.h>

#include "base/arith.h"
#include "base/status.h"

/* A module that was read with both halves has the doubled rank and alpha already. */
int64_t plain_rank(const adapter_module *module, bool trained_only) {
    if (module->ends_with_initial)
        return trained_only ? module->rank / 2 : module->rank;
    return module->has_initial && !trained_only ? 2 * module->rank : module->rank;
}

double plain_alpha(const adapter_module *module, bool use_rslora, bool trained_only) {
    double growth = use_rslora ? sqrt(2) : 2;
    if (module->ends_with_initial)
        return trained_only ? module->alpha / growth : module->alpha;
    return module->has_initial && !trained_only ? growth * module->alpha : module->alpha;
}

int64_t plain_tensors(const balora_adapter *adapter) {
    return adapter->use_dora ? FACTOR_COUNT + 1 : FACTOR_COUNT;
}

factor_kind plain_kind(int64_t index) {
    return index < FACTOR_COUNT ? (factor_kind)index : FACTOR_MAGNITUDE;
}

int32_t plain_shape(int64_t shape[2], const projection *part, int64_t rank, factor_kind kind) {
    if (kind == FACTOR_MAGNITUDE) {
        shape[0] = part->out;
        return 1;
    }
    shape[0] = kind == FACTOR_A ? rank : part->out;
    shape[1] = kind == FACTOR_A ? part->in : rank;
    return 2;
}

initial_product plain_initial(const adapter_module *module) {
    int64_t rank = module->rank / 2;
    if (module->has_initial)
        return (initial_product){module->a0, module->b0, module->scale};
    if (module->ends_with_initial) /* its second half of B is -B0 */
        return (initial_product){view_rows(module->a, rank, rank), view_columns(module->b, rank, rank),
                                 -module->scale};
    return (initial_product){.scale = 0};
}

static balora_status check_finite(const plain_factors *self, const adapter_module *module, matrix_view factor,
                                  const char *what) {
    STATUS_TRY(adapter_download(self->adapter, factor, self->loaded));
    int64_t place = dtype_find_non_finite(BALORA_F32, self->loaded, factor.rows * factor.cols);
    if (place < 0)
        return BALORA_OK;
    return status_fail(BALORA_ERROR_NUMERIC, "%s: %s[%lld, %lld] is not finite; the adapter is not written",
                       module->name, what, (long long)(place / factor.cols),
                       (long long)(place % factor.cols));
}

static balora_status check_all_finite(const plain_factors *self) {
    for (int64_t i = 0; i < self->adapter->module_count; i++) {
        const adapter_module *module = &self->adapter->modules[i];
        STATUS_TRY(check_finite(self, module, module->a, "A"));
        STATUS_TRY(check_finite(self, module, module->b, "B"));
        if (self->adapter->use_dora)
            STATUS_TRY(check_finite(self, module, module->magnitude, "magnitude"));
        if (!module->has_initial)
            continue;
        STATUS_TRY(check_finite(self, module, module->a0, "A0"));
        STATUS_TRY(check_finite(self, module, module->b0, "B0"));
    }
    return BALORA_OK;
}

static balora_status allocate(plain_factors *self) {
    balora_adapter *adapter = self->adapter;
    balora_model *model = adapter->model;
    allocator *memory = &model->context->memory;
    int64_t elements = 0;
    for (int64_t i = 0; i < adapter->module_count; i++) {
        const adapter_module *module = &adapter->modules[i];
        const projection *part = module->projection;
        elements = arith_max(elements, arith_max(part->in, part->out) * plain_rank(module, false));
    }
    STATUS_TRY(memory_new(memory, &self->loaded, (size_t)elements, sizeof(float), "a factor"));
    STATUS_TRY(memory_new(memory, &self->values, (size_t)elements, sizeof(float), "a factor"));
    STATUS_TRY(staging_create(&self->stage, memory, &model->device, adapter->queue));
    arena_place(&self->narrowed, BALORA_F32, 1, arith_max(1, elements));
    return arena_allocate(&self->narrowed, &model->device);
}

balora_status plain_create(plain_factors *out, balora_adapter *adapter, bool trained_only) {
    *out = (plain_factors){.adapter = adapter, .trained_only = trained_only};
    STATUS_TRY(allocate(out));
    return check_all_finite(out);
}

void plain_free(plain_factors *self) {
    if (self->adapter == NULL)
        return;
    allocator *memory = &self->adapter->model->context->memory;
    memory_free(memory, self->loaded);
    memory_free(memory, self->values);
    arena_free(&self->narrowed);
    staging_free(&self->stage);
    *self = (plain_factors){0};
}

/* [A; A0]; of both halves, the first lies in front. */
static balora_status stack_rows(const plain_factors *self, const adapter_module *module) {
    STATUS_TRY(adapter_download(self->adapter, module->a, self->values));
    if (!module->has_initial || self->trained_only)
        return BALORA_OK;
    return adapter_download(self->adapter, module->a0, self->values + module->a.rows * module->a.cols);
}

/* sign * the first columns of `loaded` [out, rank of the module] into columns [first, first + count). */
static void place_columns(const plain_factors *self, const adapter_module *module, int64_t first,
                          int64_t count, float sign) {
    int64_t columns = plain_rank(module, self->trained_only);
    for (int64_t row = 0; row < module->b.rows; row++)
        for (int64_t column = 0; column < count; column++)
            self->values[row * columns + first + column] = sign * self->loaded[row * module->rank + column];
}

/* [B, -B0] */
static balora_status join_columns(const plain_factors *self, const adapter_module *module) {
    int64_t rank = plain_rank(module, self->trained_only);
    STATUS_TRY(adapter_download(self->adapter, module->b, self->loaded));
    place_columns(self, module, 0, arith_min(rank, module->rank), 1);
    if (!module->has_initial || self->trained_only)
        return BALORA_OK;
    STATUS_TRY(adapter_download(self->adapter, module->b0, self->loaded));
    place_columns(self, module, module->rank, module->rank, -1);
    return BALORA_OK;
}

balora_status plain_read(plain_factors *self, const adapter_module *module, factor_kind kind) {
    if (kind == FACTOR_MAGNITUDE)
        return adapter_download(self->adapter, module->magnitude, self->values);
    return kind == FACTOR_A ? stack_rows(self, module) : join_columns(self, module);
}

balora_status plain_emit(plain_factors *self, const char *name, int64_t count, int32_t dtype,
                         staging_sink sink, void *user) {
    const backend_ops *ops = self->adapter->model->device.ops;
    matrix_view room = view_make(self->narrowed.buffer, 0, BALORA_F32, 1, count);
    STATUS_TRY(ops->upload(self->adapter->queue, room.buffer, 0, self->values, view_bytes(room)));
    return staging_emit(&self->stage, name, room, dtype, sink, user);
}
