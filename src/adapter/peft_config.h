/* adapter_config.json of PEFT: what is read of it, and what is written. */
#ifndef ADAPTER_PEFT_CONFIG_H
#define ADAPTER_PEFT_CONFIG_H

#include "adapter/rules.h"
#include "format/json.h"

#define PEFT_CONFIG_FILE  "adapter_config.json"
#define PEFT_WEIGHTS_STEM "adapter_model"
#define PEFT_RANK_LIMIT   65536

typedef struct peft_config {
    json_t *document; /* owned */
    char *path;       /* owned: for messages */
    int64_t rank;
    double alpha;
    bool use_rslora, use_dora;
    double dropout;
    bool tying; /* a tied head stays tied when one of the two is trained whole */
    module_rules rules;
} peft_config;

/*
 * Read FOLDER/adapter_config.json. A key that would change the computation, and that is not honoured here, is
 * UNSUPPORTED; one that this version has never heard of is, too, unless its value switches it off.
 */
balora_status peft_config_read(peft_config *out, balora_context *context, const char *folder);
void peft_config_free(peft_config *self, allocator *memory); /* also on a zeroed one */

/* peft_rules.c: self->rules from the document, for peft_config_read. */
balora_status peft_rules_read(peft_config *self, allocator *memory);

/* Write the configuration of `adapter` as plain LoRA, see plain.h. */
balora_status peft_config_write(const balora_adapter *adapter, bool trained_only, const char *folder,
                                const char *base_model);

#endif
