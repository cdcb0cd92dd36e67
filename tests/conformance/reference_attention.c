#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

/* One query: its row and head, the rows that it sees, and their probabilities. */
typedef struct query {
    int64_t row, head, key_head;
    int64_t first, last; /* keys seen, both included */
    double logsumexp;
    double sharpness; /* 1 + the largest score before the cap, as its rounding errors see it */
    double *p;        /* [last - first + 1] */
    double *bend;     /* the cap's slope at each score, 1 without one */
} query;

static query query_new(const attention_shape *shape) {
    size_t bytes = sizeof(double) * (size_t)(shape->longest_sequence + 1);
    return (query){.p = malloc(bytes), .bend = malloc(bytes)};
}

static void query_free(query *one) {
    free(one->p);
    free(one->bend);
}

static int64_t query_at(const attention_shape *shape, int64_t row, int64_t head) {
    return (row * shape->heads + head) * shape->head_dim;
}

static int64_t key_at(const attention_shape *shape, int64_t row, int64_t key_head) {
    return (row * shape->key_heads + key_head) * shape->head_dim;
}

static void attend(const reference_attention *problem, query *one) {
    const attention_shape *shape = problem->shape;
    const double *q = problem->q + query_at(shape, one->row, one->head);
    double largest = -INFINITY, sum = 0.0, largest_absolute = 0.0;
    for (int64_t j = one->first; j <= one->last; j++) {
        const double *k = problem->k + key_at(shape, j, one->key_head);
        double score = 0.0, squares = 0.0;
        for (int64_t c = 0; c < shape->head_dim; c++) {
            score += q[c] * k[c];
            squares += q[c] * k[c] * q[c] * k[c];
        }
        score *= (double)shape->scale;
        /* A small score of large products is no better than they are. */
        largest_absolute =
            fmax(largest_absolute, fmax(fabs(score), sqrt(squares) * fabs((double)shape->scale)));
        one->bend[j - one->first] = 1.0;
        if (shape->soft_cap > 0.0F) {
            double t = tanh(score / (double)shape->soft_cap);
            score = (double)shape->soft_cap * t;
            one->bend[j - one->first] = 1.0 - t * t;
        }
        one->p[j - one->first] = score;
        largest = fmax(largest, score);
    }
    for (int64_t j = 0; j <= one->last - one->first; j++)
        sum += exp(one->p[j] - largest);
    one->logsumexp = largest + log(sum);
    one->sharpness = 1.0 + largest_absolute;
    for (int64_t j = 0; j <= one->last - one->first; j++)
        one->p[j] = exp(one->p[j] - one->logsumexp);
}

/* The query of (row, head) in a sequence that begins at `start`. */
static void see(const reference_attention *problem, int64_t start, int64_t row, int64_t head, query *one) {
    const attention_shape *shape = problem->shape;
    one->row = row;
    one->head = head;
    one->key_head = head / (shape->heads / shape->key_heads);
    one->first = start;
    one->last = row;
    if (shape->window > 0 && row - shape->window + 1 > start)
        one->first = row - shape->window + 1;
    attend(problem, one);
}

static void sum_values(const reference_attention *problem, const query *one,
                       const reference_attention_result *result) {
    const attention_shape *shape = problem->shape;
    for (int64_t c = 0; c < shape->head_dim; c++) {
        int64_t at = query_at(shape, one->row, one->head) + c;
        result->out[at] = result->out_magnitude[at] = 0.0;
        for (int64_t j = one->first; j <= one->last; j++) {
            double part = one->p[j - one->first] * problem->v[key_at(shape, j, one->key_head) + c];
            result->out[at] += part;
            result->out_magnitude[at] += fabs(part) * one->sharpness;
        }
    }
}

void reference_attention_forward(const reference_attention *problem,
                                 const reference_attention_result *result) {
    const attention_shape *shape = problem->shape;
    query one = query_new(shape);
    for (int64_t s = 0; s < shape->sequences; s++)
        for (int64_t row = problem->offsets[s]; row < problem->offsets[s + 1]; row++)
            for (int64_t head = 0; head < shape->heads; head++) {
                see(problem, problem->offsets[s], row, head, &one);
                sum_values(problem, &one, result);
                result->logsumexp[row * shape->heads + head] = one.logsumexp;
                result->logsumexp_magnitude[row * shape->heads + head] = one.sharpness + fabs(one.logsumexp);
            }
    query_free(&one);
}

/* Gradients that one query sends to its row of q and to the rows of k and v that it sees. */
static void send_gradients(const reference_attention *problem, const query *one, const double *dout_row,
                           const reference_attention_gradient *out) {
    const attention_shape *shape = problem->shape;
    double scale = (double)shape->scale;
    int64_t width = shape->head_dim, q_at = query_at(shape, one->row, one->head);
    double mean = 0.0, mean_magnitude = 0.0; /* sum_j p_j dp_j */
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = one->first; j <= one->last; j++) {
            int64_t at = key_at(shape, j, one->key_head);
            double p = one->p[j - one->first], dp = 0.0, dp_magnitude = 0.0;
            for (int64_t c = 0; c < width; c++) {
                dp += dout_row[c] * problem->v[at + c];
                dp_magnitude += fabs(dout_row[c] * problem->v[at + c]);
            }
            if (pass == 0) {
                mean += p * dp;
                mean_magnitude += p * dp_magnitude;
                continue;
            }
            /* A slope near 0 is a difference: its error is one of 1. */
            double ds = p * (dp - mean) * scale * one->bend[j - one->first];
            double ds_magnitude = p * (dp_magnitude + mean_magnitude) * fabs(scale) * one->sharpness;
            for (int64_t c = 0; c < width; c++) {
                out->dq[q_at + c] += ds * problem->k[at + c];
                out->dq_magnitude[q_at + c] += ds_magnitude * fabs(problem->k[at + c]);
                out->dk[at + c] += ds * problem->q[q_at + c];
                out->dk_magnitude[at + c] += ds_magnitude * fabs(problem->q[q_at + c]);
                out->dv[at + c] += p * dout_row[c];
                out->dv_magnitude[at + c] += p * fabs(dout_row[c]) * one->sharpness;
            }
        }
}

void reference_attention_backward(const reference_attention *problem, const double *dout,
                                  const reference_attention_gradient *out) {
    const attention_shape *shape = problem->shape;
    int64_t tokens = problem->offsets[shape->sequences];
    size_t q_bytes = sizeof(double) * (size_t)(tokens * shape->heads * shape->head_dim);
    size_t k_bytes = sizeof(double) * (size_t)(tokens * shape->key_heads * shape->head_dim);
    memset(out->dq, 0, q_bytes);
    memset(out->dq_magnitude, 0, q_bytes);
    memset(out->dk, 0, k_bytes);
    memset(out->dk_magnitude, 0, k_bytes);
    memset(out->dv, 0, k_bytes);
    memset(out->dv_magnitude, 0, k_bytes);
    query one = query_new(shape);
    for (int64_t s = 0; s < shape->sequences; s++)
        for (int64_t row = problem->offsets[s]; row < problem->offsets[s + 1]; row++)
            for (int64_t head = 0; head < shape->heads; head++) {
                see(problem, problem->offsets[s], row, head, &one);
                send_gradients(problem, &one, dout + query_at(shape, row, head), out);
            }
    query_free(&one);
}
