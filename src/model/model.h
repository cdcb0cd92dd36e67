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
    int32_t tf32; /* as the options have it */
    weights weights;
    int32_t activation_dtype; /* BF16 where weights and device have it, else F32 */
    int64_t logit_bytes;      /* of a chunk of logits, as the device likes it */
};

balora_status model_open(balora_model **out, balora_context *context, const char *folder,
                         const balora_model_options *options);

/* Makes model->weights and fills them; configuration, projections and device are there. */
typedef balora_status (*model_loader)(balora_model *model, backend_queue *queue, int32_t dtype);

/* model_open with weights from elsewhere than the folder, of which config.json alone is read. */
balora_status model_build(balora_model **out, balora_context *context, const char *folder,
                          const balora_model_options *options, model_loader load);

/* A queue on the model's device, with the arithmetic that the model was opened for. */
balora_status model_queue(balora_model *model, backend_queue **out);

balora_model *model_retain(balora_model *model);
void model_release(balora_model *model); /* NULL is allowed */
void model_describe(const balora_model *model, balora_model_information *out);

#endif
