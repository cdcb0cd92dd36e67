/* AdamW's arithmetic for one number. */
#ifndef CUDA_OPTIMIZER_CUH
#define CUDA_OPTIMIZER_CUH

#include <math.h>

#include "internal.h"

struct adamw_factors {
    float keep;          /* 1 - learning_rate * weight_decay */
    float first, second; /* 1 - beta1, 1 - beta2 */
    float beta2;
    float step_size;       /* learning_rate / (1 - beta1^t) */
    float root_correction; /* sqrt(1 - beta2^t) */
    float epsilon;
};

static inline adamw_factors adamw_factors_of(double learning_rate, double weight_decay, double beta1,
                                             double beta2, double epsilon, int64_t step) {
    adamw_factors factors = {};
    factors.keep = (float)(1 - learning_rate * weight_decay);
    factors.first = (float)(1 - beta1);
    factors.second = (float)(1 - beta2);
    factors.beta2 = (float)beta2;
    factors.step_size = (float)(learning_rate / (1 - pow(beta1, (double)step)));
    factors.root_correction = (float)sqrt(1 - pow(beta2, (double)step));
    factors.epsilon = (float)epsilon;
    return factors;
}

/* The order of operations is torch.optim.AdamW's. */
static __device__ __forceinline__ void adamw_number(const adamw_factors &f, float gradient, float &parameter,
                                                    float &first, float &second) {
    first += (gradient - first) * f.first;
    second = second * f.beta2 + f.second * gradient * gradient;
    float denominator = sqrtf(second) / f.root_correction + f.epsilon;
    parameter = parameter * f.keep - f.step_size * first / denominator;
}

#endif
