#include "data/data.h"

#include <string.h>
#include <strings.h>

#include "base/status.h"
#include "data/jsonl.h"
#include "data/token_file.h"
#include "model/model.h"

#define DEFAULT_JSONL_LENGTH 512 /* tokens kept of a row, as the paper's runs */

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcasecmp(text + length - end_length, end) == 0;
}

static balora_status read_jsonl(dataset *out, const balora_model *model, const char *path,
                                const balora_data_options *options) {
    jsonl_options rows = {.folder = model->folder,
                          .fields = options->fields,
                          .vocabulary = model->config.vocabulary,
                          .max_length = options->max_length > 0 ? options->max_length : DEFAULT_JSONL_LENGTH};
    return jsonl_read(out, &model->context->memory, path, &rows);
}

static balora_status read_file(dataset *out, const balora_model *model, const char *path,
                               const balora_data_options *options) {
    if (ends_with(path, ".jsonl"))
        return read_jsonl(out, model, path, options);
    if (!ends_with(path, ".safetensors"))
        return status_fail(BALORA_ERROR_UNSUPPORTED, "%s: expected a data file named .jsonl or .safetensors",
                           path);
    if (options->fields != NULL)
        return status_fail(BALORA_ERROR_ARGUMENT, "%s: fields was given, but a token file has none", path);
    return token_file_read(out, &model->context->memory, path, model->config.vocabulary, options->max_length);
}

/* A handle around a data set, which it takes over: on failure too. */
static balora_status wrap(balora_data **out, balora_model *model, dataset *set) {
    balora_data *data;
    balora_status status = memory_zeroed(&model->context->memory, &data, 1, sizeof *data, "a data handle");
    if (status != BALORA_OK) {
        dataset_free(set);
        return status;
    }
    data->model = model_retain(model);
    atomic_init(&data->references, 1);
    data->set = *set;
    *out = data;
    return BALORA_OK;
}

balora_status data_open(balora_data **out, balora_model *model, const char *path,
                        const balora_data_options *options) {
    dataset set;
    STATUS_TRY(read_file(&set, model, path, options));
    return wrap(out, model, &set);
}

balora_status data_from_tokens(balora_data **out, balora_model *model, const int32_t *input_ids,
                               const int32_t *labels, const int64_t *offsets, int64_t sequences) {
    dataset set;
    STATUS_TRY(dataset_from_tokens(&set, &model->context->memory, input_ids, labels, offsets, sequences,
                                   model->config.vocabulary));
    return wrap(out, model, &set);
}

balora_data *data_retain(balora_data *data) {
    atomic_fetch_add(&data->references, 1);
    return data;
}

void data_release(balora_data *data) {
    if (data == NULL || atomic_fetch_sub(&data->references, 1) != 1)
        return;
    balora_model *model = data->model;
    dataset_free(&data->set);
    memory_free(&model->context->memory, data);
    model_release(model);
}

void data_describe(const balora_data *data, balora_data_information *out) {
    const dataset *set = &data->set;
    *out = (balora_data_information)BALORA_DATA_INFORMATION_INIT;
    out->sequences = set->sequences;
    out->tokens = set->tokens;
    out->supervised_tokens = set->supervised_tokens;
    out->longest_sequence = set->longest_sequence;
    out->skipped_rows = set->skipped_rows;
    out->truncated_rows = set->truncated_rows;
}

balora_status data_sequence(const balora_data *data, int64_t index, const int32_t **input_ids,
                            const int32_t **labels, int64_t *length) {
    const dataset *set = &data->set;
    if (index < 0 || index >= set->sequences)
        return status_fail(BALORA_ERROR_ARGUMENT, "sequence %lld; expected 0 to %lld", (long long)index,
                           (long long)set->sequences - 1);
    *input_ids = set->ids + set->offsets[index];
    *labels = set->labels + set->offsets[index];
    *length = dataset_length(set, index);
    return BALORA_OK;
}
