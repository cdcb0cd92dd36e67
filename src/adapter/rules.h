/*
 * What an adapter has of a model, by names: which modules get factors, of which rank and alpha, and which tensors are
 * trained as they are. As PEFT decides it; read from its configuration (peft_rules.c) or from our own options
 * (option_rules.c).
 */
#ifndef ADAPTER_RULES_H
#define ADAPTER_RULES_H

#include "adapter/adapter.h"
#include "adapter/names.h"

typedef struct module_rules {
    allocator *memory;
    name_set targets, excluded;
    bool by_layer;   /* only modules of the layers below */
    int64_t *layers; /* [layer_count] */
    int64_t layer_count;
    name_figures
        layer_patterns; /* what stands before a layer's number; empty: anything. Figures are not used */
    name_figures ranks, alphas;
    name_set saved;     /* modules_to_save: names that end so are trained whole */
    int32_t bias;       /* BALORA_BIAS_... */
    name_set principal; /* modules whose factors start as PiSSA's */
} module_rules;

void rules_free(module_rules *self); /* also on a zeroed one */

/* The key that keeps the module from having factors, "exclude_modules"; NULL: it has. */
const char *rules_refusing_key(const module_rules *self, const char *name);

/* Give the module the rank and alpha that patterns say. */
void rules_set_figures(const module_rules *self, adapter_module *module);

/* Is the module, or one that it lies in, trained whole? */
bool rules_save(const module_rules *self, const char *module);

/* Is the tensor of that name trained as it is? `adapted`: its module has factors. */
bool rules_train(const module_rules *self, const char *tensor, bool adapted);

/* Let the adapter keep what its file will say: the modules that are trained whole, and which biases. */
void rules_give(module_rules *self, balora_adapter *adapter);

/* The module of a tensor, "model.norm" of "model.norm.weight". */
void rules_module_of(char module[sizeof((named_tensor *)0)->name], const char *tensor);

#endif
