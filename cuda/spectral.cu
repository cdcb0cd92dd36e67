/* Coefficients of the SVD term's gradient. */
#include "internal.h"
#include "reduce.cuh"
#include "slots.h"

enum { SPECTRAL_THREADS = 256 };

/* The Gram matrix's eigenvalues are squares; rounding may leave a small one negative. NaN stays. */
static __device__ __forceinline__ double singular_value(double eigenvalue) {
    return eigenvalue <= 0 ? 0 : sqrt(eigenvalue);
}

/* One block; see ops.h for the formulas. */
static __global__ void __launch_bounds__(SPECTRAL_THREADS)
    spectral(const double *eigenvalues, const double *trace, double *weights, double *gamma, double *value,
             double scale, double value_scale, int64_t count, int64_t top_count, int nuclear) {
    __shared__ double pieces[SPECTRAL_THREADS / 32];
    double top = 0, all = 0;
    for (int64_t i = threadIdx.x; i < count; i += SPECTRAL_THREADS) {
        double sigma = singular_value(eigenvalues[i]);
        all += sigma;
        top += i < top_count ? sigma : 0;
    }
    top = block_reduce<sum_of>(top, pieces);
    all = block_reduce<sum_of>(all, pieces);
    double norm = nuclear ? all : singular_value(*trace);
    bool absent = norm <= 1e-8;
    double floor = count > 0 ? sqrt((double)count) * 1e-7 * singular_value(eigenvalues[0]) : 0;
    for (int64_t i = threadIdx.x; i < count; i += SPECTRAL_THREADS) {
        double sigma = singular_value(eigenvalues[i]), along = nuclear ? top / (norm * norm) : 0;
        if (i < top_count)
            along -= 1 / norm;
        bool unused = absent || sigma == 0 || (nuclear ? sigma <= floor : i >= top_count);
        weights[i] = unused ? 0 : scale * along / sigma;
    }
    if (threadIdx.x != 0)
        return;
    *gamma = absent || nuclear ? 0 : scale * top / (norm * norm * norm);
    *value += absent ? 0 : -value_scale * top / norm;
}

balora_status cuda_spectral_coefficients(backend_queue *queue, const spectral_coefficients *args) {
    const char *slot = "spectral_coefficients";
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check(slot, "eigenvalues", args->eigenvalues, 1, ANY_SIZE, IN_F64));
    CUDA_TRY(operand_check(slot, "trace", args->trace, 1, 1, IN_F64));
    CUDA_TRY(operand_check(slot, "weights", args->weights, 1, args->eigenvalues.cols, IN_F64));
    CUDA_TRY(operand_check(slot, "gamma", args->gamma, 1, 1, IN_F64));
    CUDA_TRY(operand_check(slot, "value", args->value, 1, 1, IN_F64));
    if (args->norm != BALORA_SVD_FROBENIUS && args->norm != BALORA_SVD_NUCLEAR)
        return CUDA_INTERNAL("cuda %s: unknown norm %d", slot, args->norm);
    if (args->top < 0 || args->top > args->eigenvalues.cols)
        return CUDA_INTERNAL("cuda %s: the first %lld of %lld values", slot, (long long)args->top,
                             (long long)args->eigenvalues.cols);
    return launch(queue, slot, spectral, dim3(1), SPECTRAL_THREADS, 0, view_data<double>(args->eigenvalues),
                  view_data<double>(args->trace), view_data<double>(args->weights),
                  view_data<double>(args->gamma), view_data<double>(args->value), args->scale,
                  args->value_scale, args->eigenvalues.cols, args->top,
                  (int)(args->norm == BALORA_SVD_NUCLEAR));
}
