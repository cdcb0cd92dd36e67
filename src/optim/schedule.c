#include "optim/schedule.h"

#include <math.h>

#include "balora/types.h"

#define PI 3.14159265358979323846

double schedule_learning_rate(int32_t schedule, double peak, double warmup_ratio, int64_t step,
                              int64_t total) {
    if (schedule == BALORA_LR_CONSTANT)
        return peak;
    double t = (double)step, warmup = ceil(warmup_ratio * (double)total);
    if (t < warmup)
        return peak * t / fmax(1, warmup);
    double progress = (t - warmup) / fmax(1, (double)total - warmup);
    if (schedule == BALORA_LR_LINEAR)
        return peak * fmax(0, 1 - progress);
    return peak * fmax(0, 0.5 * (1 + cos(PI * progress)));
}
