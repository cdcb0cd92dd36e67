/* An optimizer on a host's own tensors: PyTorch's results, layouts and types, threads, states, skipped steps. */
#include "scratch.h"

#include <math.h>
#include <pthread.h>

#include "../device.h"
#include "backend/registry.h"
#include "balora/balora.h"
#include "faulty.h"
#include "format/safetensors.h"
#include "optim/dynamic_map.h"
#include "parts_noise.h"

enum { TENSORS = 3, STEPS = 25, MOST = 300 };

#define RATE 0x1p-7

/* The generator's tensors: q_proj.lora_A, q_proj.lora_B, q_proj.bias. */
static const int64_t shapes[TENSORS][2] = {{7, 40}, {33, 7}, {1, 300}};
static const int64_t counts[TENSORS] = {280, 231, 300};
static const char *const names[TENSORS] = {"q_proj.lora_A.weight", "q_proj.lora_B.weight", "q_proj.bias"};

static const int32_t kinds[] = {BALORA_OPTIMIZER_ADAMW, BALORA_OPTIMIZER_LION, BALORA_OPTIMIZER_ADAMW_8BIT};
static const char *const kind_names[] = {"adamw", "lion", "adamw-8bit"};
enum { KINDS = 3 };

/* A host's model: its tensors, as rows that may lie apart, and their gradients. */
typedef struct host_model {
    balora_context *context;
    balora_optimizer *optimizer;
    balora_tensor parameters[TENSORS], gradients[TENSORS];
    const balora_tensor *parameter_list[TENSORS], *gradient_list[TENSORS];
    double norms[STEPS];
} host_model;

/* --- numbers in any type --- */

static uint16_t narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static float widen(uint16_t x) {
    uint32_t bits = (uint32_t)x << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

static void set_number(balora_tensor *tensor, int64_t i, float value) {
    int64_t place = i / tensor->shape[1] * tensor->strides[0] + i % tensor->shape[1];
    if (tensor->dtype == BALORA_F32)
        ((float *)tensor->data)[place] = value;
    else
        ((uint16_t *)tensor->data)[place] = narrow(value);
}

static float get_number(const balora_tensor *tensor, int64_t i) {
    int64_t place = i / tensor->shape[1] * tensor->strides[0] + i % tensor->shape[1];
    return tensor->dtype == BALORA_F32 ? ((float *)tensor->data)[place]
                                       : widen(((uint16_t *)tensor->data)[place]);
}

/* --- the host's model --- */

static balora_tensor make_tensor(int index, int32_t dtype, int64_t gap) {
    balora_tensor tensor = BALORA_TENSOR_INIT;
    int64_t rows = shapes[index][0], cols = shapes[index][1];
    tensor.dtype = dtype;
    tensor.rank = 2;
    tensor.shape[0] = rows;
    tensor.shape[1] = cols;
    tensor.strides[0] = cols + gap;
    tensor.strides[1] = 1;
    tensor.data = malloc((size_t)(rows * (cols + gap)) * sizeof(float));
    memset(tensor.data, 0xAB, (size_t)(rows * (cols + gap)) * sizeof(float));
    return tensor;
}

static void open_model(host_model *self, int32_t kind, int32_t dtype, int64_t gap, int32_t threads) {
    balora_context_options context = BALORA_CONTEXT_OPTIONS_INIT;
    balora_optimizer_options options = BALORA_OPTIMIZER_OPTIONS_INIT;
    memset(self, 0, sizeof *self);
    context.threads = threads;
    options.optimizer = kind;
    options.weight_decay = 0.125;
    options.lora_plus_ratio = 4;
    options.parameter_groups = "bias=1:0";
    expect_ok(balora_context_create(&self->context, &context));
    expect_ok(
        balora_optimizer_create_for(&self->optimizer, self->context, &options, NULL, counts, names, TENSORS));
    for (int i = 0; i < TENSORS; i++) {
        self->parameters[i] = make_tensor(i, dtype, gap);
        self->gradients[i] = make_tensor(i, dtype, gap);
        self->parameter_list[i] = &self->parameters[i];
        self->gradient_list[i] = &self->gradients[i];
        for (int64_t j = 0; j < counts[i]; j++)
            set_number(&self->parameters[i], j, (float)parts_noise((uint64_t)(100 + i), j));
    }
}

static void close_model(host_model *self) {
    for (int i = 0; i < TENSORS; i++) {
        free(self->parameters[i].data);
        free(self->gradients[i].data);
    }
    balora_optimizer_free(self->optimizer);
    balora_context_free(self->context);
}

static void set_gradients(host_model *self, int step) {
    for (int i = 0; i < TENSORS; i++)
        for (int64_t j = 0; j < counts[i]; j++) {
            double size = ldexp(1, -(int)(j % 7) - step % 5);
            set_number(&self->gradients[i], j, (float)(size * parts_noise((uint64_t)(1000 * step + i), j)));
        }
}

static balora_status step(host_model *self, double *norm) {
    return balora_optimizer_step(self->optimizer, self->parameter_list, self->gradient_list, RATE, 1, norm);
}

static void run(host_model *self, int first, int end) {
    for (int t = first; t < end; t++) {
        set_gradients(self, t);
        expect_ok(step(self, &self->norms[t]));
    }
}

static void expect_same(const host_model *a, const host_model *b) {
    for (int i = 0; i < TENSORS; i++)
        for (int64_t j = 0; j < counts[i]; j++) {
            float x = get_number(&a->parameters[i], j), y = get_number(&b->parameters[i], j);
            if (memcmp(&x, &y, sizeof x) != 0)
                fail_msg("%s[%lld] is %.9g and %.9g", names[i], (long long)j, (double)x, (double)y);
        }
}

/* --- PyTorch --- */

static void read_expected(const char *kind, const char *what, void *out, uint64_t bytes) {
    char name[64];
    safetensors_file file;
    allocator memory;
    memory_init(&memory, NULL, NULL, NULL);
    snprintf(name, sizeof name, "%s.%s", kind, what);
    const char *path = getenv("BALORA_PARTS_FIXTURES");
    assert_non_null(path);
    expect_ok(safetensors_open(&file, &memory, path));
    const safetensors_entry *entry = safetensors_find(&file, name);
    assert_non_null(entry);
    assert_int_equal(entry->bytes, bytes);
    expect_ok(safetensors_read(&file, entry, out));
    safetensors_close(&file);
}

/*
 * 1e-5 of a tensor's largest number. With 8 bits a moment that lies as near to one code as to the next by less than a
 * rounding may get either, and the number then goes another way by a share of a step: a handful may, by no more than
 * a step's length.
 */
static void expect_torch(const host_model *self, int kind) {
    int astray = 0;
    for (int i = 0; i < TENSORS; i++) {
        float expected[MOST], largest = 0;
        char what[8];
        snprintf(what, sizeof what, "%d", i);
        read_expected(kind_names[kind], what, expected, (uint64_t)counts[i] * sizeof(float));
        for (int64_t j = 0; j < counts[i]; j++)
            largest = fmaxf(largest, fabsf(expected[j]));
        for (int64_t j = 0; j < counts[i]; j++) {
            double distance = fabs((double)get_number(&self->parameters[i], j) - (double)expected[j]);
            bool is_astray = kind == 2 && distance > 1e-5 * (double)largest && distance < 4 * RATE;
            astray += is_astray;
            if (!(distance <= 1e-5 * (double)largest) && !is_astray)
                fail_msg("%s: %s[%lld] is off by %.3g, largest %.3g", kind_names[kind], names[i],
                         (long long)j, distance, (double)largest);
        }
    }
    print_message("%s: %d of 811 numbers took another code\n", kind_names[kind], astray);
    assert_in_range(astray, 0, 4);
}

static void every_kind_is_pytorchs(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        host_model model;
        double norms[STEPS];
        open_model(&model, kinds[kind], BALORA_F32, 0, 1);
        run(&model, 0, STEPS);
        expect_torch(&model, kind);
        read_expected(kind_names[kind], "norms", norms, sizeof norms);
        for (int t = 0; t < STEPS; t++)
            if (!(fabs(model.norms[t] - norms[t]) <= 1e-6 * norms[t]))
                fail_msg("step %d: norm %.9g, expected %.9g", t, model.norms[t], norms[t]);
        close_model(&model);
    }
}

static void maps_are_the_papers(void **state) {
    (void)state;
    float found[DYNAMIC_MAP_CODES], expected[DYNAMIC_MAP_CODES];
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        dynamic_map(is_signed != 0, found);
        read_expected("map", is_signed ? "signed" : "unsigned", expected, sizeof expected);
        for (int i = 0; i < DYNAMIC_MAP_CODES; i++)
            if (!(fabsf(found[i] - expected[i]) <= 1.2e-7F * fabsf(expected[i])))
                fail_msg("code %d is %.9g, expected %.9g", i, (double)found[i], (double)expected[i]);
    }
}

/* --- what must not matter --- */

static void rows_may_lie_apart(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        host_model close, apart;
        open_model(&close, kinds[kind], BALORA_F32, 0, 1);
        open_model(&apart, kinds[kind], BALORA_F32, 3, 1);
        run(&close, 0, 5);
        run(&apart, 0, 5);
        expect_same(&close, &apart);
        for (int i = 0; i < TENSORS; i++)
            for (int64_t row = 0; row < shapes[i][0]; row++) { /* and what lies between them is not ours */
                uint32_t gap[3];
                memcpy(gap,
                       (float *)apart.parameters[i].data + row * apart.parameters[i].strides[0] +
                           shapes[i][1],
                       sizeof gap);
                assert_true(gap[0] == 0xABABABAB && gap[1] == gap[0] && gap[2] == gap[0]);
            }
        close_model(&close);
        close_model(&apart);
    }
}

/* Numbers of 16 bits: F32's step on them, rounded to the nearest. */
static void sixteen_bits_are_rounded_once(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        host_model narrow_model, wide;
        open_model(&narrow_model, kinds[kind], BALORA_BF16, 0, 1);
        open_model(&wide, kinds[kind], BALORA_F32, 0, 1);
        for (int t = 0; t < 6; t++) {
            set_gradients(&narrow_model, t);
            for (int i = 0; i < TENSORS; i++)
                for (int64_t j = 0; j < counts[i]; j++) {
                    set_number(&wide.parameters[i], j, get_number(&narrow_model.parameters[i], j));
                    set_number(&wide.gradients[i], j, get_number(&narrow_model.gradients[i], j));
                }
            expect_ok(step(&narrow_model, NULL));
            expect_ok(step(&wide, NULL));
            for (int i = 0; i < TENSORS; i++)
                for (int64_t j = 0; j < counts[i]; j++)
                    assert_true(get_number(&narrow_model.parameters[i], j) ==
                                widen(narrow(get_number(&wide.parameters[i], j))));
        }
        close_model(&narrow_model);
        close_model(&wide);
    }
}

static void run_alone(int kind, int32_t threads, host_model *out) {
    open_model(out, kinds[kind], BALORA_F32, 0, threads);
    run(out, 0, STEPS);
}

typedef struct runner {
    pthread_t thread;
    int kind;
    host_model model;
} runner;

static void *run_in_thread(void *user) {
    runner *self = user;
    run_alone(self->kind, 2, &self->model);
    return NULL;
}

static void threads_do_not_matter(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        host_model one, three;
        runner both[2] = {{.kind = kind}, {.kind = (kind + 1) % KINDS}};
        run_alone(kind, 1, &one);
        run_alone(kind, 3, &three);
        expect_same(&one, &three);
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&both[i].thread, NULL, run_in_thread, &both[i]), 0);
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_join(both[i].thread, NULL), 0);
        expect_same(&one, &both[0].model);
        close_model(&one);
        close_model(&three);
        close_model(&both[0].model);
        close_model(&both[1].model);
    }
}

/* --- memory of a device --- */

/* The host's tensors in a device's memory: buffers whose address is their first member, as both backends have it. */
typedef struct device_model {
    allocator memory;
    backend device;
    backend_queue *queue;
    backend_buffer *values[TENSORS], *slopes[TENSORS];
} device_model;

static void move_tensor(device_model *self, backend_buffer **buffer, balora_tensor *tensor, int64_t count) {
    int64_t bytes = count * (int64_t)sizeof(float);
    void *host = tensor->data;
    expect_ok(self->device.ops->buffer_allocate(buffer, self->device.device, bytes));
    expect_ok(self->device.ops->upload(self->queue, *buffer, 0, host, bytes));
    expect_ok(self->device.ops->synchronize(self->queue));
    memcpy(&tensor->data, *buffer, sizeof tensor->data);
    if (strcmp(self->device.ops->name, "cuda") == 0)
        tensor->device = BALORA_DEVICE_CUDA;
    free(host);
}

static void back_to_host(device_model *self, backend_buffer *buffer, balora_tensor *tensor, int64_t count) {
    int64_t bytes = count * (int64_t)sizeof(float);
    tensor->data = malloc((size_t)bytes);
    expect_ok(self->device.ops->download(self->queue, tensor->data, buffer, 0, bytes));
    expect_ok(self->device.ops->synchronize(self->queue));
    self->device.ops->buffer_free(self->device.device, buffer);
}

/* Gradients of every step are the same: they stay on the device. */
static void check_on_device(int kind) {
    host_model here, there;
    device_model device = {0};
    const char *name = test_device();
    balora_optimizer_options options = BALORA_OPTIMIZER_OPTIONS_INIT;
    options.optimizer = kinds[kind];
    options.weight_decay = 0.125;
    options.lora_plus_ratio = 4;
    options.parameter_groups = "bias=1:0";
    memory_init(&device.memory, NULL, NULL, NULL);
    expect_ok(backend_open(&device.device, &device.memory, name, NULL, 1));
    expect_ok(device.device.ops->queue_open(&device.queue, device.device.device));
    open_model(&here, kinds[kind], BALORA_F32, 0, 1);
    open_model(&there, kinds[kind], BALORA_F32, 0, 1);
    set_gradients(&here, 1);
    set_gradients(&there, 1);
    balora_optimizer_free(there.optimizer);
    expect_ok(
        balora_optimizer_create_for(&there.optimizer, there.context, &options, name, counts, names, TENSORS));
    for (int i = 0; i < TENSORS; i++) {
        move_tensor(&device, &device.values[i], &there.parameters[i], counts[i]);
        move_tensor(&device, &device.slopes[i], &there.gradients[i], counts[i]);
    }
    for (int t = 0; t < 4; t++) {
        double norms[2];
        expect_ok(step(&here, &norms[0]));
        expect_ok(step(&there, &norms[1]));
        assert_true(fabs(norms[0] - norms[1]) <= 1e-12 * norms[0]);
    }
    for (int i = 0; i < TENSORS; i++) {
        back_to_host(&device, device.values[i], &there.parameters[i], counts[i]);
        back_to_host(&device, device.slopes[i], &there.gradients[i], counts[i]);
        for (int64_t j = 0; j < counts[i]; j++)
            assert_true(fabsf(get_number(&here.parameters[i], j) - get_number(&there.parameters[i], j)) <
                        2e-6F);
    }
    close_model(&here);
    close_model(&there);
    device.device.ops->queue_close(device.queue);
    backend_close(&device.device);
}

static void tensors_of_a_device_are_stepped_there(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        check_on_device(kind);
}

static uint64_t allocations(const host_model *self) {
    balora_memory_statistics statistics = BALORA_MEMORY_STATISTICS_INIT;
    expect_ok(balora_context_memory(self->context, &statistics));
    return statistics.allocations;
}

static void steps_on_the_same_memory_allocate_nothing(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        for (int64_t gap = 0; gap < 2; gap++) {
            host_model model;
            open_model(&model, kinds[kind], BALORA_F32, gap, 1);
            run(&model, 0, 1);
            uint64_t before = allocations(&model);
            run(&model, 1, 5);
            assert_int_equal(allocations(&model), before);
            close_model(&model);
        }
}

/* --- steps that are not taken --- */

static char *save(const host_model *self, uint64_t *bytes) {
    expect_ok(balora_optimizer_state_bytes(self->optimizer, bytes));
    char *buffer = malloc(*bytes);
    expect_ok(balora_optimizer_save_state(self->optimizer, buffer, *bytes));
    return buffer;
}

static void a_gradient_that_is_not_finite_changes_nothing(void **state) {
    (void)state;
    static const float wrong[] = {NAN, INFINITY, -INFINITY};
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < 3; i++) {
            host_model model, undisturbed;
            uint64_t bytes;
            double norm = 0;
            open_model(&model, kinds[kind], BALORA_F32, 0, 1);
            open_model(&undisturbed, kinds[kind], BALORA_F32, 0, 1);
            run(&model, 0, 3);
            run(&undisturbed, 0, 3);
            char *before = save(&model, &bytes);
            set_number(&model.gradients[i], 13, wrong[i]);
            expect_ok(step(&model, &norm));
            assert_true(!(fabs(norm) < (double)INFINITY));
            char *after = save(&model, &bytes);
            assert_memory_equal(before, after, bytes);
            expect_same(&model, &undisturbed);
            run(&model, 3, 5);
            run(&undisturbed, 3, 5);
            expect_same(&model, &undisturbed);
            free(before);
            free(after);
            close_model(&model);
            close_model(&undisturbed);
        }
}

/* --- states --- */

static void copy_parameters(host_model *to, const host_model *from) {
    for (int i = 0; i < TENSORS; i++)
        memcpy(to->parameters[i].data, from->parameters[i].data, (size_t)counts[i] * sizeof(float));
}

static void a_loaded_state_goes_on_to_the_same_bits(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        host_model model, resumed;
        uint64_t bytes;
        open_model(&model, kinds[kind], BALORA_F32, 0, 1);
        open_model(&resumed, kinds[kind], BALORA_F32, 0, 2);
        run(&model, 0, 7);
        char *buffer = save(&model, &bytes);
        run(&resumed, 0, 2); /* of which nothing must stay */
        expect_ok(balora_optimizer_load_state(resumed.optimizer, buffer, bytes));
        copy_parameters(&resumed, &model);
        run(&model, 7, STEPS);
        run(&resumed, 7, STEPS);
        expect_same(&model, &resumed);
        free(buffer);
        close_model(&model);
        close_model(&resumed);
    }
}

static void refuse(host_model *model, const char *buffer, uint64_t bytes, balora_status expected) {
    uint64_t size;
    char *before = save(model, &size);
    balora_status status = balora_optimizer_load_state(model->optimizer, buffer, bytes);
    if (status != expected)
        fail_msg("%s, expected %s", balora_status_name(status), balora_status_name(expected));
    char *after = save(model, &size);
    assert_memory_equal(before, after, size);
    free(before);
    free(after);
}

/* Every cut, every changed byte of the header, other kinds, other tensors, numbers that no state has. */
static void what_is_no_state_of_it_is_refused(void **state) {
    (void)state;
    static const float wrong[] = {NAN, -INFINITY, -1.0F};
    const uint64_t header = 56;
    host_model models[KINDS];
    uint64_t bytes[KINDS];
    char *states[KINDS];
    for (int kind = 0; kind < KINDS; kind++) {
        open_model(&models[kind], kinds[kind], BALORA_F32, 0, 1);
        run(&models[kind], 0, 2);
        states[kind] = save(&models[kind], &bytes[kind]);
    }
    for (int kind = 0; kind < KINDS; kind++) {
        refuse(&models[kind], states[(kind + 1) % KINDS], bytes[(kind + 1) % KINDS], BALORA_ERROR_MISMATCH);
        for (uint64_t cut = 0; cut < bytes[kind]; cut += cut < header ? 1U : 97U)
            refuse(&models[kind], states[kind], cut, BALORA_ERROR_FORMAT);
        for (int i = 0; i < 12; i++) { /* magic and version */
            states[kind][i] ^= 1;
            refuse(&models[kind], states[kind], bytes[kind], BALORA_ERROR_FORMAT);
            states[kind][i] ^= 1;
        }
        float kept;
        char *last =
            states[kind] + bytes[kind] - sizeof kept; /* of the second moment or its scale; Lion's moment */
        memcpy(&kept, last, sizeof kept);
        for (int i = 0; i < (kinds[kind] == BALORA_OPTIMIZER_LION ? 2 : 3); i++) {
            memcpy(last, &wrong[i], sizeof kept);
            refuse(&models[kind], states[kind], bytes[kind], BALORA_ERROR_FORMAT);
        }
        memcpy(last, &kept, sizeof kept);
        expect_ok(balora_optimizer_load_state(models[kind].optimizer, states[kind], bytes[kind]));
    }
    static const int64_t others[TENSORS] = {280, 232, 299}; /* as many numbers, and blocks */
    balora_optimizer *other;
    expect_ok(balora_optimizer_create_for(&other, models[0].context, NULL, "cpu", others, names, TENSORS));
    assert_int_equal(balora_optimizer_load_state(other, states[0], bytes[0]), BALORA_ERROR_MISMATCH);
    balora_optimizer_free(other);
    for (int kind = 0; kind < KINDS; kind++) {
        free(states[kind]);
        close_model(&models[kind]);
    }
}

/* --- memory that is refused --- */

/* Made and stepped under an allocator that refuses call `refused`. What does not succeed leaves the tensors as they were
 * and gives everything back; later the host can go on. */
static balora_status run_refused(int kind, int64_t refused, int from_then_on) {
    faulty source = {.refused = INT64_MAX, .from_then_on = from_then_on};
    balora_context_options context_options = BALORA_CONTEXT_OPTIONS_INIT;
    balora_optimizer_options options = BALORA_OPTIMIZER_OPTIONS_INIT;
    balora_memory_statistics statistics = BALORA_MEMORY_STATISTICS_INIT;
    host_model model;
    balora_context *context;
    balora_optimizer *optimizer = NULL;
    context_options.threads = 1;
    context_options.allocate = faulty_allocate;
    context_options.release = faulty_release;
    context_options.allocator_user = &source;
    options.optimizer = kinds[kind];
    options.parameter_groups = "bias=1:0";
    open_model(&model, kinds[kind], BALORA_F32, 2, 1); /* with gaps: copies are needed, too */
    expect_ok(balora_context_create(&context, &context_options));
    expect_ok(balora_context_memory(context, &statistics));
    uint64_t at_first = statistics.current_bytes;
    set_gradients(&model, 1);
    float before = get_number(&model.parameters[0], 0);
    source.refused = source.calls + refused;
    balora_status status =
        balora_optimizer_create_for(&optimizer, context, &options, NULL, counts, names, TENSORS);
    if (status == BALORA_OK)
        status = balora_optimizer_step(optimizer, model.parameter_list, model.gradient_list, RATE, 1, NULL);
    if (status != BALORA_OK) {
        assert_int_equal(status, BALORA_ERROR_MEMORY);
        assert_true(get_number(&model.parameters[0], 0) == before);
    }
    source.refused = INT64_MAX;
    if (optimizer != NULL)
        expect_ok(balora_optimizer_step(optimizer, model.parameter_list, model.gradient_list, RATE, 1, NULL));
    balora_optimizer_free(optimizer);
    expect_ok(balora_context_memory(context, &statistics));
    assert_int_equal(statistics.current_bytes, at_first);
    balora_context_free(context);
    close_model(&model);
    return status;
}

static void refused_memory_is_an_error_and_no_leak(void **state) {
    (void)state;
    for (int kind = 0; kind < KINDS; kind++)
        for (int from_then_on = 0; from_then_on < 2; from_then_on++) {
            int64_t refused = 0;
            while (run_refused(kind, refused, from_then_on) != BALORA_OK)
                refused++;
            assert_in_range(refused, 10, 100);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_are_the_papers),
        cmocka_unit_test(every_kind_is_pytorchs),
        cmocka_unit_test(rows_may_lie_apart),
        cmocka_unit_test(sixteen_bits_are_rounded_once),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(tensors_of_a_device_are_stepped_there),
        cmocka_unit_test(steps_on_the_same_memory_allocate_nothing),
        cmocka_unit_test(refused_memory_is_an_error_and_no_leak),
        cmocka_unit_test(a_gradient_that_is_not_finite_changes_nothing),
        cmocka_unit_test(a_loaded_state_goes_on_to_the_same_bits),
        cmocka_unit_test(what_is_no_state_of_it_is_refused),
    };
    return cmocka_run_group_tests_name("optimizer_host", tests, NULL, NULL);
}
