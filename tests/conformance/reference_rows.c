#include <math.h>

#include "reference.h"

static double root_mean_square(int64_t cols, const double *x, double epsilon) {
    double sum = 0.0;
    for (int64_t j = 0; j < cols; j++)
        sum += x[j] * x[j];
    return sqrt(sum / (double)cols + epsilon);
}

void reference_rms_norm(int64_t rows, int64_t cols, const double *x, const double *weight,
                        double weight_offset, double epsilon, double *y) {
    for (int64_t i = 0; i < rows; i++) {
        double rms = root_mean_square(cols, x + i * cols, epsilon);
        for (int64_t j = 0; j < cols; j++)
            y[i * cols + j] = x[i * cols + j] / rms * (weight[j] + weight_offset);
    }
}

/* With n = x / rms and g = dy (weight + offset): dx = (g - n mean(g n)) / rms, dweight = sum of dy n over
 * rows. */
void reference_rms_norm_backward(int64_t rows, int64_t cols, const double *x, const double *weight,
                                 double weight_offset, double epsilon, const double *dy,
                                 const reference_norm_gradient *out) {
    for (int64_t i = 0; i < rows; i++) {
        const double *x_row = x + i * cols, *dy_row = dy + i * cols;
        double rms = root_mean_square(cols, x_row, epsilon), mean = 0.0, mean_magnitude = 0.0;
        for (int64_t j = 0; j < cols; j++) {
            double product = dy_row[j] * (weight[j] + weight_offset) * x_row[j] / rms;
            mean += product / (double)cols;
            mean_magnitude += fabs(product) / (double)cols;
        }
        for (int64_t j = 0; j < cols; j++) {
            double normal = x_row[j] / rms, g = dy_row[j] * (weight[j] + weight_offset);
            out->dx[i * cols + j] += (g - normal * mean) / rms;
            out->dweight[j] += dy_row[j] * normal;
            if (out->dx_magnitude == NULL)
                continue;
            out->dx_magnitude[i * cols + j] += (fabs(g) + fabs(normal) * mean_magnitude) / rms;
            out->dweight_magnitude[j] += fabs(dy_row[j] * normal);
        }
    }
}

/* --- layer_norm --- */

typedef struct moments {
    double mean, deviation; /* sqrt(variance + epsilon) */
} moments;

static moments moments_of(int64_t cols, const double *x, double epsilon) {
    double mean = 0.0, variance = 0.0;
    for (int64_t j = 0; j < cols; j++)
        mean += x[j] / (double)cols;
    for (int64_t j = 0; j < cols; j++)
        variance += (x[j] - mean) * (x[j] - mean) / (double)cols;
    return (moments){mean, sqrt(variance + epsilon)};
}

void reference_layer_norm(int64_t rows, int64_t cols, const double *x, const double *weight,
                          const double *bias, double epsilon, double *y, double *magnitude) {
    for (int64_t i = 0; i < rows; i++) {
        moments m = moments_of(cols, x + i * cols, epsilon);
        for (int64_t j = 0; j < cols; j++) {
            double above = x[i * cols + j] - m.mean;
            y[i * cols + j] = above / m.deviation * weight[j] + bias[j];
            if (magnitude != NULL)
                magnitude[i * cols + j] =
                    (fabs(above) + fabs(m.mean)) / m.deviation * fabs(weight[j]) + fabs(bias[j]);
        }
    }
}

/* With n = (x - mean) / deviation and g = dy weight: dx = (g - mean(g) - n mean(g n)) / deviation. */
void reference_layer_norm_backward(int64_t rows, int64_t cols, const double *x, const double *weight,
                                   double epsilon, const double *dy, const reference_norm_gradient *out) {
    for (int64_t i = 0; i < rows; i++) {
        const double *x_row = x + i * cols, *dy_row = dy + i * cols;
        moments m = moments_of(cols, x_row, epsilon);
        double mean = 0.0, along = 0.0, mean_magnitude = 0.0, along_magnitude = 0.0,
               shift = fabs(m.mean) / m.deviation;
        for (int64_t j = 0; j < cols; j++) {
            double n = (x_row[j] - m.mean) / m.deviation, g = dy_row[j] * weight[j];
            mean += g / (double)cols;
            along += g * n / (double)cols;
            mean_magnitude += fabs(g) / (double)cols;
            along_magnitude += fabs(g) * (fabs(n) + shift) / (double)cols;
        }
        for (int64_t j = 0; j < cols; j++) {
            double n = (x_row[j] - m.mean) / m.deviation, g = dy_row[j] * weight[j];
            out->dx[i * cols + j] += (g - mean - n * along) / m.deviation;
            out->dweight[j] += dy_row[j] * n;
            out->dbias[j] += dy_row[j];
            if (out->dx_magnitude == NULL)
                continue;
            out->dx_magnitude[i * cols + j] +=
                (fabs(g) + mean_magnitude + (fabs(n) + shift) * along_magnitude) / m.deviation;
            out->dweight_magnitude[j] += fabs(dy_row[j]) * (fabs(n) + shift);
            out->dbias_magnitude[j] += fabs(dy_row[j]);
        }
    }
}

/* --- softmax --- */

void reference_softmax(int64_t rows, int64_t cols, double scale, const double *x, double *y,
                       double *magnitude) {
    for (int64_t i = 0; i < rows; i++) {
        double largest = -INFINITY, sum = 0.0;
        for (int64_t j = 0; j < cols; j++)
            largest = fmax(largest, scale * x[i * cols + j]);
        for (int64_t j = 0; j < cols; j++)
            sum += exp(scale * x[i * cols + j] - largest);
        for (int64_t j = 0; j < cols; j++) {
            double exponent = scale * x[i * cols + j];
            y[i * cols + j] = exp(exponent - largest) / sum;
            if (magnitude != NULL)
                magnitude[i * cols + j] = y[i * cols + j] * (1.0 + fabs(exponent) + fabs(largest));
        }
    }
}

void reference_softmax_backward(int64_t rows, int64_t cols, double scale, const double *y, const double *dy,
                                double *dx, double *magnitude) {
    for (int64_t i = 0; i < rows; i++) {
        double mean = 0.0, mean_magnitude = 0.0;
        for (int64_t j = 0; j < cols; j++) {
            mean += y[i * cols + j] * dy[i * cols + j];
            mean_magnitude += fabs(y[i * cols + j] * dy[i * cols + j]);
        }
        for (int64_t j = 0; j < cols; j++) {
            double weight = scale * y[i * cols + j];
            dx[i * cols + j] = weight * (dy[i * cols + j] - mean);
            if (magnitude != NULL)
                magnitude[i * cols + j] = fabs(weight) * (fabs(dy[i * cols + j]) + mean_magnitude);
        }
    }
}

void reference_rope(int64_t tokens, int64_t heads, int64_t head_dim, const double *positions,
                    const double *table, int inverse, double *x, double *magnitude) {
    int64_t half = head_dim / 2;
    for (int64_t t = 0; t < tokens; t++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t j = 0; j < half; j++) {
                const double *entry = table + (int64_t)positions[t] * head_dim;
                double cosine = entry[j], sine = inverse ? -entry[half + j] : entry[half + j];
                int64_t first = (t * heads + h) * head_dim + j, second = first + half;
                double a = x[first], b = x[second];
                x[first] = a * cosine - b * sine;
                x[second] = b * cosine + a * sine;
                if (magnitude != NULL) {
                    magnitude[first] = fabs(a * cosine) + fabs(b * sine);
                    magnitude[second] = fabs(b * cosine) + fabs(a * sine);
                }
            }
}

/* gelu_tanh(x) = x/2 (1 + tanh u), u = sqrt(2/pi) (x + 0.044715 x^3); 1 + tanh u = 2 / (1 + exp(-2u)) without
 * cancellation far below 0. */
static double logistic(double x) {
    return 1.0 / (1.0 + exp(-x));
}

static const double root_2_over_pi = 0.79788456080286535588;

double reference_activation(int32_t activation, double x) {
    if (activation == ACTIVATION_SILU)
        return x * logistic(x);
    return x * logistic(2.0 * root_2_over_pi * (x + 0.044715 * x * x * x));
}

double reference_activation_slope(int32_t activation, double x) {
    double u = x, slope_u = 1.0;
    if (activation != ACTIVATION_SILU) {
        u = 2.0 * root_2_over_pi * (x + 0.044715 * x * x * x);
        slope_u = 2.0 * root_2_over_pi * (1.0 + 3.0 * 0.044715 * x * x);
    }
    return logistic(u) + x * logistic(u) * logistic(-u) * slope_u;
}
