/* The choice of modules of balora_adapter_options. */
#ifndef ADAPTER_OPTION_RULES_H
#define ADAPTER_OPTION_RULES_H

#include "adapter/rules.h"

/*
 * ARGUMENT, naming the option: a text of another form, or a part of it that chooses nothing of this model, so that a
 * misspelt name is never dropped. The rules are to be freed in any case.
 */
balora_status option_rules_read(module_rules *out, const balora_model *model,
                                const balora_adapter_options *options);

#endif
