/* The fused loss head, entropies, and the SVD term. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reference.h"
#include "tests.h"

/* --- loss_head --- */

typedef struct loss_case {
    int64_t rows, vocabulary, top_k;
    double task, consistency, diversity; /* weights */
    double temperature, deviation;       /* deviation: of the logits */
    bool teacher, gradient;
    int32_t out; /* dtype of a gradient beside the logits; 0: in their place */
} loss_case;

typedef struct loss_operands {
    operand *logits, *teacher, *targets, *regularized, *terms;
    operand *slope; /* where the gradient goes */
    loss_head_rows arguments;
} loss_operands;

static void loss_begin(bench *b, const loss_case *c, const char *remark, loss_operands *o) {
    case_begin(b, SLOT_loss_head,
               "[%lld, %lld] top_k %lld, weights %g %g %g, temperature %g, logits of size %g, %s teacher, "
               "gradient %d%s%s%s",
               (long long)c->rows, (long long)c->vocabulary, (long long)c->top_k, c->task, c->consistency,
               c->diversity, c->temperature, c->deviation, c->teacher ? "with" : "without", c->gradient,
               c->out == 0 ? "" : " in ", c->out == 0 ? "" : dtype_name(c->out), remark);
    double *targets = case_array(b, c->rows), *regularized = case_array(b, c->rows);
    for (int64_t i = 0; i < c->rows; i++) { /* all four kinds of rows, from the first on */
        targets[i] = i % 4 < 2 ? (double)draw_below(b, c->vocabulary) : -1.0;
        regularized[i] = i % 2 == 0;
    }
    o->logits = operand_random(b, "logits", BALORA_F32, c->rows, c->vocabulary, c->deviation);
    o->teacher = operand_random(b, "teacher", BALORA_F32, c->rows, c->vocabulary, c->deviation);
    o->targets = operand_of(b, "targets", BALORA_I32, 1, c->rows, targets);
    o->regularized = operand_of(b, "regularized", BALORA_I32, 1, c->rows, regularized);
    o->terms = operand_filled(b, "terms", BALORA_F64, c->rows, LOSS_COLUMNS, (double)NAN);
    o->slope = c->out == 0 ? o->logits
                           : operand_filled(b, "gradient_out", c->out, c->rows, c->vocabulary, (double)NAN);
    o->arguments = (loss_head_rows){.logits = o->logits->view,
                                    .teacher = c->teacher ? o->teacher->view : view_none(),
                                    .targets = o->targets->view,
                                    .regularized = o->regularized->view,
                                    .terms = o->terms->view,
                                    .task_weight = (float)c->task,
                                    .consistency_weight = (float)c->consistency,
                                    .diversity_weight = (float)c->diversity,
                                    .temperature = (float)c->temperature,
                                    .top_k = c->top_k,
                                    .gradient = c->gradient,
                                    .gradient_out = c->out == 0 ? view_none() : o->slope->view};
}

static void reference_row(const loss_operands *o, int64_t row, double *terms, double *gradient,
                          double *magnitude) {
    const loss_head_rows *a = &o->arguments;
    int64_t at = row * a->logits.cols;
    reference_loss_row one = {a->logits.cols,
                              o->logits->value + at,
                              view_is_none(a->teacher) ? NULL : o->teacher->value + at,
                              (int32_t)o->targets->value[row],
                              (int32_t)o->regularized->value[row],
                              (double)a->task_weight,
                              (double)a->consistency_weight,
                              (double)a->diversity_weight,
                              (double)a->temperature,
                              a->top_k};
    reference_loss_head(&one, terms, gradient, magnitude);
}

/* The divergence is a sum of p (ln p - ln q), whose differences come out of logits that may be large. */
static double divergence_magnitude(const loss_operands *o, int64_t row) {
    int64_t vocabulary = o->arguments.logits.cols;
    const double *x = o->logits->value + row * vocabulary, *y = o->teacher->value + row * vocabulary;
    double temperature = (double)o->arguments.temperature, largest = -INFINITY, total = 0.0, sum = 0.0;
    for (int64_t j = 0; j < vocabulary; j++)
        largest = fmax(largest, y[j]);
    for (int64_t j = 0; j < vocabulary; j++) {
        double p = exp((y[j] - largest) / temperature);
        total += p;
        sum += p * fabs(x[j] - y[j]);
    }
    return temperature * sum / total;
}

static void loss_compare(bench *b, loss_operands *o) {
    int64_t rows = o->arguments.logits.rows, vocabulary = o->arguments.logits.cols;
    double *terms = case_array(b, rows * LOSS_COLUMNS), *gradient = case_array(b, rows * vocabulary);
    double *magnitude = case_array(b, rows * vocabulary),
           *terms_magnitude = case_array(b, rows * LOSS_COLUMNS);
    for (int64_t i = 0; i < rows; i++) {
        reference_row(o, i, terms + i * LOSS_COLUMNS, gradient + i * vocabulary, magnitude + i * vocabulary);
        for (int64_t column = 0; column < LOSS_COLUMNS; column++)
            terms_magnitude[i * LOSS_COLUMNS + column] = fabs(terms[i * LOSS_COLUMNS + column]);
        terms_magnitude[i * LOSS_COLUMNS + LOSS_CONSISTENCY] += divergence_magnitude(o, i);
    }
    expect_close(b, o->terms, terms, terms_magnitude);
    if (o->arguments.gradient)
        expect_close(b, o->slope, gradient, magnitude);
}

static void loss_run(bench *b, const loss_case *c) {
    loss_operands o;
    loss_begin(b, c, "", &o);
    CALL_OK(b, loss_head, b->queue, &o.arguments);
    loss_compare(b, &o);
    case_end(b);
}

/* Weights: each alone, all together, none. */
static const double weights[][3] = {
    {1.0, 0.0, 0.0}, {0.0, 0.7, 0.0}, {0.0, 0.0, 0.3}, {0.5, 0.025, 0.005}, {0, 0, 0}};

static void loss_vocabulary(bench *b, int64_t rows, int64_t vocabulary) {
    static const int64_t top_ks[] = {0, 1, 2, 20, 40000};
    static const double temperatures[] = {1.0, 2.0, 3.5};
    for (int64_t k = 0; k < COUNT_OF(top_ks); k++)
        for (int64_t w = 0; w < COUNT_OF(weights); w++)
            for (int64_t t = 0; t < COUNT_OF(temperatures); t++)
                for (int flags = 0; flags < 4; flags++) {
                    loss_case c = {rows,
                                   vocabulary,
                                   top_ks[k],
                                   weights[w][0],
                                   weights[w][1],
                                   weights[w][2],
                                   temperatures[t],
                                   3.0,
                                   (flags & 1) != 0,
                                   (flags & 2) != 0,
                                   0};
                    loss_run(b, &c);
                }
}

void test_objective_loss_head(bench *b) {
    static const int64_t small[] = {1, 2, 3, 17, 33, 65, 100};
    static const int64_t large[][3] = {{7, 1000, 20},  {5, 1000, 0},  {3, 1000, 300},  {3, 4097, 20},
                                       {5, 32001, 20}, {2, 32001, 0}, {2, 32001, 5000}};
    for (int64_t v = 0; v < COUNT_OF(small); v++)
        loss_vocabulary(b, 9, small[v]);
    for (int64_t v = 0; v < COUNT_OF(large); v++)
        for (int64_t w = 0; w < COUNT_OF(weights); w++) {
            loss_case c = {large[v][0],
                           large[v][1],
                           large[v][2],
                           weights[w][0],
                           weights[w][1],
                           weights[w][2],
                           w % 2 ? 2.0 : 1.0,
                           4.0,
                           true,
                           true,
                           0};
            loss_run(b, &c);
            c.gradient = false;
            loss_run(b, &c);
        }
    loss_run(b, &(loss_case){0, 17, 20, 1.0, 0.1, 0.1, 2.0, 1.0, true, true, 0});
    loss_run(b, &(loss_case){130, 33, 20, 1.0, 0.1, 0.1, 2.0, 1.0, true, true, 0});
}

/* The gradient beside the logits: those stay as they are, and without a gradient neither is touched. */
void test_objective_loss_head_gradient_out(bench *b) {
    static const int64_t vocabularies[] = {1, 17, 64, 100, 1000, 4099};
    static const int64_t top_ks[] = {0, 20, 300};
    for (int t = 0; t < b->activation_count; t++)
        for (int64_t v = 0; v < COUNT_OF(vocabularies); v++)
            for (int64_t k = 0; k < COUNT_OF(top_ks); k++)
                for (int64_t w = 0; w < COUNT_OF(weights); w++) {
                    loss_case c = {5,
                                   vocabularies[v],
                                   top_ks[k],
                                   weights[w][0],
                                   weights[w][1],
                                   weights[w][2],
                                   w % 2 ? 2.0 : 1.0,
                                   3.0,
                                   w != 0,
                                   true,
                                   activation_types[t]};
                    loss_run(b, &c);
                    c.gradient = false;
                    loss_run(b, &c);
                }
}

/* Logits of 1e4: distributions of one winner, divergences of thousands of nats. */
void test_objective_loss_head_stability(bench *b) {
    static const int64_t vocabularies[] = {2, 17, 1000, 32001};
    for (int64_t v = 0; v < COUNT_OF(vocabularies); v++)
        for (double deviation = 1e2; deviation < 1e5; deviation *= 100) {
            loss_run(b,
                     &(loss_case){5, vocabularies[v], 20, 0.5, 0.025, 0.005, 2.0, deviation, true, true, 0});
            loss_run(b,
                     &(loss_case){5, vocabularies[v], 0, 0.5, 0.025, 0.005, 1.0, deviation, true, true, 0});
        }
    /* A student that is its teacher has not drifted at all. */
    for (int64_t v = 0; v < COUNT_OF(vocabularies); v++)
        for (double deviation = 1e-2; deviation < 1e5; deviation *= 1e2) {
            loss_case c = {6, vocabularies[v], 20, 0.0, 1.0, 0.0, 2.0, deviation, true, true, 0};
            loss_operands o;
            loss_begin(b, &c, ", the teacher is the student", &o);
            operand_set(b, o.teacher, o.logits->value);
            CALL_OK(b, loss_head, b->queue, &o.arguments);
            loss_compare(b, &o);
            for (int64_t i = 0; i < c.rows; i++)
                expect_near(b, "divergence of equals", o.terms->result[i * LOSS_COLUMNS + LOSS_CONSISTENCY],
                            0.0, 1e-12);
            case_end(b);
        }
}

/* The first steps of a training: the student is almost its teacher, and the drift shown must not be rounding
 * noise. */
void test_objective_loss_head_small_divergence(bench *b) {
    static const int64_t vocabularies[] = {17, 1000, 32001};
    for (int64_t v = 0; v < COUNT_OF(vocabularies); v++)
        for (double drift = 1e-4; drift < 1.0; drift *= 10.0) {
            int64_t vocabulary = vocabularies[v];
            loss_case c = {4, vocabulary, 20, 0.0, 1.0, 0.0, 2.0, 3.0, true, true, 0};
            loss_operands o;
            loss_begin(b, &c, ", teacher near", &o);
            for (int64_t i = 0; i < c.rows * vocabulary; i++)
                o.teacher->result[i] = o.logits->value[i] + drift * draw_normal(b);
            operand_set(b, o.teacher, o.teacher->result);
            CALL_OK(b, loss_head, b->queue, &o.arguments);
            operand_fetch(b, o.terms);
            for (int64_t i = 0; i < c.rows; i++) {
                double want[LOSS_COLUMNS];
                reference_row(&o, i, want, NULL, NULL);
                expect_near(b, "a small divergence", o.terms->result[i * LOSS_COLUMNS + LOSS_CONSISTENCY],
                            want[LOSS_CONSISTENCY], 0.05 * want[LOSS_CONSISTENCY]);
            }
            operand_may_change(o.logits);
            case_end(b);
        }
}

static int compare_doubles(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/*
 * Equal logits across the border of the top K: which of them count is free, so terms and the gradient as a
 * multiset are compared. And the largest logit is the first of equals.
 */
void test_objective_loss_head_ties(bench *b) {
    static const int64_t levels[] = {1, 2, 5, 40}; /* distinct logits in a row */
    static const int64_t vocabularies[] = {19, 20, 21, 64, 257};
    for (int64_t l = 0; l < COUNT_OF(levels); l++)
        for (int64_t v = 0; v < COUNT_OF(vocabularies); v++) {
            int64_t vocabulary = vocabularies[v];
            loss_case c = {8, vocabulary, 20, 0.0, 0.0, 1.0, 2.0, 1.0, true, true, 0};
            loss_operands o;
            loss_begin(b, &c, ", ties", &o);
            for (int64_t i = 0; i < c.rows * vocabulary; i++)
                o.logits->result[i] = 0.25 * (double)draw_below(b, levels[l]);
            operand_set(b, o.logits, o.logits->result);
            double *terms = case_array(b, c.rows * LOSS_COLUMNS), *gradient = case_array(b, vocabulary);
            double *magnitude = case_array(b, vocabulary);
            CALL_OK(b, loss_head, b->queue, &o.arguments);
            operand_fetch(b, o.logits);
            for (int64_t i = 0; i < c.rows; i++) {
                reference_row(&o, i, terms + i * LOSS_COLUMNS, gradient, magnitude);
                double *got = o.logits->result + i * vocabulary, worst = 0.0;
                qsort(got, (size_t)vocabulary, sizeof *got, compare_doubles);
                qsort(gradient, (size_t)vocabulary, sizeof *gradient, compare_doubles);
                for (int64_t j = 0; j < vocabulary; j++)
                    worst = fmax(worst, fabs(got[j] - gradient[j]));
                expect_near(b, "sorted gradient of a row with ties", worst, 0.0, 1e-6);
            }
            expect_close(b, o.terms, terms, NULL);
            case_end(b);
        }

    for (int64_t v = 0; v < COUNT_OF(vocabularies); v++)
        for (int64_t target = 0; target < 3;
             target++) { /* the largest logit is at columns 1 and 2, and at the end */
            int64_t vocabulary = vocabularies[v];
            loss_case c = {1, vocabulary, 20, 1.0, 0.0, 0.0, 2.0, 1.0, false, false, 0};
            loss_operands o;
            loss_begin(b, &c, ", first of equals", &o);
            double wanted_token = (double)target;
            o.logits->result[1] = o.logits->result[2] = o.logits->result[vocabulary - 1] = 9.0;
            operand_set(b, o.logits, o.logits->result);
            operand_set(b, o.targets, &wanted_token);
            CALL_OK(b, loss_head, b->queue, &o.arguments);
            loss_compare(b, &o);
            case_end(b);
        }
}

static void expect_same_bits(bench *b, operand *one, operand *other) {
    operand_fetch(b, one);
    operand_fetch(b, other);
    int64_t count = one->view.rows * one->view.cols;
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&one->result[i], &other->result[i], sizeof(double)) != 0) {
            bench_report(b, "%s and %s differ at [%lld, %lld]: %.17g and %.17g", one->name, other->name,
                         (long long)(i / one->view.cols), (long long)(i % one->view.cols), one->result[i],
                         other->result[i]);
            return;
        }
}

/* Chunking the rows must not show: a row alone gives the bits that it gives among others. */
void test_objective_loss_head_rows(bench *b) {
    static const int64_t vocabularies[] = {17, 1000, 32001};
    for (int64_t v = 0; v < COUNT_OF(vocabularies); v++) {
        loss_case c = {9, vocabularies[v], 20, 0.5, 0.025, 0.005, 2.0, 3.0, true, true, 0};
        loss_operands o;
        loss_begin(b, &c, ", rows together and alone", &o);
        operand *alone = operand_of(b, "logits alone", BALORA_F32, c.rows, c.vocabulary, o.logits->value);
        operand *teacher = operand_of(b, "teacher alone", BALORA_F32, c.rows, c.vocabulary, o.teacher->value);
        operand *terms = operand_filled(b, "terms alone", BALORA_F64, c.rows, LOSS_COLUMNS, (double)NAN);
        CALL_OK(b, loss_head, b->queue, &o.arguments);
        for (int64_t i = 0; i < c.rows; i++) {
            loss_head_rows one = o.arguments;
            one.logits = view_rows(alone->view, i, 1);
            one.teacher = view_rows(teacher->view, i, 1);
            one.targets = view_columns(o.targets->view, i, 1);
            one.regularized = view_columns(o.regularized->view, i, 1);
            one.terms = view_rows(terms->view, i, 1);
            CALL_OK(b, loss_head, b->queue, &one);
        }
        expect_same_bits(b, o.logits, alone);
        expect_same_bits(b, o.terms, terms);
        case_end(b);
    }
}

/* --- entropy_rows --- */

void test_objective_entropy(bench *b) {
    static const int64_t vocabularies[] = {1, 2, 3, 17, 65, 1000, 32001};
    static const double temperatures[] = {1.0, 2.0};
    static const double deviations[] = {0.0, 1.0, 5.0, 1e4};
    for (int64_t v = 0; v < COUNT_OF(vocabularies); v++)
        for (int64_t t = 0; t < COUNT_OF(temperatures); t++)
            for (int64_t d = 0; d < COUNT_OF(deviations); d++)
                for (int64_t rows = 0; rows <= 7; rows += 7) {
                    int64_t vocabulary = vocabularies[v];
                    case_begin(b, SLOT_entropy_rows, "[%lld, %lld] of size %g at temperature %g",
                               (long long)rows, (long long)vocabulary, deviations[d], temperatures[t]);
                    operand *logits =
                        operand_random(b, "logits", BALORA_F32, rows, vocabulary, deviations[d]);
                    operand *out = operand_filled(b, "out", BALORA_F64, rows, 1, (double)NAN);
                    double *want = case_array(b, rows);
                    CALL_OK(b, entropy_rows, b->queue, logits->view, (float)temperatures[t], out->view);
                    for (int64_t i = 0; i < rows; i++)
                        want[i] =
                            reference_entropy(vocabulary, logits->value + i * vocabulary, temperatures[t]);
                    expect_close(b, out, want, NULL);
                    case_end(b);
                }
}

/* --- spectral_coefficients --- */

typedef struct spectral_operands {
    operand *eigenvalues, *trace, *weights, *gamma, *value;
} spectral_operands;

static const double earlier_value = 0.125; /* `value` is added to */

static spectral_operands spectral_call(bench *b, int64_t n, const double *eigenvalues, double trace,
                                       int64_t top, int32_t norm, double scale, double value_scale) {
    spectral_operands o = {operand_of(b, "eigenvalues", BALORA_F64, 1, n, eigenvalues),
                           operand_of(b, "trace", BALORA_F64, 1, 1, &trace),
                           operand_filled(b, "weights", BALORA_F64, 1, n, (double)NAN),
                           operand_filled(b, "gamma", BALORA_F64, 1, 1, (double)NAN),
                           operand_filled(b, "value", BALORA_F64, 1, 1, earlier_value)};
    spectral_coefficients arguments = {o.eigenvalues->view,
                                       o.trace->view,
                                       o.weights->view,
                                       o.gamma->view,
                                       o.value->view,
                                       scale,
                                       value_scale,
                                       top,
                                       norm,
                                       0};
    CALL_OK(b, spectral_coefficients, b->queue, &arguments);
    return o;
}

/* The definition in ops.h, from eigenvalues. */
static void spectral_case(bench *b, int64_t n, int64_t zeros, double size, int64_t top, int32_t norm) {
    case_begin(b, SLOT_spectral_coefficients,
               "%lld eigenvalues of size %g, %lld of them zero, top %lld, norm %d", (long long)n, size,
               (long long)zeros, (long long)top, (int)norm);
    double *eigenvalues = case_array(b, n), trace = 0.0, first = 0.0, nuclear = 0.0;
    for (int64_t i = 0; i < n - zeros; i++) {
        eigenvalues[i] = size * pow(0.7, (double)i) * (1.0 + 0.1 * fabs(draw_normal(b)) * (i == 0));
        trace += eigenvalues[i];
    }
    for (int64_t i = n - zeros; i < n; i++) /* as rounding leaves them, on both sides of 0 */
        eigenvalues[i] = eigenvalues[0] * 1e-17 * (double)(n - zeros - i);
    trace += 0.5 * size; /* more than the eigenvalues given: those beyond eigh_top's k */
    for (int64_t i = 0; i < n; i++) {
        double sigma = sqrt(fmax(eigenvalues[i], 0.0));
        first += i < top ? sigma : 0.0;
        nuclear += sigma;
    }
    double total = norm == BALORA_SVD_NUCLEAR ? nuclear : sqrt(trace);
    double *weight = case_array(b, n), *magnitude = case_array(b, n), scale = 1.75, value_scale = 0.25;
    double value = 0.0, gamma = 0.0;
    if (total > 1e-8) {
        value = -first / total;
        gamma = norm == BALORA_SVD_NUCLEAR ? 0.0 : scale * first / (total * total * total);
        for (int64_t i = 0; i < n; i++) {
            double sigma = sqrt(fmax(eigenvalues[i], 0.0)), chosen = i < top ? 1.0 / total : 0.0;
            double shared = norm == BALORA_SVD_NUCLEAR ? first / (total * total) : 0.0;
            if (sigma <= sqrt((double)n) * 1e-7 * sqrt(eigenvalues[0]))
                continue;
            weight[i] = scale * (shared - chosen) / sigma;
            magnitude[i] = scale * (shared + chosen) / sigma;
        }
    }
    value = earlier_value + value_scale * value;
    spectral_operands o = spectral_call(b, n, eigenvalues, trace, top, norm, scale, value_scale);
    expect_close(b, o.weights, weight, magnitude);
    expect_close(b, o.gamma, &gamma, NULL);
    expect_close(b, o.value, &value, NULL);
    case_end(b);
}

static const int32_t norms[] = {BALORA_SVD_FROBENIUS, BALORA_SVD_NUCLEAR};

void test_objective_spectral(bench *b) {
    static const int64_t counts[][3] = {{1, 0, 1},   {2, 0, 1},    {5, 0, 3},   {10, 0, 10},
                                        {33, 0, 10}, {33, 30, 10}, {64, 40, 10}};
    static const double sizes[] = {1e-3, 1.0, 1e8};
    for (int64_t n = 0; n < COUNT_OF(norms); n++) {
        for (int64_t c = 0; c < COUNT_OF(counts); c++)
            for (int64_t s = 0; s < COUNT_OF(sizes); s++)
                spectral_case(b, counts[c][0], counts[c][1], sizes[s], counts[c][2], norms[n]);
        spectral_case(b, 7, 0, 1e-20, 3, norms[n]); /* N <= 1e-8: everything is 0 */
        spectral_case(b, 7, 0, 0.0, 3, norms[n]);
    }
}

/* y [m, n] of the given rank; its Gram matrix's eigenvalues and eigenvectors. */
typedef struct spectral_problem {
    int64_t m, n;
    double *y, *eigenvalues, *eigenvectors, trace;
} spectral_problem;

static spectral_problem spectral_problem_new(bench *b, int64_t m, int64_t n, int64_t rank) {
    spectral_problem p = {m, n, case_array(b, m * n), case_array(b, n), case_array(b, n * n), 0.0};
    double *left = case_array(b, m * rank), *right = case_array(b, rank * n), *gram = case_array(b, n * n);
    for (int64_t i = 0; i < m * rank; i++)
        left[i] = draw_normal(b);
    for (int64_t i = 0; i < rank * n; i++)
        right[i] = draw_normal(b);
    for (int64_t i = 0; i < m * n; i++)
        for (int64_t r = 0; r < rank; r++)
            p.y[i] += left[i / n * rank + r] * right[r * n + i % n];
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n * n; j++)
            gram[j] += p.y[i * n + j / n] * p.y[i * n + j % n];
    for (int64_t i = 0; i < n; i++)
        p.trace += gram[i * n + i];
    reference_eigh(n, gram, p.eigenvalues, p.eigenvectors);
    for (int64_t i = rank; i < n; i++)
        p.eigenvalues[i] = 0.0;
    return p;
}

/* d value / dy = gamma y + sum_i c_i (y v_i) v_i^T, since u_i sigma_i = y v_i. */
static void spectral_gradient(const spectral_problem *p, const spectral_operands *o, double *gradient) {
    int64_t n = p->n;
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < n; j++) {
            gradient[i * n + j] = o->gamma->result[0] * p->y[i * n + j];
            for (int64_t r = 0; r < n; r++) {
                double projection = array_dot(p->y + i * n, p->eigenvectors + r * n, n);
                gradient[i * n + j] += o->weights->result[r] * projection * p->eigenvectors[r * n + j];
            }
        }
}

/*
 * The coefficients give the gradient of the value of a singular value decomposition: against central
 * differences along y E for random E, which keep the rank, so that a rank-deficient y has a derivative under
 * the nuclear norm too.
 */
void test_objective_spectral_gradient(bench *b) {
    static const int64_t shapes[][4] = {
        {9, 6, 6, 3}, {4, 7, 4, 2}, {12, 8, 3, 2}, {6, 6, 6, 6}, {5, 9, 5, 1}}; /* m n rank top */
    enum { DIRECTIONS = 5 };
    const double step = 1e-5, allowed = 1e-7;
    for (int64_t s = 0; s < COUNT_OF(shapes); s++)
        for (int64_t norm = 0; norm < COUNT_OF(norms); norm++) {
            int64_t m = shapes[s][0], n = shapes[s][1], top = shapes[s][3];
            case_begin(b, SLOT_spectral_coefficients,
                       "gradient of [%lld, %lld] of rank %lld, top %lld, norm %d", (long long)m, (long long)n,
                       (long long)shapes[s][2], (long long)top, (int)norms[norm]);
            spectral_problem p = spectral_problem_new(b, m, n, shapes[s][2]);
            spectral_operands o = spectral_call(b, n, p.eigenvalues, p.trace, top, norms[norm], 1.0, 1.0);
            operand_fetch(b, o.weights);
            operand_fetch(b, o.gamma);
            operand_fetch(b, o.value);
            expect_near(b, "value", o.value->result[0] - earlier_value,
                        reference_spectral_value(m, n, p.y, top, norms[norm]), 1e-7);
            double *gradient = case_array(b, m * n), *direction = case_array(b, m * n),
                   *moved = case_array(b, m * n);
            spectral_gradient(&p, &o, gradient);
            expect_near(b, "<y, gradient>: the value does not depend on y's scale",
                        array_dot(p.y, gradient, m * n), 0.0, allowed);
            double *mix = case_array(b, n * n);
            for (int d = 0; d < DIRECTIONS; d++) {
                double values[2];
                for (int64_t i = 0; i < n * n; i++)
                    mix[i] = draw_normal(b) / (double)n;
                memset(direction, 0, sizeof *direction * (size_t)(m * n));
                for (int64_t i = 0; i < m * n; i++)
                    for (int64_t r = 0; r < n; r++)
                        direction[i] += p.y[i / n * n + r] * mix[r * n + i % n];
                for (int side = 0; side < 2; side++) {
                    for (int64_t i = 0; i < m * n; i++)
                        moved[i] = p.y[i] + (side == 0 ? step : -step) * direction[i];
                    values[side] = reference_spectral_value(m, n, moved, top, norms[norm]);
                }
                expect_near(b, "derivative along y E", array_dot(gradient, direction, m * n),
                            (values[0] - values[1]) / (2.0 * step), allowed);
            }
            case_end(b);
        }
}
