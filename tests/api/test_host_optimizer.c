/* An optimizer for a host's tensors: every wrong argument is refused with a message that helps, and changes nothing. */
#include "api.h"

#include <math.h>

enum { TENSORS = 2, FIRST = 12, SECOND = 5 };

static const int64_t counts[TENSORS] = {FIRST, SECOND};

typedef struct desk {
    balora_context *context;
    balora_optimizer *optimizer;
    float values[2][FIRST], slopes[2][FIRST];
    balora_tensor parameter[TENSORS], gradient[TENSORS];
    const balora_tensor *parameters[TENSORS], *gradients[TENSORS];
} desk;

static void tensor_over(balora_tensor *out, void *data, int64_t count) {
    *out = (balora_tensor)BALORA_TENSOR_INIT;
    expect_done(balora_tensor_contiguous(out, data, BALORA_F32, 1, &count));
}

/* A machine without endless memory, whatever the one is that the test runs on. */
static void *allocate(uint64_t bytes, uint64_t alignment, void *user) {
    (void)user;
    return bytes > UINT64_C(1) << 30
               ? NULL
               : aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void release(void *block, uint64_t bytes, void *user) {
    (void)bytes;
    (void)user;
    free(block);
}

static void open_desk(desk *self) {
    balora_context_options options = BALORA_CONTEXT_OPTIONS_INIT;
    memset(self, 0, sizeof *self);
    options.allocate = allocate;
    options.release = release;
    expect_done(balora_context_create(&self->context, &options));
    expect_done(
        balora_optimizer_create_for(&self->optimizer, self->context, NULL, NULL, counts, NULL, TENSORS));
    for (int i = 0; i < TENSORS; i++) {
        for (int j = 0; j < FIRST; j++) {
            self->values[i][j] = (float)(j + 1);
            self->slopes[i][j] = 0.25F;
        }
        tensor_over(&self->parameter[i], self->values[i], counts[i]);
        tensor_over(&self->gradient[i], self->slopes[i], counts[i]);
        self->parameters[i] = &self->parameter[i];
        self->gradients[i] = &self->gradient[i];
    }
}

static void close_desk(desk *self) {
    balora_optimizer_free(self->optimizer);
    balora_context_free(self->context);
}

static balora_status step(desk *self) {
    return balora_optimizer_step(self->optimizer, self->parameters, self->gradients, 0.5, 1, NULL);
}

/* The step is refused, and neither the numbers nor the state have changed. */
static void refuse(desk *self, balora_status status, const char *part) {
    float before[2][FIRST];
    char state[2][512];
    uint64_t bytes;
    memcpy(before, self->values, sizeof before);
    expect_done(balora_optimizer_state_bytes(self->optimizer, &bytes));
    assert_in_range(bytes, 1, sizeof state[0]);
    expect_done(balora_optimizer_save_state(self->optimizer, state[0], sizeof state[0]));
    expect_failure(step(self), status, part);
    assert_memory_equal(before, self->values, sizeof before);
    expect_done(balora_optimizer_save_state(self->optimizer, state[1], sizeof state[1]));
    assert_memory_equal(state[0], state[1], bytes);
}

static void making_one_checks_its_arguments(void **state) {
    (void)state;
    desk self;
    balora_optimizer *out = (balora_optimizer *)&self;
    balora_optimizer_options options = BALORA_OPTIMIZER_OPTIONS_INIT;
    int64_t wrong[TENSORS] = {3, -1}, large[TENSORS] = {INT64_C(1) << 47, INT64_MAX};
    open_desk(&self);
    expect_failure(balora_optimizer_create_for(NULL, self.context, NULL, NULL, counts, NULL, 2),
                   BALORA_ERROR_ARGUMENT, "out is NULL");
    expect_failure(balora_optimizer_create_for(&out, NULL, NULL, NULL, counts, NULL, 2),
                   BALORA_ERROR_ARGUMENT, "context is NULL");
    assert_null(out);
    expect_failure(balora_optimizer_create_for(&out, self.context, NULL, NULL, NULL, NULL, 2),
                   BALORA_ERROR_ARGUMENT, "counts is NULL");
    expect_failure(balora_optimizer_create_for(&out, self.context, NULL, NULL, counts, NULL, -1),
                   BALORA_ERROR_ARGUMENT, "tensors is -1");
    expect_failure(balora_optimizer_create_for(&out, self.context, NULL, NULL, wrong, NULL, 2),
                   BALORA_ERROR_ARGUMENT, "counts[1] is -1");
    expect_failure(balora_optimizer_create_for(&out, self.context, NULL, NULL, large, NULL, 2),
                   BALORA_ERROR_ARGUMENT, "counts[1]");
    expect_failure(balora_optimizer_create_for(&out, self.context, NULL, NULL, large, NULL, 1),
                   BALORA_ERROR_MEMORY, "bytes");
    expect_failure(balora_optimizer_create_for(&out, self.context, NULL, "tpu", counts, NULL, 2),
                   BALORA_ERROR_UNSUPPORTED, "tpu");
    options.optimizer = 7;
    expect_failure(balora_optimizer_create_for(&out, self.context, &options, NULL, counts, NULL, 2),
                   BALORA_ERROR_ARGUMENT, "adamw|lion|adamw-8bit");
    options = (balora_optimizer_options)BALORA_OPTIMIZER_OPTIONS_INIT;
    options.parameter_groups = "bias";
    expect_failure(balora_optimizer_create_for(&out, self.context, &options, NULL, counts, NULL, 2),
                   BALORA_ERROR_ARGUMENT, "\"bias\" is no group");
    options.parameter_groups = NULL;
    options.struct_size = 3;
    expect_failure(balora_optimizer_create_for(&out, self.context, &options, NULL, counts, NULL, 2),
                   BALORA_ERROR_ABI, "struct_size");
    assert_null(out);
    close_desk(&self);
}

static void a_step_checks_its_arguments(void **state) {
    (void)state;
    desk self;
    open_desk(&self);
    const balora_tensor *const *p = self.parameters, *const *g = self.gradients;
    expect_failure(balora_optimizer_step(NULL, p, g, 0.5, 1, NULL), BALORA_ERROR_ARGUMENT,
                   "optimizer is NULL");
    expect_failure(balora_optimizer_step(self.optimizer, NULL, g, 0.5, 1, NULL), BALORA_ERROR_ARGUMENT,
                   "parameters is NULL");
    expect_failure(balora_optimizer_step(self.optimizer, p, NULL, 0.5, 1, NULL), BALORA_ERROR_ARGUMENT,
                   "gradients is NULL");
    expect_failure(balora_optimizer_step(self.optimizer, p, g, -1, 1, NULL), BALORA_ERROR_ARGUMENT,
                   "learning_rate is -1");
    expect_failure(balora_optimizer_step(self.optimizer, p, g, (double)NAN, 1, NULL), BALORA_ERROR_ARGUMENT,
                   "learning_rate");
    expect_failure(balora_optimizer_step(self.optimizer, p, g, 0.5, -1, NULL), BALORA_ERROR_ARGUMENT,
                   "max_grad_norm is -1");
    expect_failure(balora_optimizer_step(self.optimizer, p, g, 0.5, (double)INFINITY, NULL),
                   BALORA_ERROR_ARGUMENT, "max_grad_norm");
    self.gradients[1] = NULL;
    refuse(&self, BALORA_ERROR_ARGUMENT, "gradients[1] is NULL");
    self.gradients[1] = &self.gradient[1];
    balora_context_cancel(self.context);
    expect_failure(step(&self), BALORA_ERROR_CANCELLED, "");
    close_desk(&self);
}

static void tensors_that_do_not_fit_are_refused(void **state) {
    (void)state;
    desk self;
    open_desk(&self);
#define BREAK(place, field, value, status, part)                                                             \
    do {                                                                                                     \
        balora_tensor kept = self.place;                                                                     \
        self.place.field = value;                                                                            \
        refuse(&self, status, part);                                                                         \
        self.place = kept;                                                                                   \
    } while (0)
    BREAK(parameter[0], dtype, BALORA_I32, BALORA_ERROR_ARGUMENT, "parameters[0] is of int32");
    BREAK(parameter[0], dtype, 1, BALORA_ERROR_ARGUMENT, "parameters[0]: dtype is 1");
    BREAK(gradient[1], shape[0], 4, BALORA_ERROR_ARGUMENT, "gradients[1] has 4 numbers");
    BREAK(parameter[1], shape[0], 0, BALORA_ERROR_ARGUMENT, "parameters[1] has 0 numbers");
    BREAK(parameter[1], data, NULL, BALORA_ERROR_ARGUMENT, "parameters[1]: data is NULL");
    BREAK(parameter[1], data, (char *)self.values[1] + 1, BALORA_ERROR_ARGUMENT, "parameters[1]: data is");
    BREAK(gradient[1], strides[0], -1, BALORA_ERROR_ARGUMENT, "gradients[1] is not in row-major order");
    BREAK(gradient[1], strides[0], 0, BALORA_ERROR_ARGUMENT, "gradients[1] is not in row-major order");
    BREAK(parameter[0], read_only, 1, BALORA_ERROR_ARGUMENT, "parameters[0] is read-only");
    BREAK(parameter[0], device, BALORA_DEVICE_CUDA, BALORA_ERROR_ARGUMENT, "not on the optimizer's device");
    BREAK(gradient[0], struct_size, 16, BALORA_ERROR_ABI, "gradients[0]");
#undef BREAK
    tensor_over(&self.parameter[0], self.values[0], FIRST); /* [3, 4], transposed */
    self.parameter[0].rank = 2;
    self.parameter[0].shape[0] = 3;
    self.parameter[0].shape[1] = 4;
    self.parameter[0].strides[0] = 1;
    self.parameter[0].strides[1] = 3;
    refuse(&self, BALORA_ERROR_ARGUMENT, "parameters[0] is not in row-major order; make it contiguous");
    self.parameter[0].strides[0] = 4;
    self.parameter[0].strides[1] = 1;
    self.gradient[0].read_only = 1; /* which is only read */
    expect_done(step(&self));
    close_desk(&self);
}

/* What is written may be nobody else's; gradients may share memory among each other. */
static void overlaps_are_refused(void **state) {
    (void)state;
    desk self;
    open_desk(&self);
    self.parameter[1].data = self.values[0] + FIRST - 1;
    refuse(&self, BALORA_ERROR_ARGUMENT, "overlap");
    self.parameter[1].data = self.values[0];
    refuse(&self, BALORA_ERROR_ARGUMENT, "overlap");
    self.parameter[1].data = self.values[1];
    self.gradient[1].data = self.values[0] + 3;
    refuse(&self, BALORA_ERROR_ARGUMENT, "overlap");
    self.gradient[1].data = self.values[1];
    refuse(&self, BALORA_ERROR_ARGUMENT, "overlap");
    self.gradient[1].data = self.values[1] + SECOND; /* behind the parameter: no overlap */
    expect_done(step(&self));
    self.gradient[1].data = self.slopes[0];
    expect_done(step(&self));
    close_desk(&self);
}

/* No tensors, and tensors without numbers. */
static void nothing_is_something(void **state) {
    (void)state;
    static const int64_t some[3] = {0, 4, 0};
    desk self;
    balora_optimizer *none, *few;
    double norm = -1;
    open_desk(&self);
    expect_done(balora_optimizer_create_for(&none, self.context, NULL, "cpu", NULL, NULL, 0));
    expect_done(balora_optimizer_step(none, NULL, NULL, 0.5, 1, &norm));
    assert_true(norm == 0);
    balora_optimizer_free(none);
    for (int32_t kind = 0; kind <= 20; kind += 10) {
        balora_optimizer_options options = BALORA_OPTIMIZER_OPTIONS_INIT;
        balora_tensor empty = BALORA_TENSOR_INIT, value, slope;
        options.optimizer = kind;
        empty.rank = 2;
        empty.shape[1] = 7;
        tensor_over(&value, self.values[0], 4);
        tensor_over(&slope, self.slopes[0], 4);
        float before = self.values[0][3];
        const balora_tensor *values[3] = {&empty, &value, &empty}, *slopes[3] = {&empty, &slope, &empty};
        expect_done(balora_optimizer_create_for(&few, self.context, &options, NULL, some, NULL, 3));
        expect_done(balora_optimizer_step(few, values, slopes, 0.5, 0, &norm));
        assert_true(norm == 0.5); /* four times 0.25 */
        assert_true(self.values[0][3] < before);
        balora_optimizer_free(few);
    }
    close_desk(&self);
}

static void an_adapters_optimizer_is_its_trainers(void **state) {
    (void)state;
    balora_context *context;
    balora_model *model;
    balora_adapter *adapter;
    balora_optimizer *optimizer;
    uint64_t bytes;
    expect_done(balora_context_create(&context, NULL));
    expect_done(balora_model_open(&model, context, fixture("llama/model"), NULL));
    expect_done(balora_adapter_create(&adapter, model, NULL));
    expect_done(balora_optimizer_create(&optimizer, adapter, NULL));
    expect_failure(balora_optimizer_step(optimizer, NULL, NULL, 0.5, 1, NULL), BALORA_ERROR_STATE, "adapter");
    expect_done(balora_optimizer_state_bytes(optimizer, &bytes));
    char *buffer = malloc(bytes);
    expect_done(balora_optimizer_save_state(optimizer, buffer, bytes));
    expect_done(balora_optimizer_load_state(optimizer, buffer, bytes));
    free(buffer);
    balora_optimizer_free(optimizer);
    balora_adapter_free(adapter);
    balora_model_free(model);
    balora_context_free(context);
}

static void states_and_schedules_check_their_arguments(void **state) {
    (void)state;
    desk self;
    uint64_t bytes;
    double rate = -1;
    open_desk(&self);
    expect_failure(balora_optimizer_state_bytes(NULL, &bytes), BALORA_ERROR_ARGUMENT, "optimizer is NULL");
    expect_failure(balora_optimizer_state_bytes(self.optimizer, NULL), BALORA_ERROR_ARGUMENT,
                   "bytes is NULL");
    expect_failure(balora_optimizer_save_state(self.optimizer, NULL, 9), BALORA_ERROR_ARGUMENT,
                   "buffer is NULL");
    expect_failure(balora_optimizer_save_state(self.optimizer, &rate, 8), BALORA_ERROR_ARGUMENT,
                   "the state has");
    expect_failure(balora_optimizer_load_state(self.optimizer, NULL, 9), BALORA_ERROR_ARGUMENT,
                   "buffer is NULL");
    expect_failure(balora_optimizer_load_state(self.optimizer, &rate, 8), BALORA_ERROR_FORMAT, "8 bytes");
    expect_failure(balora_schedule_learning_rate(NULL, 0, 1, 0, 0, 1), BALORA_ERROR_ARGUMENT, "out is NULL");
    expect_failure(balora_schedule_learning_rate(&rate, 5, 1, 0, 0, 1), BALORA_ERROR_ARGUMENT,
                   "schedule is 5");
    expect_failure(balora_schedule_learning_rate(&rate, 0, -1, 0, 0, 1), BALORA_ERROR_ARGUMENT, "peak is -1");
    expect_failure(balora_schedule_learning_rate(&rate, 0, 1, 1.5, 0, 1), BALORA_ERROR_ARGUMENT,
                   "warmup_ratio is 1.5");
    expect_failure(balora_schedule_learning_rate(&rate, 0, 1, (double)NAN, 0, 1), BALORA_ERROR_ARGUMENT,
                   "warmup_ratio");
    expect_failure(balora_schedule_learning_rate(&rate, 0, 1, 0, 1, 1), BALORA_ERROR_ARGUMENT,
                   "step is 1 of 1");
    expect_failure(balora_schedule_learning_rate(&rate, 0, 1, 0, -1, 1), BALORA_ERROR_ARGUMENT, "step is -1");
    assert_true(rate == -1);
    expect_done(balora_schedule_learning_rate(&rate, BALORA_LR_LINEAR, 4, 0, 2, 8));
    assert_true(rate == 3);
    close_desk(&self);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making_one_checks_its_arguments),
        cmocka_unit_test(a_step_checks_its_arguments),
        cmocka_unit_test(tensors_that_do_not_fit_are_refused),
        cmocka_unit_test(overlaps_are_refused),
        cmocka_unit_test(nothing_is_something),
        cmocka_unit_test(an_adapters_optimizer_is_its_trainers),
        cmocka_unit_test(states_and_schedules_check_their_arguments),
    };
    return cmocka_run_group_tests_name("host_optimizer", tests, NULL, NULL);
}
