/* The regularizer set: its options, and the weights of its terms over a run (method: schedules of lambda). */
#ifndef REGULARIZER_SET_H
#define REGULARIZER_SET_H

#include <stdatomic.h>
#include <stdbool.h>

#include "balora/regularizer.h"
#include "base/context.h"

struct balora_regularizers {
    _Atomic int references;
    balora_context *context;
    balora_regularizer_options options;
    struct evaluator *evaluator; /* of regularizers_evaluate; NULL before its first call */
};

balora_status regularizers_create(balora_regularizers **out, balora_context *context,
                                  const balora_regularizer_options *options);
balora_regularizers *regularizers_retain(balora_regularizers *set);
void regularizers_release(balora_regularizers *set); /* NULL is allowed */

/* lambdas[0..2] at optimizer step `step` of `total`; `entropy` is the teacher's mean entropy over ln V. */
void regularizers_weights(const balora_regularizers *set, int64_t step, int64_t total, double entropy,
                          double lambdas[3]);

/* Does the set need the teacher's logits? Any term at all? */
bool regularizers_use_teacher(const balora_regularizers *set);
bool regularizers_any(const balora_regularizers *set);

#endif
