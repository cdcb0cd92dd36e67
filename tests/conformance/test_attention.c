/* Causal attention of packed sequences, forward and backward. */
#include <math.h>
#include <string.h>

#include "reference.h"
#include "tests.h"

enum { SEQUENCES_AT_MOST = 8 };

typedef struct attention_case {
    int64_t lengths[SEQUENCES_AT_MOST]; /* up to the first 0 */
    int64_t heads, key_heads, head_dim, window;
    double deviation; /* of q and k: how sharp the softmax is */
    double soft_cap;
    int32_t type; /* of the activations; 0: F32 */
} attention_case;

static int32_t type_of(const attention_case *c) {
    return c->type == 0 ? BALORA_F32 : c->type;
}

/* The operands of one problem, and the same as the reference wants it. */
typedef struct problem {
    attention_shape shape;
    int32_t offsets[SEQUENCES_AT_MOST + 1];
    int64_t tokens, q_count, k_count;
    operand *offset, *q, *k, *v;
    reference_attention reference;
} problem;

static void measure(const attention_case *c, problem *p) {
    memset(p, 0, sizeof *p);
    p->shape.heads = c->heads;
    p->shape.key_heads = c->key_heads;
    p->shape.head_dim = c->head_dim;
    p->shape.window = c->window;
    p->shape.soft_cap = (float)c->soft_cap;
    p->shape.scale = (float)(1.0 / sqrt((double)c->head_dim));
    for (int64_t s = 0; s < SEQUENCES_AT_MOST && c->lengths[s] > 0; s++) {
        p->offsets[s + 1] = p->offsets[s] + (int32_t)c->lengths[s];
        p->shape.sequences = s + 1;
        if (c->lengths[s] > p->shape.longest_sequence)
            p->shape.longest_sequence = c->lengths[s];
    }
    p->tokens = p->offsets[p->shape.sequences];
    p->q_count = p->tokens * c->heads * c->head_dim;
    p->k_count = p->tokens * c->key_heads * c->head_dim;
}

static void problem_begin(bench *b, slot_number slot, const attention_case *c, const char *remark,
                          problem *p) {
    measure(c, p);
    case_begin(
        b, slot,
        "%s, %lld tokens in %lld sequences (longest %lld), heads %lld/%lld of %lld, window %lld, cap %g%s",
        dtype_name(type_of(c)), (long long)p->tokens, (long long)p->shape.sequences,
        (long long)p->shape.longest_sequence, (long long)c->heads, (long long)c->key_heads,
        (long long)c->head_dim, (long long)c->window, c->soft_cap, remark);
    double *offsets = case_array(b, SEQUENCES_AT_MOST + 1);
    for (int64_t s = 0; s <= p->shape.sequences; s++)
        offsets[s] = p->offsets[s];
    p->offset = operand_of(b, "offsets", BALORA_I32, 1, p->shape.sequences + 1, offsets);
    p->q = operand_random(b, "q", type_of(c), p->tokens, c->heads * c->head_dim, c->deviation);
    p->k = operand_random(b, "k", type_of(c), p->tokens, c->key_heads * c->head_dim, c->deviation);
    p->v = operand_random(b, "v", type_of(c), p->tokens, c->key_heads * c->head_dim, 1.0);
    p->reference = (reference_attention){&p->shape, p->offsets, p->q->value, p->k->value, p->v->value};
}

static reference_attention_result wanted_result(bench *b, const problem *p) {
    int64_t sums = p->tokens * p->shape.heads;
    reference_attention_result want = {case_array(b, p->q_count), case_array(b, sums),
                                       case_array(b, p->q_count), case_array(b, sums)};
    reference_attention_forward(&p->reference, &want);
    return want;
}

static const attention_case cases[] = {
    {{1}, 1, 1, 1, 0, 1.0, 0.0, 0},
    {{2}, 1, 1, 2, 0, 1.0, 0.0, 0},
    {{7}, 2, 2, 5, 0, 1.0, 0.0, 0},
    {{17}, 3, 1, 8, 0, 1.0, 0.0, 0},
    {{33, 1, 5}, 4, 2, 16, 0, 1.0, 0.0, 0},
    {{1, 1, 1, 64, 2, 1}, 2, 1, 31, 0, 1.0, 0.0, 0},
    {{100, 65}, 9, 3, 64, 0, 1.0, 0.0, 0},
    {{3, 31, 130}, 6, 6, 33, 0, 1.0, 0.0, 0},
    {{40, 7}, 2, 1, 80, 0, 1.0, 0.0, 0},
    {{70}, 1, 1, 128, 0, 1.0, 0.0, 0},
    {{20}, 2, 1, 257, 0, 1.0, 0.0, 0},
    {{50, 3, 17}, 4, 2, 16, 1, 1.0, 0.0, 0},
    {{50, 3, 17}, 4, 2, 16, 7, 1.0, 0.0, 0},
    {{50, 3, 17}, 4, 2, 16, 17, 1.0, 0.0, 0},
    {{50, 3, 17}, 4, 2, 16, 50, 1.0, 0.0, 0},
    {{50, 3, 17}, 4, 2, 16, 51, 1.0, 0.0, 0},
    {{50, 3, 17}, 4, 2, 16, 4096, 1.0, 0.0, 0},
    {{150, 99}, 2, 1, 64, 33, 1.0, 0.0, 0},
    {{200}, 3, 3, 24, 64, 1.0, 0.0, 0},
    {{90, 91}, 3, 1, 32, 0, 4.0, 0.0, 0},
};

/* Scores within the cap, about it, and far beyond. */
static const attention_case capped_cases[] = {
    {{1, 7, 33}, 2, 1, 16, 0, 1.0, 50.0, 0},   {{70}, 1, 1, 64, 0, 3.0, 5.0, 0},
    {{130, 2, 64}, 4, 2, 33, 0, 4.0, 20.0, 0}, {{50, 3, 17}, 4, 2, 16, 7, 2.0, 1.0, 0},
    {{65}, 3, 3, 80, 0, 12.0, 30.0, 0},
};

/* Borders of the tiles that matrix units work in, in lengths and head sizes, few heads of each. */
static const attention_case bf16_cases[] = {
    {{1}, 1, 1, 8, 0, 1.0, 0.0, BALORA_BF16},          {{7, 1, 20}, 2, 1, 16, 0, 1.0, 0.0, BALORA_BF16},
    {{63, 2, 65}, 2, 1, 64, 0, 1.0, 0.0, BALORA_BF16}, {{64}, 2, 2, 64, 0, 1.0, 0.0, BALORA_BF16},
    {{128, 1}, 2, 1, 64, 0, 1.5, 0.0, BALORA_BF16},    {{129}, 1, 1, 80, 0, 1.0, 0.0, BALORA_BF16},
    {{40, 7}, 4, 2, 128, 0, 1.0, 0.0, BALORA_BF16},    {{33}, 1, 1, 33, 0, 1.0, 0.0, BALORA_BF16},
    {{20}, 2, 1, 256, 0, 1.0, 0.0, BALORA_BF16},       {{20}, 1, 1, 257, 0, 1.0, 0.0, BALORA_BF16},
    {{100, 30}, 2, 1, 64, 33, 1.0, 0.0, BALORA_BF16},  {{50, 3, 17}, 4, 2, 16, 1, 1.0, 0.0, BALORA_BF16},
    {{70, 5}, 2, 1, 64, 0, 3.0, 5.0, BALORA_BF16},     {{40, 64}, 2, 1, 32, 0, 8.0, 0.0, BALORA_BF16},
};

/* --- forward --- */

static void forward_case(bench *b, const attention_case *c, bool in_place, bool wants_logsumexp) {
    problem p;
    problem_begin(b, SLOT_attention, c,
                  in_place          ? ", out is q"
                  : wants_logsumexp ? ""
                                    : ", no logsumexp",
                  &p);
    reference_attention_result want = wanted_result(b, &p);
    operand *out =
        in_place ? p.q : operand_filled(b, "out", type_of(c), p.tokens, c->heads * c->head_dim, (double)NAN);
    operand *sums = operand_filled(b, "logsumexp", BALORA_F32, p.tokens, c->heads, (double)NAN);
    attention_forward arguments = {p.shape,
                                   p.offset->view,
                                   p.q->view,
                                   p.k->view,
                                   p.v->view,
                                   out->view,
                                   wants_logsumexp ? sums->view : view_none()};
    CALL_OK(b, attention, b->queue, &arguments);
    expect_close(b, out, want.out, want.out_magnitude);
    if (wants_logsumexp)
        expect_close(b, sums, want.logsumexp, want.logsumexp_magnitude);
    case_end(b);
}

void test_attention_forward(bench *b) {
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        forward_case(b, &cases[i], false, true);
        forward_case(b, &cases[i], true, true);
        forward_case(b, &cases[i], false, false);
    }
    for (int64_t i = 0; i < COUNT_OF(capped_cases); i++)
        forward_case(b, &capped_cases[i], i % 2 != 0, true);
    forward_case(b, &(attention_case){{0}, 2, 1, 8, 0, 1.0, 0.0, 0}, false, true); /* no sequence at all */
}

void test_attention_forward_bf16(bench *b) {
    for (int64_t i = 0; i < COUNT_OF(bf16_cases) && takes_bf16(b); i++) {
        forward_case(b, &bf16_cases[i], false, true);
        forward_case(b, &bf16_cases[i], true, i % 2 == 0);
    }
}

/* --- backward --- */

static void backward_case(bench *b, const attention_case *c, bool in_place) {
    problem p;
    problem_begin(b, SLOT_attention_backward, c, in_place ? ", dq is dout" : "", &p);
    int64_t q_cols = c->heads * c->head_dim, k_cols = c->key_heads * c->head_dim;
    reference_attention_result forward = wanted_result(b, &p);
    reference_attention_gradient want = {case_array(b, p.q_count), case_array(b, p.k_count),
                                         case_array(b, p.k_count), case_array(b, p.q_count),
                                         case_array(b, p.k_count), case_array(b, p.k_count)};
    /* What forward leaves, rounded: that is what backward is given. */
    operand *out = operand_of(b, "out", type_of(c), p.tokens, q_cols, forward.out);
    operand *sums = operand_of(b, "logsumexp", BALORA_F32, p.tokens, c->heads, forward.logsumexp);
    operand *dout = operand_random(b, "dout", type_of(c), p.tokens, q_cols, 1.0);
    operand *dq = in_place ? dout : operand_filled(b, "dq", type_of(c), p.tokens, q_cols, (double)NAN);
    operand *dk = operand_filled(b, "dk", type_of(c), p.tokens, k_cols, (double)NAN);
    operand *dv = operand_filled(b, "dv", type_of(c), p.tokens, k_cols, (double)NAN);
    attention_backward arguments = {p.shape,    p.offset->view, p.q->view, p.k->view, p.v->view, out->view,
                                    sums->view, dout->view,     dq->view,  dk->view,  dv->view};
    CALL_OK(b, attention_backward, b->queue, &arguments);
    reference_attention_backward(&p.reference, dout->value, &want);
    expect_close(b, dq, want.dq, want.dq_magnitude);
    expect_close(b, dk, want.dk, want.dk_magnitude);
    expect_close(b, dv, want.dv, want.dv_magnitude);
    case_end(b);
}

void test_attention_backward(bench *b) {
    for (int64_t i = 0; i < COUNT_OF(cases); i++) {
        backward_case(b, &cases[i], false);
        backward_case(b, &cases[i], true);
    }
    for (int64_t i = 0; i < COUNT_OF(capped_cases); i++)
        backward_case(b, &capped_cases[i], i % 2 == 0);
    backward_case(b, &(attention_case){{0}, 2, 1, 8, 0, 1.0, 0.0, 0}, false);
}

void test_attention_backward_bf16(bench *b) {
    for (int64_t i = 0; i < COUNT_OF(bf16_cases) && takes_bf16(b); i++)
        backward_case(b, &bf16_cases[i], i % 2 != 0);
}

/* --- packed = one by one --- */

/* The rows of sequence s alone, as a problem of one sequence: results go to the same rows of `out`. */
static void run_alone(bench *b, const problem *p, int64_t s, operand *offset, const operand *out,
                      const operand *sums) {
    int64_t first = p->offsets[s], count = p->offsets[s + 1] - p->offsets[s];
    double ends[2] = {0.0, (double)count};
    operand_set(b, offset, ends);
    attention_forward arguments = {p->shape,
                                   offset->view,
                                   view_rows(p->q->view, first, count),
                                   view_rows(p->k->view, first, count),
                                   view_rows(p->v->view, first, count),
                                   view_rows(out->view, first, count),
                                   view_rows(sums->view, first, count)};
    arguments.shape.sequences = 1;
    arguments.shape.longest_sequence = count;
    CALL_OK(b, attention, b->queue, &arguments);
}

void test_attention_packed(bench *b) {
    static const attention_case packed = {{33, 1, 70, 129, 2, 64}, 6, 2, 48, 0, 1.5, 0.0, 0};
    for (int64_t window = 0; window <= 40; window += 20) {
        attention_case c = packed;
        c.window = window;
        problem p;
        problem_begin(b, SLOT_attention, &c, ", packed against one by one", &p);
        double ends[2] = {0.0, 0.0};
        operand *offset = operand_of(b, "offset", BALORA_I32, 1, 2, ends);
        operand *together =
            operand_filled(b, "together", BALORA_F32, p.tokens, c.heads * c.head_dim, (double)NAN);
        operand *alone = operand_filled(b, "alone", BALORA_F32, p.tokens, c.heads * c.head_dim, (double)NAN);
        operand *sums = operand_filled(b, "logsumexp", BALORA_F32, p.tokens, c.heads, (double)NAN);
        operand *sums_alone =
            operand_filled(b, "logsumexp alone", BALORA_F32, p.tokens, c.heads, (double)NAN);
        attention_forward arguments = {p.shape,   p.offset->view, p.q->view, p.k->view,
                                       p.v->view, together->view, sums->view};
        CALL_OK(b, attention, b->queue, &arguments);
        for (int64_t s = 0; s < p.shape.sequences; s++)
            run_alone(b, &p, s, offset, alone, sums_alone);
        operand_fetch(b, together);
        operand_fetch(b, sums);
        expect_close(b, alone, together->result, NULL);
        expect_close(b, sums_alone, sums->result, NULL);
        case_end(b);
    }
}

void test_attention_long(bench *b) {
    static const attention_case whole = {{700}, 3, 1, 64, 0, 1.0, 0.0, 0};
    static const attention_case windowed = {{700, 321}, 2, 2, 40, 256, 1.0, 0.0, 0};
    forward_case(b, &whole, false, true);
    backward_case(b, &whole, true);
    forward_case(b, &windowed, true, true);
    backward_case(b, &windowed, false);
}

/* Scores of several hundred: one key takes all, and nothing overflows. */
void test_attention_large_scores(bench *b) {
    static const attention_case large = {{130, 3, 64}, 4, 2, 16, 0, 12.0, 0.0, 0};
    static const attention_case huge = {{40}, 2, 1, 64, 0, 60.0, 0.0, 0};
    forward_case(b, &large, false, true);
    backward_case(b, &large, false);
    forward_case(b, &huge, false, true);
    backward_case(b, &huge, false);
}
