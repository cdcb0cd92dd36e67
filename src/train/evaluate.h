/* Evaluation of a model, with or without adapter, on a data set. */
#ifndef TRAIN_EVALUATE_H
#define TRAIN_EVALUATE_H

#include "balora/trainer.h"
#include "data/data.h"
#include "train/pass.h"

balora_status evaluate_model(balora_evaluation *out, balora_model *model, balora_adapter *adapter,
                             balora_data *data, balora_logits_callback logits, void *user);

#endif
