/*
 * libbalora: fine-tune language models with BA-LoRA. Include this one header.
 *
 * Conventions: functions return balora_status; results come through pointers that stand first and are NULL
 * (or untouched, for structs) after a failure. Handles are freed with balora_X_free, which takes NULL, in any
 * order: children keep their parents alive. Strings are UTF-8. Option structs begin with their size: start
 * from their _INIT macro. Pointers that a function returns are borrowed from the handle unless it says
 * "owned".
 */
#ifndef BALORA_H
#define BALORA_H

#include "balora/adapter.h"
#include "balora/context.h"
#include "balora/data.h"
#include "balora/model.h"
#include "balora/optimizer.h"
#include "balora/options.h"
#include "balora/pissa.h"
#include "balora/regularizer.h"
#include "balora/run.h"
#include "balora/status.h"
#include "balora/tensor.h"
#include "balora/tokenizer.h"
#include "balora/trainer.h"
#include "balora/types.h"
#include "balora/version.h"

#endif
