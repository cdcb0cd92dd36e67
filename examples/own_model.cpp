/* A model of one's own, trained with the library's parts:  own_model
 *
 * The model is a linear classifier, logits = x W^T, that this program pre-trains itself. Then it is fine-tuned on data
 * with wrong labels through low-rank factors that start as PiSSA's, logits = x W^T + x (B A - B0 A0)^T, once on the task
 * alone and once with the regularizer set of understanding. The library has the factors' start, the terms with their
 * gradient on the logits, the optimizer and its schedule; the rest is here. */
#include <balora/balora.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

using matrix = std::vector<float>; // row-major

static const int64_t features = 24, classes = 6, batch = 32, rank = 4, steps = 120;

static void check(balora_status status) {
    if (status == BALORA_OK)
        return;
    std::fprintf(stderr, "%s: %s\n", balora_status_name(status), balora_error_message());
    std::exit(1);
}

static balora_tensor view(matrix &numbers, int64_t rows, int64_t columns) {
    balora_tensor tensor = BALORA_TENSOR_INIT;
    const int64_t shape[] = {rows, columns};
    check(balora_tensor_contiguous(&tensor, numbers.data(), BALORA_F32, 2, shape));
    return tensor;
}

/* c [m, n] += scale op(a) op(b), inner size k. */
static void multiply(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float scale,
                     const matrix &a, const matrix &b, matrix &c) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += (transpose_a ? a[l * m + i] : a[i * k + l]) * (transpose_b ? b[j * k + l] : b[l * n + j]);
            c[i * n + j] += scale * sum;
        }
}

struct data {
    matrix x;                   // [batch, features]
    std::vector<int64_t> label; // [batch]
};

/* Clusters around a centre a class; a share of the labels is wrong. */
static data draw(std::mt19937 &random, const matrix &centres, double wrong) {
    data made{matrix(batch * features), std::vector<int64_t>(batch)};
    std::normal_distribution<float> noise(0, 1);
    for (int64_t i = 0; i < batch; i++) {
        int64_t truth = (int64_t)(random() % classes);
        for (int64_t j = 0; j < features; j++)
            made.x[i * features + j] = centres[truth * features + j] + noise(random);
        bool lie = (double)(random() % 1000) < 1000 * wrong;
        made.label[i] = lie ? (int64_t)(random() % classes) : truth;
    }
    return made;
}

/* Mean cross entropy; dlogits gets its gradient. */
static double task(const matrix &logits, const std::vector<int64_t> &label, matrix &dlogits) {
    double loss = 0;
    for (int64_t i = 0; i < batch; i++) {
        const float *z = &logits[i * classes];
        double total = 0, highest = z[0];
        for (int64_t j = 1; j < classes; j++)
            highest = std::fmax(highest, z[j]);
        for (int64_t j = 0; j < classes; j++)
            total += std::exp(z[j] - highest);
        for (int64_t j = 0; j < classes; j++)
            dlogits[i * classes + j] =
                (float)((std::exp(z[j] - highest) / total - (j == label[i] ? 1 : 0)) / (double)batch);
        loss += (std::log(total) + highest - z[label[i]]) / (double)batch;
    }
    return loss;
}

struct model {
    matrix w;            // [classes, features], frozen
    matrix a, b, a0, b0; // [rank, features], [classes, rank]

    matrix teacher(const matrix &x) const {
        matrix logits(batch * classes);
        multiply(false, true, batch, classes, features, 1, x, w, logits);
        return logits;
    }

    /* h and h0 [batch, rank] are kept for the gradient. */
    matrix student(const matrix &x, matrix &h, matrix &h0) const {
        matrix logits = teacher(x);
        h.assign(batch * rank, 0), h0.assign(batch * rank, 0);
        multiply(false, true, batch, rank, features, 1, x, a, h);
        multiply(false, true, batch, rank, features, 1, x, a0, h0);
        multiply(false, true, batch, classes, rank, 1, h, b, logits);
        multiply(false, true, batch, classes, rank, -1, h0, b0, logits);
        return logits;
    }
};

static double accuracy(std::mt19937 random, const matrix &centres, const model &self) {
    int64_t right = 0, count = 0;
    matrix h, h0;
    for (int round = 0; round < 20; round++) {
        data clean = draw(random, centres, 0);
        matrix logits = self.student(clean.x, h, h0);
        for (int64_t i = 0; i < batch; i++, count++) {
            int64_t best = 0;
            for (int64_t j = 1; j < classes; j++)
                best = logits[i * classes + j] > logits[i * classes + best] ? j : best;
            right += best == clean.label[i];
        }
    }
    return (double)right / (double)count;
}

/* Gradient descent on W itself. */
static void pre_train(std::mt19937 &random, const matrix &centres, model &self) {
    for (int step = 0; step < 60; step++) {
        data one = draw(random, centres, 0);
        matrix logits = self.teacher(one.x), dlogits(batch * classes);
        task(logits, one.label, dlogits);
        multiply(true, false, classes, features, batch, -0.05f, dlogits, one.x, self.w);
    }
}

/* Fine-tune; returns the mean KL to the teacher at the end, which `terms` of the set has. */
static double fine_tune(balora_context *context, std::mt19937 random, const matrix &centres, model &self,
                        bool regularized) {
    balora_regularizers *set;
    balora_regularizer_options options = BALORA_REGULARIZER_OPTIONS_INIT;
    check(balora_regularizer_options_preset(&options, BALORA_PRESET_UNDERSTANDING));
    options.lambda_consistency = 1; // a stronger pull than the paper's, for a model this small and labels this bad
    options.consistency_schedule = BALORA_CONSISTENCY_CONSTANT;
    options.svd_k = 2; // of six classes, whose logits have rank 5
    check(balora_regularizers_create(&set, context, &options));
    balora_optimizer *optimizer;
    const int64_t counts[] = {rank * features, classes * rank};
    check(balora_optimizer_create_for(&optimizer, context, nullptr, "cpu", counts, nullptr, 2));
    matrix da(rank * features), db(classes * rank), h, h0;
    balora_tensor parameters[] = {view(self.a, rank, features), view(self.b, classes, rank)};
    balora_tensor gradients[] = {view(da, rank, features), view(db, classes, rank)};
    const balora_tensor *parameter_list[] = {&parameters[0], &parameters[1]};
    const balora_tensor *gradient_list[] = {&gradients[0], &gradients[1]};
    balora_regularizer_terms terms = BALORA_REGULARIZER_TERMS_INIT;
    for (int64_t step = 0; step < steps; step++) {
        data one = draw(random, centres, 0.4);
        matrix logits = self.student(one.x, h, h0), teacher = self.teacher(one.x), dlogits(batch * classes);
        double loss = task(logits, one.label, dlogits), rate, grad_norm;

        balora_tensor student_view = view(logits, batch, classes), teacher_view = view(teacher, batch, classes);
        balora_tensor gradient_view = view(dlogits, batch, classes);
        balora_regularizer_inputs inputs = BALORA_REGULARIZER_INPUTS_INIT;
        inputs.student = &student_view;
        inputs.teacher = &teacher_view;
        inputs.gradient = regularized ? &gradient_view : nullptr; // added to the task's
        inputs.accumulate = 1;
        inputs.step = step;
        inputs.total_steps = steps;
        check(balora_regularizers_evaluate(set, &inputs, &terms));

        da.assign(da.size(), 0), db.assign(db.size(), 0);
        matrix dh(batch * rank);
        multiply(true, false, classes, rank, batch, 1, dlogits, h, db);
        multiply(false, false, batch, rank, classes, 1, dlogits, self.b, dh);
        multiply(true, false, rank, features, batch, 1, dh, one.x, da);
        check(balora_schedule_learning_rate(&rate, BALORA_LR_COSINE, 2e-2, 0.03, step, steps));
        check(balora_optimizer_step(optimizer, parameter_list, gradient_list, rate, 1.0, &grad_norm));
        if (step % 40 == 0 || step == steps - 1)
            std::printf("%5lld  task %.4f  consistency %.4f  diversity %.4f  svd %.4f\n", (long long)step, loss,
                        terms.consistency, terms.diversity, terms.svd);
    }
    balora_optimizer_free(optimizer);
    balora_regularizers_free(set);
    return terms.consistency;
}

/* Factors of the strongest directions of W. */
static void start_factors(balora_context *context, model &self) {
    self.a.assign(rank * features, 0), self.b.assign(classes * rank, 0);
    balora_tensor a = view(self.a, rank, features), b = view(self.b, classes, rank);
    balora_tensor weight = view(self.w, classes, features);
    balora_pissa_options options = BALORA_PISSA_OPTIONS_INIT;
    options.rank = rank;
    check(balora_pissa(&a, &b, nullptr, context, &weight, &options));
    self.a0 = self.a, self.b0 = self.b;
}

int main() {
    balora_context *context;
    check(balora_context_create(&context, nullptr));
    std::mt19937 random(1);
    std::normal_distribution<float> normal(0, 0.7f);
    matrix centres(classes * features);
    for (float &number : centres)
        number = normal(random);
    model base{matrix(classes * features), {}, {}, {}, {}};
    pre_train(random, centres, base);
    start_factors(context, base);
    std::printf("pre-trained: accuracy %.3f\n", accuracy(random, centres, base));
    double drift[2];
    for (int regularized = 0; regularized < 2; regularized++) {
        model tuned = base;
        std::printf(regularized ? "with the regularizers\n" : "task alone\n");
        drift[regularized] = fine_tune(context, random, centres, tuned, regularized != 0);
        std::printf("accuracy %.3f  drift %.4f\n", accuracy(random, centres, tuned), drift[regularized]);
    }
    balora_context_free(context);
    return drift[1] < drift[0] ? 0 : 1;
}
