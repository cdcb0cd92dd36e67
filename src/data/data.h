/* The data handle: a data set that belongs to a model's vocabulary. Immutable once open. */
#ifndef DATA_DATA_H
#define DATA_DATA_H

#include <stdatomic.h>

#include "balora/data.h"
#include "data/dataset.h"

struct balora_data {
    balora_model *model;
    _Atomic int references;
    dataset set;
};

balora_status data_open(balora_data **out, balora_model *model, const char *path,
                        const balora_data_options *options);
balora_status data_from_tokens(balora_data **out, balora_model *model, const int32_t *input_ids,
                               const int32_t *labels, const int64_t *offsets, int64_t sequences);
balora_data *data_retain(balora_data *data);
void data_release(balora_data *data); /* NULL is allowed */
void data_describe(const balora_data *data, balora_data_information *out);
balora_status data_sequence(const balora_data *data, int64_t index, const int32_t **input_ids,
                            const int32_t **labels, int64_t *length);

#endif
