#include "backend/ops.h"
#include "cpu/simd/symbols.h"

#include <math.h>

/* 1 / rms(x). */
static float inverse_rms(const float *x, float epsilon, int64_t count) {
    return (float)(1 / sqrt(SIMD_SYMBOL(sum_squares)(x, count) / (double)count + (double)epsilon));
}

void SIMD_SYMBOL(rms_norm)(const float *x, const float *weight, float weight_offset, float epsilon, float *y,
                           int64_t count) {
    float inverse = inverse_rms(x, epsilon, count);
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        vector_store(y + i, vector_load(x + i) * inverse * (vector_load(weight + i) + weight_offset));
    for (; i < count; i++)
        y[i] = x[i] * inverse * (weight[i] + weight_offset);
}

/* With g = dy (weight + offset) and x' = x / rms:  dx += (g - x' mean(g x')) / rms,  dweight += dy x'. */
void SIMD_SYMBOL(rms_norm_backward)(const float *x, const float *weight, float weight_offset, float epsilon,
                                    const float *dy, float *dx, double *dweight, int64_t count) {
    float inverse = inverse_rms(x, epsilon, count);
    vector sums = {0};
    double dot = 0;
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        sums += vector_load(dy + i) * (vector_load(weight + i) + weight_offset) * vector_load(x + i);
    dot = vector_sum(sums);
    for (; i < count; i++)
        dot += (double)(dy[i] * (weight[i] + weight_offset) * x[i]);
    float along = (float)(dot * (double)inverse * (double)inverse * (double)inverse / (double)count);
    for (i = 0; i + SIMD_WIDTH <= count; i += SIMD_WIDTH) {
        vector g = vector_load(dy + i) * (vector_load(weight + i) + weight_offset);
        vector_store(dx + i, vector_load(dx + i) + (g * inverse - vector_load(x + i) * along));
    }
    for (; i < count; i++)
        dx[i] += dy[i] * (weight[i] + weight_offset) * inverse - x[i] * along;
    if (dweight != NULL)
        for (i = 0; i < count; i++)
            dweight[i] += (double)dy[i] * (double)(x[i] * inverse);
}

void SIMD_SYMBOL(rope)(float *x, const float *table, int64_t heads, int64_t head_dim, int inverse) {
    int64_t half = head_dim / 2;
    const float *cosines = table, *sines = table + half;
    float sign = inverse ? -1.0f : 1.0f;
    for (int64_t h = 0; h < heads; h++) {
        float *low = x + h * head_dim, *high = low + half;
        int64_t i = 0;
        for (; i + SIMD_WIDTH <= half; i += SIMD_WIDTH) {
            vector c = vector_load(cosines + i), s = sign * vector_load(sines + i);
            vector a = vector_load(low + i), b = vector_load(high + i);
            vector_store(low + i, a * c - b * s);
            vector_store(high + i, b * c + a * s);
        }
        for (; i < half; i++) {
            float c = cosines[i], s = sign * sines[i], a = low[i], b = high[i];
            low[i] = a * c - b * s;
            high[i] = b * c + a * s;
        }
    }
}

/*
 * Both activations are g sigmoid(u(g)): u = g for SiLU; for GELU in its tanh form, tanh being a shifted
 * sigmoid, u = 2 sqrt(2 / pi) (g + 0.044715 g^3). Their derivative is s + g s (1 - s) u'.
 */
#define GELU_LINEAR 1.5957691216057308f
#define GELU_CUBIC  (GELU_LINEAR * 0.044715f)

SIMD_INLINE vector activation_argument(int gelu, vector g) {
    return gelu ? g * (GELU_LINEAR + GELU_CUBIC * (g * g)) : g;
}

SIMD_INLINE vector gated_vector(int gelu, vector gate, vector up) {
    return gate * vector_sigmoid(activation_argument(gelu, gate)) * up;
}

SIMD_INLINE void gated_row(int gelu, const float *gate, const float *up, float *out, int64_t count) {
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        vector_store(out + i, gated_vector(gelu, vector_load(gate + i), vector_load(up + i)));
    if (i < count)
        vector_store_part(
            out + i,
            gated_vector(gelu, vector_load_part(gate + i, count - i), vector_load_part(up + i, count - i)),
            count - i);
}

void SIMD_SYMBOL(gated_activation)(int32_t activation, const float *gate, const float *up, float *out,
                                   int64_t count) {
    if (activation == ACTIVATION_SILU)
        gated_row(0, gate, up, out, count);
    else
        gated_row(1, gate, up, out, count);
}

SIMD_INLINE void gated_backward_vector(int gelu, vector gate, vector up, vector dout, vector *dgate,
                                       vector *dup) {
    vector s = vector_sigmoid(activation_argument(gelu, gate));
    vector slope = gelu ? GELU_LINEAR + 3.0f * GELU_CUBIC * (gate * gate) : vector_all(1.0f);
    vector tail = s * (1.0f - s);
    /* The slope of GELU may overflow, long after the tail has become 0. */
    vector bend = vector_select(tail == 0.0f, tail, gate * tail * slope);
    *dgate = dout * up * (s + bend);
    *dup = dout * gate * s;
}

SIMD_INLINE void gated_backward_row(int gelu, const float *gate, const float *up, const float *dout,
                                    float *dgate, float *dup, int64_t count) {
    vector dg, du;
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH) {
        gated_backward_vector(gelu, vector_load(gate + i), vector_load(up + i), vector_load(dout + i), &dg,
                              &du);
        vector_store(dgate + i, dg);
        vector_store(dup + i, du);
    }
    if (i == count)
        return;
    int64_t rest = count - i;
    gated_backward_vector(gelu, vector_load_part(gate + i, rest), vector_load_part(up + i, rest),
                          vector_load_part(dout + i, rest), &dg, &du);
    vector_store_part(dgate + i, dg, rest);
    vector_store_part(dup + i, du, rest);
}

void SIMD_SYMBOL(gated_activation_backward)(int32_t activation, const float *gate, const float *up,
                                            const float *dout, float *dgate, float *dup, int64_t count) {
    if (activation == ACTIVATION_SILU)
        gated_backward_row(0, gate, up, dout, dgate, dup, count);
    else
        gated_backward_row(1, gate, up, dout, dgate, dup, count);
}

void SIMD_SYMBOL(soft_cap)(float cap, const float *x, float *y, int64_t count) {
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        vector_store(y + i, cap * vector_tanh(vector_load(x + i) / cap));
    if (i < count)
        vector_store_part(y + i, cap * vector_tanh(vector_load_part(x + i, count - i) / cap), count - i);
}

void SIMD_SYMBOL(soft_cap_backward)(float cap, const float *y, const float *dy, float *dx, int64_t count) {
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH) {
        vector share = vector_load(y + i) / cap;
        vector_store(dx + i, vector_load(dy + i) * (1.0f - share * share));
    }
    for (; i < count; i++)
        dx[i] = dy[i] * (1.0f - y[i] / cap * (y[i] / cap));
}
