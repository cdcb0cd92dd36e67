/* Dropout: the mask is exactly what base/random.h says, its share and scale are right, and it is its own adjoint. */
#include <math.h>

#include "base/random.h"
#include "tests.h"

typedef struct mask_case {
    uint64_t seed;
    uint32_t site;
    double probability;
} mask_case;

/* Keys with both halves in use, negative ones among them. */
static operand *operand_keys(bench *b, int64_t rows) {
    double *keys = case_array(b, 2 * rows);
    for (int64_t i = 0; i < 2 * rows; i++)
        keys[i] = (double)(draw_below(b, INT64_C(1) << 32) - (INT64_C(1) << 31));
    return operand_of(b, "keys", BALORA_I32, 2, rows, keys);
}

static bool is_kept(const mask_case *mask, const operand *keys, int64_t rows, int64_t row, int64_t column) {
    uint64_t stream =
        (uint64_t)(uint32_t)(int32_t)keys->value[row] << 32 | (uint32_t)(int32_t)keys->value[rows + row];
    uint64_t index = (uint64_t)mask->site << 32 | (uint64_t)(column / 4);
    double word = (double)random_block(mask->seed, stream, index).word[column % 4];
    return word >= mask->probability * 0x1p32;
}

static void dropout_case(bench *b, const mask_case *mask, int32_t from, int32_t to, int64_t rows,
                         int64_t cols, float beta, bool in_place) {
    case_begin(b, SLOT_dropout, "%s to %s [%lld, %lld] p %g beta %g%s", dtype_name(from), dtype_name(to),
               (long long)rows, (long long)cols, mask->probability, (double)beta,
               in_place ? " in place" : "");
    double *want = case_array(b, rows * cols), *magnitude = case_array(b, rows * cols);
    operand *x = operand_random(b, "x", from, rows, cols, 1.0);
    operand *y = in_place       ? x
                 : beta == 0.0F ? operand_filled(b, "y", to, rows, cols, (double)NAN)
                                : operand_random(b, "y", to, rows, cols, 1.0);
    operand *keys = operand_keys(b, rows);
    dropout_rows args = {.x = x->view,
                         .y = y->view,
                         .keys = keys->view,
                         .seed = mask->seed,
                         .site = mask->site,
                         .beta = beta,
                         .probability = mask->probability};
    for (int64_t i = 0; i < rows * cols; i++) {
        double kept = beta == 0.0F ? 0.0 : (double)beta * y->value[i];
        double added =
            is_kept(mask, keys, rows, i / cols, i % cols) ? x->value[i] / (1.0 - mask->probability) : 0.0;
        want[i] = kept + added;
        magnitude[i] = fabs(kept) + fabs(added);
    }
    CALL_OK(b, dropout, b->queue, &args);
    expect_close(b, y, want, magnitude);
    case_end(b);
}

/* Binomial: the count of kept elements is within five standard deviations. */
static void share_case(bench *b, double probability) {
    enum { ROWS = 300, COLS = 1003 };
    case_begin(b, SLOT_dropout, "share at p %g", probability);
    operand *x = operand_filled(b, "x", BALORA_F32, ROWS, COLS, 1.0);
    operand *keys = operand_keys(b, ROWS);
    dropout_rows args = {
        .x = x->view, .y = x->view, .keys = keys->view, .seed = 5, .site = 3, .probability = probability};
    CALL_OK(b, dropout, b->queue, &args);
    const double *got = operand_fetch(b, x);
    double kept = 0.0, count = (double)ROWS * COLS;
    for (int64_t i = 0; i < (int64_t)ROWS * COLS; i++)
        kept += got[i] != 0.0;
    expect_near(b, "kept elements", kept, (1.0 - probability) * count,
                5.0 * sqrt(count * probability * (1.0 - probability)));
    case_end(b);
}

void test_dropout(bench *b) {
    static const int64_t shapes[][2] = {{1, 1},   {3, 2},   {2, 3},    {5, 4},     {7, 5},     {31, 17},
                                        {33, 64}, {9, 127}, {100, 65}, {0, 5},     {2, 8193},  {3, 20001},
                                        {300, 9}, {1, 257}, {64, 128}, {2, 16385}, {600, 130}, {11, 1000}};
    static const mask_case masks[] = {{1, 0, 0.1},
                                      {UINT64_C(0x0123456789ABCDEF), 7, 0.5},
                                      {UINT64_MAX, UINT32_MAX, 0.05},
                                      {0, 12345, 0.0},
                                      {42, 3, 0.999}};
    static const float betas[] = {0.0F, 1.0F, -0.5F};
    for (int from = 0; from < b->activation_count; from++)
        for (int64_t s = 0; s < COUNT_OF(shapes); s++) {
            const mask_case *mask = &masks[s % COUNT_OF(masks)];
            dropout_case(b, mask, activation_types[from], activation_types[from], shapes[s][0], shapes[s][1],
                         0.0F, true);
            for (int to = 0; to < b->activation_count; to++)
                for (int64_t beta = 0; beta < COUNT_OF(betas); beta++)
                    dropout_case(b, mask, activation_types[from], activation_types[to], shapes[s][0],
                                 shapes[s][1], betas[beta], false);
        }
    share_case(b, 0.05);
    share_case(b, 0.5);
    share_case(b, 0.9);
}
