/* The trainer handle: optimizer steps over a data set. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "balora/trainer.h"
#include "data/data.h"
#include "optim/optimizer.h"
#include "regularizer/set.h"
#include "regularizer/spectral.h"
#include "train/pass.h"

/* What the host knows of a micro-batch before its terms come back. */
typedef struct micro_record {
    batch_counts counts;
    double lambdas[3];
    double svd_share; /* weight of its SVD term in the step */
    bool has_svd;
} micro_record;

struct balora_trainer {
    balora_adapter *adapter;
    balora_data *data;
    balora_optimizer *optimizer;
    balora_regularizers *regularizers; /* NULL: task loss only */
    balora_train_options options;
    data_order order;
    int32_t row_kind; /* BATCH_ROWS_... */
    int64_t step;     /* steps done */
    int64_t skipped_in_a_row;
    pass pass;
    spectral_term spectral; /* empty where the SVD term is off */
    arena scalars;
    matrix_view sums;             /* F64 [micro-batches of a step, LOSS_COLUMNS] */
    matrix_view svd_values;       /* F64 [1, micro-batches of a step] */
    matrix_view norm;             /* F64 [1, 1]: sum of squares of the gradient */
    matrix_view clip;             /* F32 [1, 1] */
    matrix_view regularized_rows; /* I32 [1, M]: rows on which the regularizers act, among the needed ones */
    matrix_view regularized_hidden; /* F32 [M, hidden] */
    int32_t *host_rows;             /* [M] */
    double *host_sums; /* [micro-batches, LOSS_COLUMNS], then SVD values; before a step ends, entropies [M] */
    micro_record *records; /* [micro-batches] */
    double host_norm;      /* sum of squares of the gradient, at the end of a step */
    bool use_graph;        /* steps after the first run as one graph of the device */
};

balora_status trainer_create(balora_trainer **out, balora_adapter *adapter, balora_data *data,
                             const balora_train_options *options);
void trainer_release(balora_trainer *trainer); /* NULL is allowed */
balora_status trainer_step(balora_trainer *trainer, balora_step_metrics *metrics);
void trainer_describe(const balora_trainer *trainer, balora_trainer_information *out);

/* Does a term of the set count in this run? */
bool trainer_uses_svd(const balora_trainer *trainer);
bool trainer_uses_diversity(const balora_trainer *trainer);

#endif
