#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

/* out = log softmax(z / temperature). */
static void log_softmax(int64_t count, const double *z, double temperature, double *out) {
    double largest = -INFINITY, sum = 0.0;
    for (int64_t j = 0; j < count; j++)
        largest = fmax(largest, z[j] / temperature);
    for (int64_t j = 0; j < count; j++)
        sum += exp(z[j] / temperature - largest);
    for (int64_t j = 0; j < count; j++)
        out[j] = z[j] / temperature - largest - log(sum);
}

static int64_t first_largest(int64_t count, const double *z) {
    int64_t best = 0;
    for (int64_t j = 1; j < count; j++)
        if (z[j] > z[best])
            best = j;
    return best;
}

static void add_task(const reference_loss_row *row, const double *log_q, double *terms, double *gradient,
                     double *magnitude) {
    int64_t best = first_largest(row->vocabulary, row->logits);
    terms[LOSS_TASK] = -log_q[row->target];
    terms[LOSS_CORRECT] = best == row->target;
    for (int64_t j = 0; j < row->vocabulary; j++) {
        double hit = j == row->target ? 1.0 : 0.0, distance = row->logits[best] - row->logits[j];
        gradient[j] += row->task_weight * (exp(log_q[j]) - hit);
        magnitude[j] += fabs(row->task_weight) * (exp(log_q[j]) * (1.0 + distance) + hit);
    }
}

static void add_consistency(const reference_loss_row *row, const double *log_q, const double *log_p,
                            double *terms, double *gradient, double *magnitude) {
    double temperature = row->temperature, divergence = 0.0;
    double log_q_best = log_q[first_largest(row->vocabulary, row->logits)];
    double log_p_best = log_p[first_largest(row->vocabulary, row->teacher)];
    for (int64_t j = 0; j < row->vocabulary; j++) {
        double p = exp(log_p[j]), q = exp(log_q[j]);
        if (p > 0.0)
            divergence += p * (log_p[j] - log_q[j]);
        gradient[j] += row->consistency_weight * temperature * (q - p);
        magnitude[j] += fabs(row->consistency_weight) * temperature *
                        (q * (1.0 + log_q_best - log_q[j]) + p * (1.0 + log_p_best - log_p[j]));
    }
    terms[LOSS_CONSISTENCY] = temperature * temperature * divergence;
}

typedef struct ranked {
    double logit;
    int64_t column;
} ranked;

static int compare_ranked(const void *left, const void *right) {
    const ranked *a = left, *b = right;
    if (a->logit != b->logit)
        return a->logit > b->logit ? -1 : 1;
    return a->column < b->column ? -1 : 1;
}

static void add_diversity(const reference_loss_row *row, double *terms, double *gradient, double *magnitude) {
    int64_t count = row->top_k > 0 && row->top_k < row->vocabulary ? row->top_k : row->vocabulary;
    ranked *order = malloc(sizeof *order * (size_t)row->vocabulary);
    double *z = calloc((size_t)count, sizeof *z), *log_q = calloc((size_t)count, sizeof *log_q);
    for (int64_t j = 0; j < row->vocabulary; j++)
        order[j] = (ranked){row->logits[j], j};
    qsort(order, (size_t)row->vocabulary, sizeof *order, compare_ranked);
    for (int64_t r = 0; r < count; r++)
        z[r] = order[r].logit;
    log_softmax(count, z, 1.0, log_q);
    double entropy = 0.0;
    for (int64_t r = 0; r < count; r++)
        if (exp(log_q[r]) > 0.0)
            entropy -= exp(log_q[r]) * log_q[r];
    terms[LOSS_DIVERSITY] = -entropy;
    for (int64_t r = 0; r < count; r++) {
        double q = exp(log_q[r]), distance = z[0] - z[r];
        gradient[order[r].column] += row->diversity_weight * q * (log_q[r] + entropy);
        magnitude[order[r].column] +=
            fabs(row->diversity_weight) * q * (1.0 + fabs(log_q[r]) + entropy) * (1.0 + distance);
    }
    free(order);
    free(z);
    free(log_q);
}

void reference_loss_head(const reference_loss_row *row, double *terms, double *gradient, double *magnitude) {
    size_t bytes = sizeof(double) * (size_t)row->vocabulary;
    double *log_q = malloc(bytes), *log_p = malloc(bytes), *spare = malloc(bytes),
           *spare_magnitude = malloc(bytes);
    double *slope = gradient != NULL ? gradient : spare,
           *scale = magnitude != NULL ? magnitude : spare_magnitude;
    memset(slope, 0, bytes);
    memset(scale, 0, bytes);
    for (int column = 0; column < LOSS_COLUMNS; column++)
        terms[column] = 0.0;
    if (row->target >= 0) {
        log_softmax(row->vocabulary, row->logits, 1.0, log_q);
        add_task(row, log_q, terms, slope, scale);
    }
    if (row->regularized) {
        if (row->teacher != NULL) {
            log_softmax(row->vocabulary, row->logits, row->temperature, log_q);
            log_softmax(row->vocabulary, row->teacher, row->temperature, log_p);
            add_consistency(row, log_q, log_p, terms, slope, scale);
        }
        add_diversity(row, terms, slope, scale);
    }
    free(log_q);
    free(log_p);
    free(spare);
    free(spare_magnitude);
}

double reference_entropy(int64_t vocabulary, const double *logits, double temperature) {
    double *log_p = malloc(sizeof *log_p * (size_t)vocabulary), entropy = 0.0;
    log_softmax(vocabulary, logits, temperature, log_p);
    for (int64_t j = 0; j < vocabulary; j++)
        if (exp(log_p[j]) > 0.0)
            entropy -= exp(log_p[j]) * log_p[j];
    free(log_p);
    return entropy;
}

/* Turn columns p and q of y so that they become orthogonal; returns whether they were not. */
static int orthogonalize_columns(int64_t m, int64_t n, double *y, int64_t p, int64_t q, double negligible) {
    double pp = 0.0, qq = 0.0, pq = 0.0;
    for (int64_t i = 0; i < m; i++) {
        pp += y[i * n + p] * y[i * n + p];
        qq += y[i * n + q] * y[i * n + q];
        pq += y[i * n + p] * y[i * n + q];
    }
    if (fabs(pq) <= 1e-15 * sqrt(pp * qq) || fabs(pq) <= negligible)
        return 0;
    double theta = (qq - pp) / (2.0 * pq),
           t = copysign(1.0, theta) / (fabs(theta) + sqrt(1.0 + theta * theta));
    double c = 1.0 / sqrt(1.0 + t * t), s = t * c;
    for (int64_t i = 0; i < m; i++) {
        double x = y[i * n + p], z = y[i * n + q];
        y[i * n + p] = c * x - s * z;
        y[i * n + q] = s * x + c * z;
    }
    return 1;
}

static int compare_descending(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a < b) - (a > b);
}

/* Singular values by one-sided Jacobi: small ones are right too, as they are not by way of a Gram matrix. */
double reference_spectral_value(int64_t m, int64_t n, const double *y, int64_t top, int32_t norm) {
    enum { SWEEPS = 60 };
    double *work = malloc(sizeof *work * (size_t)(m * n)), *sigma = malloc(sizeof *sigma * (size_t)n);
    double squares = 0.0, first = 0.0, nuclear = 0.0;
    memcpy(work, y, sizeof *work * (size_t)(m * n));
    for (int64_t i = 0; i < m * n; i++)
        squares += y[i] * y[i];
    for (int sweep = 0, turned = 1; sweep < SWEEPS && turned; sweep++) {
        turned = 0;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++)
                turned |= orthogonalize_columns(m, n, work, p, q, squares * 1e-32);
    }
    for (int64_t j = 0; j < n; j++) {
        double sum = 0.0;
        for (int64_t i = 0; i < m; i++)
            sum += work[i * n + j] * work[i * n + j];
        sigma[j] = sqrt(sum);
        nuclear += sigma[j];
    }
    qsort(sigma, (size_t)n, sizeof *sigma, compare_descending);
    for (int64_t j = 0; j < top && j < n; j++)
        first += sigma[j];
    free(work);
    free(sigma);
    return -first / (norm == BALORA_SVD_NUCLEAR ? nuclear : sqrt(squares));
}
