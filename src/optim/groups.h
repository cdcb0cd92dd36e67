/* Groups of trained tensors, chosen by name, each with rates of its own. */
#ifndef OPTIM_GROUPS_H
#define OPTIM_GROUPS_H

#include "backend/ops.h"
#include "balora/optimizer.h"

#define GROUP_RULES 7 /* with the plain rule, and each with LoRA+ or without: OPTIMIZER_GROUPS at most */

/* "lora_A=0.5:0.01" of the option parameter_groups. */
typedef struct group_rule {
    const char *pattern; /* in the option's text; not closed */
    size_t length;
    double factor, weight_decay;
} group_rule;

typedef struct group_set {
    group_rule rules[GROUP_RULES];
    int rule_count;
    double lora_plus_ratio, weight_decay;
    struct {
        double factor, weight_decay;
    } groups[OPTIMIZER_GROUPS];
    int32_t count; /* of groups in use */
} group_set;

/* Read the options' rules, whose text must stay while groups are looked for. ARGUMENT: naming the wrong piece. */
balora_status groups_read(group_set *out, const balora_optimizer_options *options);

/* The number of the group that the tensor of that name is of. */
int32_t groups_find(group_set *self, const char *name);

/* What a step at this learning rate takes. */
void groups_rates(const group_set *self, double learning_rate, optimizer_group out[OPTIMIZER_GROUPS]);

#endif
