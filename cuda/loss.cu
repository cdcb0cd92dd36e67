/* The loss head over a chunk of rows, and entropies: one block a row. */
#include "internal.h"
#include "loss_row.cuh"
#include "slots.h"

/* Short rows keep a smaller block busy. */
static unsigned row_threads(int64_t vocabulary) {
    return vocabulary > 8192 ? MOST_THREADS : 128;
}

int64_t loss_scratch_bytes(const backend_queue *, const backend_limits *) {
    return 0;
}

/* Loads of single elements need a few registers more than two blocks on a multiprocessor leave. */
template <bool VECTOR, typename T>
static __global__ void __launch_bounds__(MOST_THREADS, VECTOR ? 2 : 1) loss_rows(loss_chunk<T> chunk) {
    DYNAMIC_SHARED(shared);
    loss_memory *memory = reinterpret_cast<loss_memory *>(shared);
    int64_t row = blockIdx.x;
    bool regularized = chunk.regularized[row] != 0;
    if (!regularized || chunk.teacher == nullptr)
        play_row<ROW_ALONE, VECTOR>(chunk, row, regularized, memory);
    else if (chunk.temperature == 2)
        play_row<ROW_AT_TWO, VECTOR>(chunk, row, regularized, memory);
    else
        play_row<ROW_AT_ANY, VECTOR>(chunk, row, regularized, memory);
}

static balora_status check_loss_head(const loss_head_rows *args) {
    int64_t rows = args->logits.rows, vocabulary = args->logits.cols;
    CUDA_TRY(operand_check("loss_head", "logits", args->logits, ANY_SIZE, ANY_SIZE, IN_F32));
    if (!is_none(args->teacher))
        CUDA_TRY(operand_check("loss_head", "teacher", args->teacher, rows, vocabulary, IN_F32));
    CUDA_TRY(operand_check("loss_head", "targets", args->targets, 1, rows, IN_I32));
    CUDA_TRY(operand_check("loss_head", "regularized", args->regularized, 1, rows, IN_I32));
    CUDA_TRY(operand_check("loss_head", "terms", args->terms, rows, LOSS_COLUMNS, IN_F64));
    if (!is_none(args->gradient_out))
        CUDA_TRY(
            operand_check("loss_head", "gradient_out", args->gradient_out, rows, vocabulary, IN_ACTIVATION));
    if (vocabulary < 1 || vocabulary > INT32_MAX || args->top_k < 0 || !(args->temperature > 0))
        return CUDA_INTERNAL("cuda loss_head: vocabulary %lld, top_k %lld, temperature %g",
                             (long long)vocabulary, (long long)args->top_k, (double)args->temperature);
    return BALORA_OK;
}

/* `slopes`: where the gradient goes. */
template <typename T>
static balora_status launch_loss(backend_queue *queue, const loss_head_rows *args, matrix_view slopes) {
    bool taught = !is_none(args->teacher);
    loss_chunk<T> chunk = {};
    chunk.logits = view_data<float>(args->logits);
    chunk.logits_ld = args->logits.ld;
    chunk.teacher = taught ? view_data<float>(args->teacher) : nullptr;
    chunk.teacher_ld = args->teacher.ld;
    chunk.targets = view_data<int32_t>(args->targets);
    chunk.regularized = view_data<int32_t>(args->regularized);
    chunk.terms = view_data<double>(args->terms);
    chunk.terms_ld = args->terms.ld;
    chunk.gradient = args->gradient ? view_data<T>(slopes) : nullptr;
    chunk.gradient_ld = slopes.ld;
    chunk.vocabulary = (uint32_t)args->logits.cols;
    chunk.top_k = args->top_k < args->logits.cols ? (uint32_t)args->top_k : 0;
    chunk.task_weight = args->task_weight;
    chunk.consistency_weight = args->consistency_weight;
    chunk.diversity_weight = args->diversity_weight;
    chunk.temperature = args->temperature;
    bool vector = is_aligned(args->logits, LOSS_PIECE) &&
                  (!taught || is_aligned(args->teacher, LOSS_PIECE)) &&
                  (!args->gradient || is_aligned(slopes, LOSS_PIECE));
    return launch(queue, "loss_head", vector ? loss_rows<true, T> : loss_rows<false, T>,
                  blocks_for(args->logits.rows, 1), row_threads(args->logits.cols), sizeof(loss_memory),
                  chunk);
}

balora_status cuda_loss_head(backend_queue *queue, const loss_head_rows *args) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(check_loss_head(args));
    matrix_view slopes = is_none(args->gradient_out) ? args->logits : args->gradient_out;
    DISPATCH_ACTIVATION(slopes.dtype, T, { return launch_loss<T>(queue, args, slopes); });
}

template <bool VECTOR>
static __global__ void __launch_bounds__(MOST_THREADS)
    entropies(const float *logits, int64_t ld, uint32_t count, float scale, double *out, int64_t out_ld) {
    DYNAMIC_SHARED(shared);
    int64_t row = blockIdx.x;
    row_sums part = sum_part<ROW_ALONE, VECTOR>(logits + row * ld, nullptr, count, scale, true);
    row_sums sums = join_parts<ROW_ALONE>(part, scale, reinterpret_cast<sum_memory *>(shared));
    if (threadIdx.x == 0)
        out[row * out_ld] = log(sums.total) - (double)scale * sums.weighted / sums.total;
}

balora_status cuda_entropy_rows(backend_queue *queue, matrix_view logits, float temperature,
                                matrix_view out) {
    CUDA_TRY(enter(queue));
    CUDA_TRY(operand_check("entropy_rows", "logits", logits, ANY_SIZE, ANY_SIZE, IN_F32));
    CUDA_TRY(operand_check("entropy_rows", "out", out, logits.rows, 1, IN_F64));
    if (logits.cols < 1 || logits.cols > INT32_MAX || !(temperature > 0))
        return CUDA_INTERNAL("cuda entropy_rows: %lld logits, temperature %g", (long long)logits.cols,
                             (double)temperature);
    return launch(queue, "entropy_rows", is_aligned(logits, LOSS_PIECE) ? entropies<true> : entropies<false>,
                  blocks_for(logits.rows, 1), row_threads(logits.cols), sizeof(sum_memory),
                  view_data<float>(logits), logits.ld, (uint32_t)logits.cols, 1 / temperature,
                  view_data<double>(out), out.ld);
}
