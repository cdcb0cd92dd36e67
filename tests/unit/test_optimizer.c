/* The optimizer on an adapter: groups by name, blocks, kinds, what a step leaves alone. */
#include "adapters.h"

#include "optim/dynamic_map.h"
#include "optim/optimizer.h"

/* --- groups --- */

static group_set read_groups(const char *text, double ratio) {
    balora_optimizer_options options = BALORA_OPTIMIZER_OPTIONS_INIT;
    group_set set;
    options.parameter_groups = text;
    options.lora_plus_ratio = ratio;
    options.weight_decay = 0.25;
    expect_ok(groups_read(&set, &options));
    return set;
}

static void expect_group(group_set *set, const char *name, double factor, double weight_decay) {
    int32_t group = groups_find(set, name);
    assert_in_range(group, 0, set->count - 1);
    if (set->groups[group].factor != factor || set->groups[group].weight_decay != weight_decay)
        fail_msg("%s: rate %g and decay %g; expected %g and %g", name, set->groups[group].factor,
                 set->groups[group].weight_decay, factor, weight_decay);
}

static void the_first_group_that_matches_counts(void **state) {
    (void)state;
    group_set set = read_groups("q_proj.lora_A=0.5,lora_A=3:0,bias=1:0,embed=1e-1", 16);
    expect_group(&set, "model.layers.0.self_attn.q_proj.lora_A.weight", 0.5, 0.25);
    expect_group(&set, "model.layers.0.self_attn.k_proj.lora_A.weight", 3, 0);
    expect_group(&set, "model.layers.0.self_attn.k_proj.lora_B.weight", 16, 0.25);
    expect_group(&set, "model.layers.0.self_attn.k_proj.bias", 1, 0);
    expect_group(&set, "model.embed_tokens.weight", 0.1, 0.25);
    expect_group(&set, "model.norm.weight", 1, 0.25);
    assert_int_equal(groups_find(&set, "model.norm.weight"), 0);
    set = read_groups("lora_B=0.5", 4);
    expect_group(&set, "x.lora_B.weight", 2, 0.25);
    set = read_groups(NULL, 0);
    expect_group(&set, "x.lora_B.weight", 1, 0.25);
    assert_int_equal(set.count, 1);
}

static void groups_that_are_none_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "bias",       "=1",        "bias=",      "bias=x",           "bias=-1",
        "bias=1:",    "bias=1:-1", "bias=1,",    "a=1,,b=1",         "bias=nan",
        "bias=1e999", "bias=0x1",  "bias=1:2:3", "a=1,b=2,c=3,d==4", ","};
    balora_optimizer_options options = BALORA_OPTIMIZER_OPTIONS_INIT;
    group_set set;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        options.parameter_groups = wrong[i];
        if (groups_read(&set, &options) != BALORA_ERROR_ARGUMENT)
            fail_msg("\"%s\" was taken", wrong[i]);
        assert_non_null(strstr(balora_error_message(), "parameter_groups"));
    }
    options.parameter_groups = "a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1";
    assert_int_equal(groups_read(&set, &options), BALORA_ERROR_ARGUMENT);
    assert_non_null(strstr(balora_error_message(), "more than 7"));
}

/* Seven rules, each with and without lora_B, beside the plain ones: as many groups as there can be. */
static void all_groups_fit(void **state) {
    (void)state;
    group_set set = read_groups("a1=1:1,a2=1:2,a3=1:3,a4=1:4,a5=1:5,a6=1:6,a7=1:7", 3);
    for (int i = 0; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "a%d.lora_B", i);
        expect_group(&set, name, 3, i == 0 ? 0.25 : i);
        name[2] = '\0';
        expect_group(&set, name, 1, i == 0 ? 0.25 : i);
    }
    assert_int_equal(set.count, OPTIMIZER_GROUPS);
}

/* --- blocks --- */

static void blocks_cross_no_border_and_leave_nothing_out(void **state) {
    workshop *self = *state;
    block_range ranges[] = {{900, 100, 3}, {10, 600, 1}, {700, 0, 7}, {610, 1, 2}};
    static const struct {
        int64_t start;
        int group;
    } expected[] = {{0, 0}, {10, 1}, {266, 1}, {522, 1}, {610, 2}, {611, 0}, {700, 0}, {900, 3}};
    block_table table;
    expect_ok(blocks_cut(&table, &self->base.memory, ranges, 4, 1000));
    assert_int_equal(table.blocks, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(table.starts[i], expected[i].start);
        assert_int_equal(table.groups[i], expected[i].group);
    }
    assert_int_equal(table.starts[8], 1000);
    blocks_free(&table);
    block_range overlapping[] = {{0, 11, 0}, {10, 5, 0}}, outside[] = {{999, 2, 0}};
    assert_int_equal(blocks_cut(&table, &self->base.memory, overlapping, 2, 1000), BALORA_ERROR_INTERNAL);
    assert_int_equal(blocks_cut(&table, &self->base.memory, outside, 1, 1000), BALORA_ERROR_INTERNAL);
    blocks_free(&table);
}

/* --- an adapter's tensors --- */

/* Every trained number is in one range, and every other one is 0. */
static void check_ranges(balora_adapter *adapter, const char *first_name) {
    balora_adapter_information information;
    adapter_describe(adapter, &information);
    matrix_view flat = adapter_parameters(adapter);
    float *values = download(adapter, flat);
    char *seen = calloc((size_t)flat.cols, 1);
    trained_range range;
    int64_t total = 0;
    for (int64_t i = 0; adapter_trained_range(adapter, i, &range); i++) {
        if (i == 0)
            assert_string_equal(range.name, first_name);
        assert_in_range(range.first + range.count, range.count, flat.cols);
        for (int64_t j = range.first; j < range.first + range.count; j++)
            assert_int_equal(seen[j]++, 0);
        total += range.count;
    }
    assert_int_equal(total, information.trainable_parameters);
    for (int64_t j = 0; j < flat.cols; j++)
        if (!seen[j])
            assert_true(values[j] == 0);
    free(seen);
    free(values);
}

static void ranges_cover_what_is_trained(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama-biases/model");
    balora_adapter *adapter = make_adapter(self, BALORA_METHOD_BA_LORA, 3, 4, 0, NULL);
    check_ranges(adapter, "model.layers.0.self_attn.q_proj.lora_A.weight");
    adapter_release(adapter);
    adapter = make_adapter(self, BALORA_METHOD_FULL, 3, 4, 0, NULL);
    check_ranges(adapter, "model.embed_tokens.weight");
    adapter_release(adapter);
}

/* --- steps --- */

enum { STEPS = 4 };

typedef struct trial {
    workshop *shop;
    balora_adapter *adapter;
    balora_optimizer *optimizer;
    balora_optimizer_options options;
    arena scalars;
    matrix_view scale;
    double *value, *first, *second; /* what there should be */
    float *gradient;
    int64_t count;
} trial;

static void trial_open(trial *self, workshop *shop, int32_t method, int32_t kind, const char *groups) {
    *self = (trial){.shop = shop, .options = BALORA_OPTIMIZER_OPTIONS_INIT};
    self->options.optimizer = kind;
    self->options.weight_decay = 0.1;
    self->options.lora_plus_ratio = 16;
    self->options.parameter_groups = groups;
    self->adapter = make_adapter(shop, method, 3, 4, 0, NULL);
    if (adapter_gradients(self->adapter).buffer == NULL)
        expect_ok(adapter_prepare_training(self->adapter));
    expect_ok(optimizer_create(&self->optimizer, self->adapter, &self->options));
    for (int pass = 0; pass < 2; pass++) {
        self->scale = arena_place(&self->scalars, BALORA_F32, 1, 1);
        if (pass == 0)
            expect_ok(arena_allocate(&self->scalars, &self->adapter->model->device));
    }
    self->count = adapter_parameters(self->adapter).cols;
    self->value = calloc((size_t)self->count, sizeof(double));
    self->first = calloc((size_t)self->count, sizeof(double));
    self->second = calloc((size_t)self->count, sizeof(double));
    self->gradient = calloc((size_t)self->count, sizeof(float));
    float *start = download(self->adapter, adapter_parameters(self->adapter));
    for (int64_t i = 0; i < self->count; i++)
        self->value[i] = (double)start[i];
    free(start);
}

static void trial_close(trial *self) {
    free(self->value);
    free(self->first);
    free(self->second);
    free(self->gradient);
    arena_free(&self->scalars);
    optimizer_release(self->optimizer);
    adapter_release(self->adapter);
}

static void draw_gradient(trial *self, uint64_t step) {
    trained_range range;
    for (int64_t i = 0; adapter_trained_range(self->adapter, i, &range); i++)
        for (int64_t j = range.first; j < range.first + range.count; j++)
            self->gradient[j] = (float)(1e-2 * random_normal(step, 5, (uint64_t)j));
    expect_ok(adapter_upload(self->adapter, adapter_gradients(self->adapter), self->gradient));
}

static void apply(trial *self, float scale) {
    expect_ok(adapter_upload(self->adapter, self->scale, &scale));
    expect_ok(optimizer_apply(self->optimizer, self->adapter->queue, 1e-3, self->scale));
    expect_ok(self->adapter->model->device.ops->synchronize(self->adapter->queue));
}

/* Rates as the test gives its groups: B 16 times, q_proj half of it and without decay. */
static void expected_step(trial *self, int64_t step, double scale) {
    const balora_optimizer_options *o = &self->options;
    trained_range range;
    for (int64_t i = 0; adapter_trained_range(self->adapter, i, &range); i++) {
        bool is_q = strstr(range.name, "q_proj") != NULL;
        double rate = 1e-3 * (strstr(range.name, "lora_B") != NULL ? 16 : 1) * (is_q ? 0.5 : 1);
        double keep = 1 - rate * (is_q ? 0 : o->weight_decay);
        for (int64_t j = range.first; j < range.first + range.count; j++) {
            double g = scale * (double)self->gradient[j], *m = &self->first[j], *v = &self->second[j];
            if (o->optimizer == BALORA_OPTIMIZER_LION) {
                double direction = 0.9 * *m + 0.1 * g;
                self->value[j] = keep * self->value[j] - rate * ((direction > 0) - (direction < 0));
                *m = 0.99 * *m + 0.01 * g;
                continue;
            }
            *m = 0.9 * *m + 0.1 * g;
            *v = 0.999 * *v + 0.001 * g * g;
            double root = sqrt(*v / (1 - pow(0.999, (double)step))) + 1e-8;
            self->value[j] = keep * self->value[j] - rate * *m / (1 - pow(0.9, (double)step)) / root;
        }
    }
}

static void expect_values(trial *self, double tolerance) {
    float *found = download(self->adapter, adapter_parameters(self->adapter));
    for (int64_t i = 0; i < self->count; i++)
        if (!(fabs((double)found[i] - self->value[i]) <= tolerance * (1e-2 + fabs(self->value[i]))))
            fail_msg("number %lld is %.9g; expected %.9g", (long long)i, (double)found[i], self->value[i]);
    free(found);
}

/* 8 bits: the moments are as far off as half a code of 128 in the top decade, a few percent; a step is at most 1.6e-2. */
static void check_steps(workshop *shop, int32_t method, int32_t kind) {
    trial self;
    trial_open(&self, shop, method, kind, "q_proj=0.5:0");
    for (int64_t step = 1; step <= STEPS; step++) {
        draw_gradient(&self, (uint64_t)step);
        apply(&self, NAN); /* changes nothing, and is not counted */
        apply(&self, 0.5F);
        optimizer_count(self.optimizer);
        expected_step(&self, step, 0.5);
    }
    expect_values(&self, kind == BALORA_OPTIMIZER_ADAMW_8BIT ? 0.1 : 1e-5);
    trial_close(&self);
}

static void every_kind_steps_by_groups(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama-biases/model");
    static const int32_t kinds[] = {BALORA_OPTIMIZER_ADAMW, BALORA_OPTIMIZER_LION,
                                    BALORA_OPTIMIZER_ADAMW_8BIT};
    for (int i = 0; i < 3; i++) {
        check_steps(self, BALORA_METHOD_BA_LORA, kinds[i]);
        check_steps(self, BALORA_METHOD_FULL, kinds[i]);
    }
}

/* --- state --- */

static void check_state(workshop *shop, int32_t kind, const char *names, double bytes_a_number) {
    char found[256] = "";
    trial self;
    trial_open(&self, shop, BALORA_METHOD_BA_LORA, kind, NULL);
    optimizer_array arrays[OPTIMIZER_STATE_LIMIT];
    int32_t count = optimizer_state(self.optimizer, arrays);
    int64_t bytes = 0;
    for (int32_t i = 0; i < count; i++) {
        snprintf(found + strlen(found), sizeof found - strlen(found), "%s ", arrays[i].name);
        bytes += view_bytes(arrays[i].view);
    }
    assert_string_equal(found, names);
    assert_in_range(bytes, (int64_t)(bytes_a_number * (double)self.count),
                    (int64_t)((bytes_a_number + 0.1) * (double)self.count));
    assert_in_range(self.optimizer->arena.bytes, bytes,
                    (int64_t)((bytes_a_number + 0.2) * (double)self.count) + 4096);
    trial_close(&self);
}

static void state_is_as_large_as_is_told(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    check_state(self, BALORA_OPTIMIZER_ADAMW, "first_moment second_moment ", 8);
    check_state(self, BALORA_OPTIMIZER_LION, "first_moment ", 4);
    check_state(self, BALORA_OPTIMIZER_ADAMW_8BIT, "first_moment second_moment first_scales second_scales ",
                2);
}

/* What a checkpoint does: the arrays into a new optimizer, which then steps to the same bits. */
static void check_copied_state(workshop *shop, int32_t kind) {
    trial one, other;
    trial_open(&one, shop, BALORA_METHOD_BA_LORA, kind, NULL);
    trial_open(&other, shop, BALORA_METHOD_BA_LORA, kind, NULL);
    for (int64_t step = 1; step <= STEPS; step++) {
        draw_gradient(&one, (uint64_t)step);
        apply(&one, 1);
        optimizer_count(one.optimizer);
    }
    const backend_ops *ops = one.adapter->model->device.ops;
    optimizer_array from[OPTIMIZER_STATE_LIMIT], to[OPTIMIZER_STATE_LIMIT];
    int32_t count = optimizer_state(one.optimizer, from);
    assert_int_equal(optimizer_state(other.optimizer, to), count);
    for (int32_t i = 0; i < count; i++) {
        int64_t bytes = view_bytes(from[i].view);
        char *host = malloc((size_t)bytes);
        assert_int_equal(view_bytes(to[i].view), bytes);
        expect_ok(ops->download(one.adapter->queue, host, from[i].view.buffer, from[i].view.offset, bytes));
        expect_ok(ops->synchronize(one.adapter->queue));
        expect_ok(ops->upload(other.adapter->queue, to[i].view.buffer, to[i].view.offset, host, bytes));
        expect_ok(ops->synchronize(other.adapter->queue));
        free(host);
    }
    float *values = download(one.adapter, adapter_parameters(one.adapter));
    expect_ok(adapter_upload(other.adapter, adapter_parameters(other.adapter), values));
    free(values);
    other.optimizer->steps = one.optimizer->steps;
    draw_gradient(&one, 99);
    draw_gradient(&other, 99);
    apply(&one, 1);
    apply(&other, 1);
    float *a = download(one.adapter, adapter_parameters(one.adapter)),
          *b = download(other.adapter, adapter_parameters(other.adapter));
    assert_memory_equal(a, b, (size_t)one.count * sizeof *a);
    free(a);
    free(b);
    trial_close(&one);
    trial_close(&other);
}

static void the_state_is_all_that_a_step_depends_on(void **state) {
    workshop *self = *state;
    open_fixture(self, "llama/model");
    check_copied_state(self, BALORA_OPTIMIZER_ADAMW);
    check_copied_state(self, BALORA_OPTIMIZER_LION);
    check_copied_state(self, BALORA_OPTIMIZER_ADAMW_8BIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_group_that_matches_counts),
        cmocka_unit_test(groups_that_are_none_are_refused),
        cmocka_unit_test(all_groups_fit),
        WORKSHOP_TEST(blocks_cross_no_border_and_leave_nothing_out),
        WORKSHOP_TEST(ranges_cover_what_is_trained),
        WORKSHOP_TEST(every_kind_steps_by_groups),
        WORKSHOP_TEST(state_is_as_large_as_is_told),
        WORKSHOP_TEST(the_state_is_all_that_a_step_depends_on),
    };
    return cmocka_run_group_tests_name("optimizer", tests, NULL, NULL);
}
