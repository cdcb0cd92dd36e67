/*
 * Tensors of the model that are trained as they are. The student's weights are the model's with these in their places;
 * method full is the case where it is all of them.
 */
#include <stdio.h>

#include "adapter/layout.h"
#include "base/arith.h"
#include "base/status.h"

/* How many parts a field of the student's weights has, and how many of them are trained. */
static void count_parts(const weights *student, const bool *chosen, const matrix_view *field, int64_t *parts,
                        int64_t *trained) {
    *parts = *trained = 0;
    for (int64_t i = 0; i < student->tensor_count; i++)
        if (student->tensors[i].field == field) {
            ++*parts;
            *trained += chosen[i];
        }
}

/* The field's place in the table; a new one where none of its tensors was there before. */
static int64_t find_field(balora_adapter *adapter, const bool *chosen, int64_t index) {
    const named_tensor *tensor = &adapter->student.tensors[index];
    for (int64_t i = adapter->field_count - 1; i >= 0; i--)
        if (adapter->fields[i].student == tensor->field)
            return i;
    int64_t parts, trained;
    count_parts(&adapter->student, chosen, tensor->field, &parts, &trained);
    adapter->fields[adapter->field_count] =
        (trained_field){.student = tensor->field,
                        .gradient = adapter->gradient_views.tensors[index].field,
                        .base = *tensor->field,
                        .whole = parts == trained,
                        .rank = tensor->rank};
    return adapter->field_count++;
}

static balora_status make_tables(balora_adapter *adapter, const bool *chosen) {
    allocator *memory = &adapter->model->context->memory;
    const weights *student = &adapter->student;
    size_t count = (size_t)adapter->trained_count;
    STATUS_TRY(
        memory_zeroed(memory, &adapter->trained, count, sizeof *adapter->trained, "a table of tensors"));
    STATUS_TRY(memory_zeroed(memory, &adapter->fields, count, sizeof *adapter->fields, "a table of tensors"));
    STATUS_TRY(memory_zeroed(memory, &adapter->trained_groups,
                             (size_t)(adapter->model->config.layers * GROUP_COUNT),
                             sizeof *adapter->trained_groups, "a table of trained groups"));
    trained_tensor *next = adapter->trained;
    for (int64_t i = 0; i < student->tensor_count; i++)
        if (chosen[i])
            *next++ =
                (trained_tensor){.tensor = &student->tensors[i], .field = find_field(adapter, chosen, i)};
    return BALORA_OK;
}

/* Gradients by the same names: none, until there are some. */
static balora_status make_gradient_views(balora_adapter *adapter, const model_config *config) {
    balora_model *model = adapter->model;
    STATUS_TRY(weights_share(&adapter->gradient_views, &model->context->memory, &model->weights, config));
    for (int64_t i = 0; i < adapter->gradient_views.tensor_count; i++)
        *adapter->gradient_views.tensors[i].field = view_none();
    adapter->gradient_views.head = view_none();
    return BALORA_OK;
}

balora_status adapter_list_trained(balora_adapter *adapter, const adapter_shape *shape) {
    balora_model *model = adapter->model;
    allocator *memory = &model->context->memory;
    model_config config = model->config;
    bool *chosen = NULL;
    balora_status status;
    config.tied_embeddings = config.tied_embeddings && !shape->untied;
    STATUS_GOTO(weights_share(&adapter->student, memory, &model->weights, &config));
    STATUS_GOTO(memory_zeroed(memory, &chosen, (size_t)adapter->student.tensor_count, sizeof *chosen,
                              "a list of tensors"));
    for (int64_t i = 0; i < adapter->student.tensor_count; i++) {
        chosen[i] = shape->trains(adapter, &adapter->student.tensors[i], shape->user);
        adapter->trained_count += chosen[i];
    }
    if (adapter->trained_count > 0) {
        STATUS_GOTO(make_gradient_views(adapter, &config));
        STATUS_GOTO(make_tables(adapter, chosen));
    }
fail:
    memory_free(memory, chosen);
    return status;
}

void adapter_place_trained(balora_adapter *adapter, arena *plan, bool gradients) {
    for (int64_t i = 0; i < adapter->field_count; i++) {
        trained_field *field = &adapter->fields[i];
        if (field->whole)
            *(gradients ? &field->whole_gradient : &field->value) =
                arena_place(plan, BALORA_F32, field->base.rows, field->base.cols);
    }
    for (int64_t i = 0; i < adapter->trained_count; i++) {
        trained_tensor *trained = &adapter->trained[i];
        const trained_field *field = &adapter->fields[trained->field];
        const matrix_view shape = trained->tensor->view;
        *(gradients ? &trained->gradient : &trained->value) =
            field->whole ? weights_part(trained->tensor, gradients ? field->whole_gradient : field->value)
                         : arena_place(plan, BALORA_F32, shape.rows, shape.cols);
    }
}

void adapter_place_copies(balora_adapter *adapter, arena *plan) {
    for (int64_t i = 0; i < adapter->field_count; i++) {
        trained_field *field = &adapter->fields[i];
        if (!field->whole)
            field->value = arena_place(plan, BALORA_F32, field->base.rows, field->base.cols);
    }
}

balora_status adapter_start_trained(balora_adapter *adapter) {
    const backend_ops *ops = adapter->model->device.ops;
    for (int64_t i = 0; i < adapter->trained_count; i++) {
        const trained_tensor *trained = &adapter->trained[i];
        STATUS_TRY(ops->copy(adapter->queue, trained->value, trained->tensor->view));
    }
    for (int64_t i = 0; i < adapter->field_count; i++) {
        const trained_field *field = &adapter->fields[i];
        if (!field->whole)
            STATUS_TRY(ops->copy(adapter->queue, field->value, field->base));
        *field->student = field->value;
    }
    if (adapter_ties_head(adapter))
        adapter->student.head = adapter->student.embedding;
    return BALORA_OK;
}

/* The gradients of a group's field, weights or biases, as parts. */
static void add_parts(const balora_adapter *adapter, const matrix_view *field, trained_group *group) {
    for (int64_t i = 0; i < adapter->trained_count; i++) {
        const trained_tensor *trained = &adapter->trained[i];
        const trained_field *own = &adapter->fields[trained->field];
        if (own->student != field || (own->whole && trained->tensor->first > 0))
            continue;
        matrix_view gradient = own->whole ? own->whole_gradient : trained->gradient;
        trained_part *part = &group->parts[group->count++];
        *part = (trained_part){.first = own->whole ? 0 : trained->tensor->first};
        part->out = own->rank == 1 ? gradient.cols : gradient.rows;
        *(own->rank == 1 ? &part->bias : &part->weight) = gradient;
    }
}

void adapter_connect_gradients(balora_adapter *adapter) {
    for (int64_t i = 0; i < adapter->field_count; i++)
        *adapter->fields[i].gradient = adapter->fields[i].whole_gradient;
    if (adapter->trained_count == 0)
        return;
    if (adapter_ties_head(adapter))
        adapter->gradient_views.head = adapter->gradient_views.embedding;
    for (int64_t layer = 0; layer < adapter->model->config.layers; layer++)
        for (int index = 0; index < GROUP_COUNT; index++) {
            const linear_weights *own = &adapter->student.layers[layer].groups[index];
            trained_group *group = &adapter->trained_groups[layer * GROUP_COUNT + index];
            group->count = 0;
            add_parts(adapter, &own->weight, group);
            add_parts(adapter, &own->bias, group);
        }
}

const weights *adapter_student(const balora_adapter *adapter) {
    return adapter->trained_count > 0 ? &adapter->student : &adapter->model->weights;
}

bool adapter_ties_head(const balora_adapter *adapter) {
    const weights *base = &adapter->model->weights;
    return adapter->model->config.tied_embeddings && adapter->trained_count > 0 &&
           adapter->student.tensor_count == base->tensor_count &&
           !view_same(adapter->student.embedding, base->embedding);
}

bool adapter_unties_head(const balora_adapter *adapter) {
    const weights *student = adapter_student(adapter);
    return adapter->model->config.tied_embeddings && !view_same(student->head, student->embedding);
}

bool adapter_trains_head(const balora_adapter *adapter) {
    return !view_same(adapter_student(adapter)->head, adapter->model->weights.head);
}

bool adapter_trains_matrices(const balora_adapter *adapter) {
    for (int64_t i = 0; i < adapter->trained_count; i++)
        if (!adapter->trained[i].tensor->wide)
            return true;
    return false;
}

/* The layer whose field this is; that of the head and the final norm counts as above all, the embedding's as below. */
static int64_t layer_of(const balora_adapter *adapter, const matrix_view *field) {
    const weights *student = &adapter->student;
    if (field == &student->embedding)
        return 0;
    for (int64_t layer = 0; layer < adapter->model->config.layers; layer++)
        if ((const char *)field >= (const char *)&student->layers[layer] &&
            (const char *)field < (const char *)&student->layers[layer + 1])
            return layer;
    return adapter->model->config.layers;
}

int64_t adapter_lowest_layer(const balora_adapter *adapter) {
    int64_t lowest = adapter->model->config.layers;
    for (int64_t i = 0; i < adapter->module_count; i++)
        lowest = arith_min(lowest, adapter->modules[i].layer);
    for (int64_t i = 0; i < adapter->field_count; i++)
        lowest = arith_min(lowest, layer_of(adapter, adapter->fields[i].student));
    return lowest;
}
