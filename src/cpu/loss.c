/* The loss head over a chunk of rows, entropies, and the coefficients of the SVD term. */
#include <math.h>

#include "cpu/internal.h"

typedef struct loss_call {
    const cpu_kernels *kernels;
    const loss_head_rows *args;
    float *scratch;
    int64_t scratch_stride;
} loss_call;

static void loss_rows(int64_t begin, int64_t end, int thread, void *user) {
    const loss_call *call = user;
    const loss_head_rows *args = call->args;
    for (int64_t i = begin; i < end; i++) {
        loss_row row = {
            .logits = view_row(args->logits, i),
            .teacher = is_none(args->teacher) ? NULL : view_row(args->teacher, i),
            .slope = view_row(is_none(args->gradient_out) ? args->logits : args->gradient_out, i),
            .vocabulary = args->logits.cols,
            .top_k = args->top_k,
            .target = view_i32(args->targets)[i],
            .regularized = view_i32(args->regularized)[i],
            .gradient = args->gradient,
            .task_weight = args->task_weight,
            .consistency_weight = args->consistency_weight,
            .diversity_weight = args->diversity_weight,
            .temperature = args->temperature,
            .terms = view_row(args->terms, i),
            .scratch = call->scratch + thread * call->scratch_stride,
        };
        call->kernels->loss_row(&row);
    }
}

balora_status cpu_loss_head(backend_queue *queue, const loss_head_rows *args) {
    int64_t rows = args->logits.rows, vocabulary = args->logits.cols;
    STATUS_TRY(operand_check("loss_head", "logits", args->logits, ANY_SIZE, ANY_SIZE, IN_F32));
    if (!is_none(args->teacher))
        STATUS_TRY(operand_check("loss_head", "teacher", args->teacher, rows, vocabulary, IN_F32));
    STATUS_TRY(operand_check("loss_head", "targets", args->targets, 1, rows, IN_I32));
    STATUS_TRY(operand_check("loss_head", "regularized", args->regularized, 1, rows, IN_I32));
    STATUS_TRY(operand_check("loss_head", "terms", args->terms, rows, LOSS_COLUMNS, IN_F64));
    if (!is_none(args->gradient_out))
        STATUS_TRY(operand_check("loss_head", "gradient_out", args->gradient_out, rows, vocabulary, IN_F32));
    STATUS_TRY(indices_check("loss_head", "targets", args->targets, -1, vocabulary));
    if (vocabulary < 1 || vocabulary > INT32_MAX || args->top_k < 0 || !(args->temperature > 0))
        return status_fail(BALORA_ERROR_INTERNAL,
                           "cpu loss_head: vocabulary %lld, top_k %lld, temperature %g",
                           (long long)vocabulary, (long long)args->top_k, (double)args->temperature);
    loss_call call = {.kernels = queue->kernels, .args = args};
    STATUS_TRY(scratch_threads(queue, loss_scratch(vocabulary), &call.scratch, &call.scratch_stride));
    parallel_for(rows, row_grain(vocabulary), loss_rows, &call);
    return BALORA_OK;
}

typedef struct entropy_call {
    const cpu_kernels *kernels;
    matrix_view logits, out;
    float temperature;
} entropy_call;

static void entropies(int64_t begin, int64_t end, int thread, void *user) {
    (void)thread;
    const entropy_call *call = user;
    for (int64_t i = begin; i < end; i++)
        *(double *)view_row(call->out, i) =
            call->kernels->entropy(view_row(call->logits, i), call->temperature, call->logits.cols);
}

balora_status cpu_entropy_rows(backend_queue *queue, matrix_view logits, float temperature, matrix_view out) {
    STATUS_TRY(operand_check("entropy_rows", "logits", logits, ANY_SIZE, ANY_SIZE, IN_F32));
    STATUS_TRY(operand_check("entropy_rows", "out", out, logits.rows, 1, IN_F64));
    if (logits.cols < 1 || !(temperature > 0))
        return status_fail(BALORA_ERROR_INTERNAL, "cpu entropy_rows: %lld logits, temperature %g",
                           (long long)logits.cols, (double)temperature);
    entropy_call call = {queue->kernels, logits, out, temperature};
    parallel_for(logits.rows, row_grain(logits.cols), entropies, &call);
    return BALORA_OK;
}

/* The Gram matrix's eigenvalues are squares; rounding may leave a small one negative. */
static double singular_value(double eigenvalue) {
    return eigenvalue > 0 ? sqrt(eigenvalue) : 0;
}

static balora_status check_spectral(const spectral_coefficients *args) {
    const char *slot = "spectral_coefficients";
    STATUS_TRY(operand_check(slot, "eigenvalues", args->eigenvalues, 1, ANY_SIZE, IN_F64));
    STATUS_TRY(operand_check(slot, "trace", args->trace, 1, 1, IN_F64));
    STATUS_TRY(operand_check(slot, "weights", args->weights, 1, args->eigenvalues.cols, IN_F64));
    STATUS_TRY(operand_check(slot, "gamma", args->gamma, 1, 1, IN_F64));
    STATUS_TRY(operand_check(slot, "value", args->value, 1, 1, IN_F64));
    if (args->norm != BALORA_SVD_FROBENIUS && args->norm != BALORA_SVD_NUCLEAR)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: unknown norm %d", slot, args->norm);
    if (args->top < 0 || args->top > args->eigenvalues.cols)
        return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: the first %lld of %lld values", slot,
                           (long long)args->top, (long long)args->eigenvalues.cols);
    return BALORA_OK;
}

balora_status cpu_spectral_coefficients(backend_queue *queue, const spectral_coefficients *args) {
    (void)queue;
    STATUS_TRY(check_spectral(args));
    int64_t count = args->eigenvalues.cols;
    const double *eigenvalues = view_f64(args->eigenvalues);
    double *weights = view_f64(args->weights), *gamma = view_f64(args->gamma);
    int nuclear = args->norm == BALORA_SVD_NUCLEAR;
    double top = 0, all = 0;
    for (int64_t i = 0; i < count; i++) {
        double sigma = singular_value(eigenvalues[i]);
        all += sigma;
        top += i < args->top ? sigma : 0;
    }
    double norm = nuclear ? all : singular_value(*view_f64(args->trace));
    int absent = norm <= 1e-8;
    double floor = count > 0 ? sqrt((double)count) * 1e-7 * singular_value(eigenvalues[0]) : 0;
    for (int64_t i = 0; i < count; i++) {
        double sigma = singular_value(eigenvalues[i]), along = nuclear ? top / (norm * norm) : 0;
        if (i < args->top)
            along -= 1 / norm;
        int used = !absent && sigma > 0 && (nuclear ? sigma > floor : i < args->top);
        weights[i] = used ? args->scale * along / sigma : 0;
    }
    *gamma = absent || nuclear ? 0 : args->scale * top / (norm * norm * norm);
    *view_f64(args->value) += absent ? 0 : -args->value_scale * top / norm;
    return BALORA_OK;
}
