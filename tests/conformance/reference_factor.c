#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"

/* op(x) [rows, cols] as an array of its own. */
static double *operand_copy(int transposed, int64_t rows, int64_t cols, const double *x) {
    double *copy = malloc(sizeof *copy * (size_t)(rows * cols + 1));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++)
            copy[i * cols + j] = transposed ? x[j * rows + i] : x[i * cols + j];
    return copy;
}

void reference_gemm(const reference_product *product, double *out, double *magnitude) {
    int64_t m = product->m, n = product->n, k = product->k;
    double *rows = operand_copy(product->transpose_a, m, k, product->a);     /* [m, k] */
    double *columns = operand_copy(!product->transpose_b, n, k, product->b); /* [n, k] */
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0.0, sum_magnitude = 0.0;
            for (int64_t p = 0; p < k; p++) {
                double term = rows[i * k + p] * columns[j * k + p];
                sum += term;
                sum_magnitude += fabs(term);
            }
            double kept = product->beta != 0.0 ? product->beta * product->c[i * n + j] : 0.0;
            out[i * n + j] = product->alpha * sum + kept;
            magnitude[i * n + j] = fabs(product->alpha) * sum_magnitude + fabs(kept);
        }
    free(rows);
    free(columns);
}

/* Rotate rows and columns p and q of a so that a[p, q] becomes 0, and rows p and q of the vectors likewise.
 */
static void jacobi_rotate(int64_t n, double *a, double *vectors, int64_t p, int64_t q) {
    double theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
    double t = copysign(1.0, theta) / (fabs(theta) + sqrt(1.0 + theta * theta));
    double c = 1.0 / sqrt(1.0 + t * t), s = t * c;
    for (int64_t i = 0; i < n; i++) {
        double x = a[i * n + p], y = a[i * n + q];
        a[i * n + p] = c * x - s * y;
        a[i * n + q] = s * x + c * y;
    }
    for (int64_t i = 0; i < n; i++) {
        double x = a[p * n + i], y = a[q * n + i];
        a[p * n + i] = c * x - s * y;
        a[q * n + i] = s * x + c * y;
        x = vectors[p * n + i];
        y = vectors[q * n + i];
        vectors[p * n + i] = c * x - s * y;
        vectors[q * n + i] = s * x + c * y;
    }
}

static void sort_descending(int64_t n, double *values, double *vectors) {
    for (int64_t i = 0; i < n; i++) {
        int64_t best = i;
        for (int64_t j = i + 1; j < n; j++)
            if (values[j] > values[best])
                best = j;
        double value = values[i];
        values[i] = values[best];
        values[best] = value;
        for (int64_t j = 0; j < n; j++) {
            double entry = vectors[i * n + j];
            vectors[i * n + j] = vectors[best * n + j];
            vectors[best * n + j] = entry;
        }
    }
}

void reference_eigh(int64_t n, const double *a, double *values, double *vectors) {
    enum { SWEEPS = 40 }; /* convergence is quadratic: 10 are plenty */
    double *work = malloc(sizeof *work * (size_t)(n * n)), total = 0.0;
    memcpy(work, a, sizeof *work * (size_t)(n * n));
    for (int64_t i = 0; i < n * n; i++) {
        total += a[i] * a[i];
        vectors[i] = i / n == i % n ? 1.0 : 0.0;
    }
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        double outside = 0.0;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++)
                outside += work[p * n + q] * work[p * n + q];
        if (outside <= total * 1e-34)
            break;
        for (int64_t p = 0; p < n; p++)
            for (int64_t q = p + 1; q < n; q++)
                if (work[p * n + q] != 0.0)
                    jacobi_rotate(n, work, vectors, p, q);
    }
    for (int64_t i = 0; i < n; i++)
        values[i] = work[i * n + i];
    sort_descending(n, values, vectors);
    free(work);
}
