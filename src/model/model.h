/* The model handle: description, weights on a device, where they came from. Immutable once open. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdatomic.h>

#include "balora/model.h"
#include "base/context.h"
#include "model/weights.h"

struct balora_model {
    balora_context *context;
    _Atomic int references;
    char *folder;
    model_config config;
    projection projections[PROJECTION_COUNT];
    backend device;
    weights weights;
};

balora_status model_open(balora_model **out, balora_context *context, const char *folder,
                         const balora_model_options *options);
balora_model *model_retain(balora_model *model);
void model_release(balora_model *model); /* NULL is allowed */
void model_describe(const balora_model *model, balora_model_information *out);

#endif
