/*
 * Gradients of the whole objective against central differences (five-point stencil), for every kind of parameter.
 *
 * For each parameter tensor w with gradient g the derivative along g / |g|, and along random unit directions u, must be
 * g . u within 1e-3 |g|. The step is chosen so that the loss moves by about 4e-3, far above the rounding of F32 logits
 * (1e-6) and small enough for a fourth-order stencil.
 *
 * The norms of DoRA are constants of the gradient, and so they are here: every step of a difference puts those of the
 * undisturbed parameters back. The mask of dropout is that of one training step.
 */
#include "scratch.h"

#include <math.h>

#include "../device.h"
#include "base/random.h"
#include "train/trainer.h"

#define TOLERANCE 1e-3
#define LOSS_MOVE 4e-3

typedef struct fixture {
    balora_context *context;
    balora_model *model;
    balora_adapter *adapter;
    balora_data *data;
    balora_regularizers *regularizers;
    balora_trainer *trainer;
    float *host; /* all parameters, as they were */
    int64_t count;
    int32_t use_dora;
    double dropout;
    float **norms; /* of every module's adapted weight; NULL without magnitudes */
} fixture;

static const char *folder_of(const char *name) {
    static char path[1024];
    const char *root = getenv("BALORA_FIXTURES");
    assert_non_null(root);
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

typedef struct setting {
    const char *model;
    int32_t method;
    double lambda;
    int64_t top_k;
    int32_t svd_norm;
    int64_t accumulation;
    const char *targets, *saved; /* of the adapter; NULL: as by default */
    int32_t bias;
} setting;

static void transfer(const fixture *self, matrix_view view, float *host, bool down) {
    const backend_ops *ops = self->model->device.ops;
    backend_queue *queue = self->adapter->queue;
    if (down)
        expect_ok(ops->download(queue, host, view.buffer, view.offset, view_bytes(view)));
    else
        expect_ok(ops->upload(queue, view.buffer, view.offset, host, view_bytes(view)));
    expect_ok(ops->synchronize(queue));
}

/* Away from the start, where the student equals the teacher and some gradients vanish: B of plain factors is 0 there. */
static void disturb(fixture *self) {
    matrix_view all = adapter_parameters(self->adapter);
    transfer(self, all, self->host, true);
    for (int64_t i = 0; i < self->count; i++) {
        float noise = (float)(0.1 * random_normal(7, 0, (uint64_t)i));
        self->host[i] = self->host[i] == 0 ? noise : self->host[i] * (1 + noise);
    }
    transfer(self, all, self->host, false);
}

static matrix_view part_of(const fixture *self, const adapter_module *module, bool norms) {
    const low_rank_group *group =
        &self->adapter->groups[module->layer * GROUP_COUNT + module->projection->group];
    return view_columns(norms ? group->norms : group->scale, module->projection->first,
                        module->projection->out);
}

static void keep_norms(fixture *self) {
    expect_ok(adapter_refresh(self->adapter, self->adapter->queue));
    self->norms = calloc((size_t)self->adapter->module_count, sizeof *self->norms);
    assert_non_null(self->norms);
    for (int64_t i = 0; i < self->adapter->module_count; i++) {
        matrix_view norms = part_of(self, &self->adapter->modules[i], true);
        self->norms[i] = calloc((size_t)norms.cols, sizeof **self->norms);
        assert_non_null(self->norms[i]);
        transfer(self, norms, self->norms[i], true);
    }
}

static void restore_norms(const fixture *self) {
    for (int64_t i = 0; self->norms != NULL && i < self->adapter->module_count; i++) {
        const adapter_module *module = &self->adapter->modules[i];
        matrix_view norms = part_of(self, module, true);
        transfer(self, norms, self->norms[i], false);
        expect_ok(self->model->device.ops->divide(self->adapter->queue, module->magnitude, norms,
                                                  part_of(self, module, false)));
        expect_ok(self->model->device.ops->synchronize(self->adapter->queue));
    }
}

static void open_fixture(fixture *self, const setting *s) {
    char path[1100];
    balora_adapter_options adapter = BALORA_ADAPTER_OPTIONS_INIT;
    balora_regularizer_options regularizers = BALORA_REGULARIZER_OPTIONS_INIT;
    balora_train_options train = BALORA_TRAIN_OPTIONS_INIT;
    adapter.method = s->method;
    adapter.rank = 3;
    adapter.alpha = 6;
    adapter.use_dora = self->use_dora;
    adapter.lora_dropout = self->dropout;
    adapter.target_modules = s->targets;
    adapter.modules_to_save = s->saved;
    adapter.bias = s->bias;
    regularizers.lambda_consistency = regularizers.lambda_diversity = regularizers.lambda_svd = s->lambda;
    regularizers.top_k = s->top_k;
    regularizers.svd_norm = s->svd_norm;
    regularizers.consistency_schedule = BALORA_CONSISTENCY_CONSTANT;
    regularizers.focus_schedule = BALORA_FOCUS_CONSTANT;
    train.learning_rate = 0;
    train.max_steps = 100000;
    train.batch_size = 4;
    train.gradient_accumulation = s->accumulation;
    train.shuffle = 0;
    balora_model_options model = test_model_options();
    balora_context_options context = BALORA_CONTEXT_OPTIONS_INIT;
    context.threads = 1; /* the models are tiny: a second thread would only wait */
    expect_ok(balora_context_create(&self->context, &context));
    snprintf(path, sizeof path, "%s/model", folder_of(s->model));
    expect_ok(balora_model_open(&self->model, self->context, path, &model));
    expect_ok(balora_adapter_create(&self->adapter, self->model, &adapter));
    snprintf(path, sizeof path, "%s/data.safetensors", folder_of(s->model));
    expect_ok(balora_data_open(&self->data, self->model, path, NULL));
    expect_ok(balora_regularizers_create(&self->regularizers, self->context, &regularizers));
    train.regularizers = self->regularizers;
    /* every step takes the same sequences: one step is the whole file */
    train.batch_size = 8 / s->accumulation;
    expect_ok(balora_trainer_create(&self->trainer, self->adapter, self->data, &train));
    self->count = adapter_parameters(self->adapter).cols;
    self->host = malloc((size_t)self->count * sizeof *self->host);
    assert_non_null(self->host);
    disturb(self);
    if (self->use_dora)
        keep_norms(self);
}

static void close_fixture(fixture *self) {
    for (int64_t i = 0; self->norms != NULL && i < self->adapter->module_count; i++)
        free(self->norms[i]);
    free(self->norms);
    free(self->host);
    balora_trainer_free(self->trainer);
    balora_regularizers_free(self->regularizers);
    balora_data_free(self->data);
    balora_adapter_free(self->adapter);
    balora_model_free(self->model);
    balora_context_free(self->context);
}

/* The loss at the parameters that are in place now; its gradient is left in the adapter. */
static double loss_now(fixture *self) {
    balora_step_metrics metrics = BALORA_STEP_METRICS_INIT;
    expect_ok(adapter_refresh(self->adapter, self->adapter->queue));
    restore_norms(self);
    self->trainer->step = 1; /* one mask of dropout; a trained head is read anew from the second step on */
    expect_ok(balora_trainer_step(self->trainer, &metrics));
    return metrics.loss;
}

/* The loss with the tensor at w + step u. */
static double loss_at(fixture *self, matrix_view view, const float *w, const double *u, double step,
                      float *moved) {
    int64_t count = view.rows * view.cols;
    for (int64_t i = 0; i < count; i++)
        moved[i] = (float)((double)w[i] + step * u[i]);
    transfer(self, view, moved, false);
    return loss_now(self);
}

static double slope(fixture *self, matrix_view view, const float *w, const double *u, double h,
                    float *moved) {
    double outer = loss_at(self, view, w, u, 2 * h, moved) - loss_at(self, view, w, u, -2 * h, moved);
    double inner = loss_at(self, view, w, u, h, moved) - loss_at(self, view, w, u, -h, moved);
    return (8 * inner - outer) / (12 * h);
}

static void check_direction(fixture *self, const char *name, matrix_view view, const float *w,
                            const double *g, const double *u, double norm, float *moved) {
    int64_t count = view.rows * view.cols;
    double expected = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        expected += g[i] * u[i];
        size += (double)w[i] * (double)w[i];
    }
    double h = fmin(LOSS_MOVE / norm, 0.02 * sqrt(size));
    double found = slope(self, view, w, u, h, moved);
    if (!(fabs(found - expected) <= TOLERANCE * norm))
        fail_msg("%s [%lld, %lld]: difference quotient %.9g, gradient %.9g, |g| %.6g, step %.3g", name,
                 (long long)view.rows, (long long)view.cols, found, expected, norm, h);
}

/* `view` and `gradient` are contiguous. */
static void check_tensor(fixture *self, const char *name, matrix_view view, matrix_view gradient) {
    size_t count = (size_t)(view.rows * view.cols);
    float *w = calloc(count, sizeof *w), *moved = calloc(count, sizeof *moved);
    double *g = calloc(count, sizeof *g), *u = calloc(count, sizeof *u), norm = 0;
    if (w == NULL || moved == NULL || g == NULL || u == NULL)
        fail_msg("out of memory");
    loss_now(self);
    transfer(self, gradient, moved, true);
    transfer(self, view, w, true);
    for (size_t i = 0; i < count; i++) {
        g[i] = (double)moved[i];
        norm += g[i] * g[i];
    }
    norm = sqrt(norm);
    assert_true(norm > 0);
    for (size_t i = 0; i < count; i++)
        u[i] = g[i] / norm;
    check_direction(self, name, view, w, g, u, norm, moved);
    double length = 0;
    for (size_t i = 0; i < count; i++) {
        u[i] = g[i] / norm + random_normal(11, 0, i) / sqrt((double)count);
        length += u[i] * u[i];
    }
    for (size_t i = 0; i < count; i++)
        u[i] /= sqrt(length);
    check_direction(self, name, view, w, g, u, norm, moved);
    transfer(self, view, w, false);
    free(w);
    free(moved);
    free(g);
    free(u);
}

static void check_low_rank(const setting *s, int32_t use_dora, double dropout) {
    fixture self = {.use_dora = use_dora, .dropout = dropout};
    open_fixture(&self, s);
    /* A trained head was disturbed behind the trainer's back, which looks at it from step 2 on. */
    loss_now(&self);
    for (int64_t i = 0; i < self.adapter->module_count; i++) {
        const adapter_module *module = &self.adapter->modules[i];
        check_tensor(&self, module->name, module->a, module->gradient_a);
        check_tensor(&self, module->name, module->b, module->gradient_b);
        if (use_dora)
            check_tensor(&self, module->name, module->magnitude, module->gradient_magnitude);
    }
    close_fixture(&self);
}

static void check_factors(const setting *s) {
    check_low_rank(s, 0, 0);
}

static void check_weights(const setting *s) {
    fixture self = {0};
    open_fixture(&self, s);
    loss_now(&self); /* as in check_low_rank */
    for (int64_t i = 0; i < self.adapter->trained_count; i++) {
        const trained_tensor *trained = &self.adapter->trained[i];
        /* a constant added to every key shifts all scores of a query alike: that bias has no gradient but rounding */
        if (strstr(trained->tensor->name, "k_proj.bias") == NULL)
            check_tensor(&self, trained->tensor->name, trained->value, trained->gradient);
    }
    close_fixture(&self);
}

static void test_factors_with_all_terms(void **state) {
    (void)state;
    check_factors(
        &(setting){"llama", BALORA_METHOD_BA_LORA, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

static void test_factors_with_nuclear_norm_and_whole_vocabulary(void **state) {
    (void)state;
    check_factors(
        &(setting){"llama-biases", BALORA_METHOD_BA_LORA, 0.5, 0, BALORA_SVD_NUCLEAR, 1, .targets = NULL});
}

static void test_factors_with_task_only_and_accumulation(void **state) {
    (void)state;
    check_factors(
        &(setting){"mistral-window", BALORA_METHOD_PISSA, 0, 20, BALORA_SVD_FROBENIUS, 2, .targets = NULL});
}

static void test_magnitudes_with_all_terms(void **state) {
    (void)state;
    check_low_rank(
        &(setting){"llama-biases", BALORA_METHOD_BA_LORA, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL},
        1, 0);
}

static void test_magnitudes_of_plain_factors(void **state) {
    (void)state;
    check_low_rank(&(setting){"llama", BALORA_METHOD_LORA, 0, 20, BALORA_SVD_FROBENIUS, 2, .targets = NULL},
                   1, 0);
}

/* Over the whole vocabulary: without a top-K set that changes, the loss is smooth. */
static void test_dropout(void **state) {
    (void)state;
    check_low_rank(&(setting){"llama", BALORA_METHOD_LORA, 0.5, 0, BALORA_SVD_FROBENIUS, 1, .targets = NULL},
                   0, 0.3);
}

static void test_dropout_with_magnitudes(void **state) {
    (void)state;
    check_low_rank(
        &(setting){"llama-biases", BALORA_METHOD_LORA, 0, 20, BALORA_SVD_FROBENIUS, 2, .targets = NULL}, 1,
        0.3);
}

static void test_every_weight_with_task_only(void **state) {
    (void)state;
    check_weights(
        &(setting){"llama-biases", BALORA_METHOD_FULL, 0, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

static void test_every_weight_with_all_terms(void **state) {
    (void)state;
    check_weights(
        &(setting){"llama-biases", BALORA_METHOD_FULL, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

/* Beside factors: some biases of a group, a whole projection of a group, norms, and a head that was tied. */
static void test_parts_of_groups(void **state) {
    (void)state;
    setting s = {
        "llama-biases", BALORA_METHOD_BA_LORA, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = "q_proj,o_proj"};
    s.saved = "k_proj,norm";
    s.bias = BALORA_BIAS_LORA_ONLY;
    check_factors(&s);
    check_weights(&s);
}

static void test_heads_that_were_tied(void **state) {
    (void)state;
    setting s = {"llama-tied",
                 BALORA_METHOD_BA_LORA,
                 0.5,
                 0,
                 BALORA_SVD_FROBENIUS,
                 1,
                 .targets = "layers.1.self_attn.v_proj"};
    s.saved = "lm_head";
    check_factors(&s);
    check_weights(&s);
    s.saved = "embed_tokens";
    check_weights(&s);
}

static void test_tied_embeddings(void **state) {
    (void)state;
    check_weights(
        &(setting){"llama-tied", BALORA_METHOD_FULL, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

static void test_every_weight_of_qwen2(void **state) {
    (void)state;
    check_weights(&(setting){"qwen2", BALORA_METHOD_FULL, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

static void test_every_weight_of_qwen3(void **state) {
    (void)state;
    check_weights(&(setting){"qwen3", BALORA_METHOD_FULL, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

static void test_every_weight_of_gemma(void **state) {
    (void)state;
    check_weights(&(setting){"gemma", BALORA_METHOD_FULL, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

/* Over the whole vocabulary: capped logits lie close together, and a step would change which are the top 20. */
static void test_factors_of_gemma2(void **state) {
    (void)state;
    check_factors(
        &(setting){"gemma2", BALORA_METHOD_BA_LORA, 0.5, 0, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

static void test_every_weight_of_gemma2_with_nuclear_norm(void **state) {
    (void)state;
    check_weights(&(setting){"gemma2", BALORA_METHOD_FULL, 0.5, 0, BALORA_SVD_NUCLEAR, 2, .targets = NULL});
}

static void test_factors_of_gemma3(void **state) {
    (void)state;
    check_factors(
        &(setting){"gemma3", BALORA_METHOD_BA_LORA, 0.5, 20, BALORA_SVD_FROBENIUS, 2, .targets = NULL});
}

static void test_every_weight_of_gemma3(void **state) {
    (void)state;
    check_weights(
        &(setting){"gemma3", BALORA_METHOD_FULL, 0.5, 20, BALORA_SVD_FROBENIUS, 1, .targets = NULL});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factors_with_all_terms),
        cmocka_unit_test(test_factors_with_nuclear_norm_and_whole_vocabulary),
        cmocka_unit_test(test_factors_with_task_only_and_accumulation),
        cmocka_unit_test(test_magnitudes_with_all_terms),
        cmocka_unit_test(test_magnitudes_of_plain_factors),
        cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_dropout_with_magnitudes),
        cmocka_unit_test(test_every_weight_with_task_only),
        cmocka_unit_test(test_every_weight_with_all_terms),
        cmocka_unit_test(test_tied_embeddings),
        cmocka_unit_test(test_parts_of_groups),
        cmocka_unit_test(test_heads_that_were_tied),
        cmocka_unit_test(test_every_weight_of_qwen2),
        cmocka_unit_test(test_every_weight_of_qwen3),
        cmocka_unit_test(test_every_weight_of_gemma),
        cmocka_unit_test(test_factors_of_gemma2),
        cmocka_unit_test(test_every_weight_of_gemma2_with_nuclear_norm),
        cmocka_unit_test(test_factors_of_gemma3),
        cmocka_unit_test(test_every_weight_of_gemma3),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
