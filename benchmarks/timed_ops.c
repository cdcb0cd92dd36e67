#include "timed_ops.h"

#include <time.h>

#include "base/clock.h"

static const backend_ops *inner;
static backend_ops outer;
static int64_t head_size, low_rank_limit;
static part_time parts[PART_COUNT] = {
    {"body GEMM", 0, 0}, {"head GEMM", 0, 0}, {"low-rank GEMM", 0, 0}, {"attention", 0, 0},
    {"loss head", 0, 0}, {"SVD term", 0, 0},  {"rows", 0, 0},          {"optimizer", 0, 0},
};

static double process_seconds(void) {
    return (double)clock() / CLOCKS_PER_SEC;
}

static double (*now)(void) = clock_seconds;

void timed_use_process_seconds(void) {
    now = process_seconds;
}

/* The slot's own work is all that the queue holds between two of these. */
static double begin_part(backend_queue *queue) {
    (void)inner->synchronize(queue);
    return now();
}

static balora_status end_part(backend_queue *queue, int part, double begin, balora_status status) {
    balora_status waited = inner->synchronize(queue);
    parts[part].seconds += now() - begin;
    return status == BALORA_OK ? waited : status;
}

static int is_wide(matrix_view view) {
    return view.dtype == BALORA_F64;
}

static int gemm_part(matrix_view a, matrix_view b, matrix_view c) {
    if (is_wide(c))
        return PART_SPECTRAL;
    int64_t sizes[] = {a.rows, a.cols, b.rows, b.cols, c.rows, c.cols};
    int part = PART_BODY_GEMM;
    for (int i = 0; i < 6; i++) {
        if (sizes[i] == head_size)
            return PART_HEAD_GEMM;
        if (sizes[i] <= low_rank_limit)
            part = PART_LOW_RANK_GEMM;
    }
    return part;
}

static balora_status timed_gemm(backend_queue *queue, int ta, int tb, double alpha, matrix_view a,
                                matrix_view b, double beta, matrix_view c) {
    double begin = begin_part(queue);
    balora_status status = inner->gemm(queue, ta, tb, alpha, a, b, beta, c);
    int part = gemm_part(a, b, c);
    parts[part].flops += 2.0 * (double)c.rows * (double)c.cols * (double)(ta ? a.rows : a.cols);
    return end_part(queue, part, begin, status);
}

static balora_status timed_gemm_bias(backend_queue *queue, int ta, int tb, double alpha, matrix_view a,
                                     matrix_view b, double beta, matrix_view c, matrix_view bias) {
    double begin = begin_part(queue);
    balora_status status = inner->gemm_bias(queue, ta, tb, alpha, a, b, beta, c, bias);
    int part = gemm_part(a, b, c);
    parts[part].flops += 2.0 * (double)c.rows * (double)c.cols * (double)(ta ? a.rows : a.cols);
    return end_part(queue, part, begin, status);
}

#define TIMED(slot, part, parameters, arguments)                                                             \
    static balora_status timed_##slot parameters {                                                           \
        double begin = begin_part(queue);                                                                    \
        balora_status status = inner->slot arguments;                                                        \
        return end_part(queue, part, begin, status);                                                         \
    }

TIMED(fill_zero, PART_ROWS, (backend_queue * queue, matrix_view x), (queue, x))
TIMED(copy, is_wide(dst) || is_wide(src) ? PART_SPECTRAL : PART_ROWS,
      (backend_queue * queue, matrix_view dst, matrix_view src), (queue, dst, src))
/* Rows of logits: those that the SVD term under a soft-cap reads and writes. */
static int is_of_logits(matrix_view view) {
    return view.ld == head_size;
}

TIMED(gather_rows, is_of_logits(src) ? PART_SPECTRAL : PART_ROWS,
      (backend_queue * queue, matrix_view dst, matrix_view src, matrix_view indices),
      (queue, dst, src, indices))
TIMED(scatter_add_rows, is_of_logits(dst) ? PART_SPECTRAL : PART_ROWS,
      (backend_queue * queue, matrix_view dst, matrix_view src, matrix_view indices),
      (queue, dst, src, indices))
TIMED(scale_add, is_wide(x) ? PART_SPECTRAL : PART_OPTIMIZER,
      (backend_queue * queue, double alpha, matrix_view x, double beta, matrix_view y),
      (queue, alpha, x, beta, y))
TIMED(add_row, PART_ROWS, (backend_queue * queue, matrix_view y, matrix_view row), (queue, y, row))
TIMED(scale_rows, PART_SPECTRAL, (backend_queue * queue, matrix_view x, matrix_view weights),
      (queue, x, weights))
TIMED(sum_squares, PART_OPTIMIZER, (backend_queue * queue, matrix_view x, double beta, matrix_view out),
      (queue, x, beta, out))
TIMED(trace, PART_SPECTRAL, (backend_queue * queue, matrix_view a, matrix_view out), (queue, a, out))
TIMED(sum_rows, PART_ROWS, (backend_queue * queue, matrix_view x, double beta, matrix_view out),
      (queue, x, beta, out))
TIMED(spectral_coefficients, PART_SPECTRAL, (backend_queue * queue, const spectral_coefficients *args),
      (queue, args))
TIMED(gram, is_wide(c) ? PART_SPECTRAL : PART_BODY_GEMM,
      (backend_queue * queue, int transpose, matrix_view a, matrix_view c), (queue, transpose, a, c))
TIMED(soft_cap, PART_LOSS_HEAD, (backend_queue * queue, float cap, matrix_view x, matrix_view y),
      (queue, cap, x, y))
TIMED(soft_cap_backward, PART_LOSS_HEAD,
      (backend_queue * queue, float cap, matrix_view y, matrix_view dy, matrix_view dx),
      (queue, cap, y, dy, dx))
TIMED(clip_scale, PART_OPTIMIZER,
      (backend_queue * queue, matrix_view sum_squares, double max_norm, matrix_view scale),
      (queue, sum_squares, max_norm, scale))
TIMED(eigh_top, PART_SPECTRAL,
      (backend_queue * queue, matrix_view a, matrix_view values, matrix_view vectors),
      (queue, a, values, vectors))
TIMED(rms_norm, PART_ROWS,
      (backend_queue * queue, matrix_view x, matrix_view weight, float offset, float epsilon, matrix_view y),
      (queue, x, weight, offset, epsilon, y))
TIMED(rms_norm_backward, PART_ROWS,
      (backend_queue * queue, matrix_view x, matrix_view weight, float offset, float epsilon, matrix_view dy,
       matrix_view dx, matrix_view dweight),
      (queue, x, weight, offset, epsilon, dy, dx, dweight))
TIMED(rope, PART_ROWS,
      (backend_queue * queue, matrix_view x, int64_t head_dim, matrix_view positions, matrix_view table,
       int inverse),
      (queue, x, head_dim, positions, table, inverse))
TIMED(gated_activation, PART_ROWS,
      (backend_queue * queue, int32_t activation, matrix_view gate, matrix_view up, matrix_view out),
      (queue, activation, gate, up, out))
TIMED(gated_activation_backward, PART_ROWS,
      (backend_queue * queue, int32_t activation, matrix_view gate, matrix_view up, matrix_view dout,
       matrix_view dgate, matrix_view dup),
      (queue, activation, gate, up, dout, dgate, dup))
TIMED(attention, PART_ATTENTION, (backend_queue * queue, const attention_forward *args), (queue, args))
TIMED(attention_backward, PART_ATTENTION, (backend_queue * queue, const attention_backward *args),
      (queue, args))
TIMED(loss_head, PART_LOSS_HEAD, (backend_queue * queue, const loss_head_rows *args), (queue, args))
TIMED(optimizer_step, PART_OPTIMIZER, (backend_queue * queue, const optimizer_update *args), (queue, args))

const backend_ops *timed_ops(const backend_ops *ops, int64_t vocabulary, int64_t rank_limit) {
    inner = ops;
    head_size = vocabulary;
    low_rank_limit = rank_limit;
    outer = *ops;
    outer.gemm = timed_gemm;
    outer.gemm_bias = ops->gemm_bias != NULL ? timed_gemm_bias : NULL;
    outer.fill_zero = timed_fill_zero;
    outer.copy = timed_copy;
    outer.gather_rows = timed_gather_rows;
    outer.scatter_add_rows = timed_scatter_add_rows;
    outer.scale_add = timed_scale_add;
    outer.add_row = timed_add_row;
    outer.scale_rows = timed_scale_rows;
    outer.sum_squares = timed_sum_squares;
    outer.trace = timed_trace;
    outer.sum_rows = timed_sum_rows;
    outer.spectral_coefficients = timed_spectral_coefficients;
    outer.gram = timed_gram;
    outer.soft_cap = timed_soft_cap;
    outer.soft_cap_backward = timed_soft_cap_backward;
    outer.clip_scale = timed_clip_scale;
    outer.eigh_top = timed_eigh_top;
    outer.rms_norm = timed_rms_norm;
    outer.rms_norm_backward = timed_rms_norm_backward;
    outer.rope = timed_rope;
    outer.gated_activation = timed_gated_activation;
    outer.gated_activation_backward = timed_gated_activation_backward;
    outer.attention = timed_attention;
    outer.attention_backward = timed_attention_backward;
    outer.loss_head = timed_loss_head;
    outer.optimizer_step = timed_optimizer_step;
    return &outer;
}

const part_time *timed_parts(void) {
    return parts;
}

void timed_reset(void) {
    for (int i = 0; i < PART_COUNT; i++)
        parts[i].seconds = parts[i].flops = 0;
}
