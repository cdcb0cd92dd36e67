/*
 * One row of the loss head: log-sum-exps, terms, and the gradient in place of the logits.
 *
 * Exponentials are kept in scratch and used again for the gradient. Sums run in float over blocks and are carried in
 * double, so that a row of 150,000 logits is as exact as one of 100.
 */
#include "backend/ops.h"
#include "cpu/simd/symbols.h"

#include <math.h>

#define BLOCK 1024 /* elements whose sum is formed in float */

static float highest_of(const float *x, int64_t count) {
    vector largest = vector_all(-INFINITY);
    int64_t i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        largest = vector_max(vector_load(x + i), largest);
    float highest = vector_highest(largest);
    for (; i < count; i++)
        highest = x[i] > highest ? x[i] : highest;
    return highest;
}

/* Load with padding that no exponential can see. */
SIMD_INLINE vector load_logits(const float *x, int64_t count) {
    if (count >= SIMD_WIDTH)
        return vector_load(x);
    float whole[SIMD_WIDTH];
    for (int i = 0; i < SIMD_WIDTH; i++)
        whole[i] = i < count ? x[i] : -INFINITY;
    return vector_load(whole);
}

/* out = e^(scale (x - highest)), padded with 0 to whole vectors; returns their sum, and that of their squares. */
static double exponentials(float *out, const float *x, float highest, float scale, int64_t count, double *squares) {
    double total = 0, total_squares = 0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t end = start + BLOCK < count ? start + BLOCK : count;
        vector sum = {0}, square = {0};
        for (int64_t i = start; i < end; i += SIMD_WIDTH) {
            vector e = vector_exp((load_logits(x + i, count - i) - highest) * scale);
            vector_store(out + i, e);
            sum += e;
            square += e * e;
        }
        total += vector_sum(sum);
        total_squares += vector_sum(square);
    }
    *squares = total_squares;
    return total;
}

/* Sum of q ln q for q = e / total, with ln q = scale (x - highest) - ln total. */
static double negative_entropy(const float *e, const float *x, float highest, float scale, double total,
                               int64_t count) {
    double weighted = 0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t end = start + BLOCK < count ? start + BLOCK : count;
        vector sum = {0};
        for (int64_t i = start; i < end; i += SIMD_WIDTH) {
            vector weight = vector_load(e + i);
            vector term = weight * ((load_logits(x + i, count - i) - highest) * scale);
            sum += vector_select(weight == 0.0f, weight, term);
        }
        weighted += vector_sum(sum);
    }
    return weighted / total - log(total);
}

/*
 * KL(p || q) as the sum of p (e^t - 1 - t), t = ln q - ln p: no term is negative, none cancels, and an error in a
 * log-sum-exp enters by its square only. Equal rows give exactly 0.
 */
SIMD_INLINE vector divergence_term(vector p, vector q, vector t) {
    vector series = 1.0f + t * (1.0f / 8);
    series = 1.0f + t * (1.0f / 7) * series;
    series = 1.0f + t * (1.0f / 6) * series;
    series = 1.0f + t * (1.0f / 5) * series;
    series = 1.0f + t * (1.0f / 4) * series;
    series = 1.0f + t * (1.0f / 3) * series;
    vector near = p * (t * t * 0.5f) * series;
    vector far = vector_select(p == 0.0f, q, q - p - p * t);
    return vector_select((t > -0.4f) & (t < 0.4f), near, far);
}

/* A distribution over the row: e / total, total = the sum of e^(scale (x - highest)). */
typedef struct distribution {
    const float *logits;
    const float *exponentials;
    float highest, scale;
    double total;
} distribution;

static double divergence(const distribution *teacher, const distribution *student, int64_t count) {
    float p_share = (float)(1 / teacher->total), q_share = (float)(1 / student->total);
    double student_log = (double)student->highest * (double)student->scale + log(student->total);
    double teacher_log = (double)teacher->highest * (double)teacher->scale + log(teacher->total);
    float shift = (float)(student_log - teacher_log);
    double total = 0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t end = start + BLOCK < count ? start + BLOCK : count;
        vector sum = {0};
        for (int64_t i = start; i < end; i += SIMD_WIDTH) {
            vector p = vector_load(teacher->exponentials + i) * p_share;
            vector q = vector_load(student->exponentials + i) * q_share;
            int64_t rest = count - i;
            vector s = rest >= SIMD_WIDTH ? vector_load(student->logits + i) : vector_load_part(student->logits + i, rest);
            vector t = rest >= SIMD_WIDTH ? vector_load(teacher->logits + i) : vector_load_part(teacher->logits + i, rest);
            sum += divergence_term(p, q, (s - t) * student->scale - shift);
        }
        total += vector_sum(sum);
    }
    return total;
}

/* --- the top K -------------------------------------------------------------------------------------------------- */

/* A heap whose root is the smallest of the largest values so far; of equals the later one goes first. */
typedef struct top_heap {
    float *values;
    int32_t *places;
    int64_t size;
} top_heap;

static int goes_first(const top_heap *heap, int64_t a, int64_t b) {
    return heap->values[a] < heap->values[b] ||
           (heap->values[a] == heap->values[b] && heap->places[a] > heap->places[b]);
}

static void swap_entries(top_heap *heap, int64_t a, int64_t b) {
    float value = heap->values[a];
    int32_t place = heap->places[a];
    heap->values[a] = heap->values[b];
    heap->places[a] = heap->places[b];
    heap->values[b] = value;
    heap->places[b] = place;
}

static void sift_down(top_heap *heap, int64_t at) {
    for (;;) {
        int64_t child = 2 * at + 1, least = at;
        if (child < heap->size && goes_first(heap, child, least))
            least = child;
        if (child + 1 < heap->size && goes_first(heap, child + 1, least))
            least = child + 1;
        if (least == at)
            return;
        swap_entries(heap, at, least);
        at = least;
    }
}

static void replace_root(top_heap *heap, float value, int64_t place) {
    heap->values[0] = value;
    heap->places[0] = (int32_t)place;
    sift_down(heap, 0);
}

SIMD_INLINE int any_above(vector x, float limit) {
    ivector above = x > limit;
    int32_t any = 0;
    for (int i = 0; i < SIMD_WIDTH; i++)
        any |= above[i];
    return any;
}

/* Fill the heap with the `size` largest of x. */
static void find_top(top_heap *heap, const float *x, int64_t count) {
    for (int64_t i = 0; i < heap->size; i++) {
        heap->values[i] = x[i];
        heap->places[i] = (int32_t)i;
    }
    for (int64_t i = heap->size / 2; i-- > 0;)
        sift_down(heap, i);
    int64_t i = heap->size;
    while (i < count) {
        if (i + SIMD_WIDTH <= count && !any_above(vector_load(x + i), heap->values[0])) {
            i += SIMD_WIDTH;
            continue;
        }
        int64_t end = i + SIMD_WIDTH < count ? i + SIMD_WIDTH : count;
        for (; i < end; i++)
            if (x[i] > heap->values[0])
                replace_root(heap, x[i], i);
    }
}

/* --- the row ----------------------------------------------------------------------------------------------------- */

typedef struct row_scratch {
    float *student, *teacher; /* exponentials */
    top_heap top;
} row_scratch;

/* Sum of q ln q over the heap's softmax; the heap's values become q (ln q - that sum), its derivative. */
static double top_diversity(top_heap *top) {
    float highest = highest_of(top->values, top->size);
    double total = 0, weighted = 0;
    for (int64_t i = 0; i < top->size; i++) {
        double above = (double)top->values[i] - (double)highest;
        double e = exp(above);
        total += e;
        weighted += e * above;
    }
    double log_total = log(total), value = weighted / total - log_total;
    for (int64_t i = 0; i < top->size; i++) {
        double log_q = (double)top->values[i] - (double)highest - log_total;
        top->values[i] = (float)(exp(log_q) * (log_q - value));
    }
    return value;
}

static double is_first_highest(const float *x, int32_t target, float highest) {
    if (x[target] != highest)
        return 0;
    for (int32_t i = 0; i < target; i++)
        if (x[i] == highest)
            return 0;
    return 1;
}

/* Gradient of a row: task (p1 - [target]), consistency (q - p) and, over the whole vocabulary, diversity. */
typedef struct row_gradient {
    float task;            /* multiplies e^(x - highest) */
    float student;         /* multiplies the student's exponentials at temperature T */
    float teacher;         /* multiplies the teacher's exponentials */
    float diversity;       /* multiplies e^(x - highest) (x - highest - diversity_base) */
    float diversity_base;
} row_gradient;

SIMD_INLINE vector gradient_vector(const row_gradient *g, vector x, vector one, vector student, vector teacher) {
    vector sum = one * g->task + (student * g->student - teacher * g->teacher);
    if (g->diversity != 0)
        sum += vector_select(one == 0.0f, one, one * g->diversity * (x - g->diversity_base));
    return sum;
}

/* `power` says how e^(x - highest) follows from the exponentials at temperature T: 1: the same, 2: their square,
 * 0: computed again. */
static void write_gradient(const loss_row *row, const row_gradient *g, float highest, int power,
                           const row_scratch *scratch) {
    for (int64_t i = 0; i < row->vocabulary; i += SIMD_WIDTH) {
        int64_t rest = row->vocabulary - i;
        vector x = load_logits(row->logits + i, rest) - highest;
        vector student = vector_load(scratch->student + i), one = student, teacher = {0};
        if (power == 2)
            one = student * student;
        else if (power == 0)
            one = vector_exp(x);
        if (g->teacher != 0)
            teacher = vector_load(scratch->teacher + i);
        vector sum = gradient_vector(g, x, one, student, teacher);
        if (rest >= SIMD_WIDTH)
            vector_store(row->logits + i, sum);
        else
            vector_store_part(row->logits + i, sum, rest);
    }
}

/* The consistency term, leaving the teacher's exponentials in scratch. */
static void consistency_term(const loss_row *row, const distribution *student, row_scratch *scratch, row_gradient *g) {
    float temperature = row->temperature;
    distribution teacher = {.logits = row->teacher, .exponentials = scratch->teacher, .scale = student->scale};
    double unused;
    teacher.highest = highest_of(row->teacher, row->vocabulary);
    teacher.total = exponentials(scratch->teacher, row->teacher, teacher.highest, teacher.scale, row->vocabulary, &unused);
    double divergence_value = divergence(&teacher, student, row->vocabulary);
    row->terms[LOSS_CONSISTENCY] = (double)temperature * (double)temperature * divergence_value;
    double weight = (double)row->consistency_weight * (double)temperature;
    g->student = (float)(weight / student->total);
    g->teacher = (float)(weight / teacher.total);
}

void SIMD_SYMBOL(loss_row)(const loss_row *row) {
    int64_t count = row->vocabulary, padded = loss_scratch(count) / 4;
    row_scratch scratch = {row->scratch, row->scratch + padded, {row->scratch + 2 * padded, NULL, 0}};
    scratch.top.places = (int32_t *)(row->scratch + 3 * padded);
    float *x = row->logits;
    row_gradient gradient = {0};
    memset(row->terms, 0, LOSS_COLUMNS * sizeof *row->terms);

    int consistent = row->regularized && row->teacher != NULL;
    float temperature = consistent ? row->temperature : 1;
    int power = temperature == 1.0f ? 1 : temperature == 2.0f ? 2 : 0;
    float highest = highest_of(x, count);
    double squares;
    distribution student = {x, scratch.student, highest, 1 / temperature, 0};
    double total = 0; /* of e^(x - highest) */
    if (power == 0) {
        total = exponentials(scratch.student, x, highest, 1, count, &squares);
        student.total = exponentials(scratch.student, x, highest, student.scale, count, &squares);
    } else {
        student.total = exponentials(scratch.student, x, highest, student.scale, count, &squares);
        total = power == 2 ? squares : student.total;
    }

    if (row->target >= 0) {
        row->terms[LOSS_TASK] = log(total) + ((double)highest - (double)x[row->target]);
        row->terms[LOSS_CORRECT] = is_first_highest(x, row->target, highest);
        gradient.task = (float)((double)row->task_weight / total);
    }
    if (consistent)
        consistency_term(row, &student, &scratch, &gradient);
    int whole = row->top_k == 0 || row->top_k >= count;
    if (row->regularized && !whole) {
        scratch.top.size = row->top_k;
        find_top(&scratch.top, x, count);
        row->terms[LOSS_DIVERSITY] = top_diversity(&scratch.top);
    } else if (row->regularized) {
        const float *ones = scratch.student;
        double value;
        if (power == 1) {
            value = negative_entropy(ones, x, highest, 1, total, count);
        } else {
            float *again = scratch.top.values;
            double total_again = exponentials(again, x, highest, 1, count, &squares);
            value = negative_entropy(again, x, highest, 1, total_again, count);
        }
        row->terms[LOSS_DIVERSITY] = value;
        gradient.diversity = (float)((double)row->diversity_weight / total);
        gradient.diversity_base = (float)(value + log(total));
    }
    if (!row->gradient)
        return;
    write_gradient(row, &gradient, highest, power, &scratch);
    if (row->target >= 0)
        x[row->target] -= row->task_weight;
    for (int64_t i = 0; i < scratch.top.size; i++)
        x[scratch.top.places[i]] += row->diversity_weight * scratch.top.values[i];
}

double SIMD_SYMBOL(entropy)(const float *logits, float temperature, int64_t count) {
    float highest = highest_of(logits, count), scale = 1 / temperature;
    double total = 0, weighted = 0;
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t end = start + BLOCK < count ? start + BLOCK : count;
        vector sum = {0}, product = {0};
        for (int64_t i = start; i < end; i += SIMD_WIDTH) {
            vector above = (load_logits(logits + i, count - i) - highest) * scale;
            vector e = vector_exp(above);
            sum += e;
            product += vector_select(e == 0.0f, e, e * above);
        }
        total += vector_sum(sum);
        weighted += vector_sum(product);
    }
    return log(total) - weighted / total;
}
