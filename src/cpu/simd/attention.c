/*
 * Attention of one sequence and key head, tile by tile with a running softmax (Dao et al., "FlashAttention",
 * 2022).
 *
 * Keys and values are packed once for all query rows and heads of a call. Scores exist for one tile only. Row
 * tiles stop at the diagonal, so that masked scores are computed inside a register tile at most.
 */
#include "cpu/simd/attention.h"
#include "cpu/simd/symbols.h"

#include <math.h>

typedef struct forward_scratch {
    float *keys;   /* panels of k^T: [key panel][head_dim][TILE_COLUMNS] */
    float *values; /* panels of v: [column panel][keys][TILE_COLUMNS] */
    float *query;  /* [QUERY_BLOCK, head_dim], scaled */
    float *scores; /* [QUERY_BLOCK, KEY_BLOCK] */
    float *sums;   /* [QUERY_BLOCK, padded head_dim] */
    float highest[QUERY_BLOCK];
    double total[QUERY_BLOCK];
    int64_t padded_keys, padded_dim;
} forward_scratch;

int64_t SIMD_SYMBOL(attention_scratch)(int64_t length, int64_t head_dim) {
    int64_t keys = round_up(length, TILE_MULTIPLE), dim = round_up(head_dim, TILE_COLUMNS);
    return keys * (head_dim + dim) + QUERY_BLOCK * (head_dim + KEY_BLOCK + dim);
}

static void split_scratch(forward_scratch *out, float *memory, int64_t keys, int64_t head_dim) {
    out->padded_keys = round_up(keys, TILE_MULTIPLE);
    out->padded_dim = round_up(head_dim, TILE_COLUMNS);
    out->keys = memory;
    out->values = out->keys + out->padded_keys * head_dim;
    out->query = out->values + out->padded_keys * out->padded_dim;
    out->scores = out->query + QUERY_BLOCK * head_dim;
    out->sums = out->scores + QUERY_BLOCK * KEY_BLOCK;
}

/* Turn one row of scores into weights, taking the row's running maximum, total and sums along. Columns
 * outside [begin, end) are masked; `width` columns are written. */
static void soften_row(forward_scratch *s, int64_t row, int64_t begin, int64_t end, int64_t width) {
    float *scores = s->scores + row * KEY_BLOCK;
    for (int64_t j = 0; j < begin; j++)
        scores[j] = -INFINITY;
    for (int64_t j = end; j < width; j++)
        scores[j] = -INFINITY;
    vector largest = vector_load(scores);
    for (int64_t j = SIMD_WIDTH; j < width; j += SIMD_WIDTH)
        largest = vector_max(vector_load(scores + j), largest);
    float highest = vector_highest(largest);
    if (highest > s->highest[row] || s->total[row] == 0) {
        float shrink = s->total[row] == 0 ? 0 : expf(s->highest[row] - highest);
        float *sums = s->sums + row * s->padded_dim;
        for (int64_t c = 0; c < s->padded_dim; c += SIMD_WIDTH)
            vector_store(sums + c, vector_load(sums + c) * shrink);
        s->total[row] *= (double)shrink;
        s->highest[row] = highest;
    }
    vector total = {0};
    for (int64_t j = 0; j < width; j += SIMD_WIDTH) {
        vector weight = vector_exp(vector_load(scores + j) - s->highest[row]);
        vector_store(scores + j, weight);
        total += weight;
    }
    s->total[row] += vector_sum(total);
}

/* Scores, softmax and weighted sums of the query block at row `query` against the keys [key, key + keys);
 * `base` is the first packed key. */
static void forward_tile(const attention_item *item, forward_scratch *s, int64_t query, int64_t rows,
                         int64_t key, int64_t keys, int64_t base) {
    int64_t dim = item->sizes.head_dim, window = item->sizes.window;
    int64_t first_tile = key > query ? (key - query) / TILE_ROWS * TILE_ROWS : 0;
    for (int64_t r = first_tile; r < rows; r += TILE_ROWS) {
        int64_t seen = query + r + TILE_ROWS - key; /* keys that the last row of this tile reaches */
        seen = seen < keys ? seen : keys;
        int64_t width = round_up(seen, TILE_COLUMNS);
        for (int64_t c = 0; c < width; c += TILE_COLUMNS)
            tile_multiply(dim, s->query + r * dim, dim, 1, s->keys + (key - base + c) * dim,
                          s->scores + r * KEY_BLOCK + c, KEY_BLOCK, 0);
        for (int64_t row = r; row < r + TILE_ROWS && row < rows; row++) {
            int64_t begin, end;
            visible_keys(query + row, window, key, keys, &begin, &end);
            if (begin < end && item->sizes.soft_cap > 0)
                cap_scores(s->scores + row * KEY_BLOCK, item->sizes.soft_cap, width);
            if (begin < end)
                soften_row(s, row, begin, end, width);
            else
                memset(s->scores + row * KEY_BLOCK, 0, (size_t)width * sizeof(float));
        }
        for (int64_t c = 0; c < s->padded_dim; c += TILE_COLUMNS)
            tile_multiply(seen, s->scores + r * KEY_BLOCK, KEY_BLOCK, 1,
                          s->values + c * s->padded_keys + (key - base) * TILE_COLUMNS,
                          s->sums + r * s->padded_dim + c, s->padded_dim, 1);
    }
}

static void write_rows(const attention_item *item, const forward_scratch *s, int64_t head, int64_t query,
                       int64_t rows) {
    int64_t dim = item->sizes.head_dim;
    for (int64_t row = 0; row < rows; row++) {
        float *out = item->out + (query + row) * item->out_stride + head * dim;
        float share = (float)(1 / s->total[row]);
        for (int64_t c = 0; c < dim; c++)
            out[c] = s->sums[row * s->padded_dim + c] * share;
        if (item->logsumexp != NULL)
            item->logsumexp[(query + row) * item->logsumexp_stride + head] =
                (float)((double)s->highest[row] + log(s->total[row]));
    }
}

void SIMD_SYMBOL(attention)(const attention_item *item, int64_t first, int64_t last) {
    int64_t dim = item->sizes.head_dim, window = item->sizes.window;
    int64_t base = first_visible(first, window);
    forward_scratch s;
    split_scratch(&s, item->scratch, last - base, dim);
    tile_pack_transposed(s.keys, item->k + base * item->k_stride, item->k_stride, last - base, s.padded_keys,
                         dim);
    tile_pack(s.values, item->v + base * item->v_stride, item->v_stride, last - base, s.padded_keys, dim);
    for (int64_t head = 0; head < item->sizes.group; head++) {
        for (int64_t query = first; query < last; query += QUERY_BLOCK) {
            int64_t rows = last - query < QUERY_BLOCK ? last - query : QUERY_BLOCK;
            copy_block(s.query, item->q + query * item->q_stride + head * dim, item->q_stride, rows, dim,
                       item->sizes.scale);
            memset(s.sums, 0, (size_t)(QUERY_BLOCK * s.padded_dim) * sizeof(float));
            for (int64_t row = 0; row < QUERY_BLOCK; row++) {
                s.highest[row] = -INFINITY;
                s.total[row] = 0;
            }
            int64_t end = query + rows;
            int64_t key = base + (first_visible(query, window) - base) / TILE_COLUMNS * TILE_COLUMNS;
            for (; key < end; key += KEY_BLOCK)
                forward_tile(item, &s, query, rows, key, end - key < KEY_BLOCK ? end - key : KEY_BLOCK, base);
            write_rows(item, &s, head, query, rows);
        }
    }
}
