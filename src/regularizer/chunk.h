/* The rows of a host's logits, part by part: what an evaluation (evaluate.c) does with each. */
#ifndef REGULARIZER_CHUNK_H
#define REGULARIZER_CHUNK_H

#include "regularizer/evaluate.h"
#include "regularizer/evaluator.h"
#include "regularizer/selection.h"

/* One call under way. */
typedef struct evaluation {
    balora_regularizers *set;
    const balora_regularizer_options *options;
    const evaluate_request *request;
    evaluator *room;
    tensor_rows student, teacher, gradient; /* zeroed: not given */
    selection valid;
    bool active[3]; /* consistency, diversity, svd */
    bool divergence, normalized, entropy, covariance, svd;
    double lambdas[3];
    double relative_entropy;
    double sums[LOSS_COLUMNS];
    int64_t first_not_finite; /* a row whose terms are not; -1: none */
} evaluation;

/* A part of the student's valid rows: those that `rows` names in `logits`, or all of them where it is none. */
typedef struct logit_part {
    matrix_view logits, rows;
    int64_t first_column;
} logit_part;

typedef balora_status (*part_body)(evaluation *run, const logit_part *part);

/* All valid rows in one part where they lie in place; else in pieces of some columns of all of them (`by_rows`), or of
 * some of them with all columns. */
balora_status chunk_for_parts(evaluation *run, bool by_rows, part_body body);

/* The teacher's mean entropy at the set's temperature over the valid rows, over ln V. */
balora_status chunk_teacher_entropy(evaluation *run, double *out);

/* Terms of single rows, and the gradient of all terms, chunk by chunk; sums over the rows stay in *run. */
balora_status chunk_run_all(evaluation *run);

#endif
