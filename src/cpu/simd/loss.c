/*
 * One row of the loss head: log-sum-exps, terms, and the gradient, which may take the place of the logits.
 *
 * Exponentials are kept in scratch and used again for the gradient. Sums run in float over blocks and are
 * carried in double, so that a row of 150,000 logits is as exact as one of 100.
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

/* out = e^(scale (x - highest)), padded with 0 to whole vectors; returns their sum, and that of their
 * squares. */
static double exponentials(float *out, const float *x, float highest, float scale, int64_t count,
                           double *squares) {
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
 * KL(p || q) as the sum of p (e^t - 1 - t), t = ln q - ln p: no term is negative, none cancels, and an error
 * in a log-sum-exp enters by its square only. Equal rows give exactly 0.
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

/* A distribution over the row: total = the sum of e^(scale (x - highest)). */
typedef struct distribution {
    float highest, scale;
    double total;
} distribution;

static double log_of_sum(const distribution *x) {
    return (double)x->highest * (double)x->scale + log(x->total);
}

/* --- the top K --- */

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

#define SCAN (4 * SIMD_WIDTH) /* elements that are compared at a time */

SIMD_INLINE int any_above(const float *x, float limit) {
    vector first = vector_max(vector_load(x), vector_load(x + SIMD_WIDTH));
    vector second = vector_max(vector_load(x + 2 * SIMD_WIDTH), vector_load(x + 3 * SIMD_WIDTH));
    return vector_any(vector_max(first, second) > limit);
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
        if (i + SCAN <= count && !any_above(x + i, heap->values[0])) {
            i += SCAN;
            continue;
        }
        int64_t end = i + SCAN < count ? i + SCAN : count;
        for (; i < end; i++)
            if (x[i] > heap->values[0])
                replace_root(heap, x[i], i);
    }
}

/* --- the row --- */

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

/* What the last pass over a row needs. */
typedef struct row_pass {
    const float *logits;
    float *slope; /* where the gradient goes */
    const float *teacher_logits;
    const float *student, *teacher; /* exponentials at temperature T */
    int64_t count;
    int power;     /* e^(x - highest) is 1: the student's exponential, 2: its square, 0: to be computed */
    float highest; /* of the logits */
    float p_share, q_share;               /* turn exponentials into probabilities */
    float scale, shift;                   /* ln q - ln p = scale (x - teacher's x) - shift */
    float task;                           /* the gradient's factor of e^(x - highest) */
    float student_weight, teacher_weight; /* ... of the exponentials at temperature T */
    float diversity, diversity_base;      /* ... of e^(x - highest) (x - highest - diversity_base) */
} row_pass;

SIMD_INLINE vector gradient_vector(const row_pass *pass, vector x, vector student, vector teacher) {
    vector above = x - pass->highest, one = student;
    if (pass->power == 2)
        one = student * student;
    else if (pass->power == 0)
        one = vector_exp(above);
    vector sum = one * pass->task + (student * pass->student_weight - teacher * pass->teacher_weight);
    if (pass->diversity != 0)
        sum += vector_select(one == 0.0f, one, one * pass->diversity * (above - pass->diversity_base));
    return sum;
}

/* Sum KL(p || q) and write the gradient; `consistent` and `gradient` are constants. */
SIMD_INLINE double run_pass(const row_pass *pass, int consistent, int gradient) {
    double total = 0;
    for (int64_t start = 0; start < pass->count; start += BLOCK) {
        int64_t end = start + BLOCK < pass->count ? start + BLOCK : pass->count;
        vector sum = {0};
        for (int64_t i = start; i < end; i += SIMD_WIDTH) {
            int64_t rest = pass->count - i;
            vector x = load_logits(pass->logits + i, rest), student = vector_load(pass->student + i),
                   teacher = {0};
            if (consistent) {
                teacher = vector_load(pass->teacher + i);
                vector t = (x - load_logits(pass->teacher_logits + i, rest)) * pass->scale - pass->shift;
                sum += divergence_term(teacher * pass->p_share, student * pass->q_share,
                                       t); /* 0 in the padding */
            }
            if (!gradient)
                continue;
            vector slope = gradient_vector(pass, x, student, teacher);
            if (rest >= SIMD_WIDTH)
                vector_store(pass->slope + i, slope);
            else
                vector_store_part(pass->slope + i, slope, rest);
        }
        total += vector_sum(sum);
    }
    return total;
}

static double last_pass(const row_pass *pass, int gradient) {
    if (pass->teacher_logits != NULL)
        return gradient ? run_pass(pass, 1, 1) : run_pass(pass, 1, 0);
    return gradient ? run_pass(pass, 0, 1) : 0;
}

/* The teacher's exponentials, and the factors of the consistency term. */
static void meet_teacher(const loss_row *row, const distribution *student, float *exponentials_out,
                         row_pass *pass) {
    distribution teacher = {.scale = student->scale, .highest = highest_of(row->teacher, row->vocabulary)};
    double unused;
    teacher.total = exponentials(exponentials_out, row->teacher, teacher.highest, teacher.scale,
                                 row->vocabulary, &unused);
    pass->teacher_logits = row->teacher;
    pass->teacher = exponentials_out;
    pass->p_share = (float)(1 / teacher.total);
    pass->q_share = (float)(1 / student->total);
    pass->shift = (float)(log_of_sum(student) - log_of_sum(&teacher));
    double weight = (double)row->consistency_weight * (double)row->temperature;
    pass->student_weight = (float)(weight / student->total);
    pass->teacher_weight = (float)(weight / teacher.total);
}

/* The diversity term over the whole vocabulary. */
static void spread_over_all(const loss_row *row, double total, float *again, row_pass *pass) {
    const float *ones = pass->student;
    if (pass->power != 1) {
        double unused;
        exponentials(again, row->logits, pass->highest, 1, row->vocabulary, &unused);
        ones = again;
    }
    double value = negative_entropy(ones, row->logits, pass->highest, 1, total, row->vocabulary);
    row->terms[LOSS_DIVERSITY] = value;
    pass->diversity = (float)((double)row->diversity_weight / total);
    pass->diversity_base = (float)(value + log(total));
}

void SIMD_SYMBOL(loss_row)(const loss_row *row) {
    int64_t count = row->vocabulary, padded = loss_scratch(count) / 4;
    float *student_part = row->scratch, *teacher_part = student_part + padded,
          *top_part = teacher_part + padded;
    top_heap top = {top_part, (int32_t *)(top_part + padded), 0};
    const float *x = row->logits;
    memset(row->terms, 0, LOSS_COLUMNS * sizeof *row->terms);

    int consistent = row->regularized && row->teacher != NULL;
    float temperature = consistent ? row->temperature : 1;
    distribution student = {.highest = highest_of(x, count), .scale = 1 / temperature};
    row_pass pass = {.logits = x,
                     .slope = row->slope,
                     .student = student_part,
                     .count = count,
                     .power = temperature == 1.0f   ? 1
                              : temperature == 2.0f ? 2
                                                    : 0,
                     .highest = student.highest,
                     .scale = student.scale};
    double total, squares; /* total: of e^(x - highest) */
    total = pass.power == 0 ? exponentials(student_part, x, student.highest, 1, count, &squares) : 0;
    student.total = exponentials(student_part, x, student.highest, student.scale, count, &squares);
    if (pass.power != 0)
        total = pass.power == 2 ? squares : student.total;

    if (row->target >= 0) {
        row->terms[LOSS_TASK] = log(total) + ((double)student.highest - (double)x[row->target]);
        row->terms[LOSS_CORRECT] = is_first_highest(x, row->target, student.highest);
        pass.task = (float)((double)row->task_weight / total);
    }
    if (consistent)
        meet_teacher(row, &student, teacher_part, &pass);
    if (row->regularized && row->top_k > 0 && row->top_k < count) {
        top.size = row->top_k;
        find_top(&top, x, count);
        row->terms[LOSS_DIVERSITY] = top_diversity(&top);
    } else if (row->regularized) {
        spread_over_all(row, total, top_part, &pass);
    }
    double divergence = last_pass(&pass, row->gradient);
    row->terms[LOSS_CONSISTENCY] = consistent ? (double)temperature * (double)temperature * divergence : 0;
    if (!row->gradient)
        return;
    if (row->target >= 0)
        row->slope[row->target] -= row->task_weight;
    for (int64_t i = 0; i < top.size; i++)
        row->slope[top.places[i]] += row->diversity_weight * top.values[i];
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
