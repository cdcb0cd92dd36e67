/* The trainer handle: optimizer steps over a data set. */
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "balora/trainer.h"
#include "data/data.h"
#include "format/json.h"
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

/* What a whole run adds to the state of its trainer, so that a checkpoint has it. */
typedef struct run_state {
    int64_t evaluated_step; /* of the last evaluation; 0: none */
    int64_t best_step;      /* of the least loss; 0: none */
    int64_t stale;          /* evaluations since then */
    double best_loss;
} run_state;

/* The last resume's findings, as its information struct borrows them. */
typedef struct resume_texts {
    char *path, *skipped; /* owned */
} resume_texts;

struct balora_trainer {
    balora_adapter *adapter;
    balora_data *data;
    balora_optimizer *optimizer;
    balora_regularizers *regularizers; /* NULL: task loss only */
    balora_train_options options;
    data_order order;
    int32_t row_kind;                  /* BATCH_ROWS_... */
    int64_t step;                      /* steps done */
    int64_t skipped, skipped_in_a_row; /* of them without effect */
    int64_t saved_step;                /* of the newest checkpoint of this state's past; 0: none */
    run_state run;
    resume_texts resumed;
    uint32_t model_sum, data_sum, group_sum; /* fingerprints, */
    bool has_sums;                           /* once they were asked for */
    const json_t *run_options; /* inside balora_trainer_run: what its checkpoints name; else NULL */
    bool ended;                /* with the best adapter in place of the last one */
    bool torn;                 /* a resume failed in the middle */
    pass pass;
    spectral_term spectral;     /* empty where the SVD term is off, or logits are soft-capped */
    spectral_logits capped_svd; /* what takes its place there */
    arena scalars;
    matrix_view sums;       /* F64 [micro-batches of a step, LOSS_COLUMNS] */
    matrix_view svd_values; /* F64 [1, micro-batches of a step] */
    matrix_view norm;       /* F64 [1, 1]: sum of squares of the gradient */
    matrix_view clip;       /* F32 [1, 1] */
    matrix_view
        regularized_rows; /* I32 [2, M]: rows on which the regularizers act: among the needed ones, and each
                                     within its chunk of logits */
    matrix_view regularized_hidden; /* F32 [M, hidden] */
    int32_t *host_rows;             /* [2, M] */
    double *host_sums; /* [micro-batches, LOSS_COLUMNS], then SVD values; before a step ends, entropies [M] */
    micro_record *records; /* [micro-batches] */
    double host_norm;      /* sum of squares of the gradient, at the end of a step */
    bool use_graph;        /* steps after the first run as one graph of the device */
};

balora_status trainer_create(balora_trainer **out, balora_adapter *adapter, balora_data *data,
                             const balora_train_options *options);
void trainer_release(balora_trainer *trainer); /* NULL is allowed */
balora_status trainer_step(balora_trainer *trainer, balora_step_metrics *metrics);
/* The state is whole and may go on or be kept: STATE otherwise, saying why. */
balora_status trainer_check_state(const balora_trainer *trainer);
void trainer_describe(const balora_trainer *trainer, balora_trainer_information *out);

/* Does a term of the set count in this run? */
bool trainer_uses_svd(const balora_trainer *trainer);
bool trainer_uses_diversity(const balora_trainer *trainer);

#endif
