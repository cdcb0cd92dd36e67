/* Tensors of a PEFT adapter that are trained as they are: modules_to_save and biases. */
#ifndef ADAPTER_PEFT_TRAINED_H
#define ADAPTER_PEFT_TRAINED_H

#include "adapter/peft_config.h"
#include "adapter/peft_names.h"
#include "model/staging.h"

/* Is the tensor of that name trained as it is? `adapted`: its module has factors. */
bool peft_trains(const peft_config *config, const balora_model *model, const char *tensor, bool adapted);

/* UNSUPPORTED: the tensor is no factor, and not one that the configuration trains either. */
balora_status peft_check_trained(const peft_config *config, const balora_model *model,
                                 const tensor_files *files, const tensor_place *place);

/*
 * base_model.model.MODULE.weight. Layers that have factors hold their bias as MODULE.base_layer.bias.
 */
void peft_trained_name(char name[PEFT_NAME_BYTES], const balora_adapter *adapter, const char *tensor);

/*
 * Read the trained tensors of an adapter. NOT_FOUND: one of modules_to_save is missing; MISMATCH: an entry of that key is
 * the name of nothing.
 */
balora_status peft_read_trained(const peft_config *config, const tensor_files *files, balora_adapter *adapter,
                                staging *stage);

#endif
