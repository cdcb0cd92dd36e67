/* What must not matter does not: micro-batches, packing, threads, chunks, repetition. On the fixture "llama".
 */
#include <math.h>

#include "model/model.h"
#include "oracle.h"

typedef struct pair {
    oracle_run first, second;
} pair;

static void require(const oracle_run *run) {
    if (run->status != BALORA_OK)
        fail_msg("step %lld: %s", (long long)run->step_count + 1, run->failure);
}

static void start_pair(pair *out, const char *name, const oracle_changes *first,
                       const oracle_changes *second) {
    oracle_start(&out->first, getenv("BALORA_FIXTURES"), name, first);
    oracle_start(&out->second, getenv("BALORA_FIXTURES"), name, second);
    require(&out->first);
    require(&out->second);
    assert_int_equal(out->first.step_count, out->second.step_count);
}

static void finish_pair(pair *self) {
    oracle_finish(&self->first);
    oracle_finish(&self->second);
}

static void compare(int64_t step, const char *what, double a, double b, double tolerance, double absolute) {
    if (isnan(a) && isnan(b))
        return; /* a term that is off in both */
    if (!(fabs(a - b) <= tolerance * fabs(a) + absolute))
        fail_msg("step %lld: %s is %.9g in one run and %.9g in the other", (long long)step, what, a, b);
}

/* Rounding differs, and AdamW lets it grow with the steps. */
static void compare_steps(const pair *self, bool rounded) {
    /* A small difference of large terms: where activations are rounded its own size is no measure. */
    double at_first = rounded ? 2e-2 : 1e-5, near_zero = 1e-7, consistency = rounded ? 2e-2 : near_zero;
    for (int64_t i = 0; i < self->first.step_count; i++) {
        const balora_step_metrics *a = &self->first.steps[i], *b = &self->second.steps[i];
        double tolerance = at_first * (double)(i + 1);
        assert_int_equal(a->tokens, b->tokens);
        assert_int_equal(a->supervised_tokens, b->supervised_tokens);
        compare(i + 1, "task", a->task, b->task, tolerance, near_zero);
        compare(i + 1, "consistency", a->consistency, b->consistency, tolerance, consistency);
        compare(i + 1, "diversity", a->diversity, b->diversity, tolerance, near_zero);
        compare(i + 1, "svd", a->svd, b->svd, tolerance, near_zero);
        compare(i + 1, "loss", a->loss, b->loss, tolerance, near_zero);
        compare(i + 1, "grad_norm", a->grad_norm, b->grad_norm, tolerance, near_zero);
    }
}

static void check(const char *name, const oracle_changes *first, const oracle_changes *second) {
    pair self;
    start_pair(&self, name, first, second);
    /* One of the two rounds its activations on a device that computes BF16 models so. */
    bool rounded = self.first.model->activation_dtype != self.second.model->activation_dtype;
    compare_steps(&self, rounded);
    finish_pair(&self);
}

/* The spectral term is no sum over positions: it is off where batches are cut differently. */
static void one_batch_of_eight_is_eight_of_one(void **state) {
    (void)state;
    check("llama",
          &(oracle_changes){.keys = {"lambda_svd", "batch_size", "gradient_accumulation"},
                            .values = {"0", "8", "1"}},
          &(oracle_changes){.keys = {"lambda_svd", "batch_size", "gradient_accumulation"},
                            .values = {"0", "1", "8"}});
}

static void one_batch_of_eight_is_four_of_two_for_every_weight(void **state) {
    (void)state;
    check("full-ba",
          &(oracle_changes){.keys = {"lambda_svd", "batch_size", "gradient_accumulation"},
                            .values = {"0", "8", "1"}},
          &(oracle_changes){.keys = {"lambda_svd", "batch_size", "gradient_accumulation"},
                            .values = {"0", "2", "4"}});
}

static void packed_is_one_by_one(void **state) {
    (void)state;
    check("llama", &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "true"}},
          &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "false"}});
}

static void packed_is_one_by_one_under_a_window(void **state) {
    (void)state;
    check("mistral-window", &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "true"}},
          &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "false"}});
}

static void packed_is_one_by_one_with_rotary_tables_by_length(void **state) {
    (void)state;
    check("llama-rope-dynamic", &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "true"}},
          &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "false"}});
}

/* A mask is a function of the sequence's place in the step and the position in it, not of how they are computed. */
static void masks_of_dropout_survive_the_cut(void **state) {
    (void)state;
    static const char *const names[] = {"dropout", "dora-dropout"};
    for (int i = 0; i < 2; i++) {
        check(names[i],
              &(oracle_changes){.keys = {"lambda_svd", "batch_size", "gradient_accumulation"},
                                .values = {"0", "4", "1"}},
              &(oracle_changes){.keys = {"lambda_svd", "batch_size", "gradient_accumulation"},
                                .values = {"0", "1", "4"}});
        check(names[i], &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "true"}},
              &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "false"}});
        check(names[i], &(oracle_changes){.threads = 1}, &(oracle_changes){.threads = 2});
    }
}

static void magnitudes_survive_the_cut(void **state) {
    (void)state;
    check("dora-ba",
          &(oracle_changes){.keys = {"lambda_svd", "batch_size", "gradient_accumulation"},
                            .values = {"0", "4", "1"}},
          &(oracle_changes){.keys = {"lambda_svd", "packing", "gradient_accumulation"},
                            .values = {"0", "false", "2"}});
}

static void chunks_of_logits_do_not_matter(void **state) {
    (void)state;
    check("llama", &(oracle_changes){.keys = {"logit_chunk"}, .values = {"1000"}},
          &(oracle_changes){.keys = {"logit_chunk"}, .values = {"7"}});
}

/* The SVD term under a soft-cap keeps the logits of all rows, or computes them anew where only a chunk may be held:
 * by rows, and where there are more of them than tokens in the vocabulary (16 sequences) by columns. */
static void kept_logits_are_recomputed_ones(void **state) {
    (void)state;
    static const char *const sizes[] = {"3", "16"};
    static const char *const names[] = {"gemma2", "gemma2-full"};
    for (size_t i = 0; i < 2; i++)
        for (size_t n = 0; n < 2; n++)
            check(names[n],
                  &(oracle_changes){.keys = {"logit_chunk", "batch_size"}, .values = {"1000", sizes[i]}},
                  &(oracle_changes){.keys = {"logit_chunk", "batch_size"}, .values = {"7", sizes[i]}});
}

static void packed_is_one_by_one_with_local_layers(void **state) {
    (void)state;
    static const char *const names[] = {"qwen2", "gemma2", "gemma3"};
    for (size_t i = 0; i < 3; i++)
        check(names[i], &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "true"}},
              &(oracle_changes){.keys = {"lambda_svd", "packing"}, .values = {"0", "false"}});
}

static void two_threads_agree_with_one(void **state) {
    (void)state;
    check("llama", &(oracle_changes){.threads = 1}, &(oracle_changes){.threads = 2});
    check("gemma2", &(oracle_changes){.threads = 1}, &(oracle_changes){.threads = 2});
}

/* Weights that are stored in 16 bits are widened exactly: the same arithmetic as on the widened model. */
static void sixteen_bit_storage_is_the_widened_model(void **state) {
    (void)state;
    check("bf16", NULL, &(oracle_changes){.dtype = BALORA_F32});
    check("f16", NULL, &(oracle_changes){.dtype = BALORA_F32});
}

/* The same run gives the same bytes. */
static void check_repetition(int32_t threads) {
    pair self;
    char *first, *second;
    uint64_t first_bytes, second_bytes;
    allocator memory;
    memory_init(&memory, NULL, NULL, NULL);
    start_pair(&self, "accumulation", &(oracle_changes){.threads = threads},
               &(oracle_changes){.threads = threads});
    for (int64_t i = 0; i < self.first.step_count; i++) {
        assert_true(self.first.steps[i].loss == self.second.steps[i].loss);
        assert_true(self.first.steps[i].grad_norm == self.second.steps[i].grad_norm);
    }
    assert_int_equal(oracle_save(&self.first, "adapter"), BALORA_OK);
    assert_int_equal(oracle_save(&self.second, "adapter"), BALORA_OK);
    const char *name = "adapter/adapter_model.safetensors";
    assert_int_equal(
        file_read_all(&first, &first_bytes, &memory, oracle_scratch_path(&self.first, name), 1 << 24), 0);
    assert_int_equal(
        file_read_all(&second, &second_bytes, &memory, oracle_scratch_path(&self.second, name), 1 << 24), 0);
    assert_int_equal(first_bytes, second_bytes);
    assert_memory_equal(first, second, first_bytes);
    memory_free(&memory, first);
    memory_free(&memory, second);
    finish_pair(&self);
}

static void a_run_repeats_to_the_bit_on_one_thread(void **state) {
    (void)state;
    check_repetition(1);
}

static void a_run_repeats_to_the_bit_on_two_threads(void **state) {
    (void)state;
    check_repetition(2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_batch_of_eight_is_eight_of_one),
        cmocka_unit_test(one_batch_of_eight_is_four_of_two_for_every_weight),
        cmocka_unit_test(packed_is_one_by_one),
        cmocka_unit_test(packed_is_one_by_one_under_a_window),
        cmocka_unit_test(packed_is_one_by_one_with_rotary_tables_by_length),
        cmocka_unit_test(masks_of_dropout_survive_the_cut),
        cmocka_unit_test(magnitudes_survive_the_cut),
        cmocka_unit_test(chunks_of_logits_do_not_matter),
        cmocka_unit_test(kept_logits_are_recomputed_ones),
        cmocka_unit_test(packed_is_one_by_one_with_local_layers),
        cmocka_unit_test(two_threads_agree_with_one),
        cmocka_unit_test(sixteen_bit_storage_is_the_widened_model),
        cmocka_unit_test(a_run_repeats_to_the_bit_on_one_thread),
        cmocka_unit_test(a_run_repeats_to_the_bit_on_two_threads),
    };
    return cmocka_run_group_tests_name("equivalence", tests, NULL, NULL);
}
