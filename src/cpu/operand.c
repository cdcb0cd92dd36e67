/* Checks of a slot's operands, and loops over their elements. */
#include "cpu/internal.h"

balora_status operand_check(const char *slot, const char *name, matrix_view view, int64_t rows, int64_t cols,
                            int dtypes) {
    char problem[256];
    int64_t bytes = view.buffer != NULL ? view.buffer->bytes : 0;
    if (operand_is_wrong(problem, sizeof problem, name, view, bytes, rows, cols, dtypes))
        return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: %s", slot, problem);
    return BALORA_OK;
}

balora_status indices_check(const char *slot, const char *name, matrix_view view, int64_t lowest,
                            int64_t limit) {
    const int32_t *values = view_i32(view);
    for (int64_t i = 0; i < view.cols; i++)
        if (values[i] < lowest || values[i] >= limit)
            return status_fail(BALORA_ERROR_INTERNAL, "cpu %s: %s[%lld] is %d; expected %lld to %lld", slot,
                               name, (long long)i, values[i], (long long)lowest, (long long)limit - 1);
    return BALORA_OK;
}

#define SPAN INT64_C(8192) /* elements that are worth a thread's attention */

typedef struct span_loop {
    int64_t cols, spans_per_row;
    span_body body;
    void *user;
} span_loop;

static void run_spans(int64_t begin, int64_t end, int thread, void *user) {
    const span_loop *loop = user;
    for (int64_t span = begin; span < end; span++) {
        int64_t row = span / loop->spans_per_row, column = span % loop->spans_per_row * SPAN;
        loop->body(row, column, arith_min(SPAN, loop->cols - column), thread, loop->user);
    }
}

void parallel_spans(int64_t rows, int64_t cols, int joined, span_body body, void *user) {
    if (rows == 0 || cols == 0)
        return;
    if (joined) {
        cols *= rows;
        rows = 1;
    }
    span_loop loop = {cols, arith_divide_up(cols, SPAN), body, user};
    int64_t span = arith_min(SPAN, cols);
    parallel_for(rows * loop.spans_per_row, arith_max(1, SPAN / span), run_spans, &loop);
}
