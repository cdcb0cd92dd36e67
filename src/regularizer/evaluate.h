/* One evaluation of the regularizer set on a host's logits: terms, weights, gradient. */
#ifndef REGULARIZER_EVALUATE_H
#define REGULARIZER_EVALUATE_H

#include "regularizer/set.h"

/* What a call asks for; all tensors are checked by themselves, NULL: not given. */
typedef struct evaluate_request {
    const balora_tensor *student, *teacher, *gradient;
    const balora_tensor *mask, *indices;
    const double *lambdas;     /* [3], or NULL: by the schedules */
    int64_t step, total_steps; /* total_steps 0: no schedule but the adaptive one */
    double scale;              /* of the gradient */
    bool accumulate;
} evaluate_request;

/* `out` is overwritten. */
balora_status regularizers_evaluate(balora_regularizers *set, const evaluate_request *request,
                                    balora_regularizer_terms *out);

#endif
