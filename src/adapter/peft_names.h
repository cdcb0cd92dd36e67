/* Names and shapes of tensors in PEFT's adapter files. */
#ifndef ADAPTER_PEFT_NAMES_H
#define ADAPTER_PEFT_NAMES_H

#include "adapter/plain.h"

#define PEFT_NAME_PREFIX "base_model.model."
#define PEFT_NAME_BYTES  160

/* base_model.model.MODULE.lora_A.weight, .lora_B.weight or .lora_magnitude_vector */
void peft_factor_name(char name[PEFT_NAME_BYTES], const char *module, factor_kind kind);
/* MODULE.lora_magnitude_vector.weight, which some versions of PEFT wrote. */
void peft_old_magnitude_name(char name[PEFT_NAME_BYTES], const char *module);

/* The kind of factor that a tensor's name calls, and its module [*length]; FACTOR_COUNT for any other name. */
factor_kind peft_parse_name(const char *name, const char **module, size_t *length);

/* The projection that `name` [length] calls, "model.layers.N.self_attn.q_proj"; NULL when the model lacks it. */
const projection *peft_find_module(const balora_model *model, const char *name, size_t length);

#endif
