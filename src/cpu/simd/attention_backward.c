/*
 * Gradients of attention for one sequence and key head. With P the softmax weights, recomputed from the saved
 * log-sum-exp, and D_i = out_i . dout_i:
 *   dV = P^T dO,   dS = P (dO V^T - D),   dQ = scale dS K,   dK = scale dS^T Q.
 * A soft cap multiplies dS by its slope, 1 - tanh^2 of the score.
 * One call owns all of its dk, dv and dq: no sums are shared between threads.
 */
#include "cpu/simd/attention.h"
#include "cpu/simd/symbols.h"

#include <math.h>

typedef struct backward_scratch {
    float *keys_t, *values_t;          /* panels of k^T and v^T: [key panel][head_dim][TILE_COLUMNS] */
    float *keys;                       /* panels of k: [column panel][keys][TILE_COLUMNS] */
    float *dk, *dv;                    /* [keys, padded head_dim] */
    float *query, *dout;               /* [QUERY_BLOCK, head_dim]; the queries scaled */
    float *query_panels, *dout_panels; /* [column panel][QUERY_BLOCK][TILE_COLUMNS] */
    float *dq;                         /* [QUERY_BLOCK, padded head_dim] */
    float *weights, *slopes;           /* P and dS: [QUERY_BLOCK, KEY_BLOCK] */
    float dot[QUERY_BLOCK];            /* D */
    int64_t padded_keys, padded_dim;
} backward_scratch;

int64_t SIMD_SYMBOL(attention_backward_scratch)(int64_t length, int64_t head_dim) {
    int64_t keys = round_up(length, TILE_MULTIPLE), dim = round_up(head_dim, TILE_COLUMNS);
    return keys * (2 * head_dim + 3 * dim) + QUERY_BLOCK * (2 * head_dim + 3 * dim + 2 * KEY_BLOCK);
}

static void split_scratch(backward_scratch *out, float *memory, int64_t length, int64_t head_dim) {
    int64_t keys = round_up(length, TILE_MULTIPLE), dim = round_up(head_dim, TILE_COLUMNS);
    out->padded_keys = keys;
    out->padded_dim = dim;
    out->keys_t = memory;
    out->values_t = out->keys_t + keys * head_dim;
    out->keys = out->values_t + keys * head_dim;
    out->dk = out->keys + keys * dim;
    out->dv = out->dk + keys * dim;
    out->query = out->dv + keys * dim;
    out->dout = out->query + QUERY_BLOCK * head_dim;
    out->query_panels = out->dout + QUERY_BLOCK * head_dim;
    out->dout_panels = out->query_panels + QUERY_BLOCK * dim;
    out->dq = out->dout_panels + QUERY_BLOCK * dim;
    out->weights = out->dq + QUERY_BLOCK * dim;
    out->slopes = out->weights + QUERY_BLOCK * KEY_BLOCK;
}

/* Scores and dP of one row become P and dS; columns outside [begin, end) become 0, up to `width`. */
static void slope_row(const backward_scratch *s, int64_t row, float logsumexp, int64_t begin, int64_t end,
                      int64_t width) {
    float *weights = s->weights + row * KEY_BLOCK, *slopes = s->slopes + row * KEY_BLOCK;
    for (int64_t j = 0; j < begin; j++)
        weights[j] = -INFINITY;
    for (int64_t j = end > begin ? end : begin; j < width; j++)
        weights[j] = -INFINITY;
    for (int64_t j = 0; j < width; j += SIMD_WIDTH) {
        vector p = vector_exp(vector_load(weights + j) - logsumexp);
        vector_store(weights + j, p);
        vector_store(slopes + j, p * (vector_load(slopes + j) - s->dot[row]));
    }
}

/* slopes *= 1 - (c / cap)^2 for capped scores c, up to `width`. */
static void bend_slopes(float *slopes, const float *capped, float cap, int64_t width) {
    for (int64_t j = 0; j < width; j += SIMD_WIDTH) {
        vector t = vector_load(capped + j) / cap;
        vector_store(slopes + j, vector_load(slopes + j) * (1.0f - t * t));
    }
}

/* Everything of the query block at row `query` against the keys [key, key + keys). */
static void backward_tile(const attention_item *item, const backward_scratch *s, int64_t head, int64_t query,
                          int64_t rows, int64_t key, int64_t keys) {
    int64_t dim = item->sizes.head_dim, padded_dim = s->padded_dim;
    float cap = item->sizes.soft_cap, capped[KEY_BLOCK];
    int64_t first_tile = key > query ? (key - query) / TILE_ROWS * TILE_ROWS : 0;
    for (int64_t r = first_tile; r < rows; r += TILE_ROWS) {
        int64_t seen = query + r + TILE_ROWS - key; /* keys that the last row of this tile reaches */
        seen = seen < keys ? seen : keys;
        int64_t width = round_up(seen, TILE_COLUMNS);
        for (int64_t c = 0; c < width; c += TILE_COLUMNS) {
            tile_multiply(dim, s->query + r * dim, dim, 1, s->keys_t + (key + c) * dim,
                          s->weights + r * KEY_BLOCK + c, KEY_BLOCK, 0);
            tile_multiply(dim, s->dout + r * dim, dim, 1, s->values_t + (key + c) * dim,
                          s->slopes + r * KEY_BLOCK + c, KEY_BLOCK, 0);
        }
        for (int64_t row = r; row < r + TILE_ROWS; row++) {
            int64_t begin = 0, end = 0;
            if (row < rows)
                visible_keys(query + row, item->sizes.window, key, keys, &begin, &end);
            begin = begin < width ? begin : width;
            float logsumexp =
                row < rows ? item->saved_logsumexp[(query + row) * item->logsumexp_stride + head] : 0;
            if (cap > 0) {
                cap_scores(s->weights + row * KEY_BLOCK, cap, width);
                memcpy(capped, s->weights + row * KEY_BLOCK, (size_t)width * sizeof *capped);
            }
            slope_row(s, row, logsumexp, begin, end, width);
            if (cap > 0)
                bend_slopes(s->slopes + row * KEY_BLOCK, capped, cap, width);
            size_t unseen = (size_t)(KEY_BLOCK - width) * sizeof(float);
            memset(s->weights + row * KEY_BLOCK + width, 0, unseen);
            memset(s->slopes + row * KEY_BLOCK + width, 0, unseen);
        }
        for (int64_t c = 0; c < padded_dim; c += TILE_COLUMNS)
            tile_multiply(seen, s->slopes + r * KEY_BLOCK, KEY_BLOCK, 1,
                          s->keys + c * s->padded_keys + key * TILE_COLUMNS, s->dq + r * padded_dim + c,
                          padded_dim, 1);
    }
    int64_t depth = rows - first_tile, at = first_tile * KEY_BLOCK;
    for (int64_t c = 0; c < padded_dim; c += TILE_COLUMNS) {
        const float *dout_panel = s->dout_panels + c * QUERY_BLOCK + first_tile * TILE_COLUMNS;
        const float *query_panel = s->query_panels + c * QUERY_BLOCK + first_tile * TILE_COLUMNS;
        for (int64_t j = 0; j < keys; j += TILE_ROWS) {
            int64_t place = (key + j) * padded_dim + c;
            tile_multiply(depth, s->weights + at + j, 1, KEY_BLOCK, dout_panel, s->dv + place, padded_dim, 1);
            tile_multiply(depth, s->slopes + at + j, 1, KEY_BLOCK, query_panel, s->dk + place, padded_dim, 1);
        }
    }
}

static void backward_block(const attention_item *item, backward_scratch *s, int64_t head, int64_t query,
                           int64_t rows) {
    int64_t dim = item->sizes.head_dim, window = item->sizes.window;
    copy_block(s->query, item->q + query * item->q_stride + head * dim, item->q_stride, rows, dim,
               item->sizes.scale);
    copy_block(s->dout, item->dout + query * item->dout_stride + head * dim, item->dout_stride, rows, dim, 1);
    tile_pack(s->query_panels, s->query, dim, QUERY_BLOCK, QUERY_BLOCK, dim);
    tile_pack(s->dout_panels, s->dout, dim, QUERY_BLOCK, QUERY_BLOCK, dim);
    memset(s->dq, 0, (size_t)(QUERY_BLOCK * s->padded_dim) * sizeof(float));
    memset(s->dot, 0, sizeof s->dot);
    for (int64_t row = 0; row < rows; row++) {
        const float *out = item->saved_out + (query + row) * item->out_stride + head * dim;
        double dot = 0;
        for (int64_t c = 0; c < dim; c++)
            dot += (double)out[c] * (double)s->dout[row * dim + c];
        s->dot[row] = (float)dot;
    }
    int64_t end = query + rows;
    for (int64_t key = first_visible(query, window) / TILE_MULTIPLE * TILE_MULTIPLE; key < end;
         key += KEY_BLOCK)
        backward_tile(item, s, head, query, rows, key, end - key < KEY_BLOCK ? end - key : KEY_BLOCK);
    for (int64_t row = 0; row < rows; row++) {
        float *dq = item->dq + (query + row) * item->dq_stride + head * dim;
        for (int64_t c = 0; c < dim; c++)
            dq[c] = s->dq[row * s->padded_dim + c] * item->sizes.scale;
    }
}

void SIMD_SYMBOL(attention_backward)(const attention_item *item) {
    int64_t dim = item->sizes.head_dim, length = item->sizes.length;
    backward_scratch s;
    split_scratch(&s, item->scratch, length, dim);
    tile_pack_transposed(s.keys_t, item->k, item->k_stride, length, s.padded_keys, dim);
    tile_pack_transposed(s.values_t, item->v, item->v_stride, length, s.padded_keys, dim);
    tile_pack(s.keys, item->k, item->k_stride, length, s.padded_keys, dim);
    memset(s.dk, 0, (size_t)(2 * s.padded_keys * s.padded_dim) * sizeof(float));
    for (int64_t head = 0; head < item->sizes.group; head++)
        for (int64_t query = 0; query < length; query += QUERY_BLOCK)
            backward_block(item, &s, head, query,
                           length - query < QUERY_BLOCK ? length - query : QUERY_BLOCK);
    for (int64_t row = 0; row < length; row++) {
        memcpy(item->dk + row * item->dk_stride, s.dk + row * s.padded_dim, (size_t)dim * sizeof(float));
        memcpy(item->dv + row * item->dv_stride, s.dv + row * s.padded_dim, (size_t)dim * sizeof(float));
    }
}
