/* Learning-rate schedules, as Hugging Face Transformers defines them. */
#ifndef OPTIM_SCHEDULE_H
#define OPTIM_SCHEDULE_H

#include <stdint.h>

/*
 * The learning rate at optimizer step `step` (from 0) of `total`: rises over ceil(warmup_ratio total) steps,
 * then falls to 0 along a cosine or a line. The constant schedule has no warm-up. `schedule` is BALORA_LR_...
 */
double schedule_learning_rate(int32_t schedule, double peak, double warmup_ratio, int64_t step,
                              int64_t total);

#endif
